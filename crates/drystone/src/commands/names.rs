//! Paths on the command line.

use super::is_not_found;
use crate::exit::UsageError;
use drystone_client::Client;

/// The last name of a path; `None` for the root.
pub fn base_name(path: &str) -> Option<&str> {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .filter(|name| !name.is_empty())
}

/// `directory/name`.
pub fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

/// Where `from` ends up when it is copied or moved to `to`: in it, if it is a directory or ends in a slash.
pub async fn place_for(client: &Client, from: &str, to: &str) -> anyhow::Result<String> {
    if !is_directory(client, to).await? {
        return Ok(to.to_owned());
    }
    let name = base_name(from)
        .ok_or_else(|| UsageError(format!("{from} has no name of its own: name the target in full")))?;
    Ok(join(to, name))
}

/// True if the path ends in a slash or is a directory of the cluster.
pub async fn is_directory(client: &Client, path: &str) -> anyhow::Result<bool> {
    if path.ends_with('/') || path.is_empty() {
        return Ok(true);
    }
    match client.stat(path).await {
        Ok(attributes) => Ok(attributes.is_directory()),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// True if `name` matches a pattern of `*` (any run) and `?` (any one character).
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where to go on when a guess for the last star was wrong.
    let (mut p, mut n, mut back) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match back {
                Some((star, at)) => {
                    back = Some((star, at + 1));
                    (p, n) = (star + 1, at + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_joins() {
        assert_eq!(base_name("/a/b/"), Some("b"));
        assert_eq!(base_name("/"), None);
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/x/", "a"), "/x/a");
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.rs", "main.rs", true),
            ("*.rs", "main.rss", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
