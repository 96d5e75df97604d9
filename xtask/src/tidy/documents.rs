//! Documents: every relative link leads to a file, and no block of code is empty or left open.

use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};

/// Adds each fault of these documents to `faults`; other files are passed over.
pub(super) fn check(root: &Path, files: &[PathBuf], faults: &mut Vec<String>) -> anyhow::Result<()> {
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "md"))
    {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let place = file.strip_prefix(root).unwrap_or(file).display().to_string();
        let folder = file.parent().unwrap_or(root);
        for (line, fault) in look(&text, &|target| folder.join(target).exists()) {
            faults.push(format!("{place}:{line}: {fault}"));
        }
    }
    Ok(())
}

/// The faults of one document, by line. `exists` says whether a relative link leads anywhere.
fn look(text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // Where the open block of code began, and whether it has a line.
    let mut block: Option<(usize, bool)> = None;
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if line.trim_start().starts_with("```") {
            block = match block {
                None => Some((number, false)),
                Some((begun, false)) => {
                    found.push((begun, "an empty block of code".to_owned()));
                    None
                }
                Some((_, true)) => None,
            };
            continue;
        }
        if let Some((_, has_lines)) = &mut block {
            *has_lines |= !line.trim().is_empty();
            continue;
        }
        for target in links(line) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") && !exists(file) {
                found.push((number, format!("the link {target} leads nowhere")));
            }
        }
    }
    if let Some((begun, _)) = block {
        found.push((begun, "a block of code that does not end".to_owned()));
    }
    found
}

/// The targets of the links of one line; what stands between backticks is none.
fn links(line: &str) -> Vec<&str> {
    let texts = line.split('`').step_by(2);
    texts
        .flat_map(|text| text.split("](").skip(1).filter_map(|rest| rest.split(')').next()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::look;

    #[test]
    fn dead_links_and_empty_blocks_are_found() {
        let text = "a [b](there.md#x) and [c](gone.md), [d](https://example.org/) `[e](gone)`\n```\n\n```\n```sh\nx\n```\n```";
        let faults = look(text, &|target| target == "there.md");
        let lines: Vec<(usize, &str)> = faults
            .iter()
            .map(|(line, fault)| (*line, fault.as_str()))
            .collect();
        assert_eq!(
            lines,
            [
                (1, "the link gone.md leads nowhere"),
                (2, "an empty block of code"),
                (8, "a block of code that does not end")
            ]
        );
    }
}
