//! No two source files of a crate import each other, directly or through others.
//!
//! Read from the `use` lines and from paths that begin with `crate::`, tests aside. What a file re-exports
//! (`pub use`, `pub(crate) use`) is looked up where it is defined, so a `mod.rs` that only gathers its children
//! closes no circle.

use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module, by its path below the crate: `["leader", "office"]`; the crate itself is empty.
type Module = Vec<String>;

/// One imported path and the name that it gets.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Import {
    path: Vec<String>,
    /// The last segment, or what `as` says; `*` for a glob.
    name: String,
    exported: bool,
}

/// One file, as far as imports go.
#[derive(Default)]
struct Source {
    imports: Vec<Import>,
}

/// Adds each circle of imports below `directory` (the `src` of a crate called `name`) to `faults`.
pub(super) fn check(name: &str, directory: &Path, faults: &mut Vec<String>) -> anyhow::Result<()> {
    let mut sources = BTreeMap::new();
    for file in super::sources(directory)? {
        let module = module_of(directory, &file);
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        sources.insert(
            module,
            Source {
                imports: imports(&text),
            },
        );
    }
    for circle in circles(&sources) {
        let files: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
        faults.push(format!(
            "{name}: these modules import each other: {}",
            files.join(", ")
        ));
    }
    Ok(())
}

/// `src/leader/mod.rs` is `leader`, `src/leader/office.rs` is `leader::office`.
fn module_of(directory: &Path, file: &Path) -> Module {
    let relative: PathBuf = file.strip_prefix(directory).unwrap_or(file).with_extension("");
    let mut module: Module = relative
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// The code of a file without its tests, comments and strings.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

fn imports(text: &str) -> Vec<Import> {
    let code = code(text);
    let mut found = Vec::new();
    let mut rest = code.as_str();
    let mut body = String::new();
    // Statements that begin a line with `use`, with or without a visibility.
    while let Some(line) = rest.lines().next() {
        let trimmed = line.trim_start();
        let exported = trimmed.starts_with("pub");
        let after = match trimmed.strip_prefix("pub") {
            Some(after) if after.starts_with('(') => after.split_once(')').map_or("", |(_, after)| after),
            Some(after) => after,
            None => trimmed,
        };
        let length = line.len();
        if after.trim_start().starts_with("use ")
            && let Some(end) = rest.find(';')
        {
            let statement = &rest[..end];
            let tree = statement.split_once("use ").map_or("", |(_, tree)| tree);
            flatten(tree.trim(), &[], exported, &mut found);
            rest = rest.get(end + 1..).unwrap_or_default();
            continue;
        }
        body.push_str(line);
        body.push('\n');
        rest = rest.get(length + 1..).unwrap_or_default();
    }
    for (at, _) in body.match_indices("crate::") {
        let path = body.get(at..).unwrap_or_default();
        let end = path.find(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == ':'));
        let path: Vec<String> = path[..end.unwrap_or(path.len())]
            .split("::")
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        let name = path.last().cloned().unwrap_or_default();
        found.push(Import {
            path,
            name,
            exported: false,
        });
    }
    found
}

/// `a::{b, c as d}` as its single paths.
fn flatten(tree: &str, before: &[String], exported: bool, found: &mut Vec<Import>) {
    let (head, group) = match tree.find('{') {
        Some(at) => (
            &tree[..at],
            tree.get(at + 1..tree.rfind('}').unwrap_or(tree.len())),
        ),
        None => (tree, None),
    };
    let (head, alias) = head.split_once(" as ").unwrap_or((head, ""));
    let mut path = before.to_vec();
    for part in head.split("::").map(str::trim).filter(|part| !part.is_empty()) {
        // `a::{self}` is `a`.
        if part != "self" || path.is_empty() {
            path.push(part.to_owned());
        }
    }
    match group {
        None => {
            let name = if alias.is_empty() {
                path.last().cloned().unwrap_or_default()
            } else {
                alias.trim().to_owned()
            };
            found.push(Import { path, name, exported });
        }
        Some(group) => {
            let (mut depth, mut start) = (0, 0);
            for (at, letter) in group.char_indices().chain([(group.len(), ',')]) {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        let part = group.get(start..at).unwrap_or_default().trim();
                        if !part.is_empty() {
                            flatten(part, &path, exported, found);
                        }
                        start = at + 1;
                    }
                    _ => {}
                }
            }
        }
    }
}

/// What `path`, written in `module`, is below the crate; nothing if it is another crate's.
fn absolute(module: &Module, path: &[String], sources: &BTreeMap<Module, Source>) -> Option<Vec<String>> {
    let mut base = module.clone();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                base.pop()?;
                rest = &rest[1..];
            }
        }
        child => {
            let mut child_module = base.clone();
            child_module.push(child.to_owned());
            if !sources.contains_key(&child_module) {
                return None;
            }
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// The file in which what `path` names is defined, re-exports followed.
fn defined(path: &[String], sources: &BTreeMap<Module, Source>, depth: usize) -> Option<Module> {
    let mut length = path.len();
    while !sources.contains_key(&path[..length]) {
        length = length.checked_sub(1)?;
    }
    let (module, rest) = path.split_at(length);
    let Some(name) = rest.first() else {
        return Some(module.to_vec());
    };
    let source = sources.get(module)?;
    if depth > 0
        && let Some(export) = source
            .imports
            .iter()
            .find(|import| import.exported && import.name == *name)
        && let Some(mut target) = absolute(&module.to_vec(), &export.path, sources)
    {
        target.extend(rest[1..].iter().cloned());
        return defined(&target, sources, depth - 1);
    }
    Some(module.to_vec())
}

/// Groups of modules each of which imports, through others, every other one.
fn circles(sources: &BTreeMap<Module, Source>) -> Vec<Vec<Module>> {
    let mut edges: BTreeMap<&Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, source) in sources {
        for import in source.imports.iter().filter(|import| !import.exported) {
            let target = absolute(module, &import.path, sources).and_then(|path| defined(&path, sources, 8));
            if let Some(target) = target.filter(|target| target != module) {
                edges.entry(module).or_default().insert(target);
            }
        }
    }
    let reach: BTreeMap<&Module, BTreeSet<Module>> = sources
        .keys()
        .map(|module| (module, reachable(module, &edges)))
        .collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for module in sources.keys() {
        let Some(from) = reach.get(module).filter(|from| from.contains(module)) else {
            continue;
        };
        if seen.contains(module) {
            continue;
        }
        let circle: Vec<Module> = from
            .iter()
            .filter(|other| reach.get(other).is_some_and(|back| back.contains(module)))
            .cloned()
            .collect();
        seen.extend(circle.iter().cloned());
        found.push(circle);
    }
    found
}

fn reachable(from: &Module, edges: &BTreeMap<&Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.clone()];
    while let Some(module) = open.pop() {
        for next in edges.get(&module).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Module, Source, circles, imports};
    use std::collections::BTreeMap;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: BTreeMap<Module, Source> = files
            .iter()
            .map(|(module, text)| {
                let module = module
                    .split("::")
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect();
                (
                    module,
                    Source {
                        imports: imports(text),
                    },
                )
            })
            .collect();
        let name = |circle: Vec<Module>| {
            let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            names.join(" ")
        };
        circles(&sources).into_iter().map(name).collect()
    }

    #[test]
    fn a_circle_through_three_files_is_named() {
        let circle = found(&[
            ("a", "use crate::b::{self, B};"),
            ("b", "use std::fmt;\nuse super::c::C;"),
            ("c", "fn f() -> crate::a::A {}"),
            ("d", "use crate::a::A;"),
        ]);
        assert_eq!(circle, ["a b c"]);
    }

    #[test]
    fn what_a_parent_only_passes_on_closes_no_circle() {
        let files = [
            (
                "parent",
                "mod one;\nmod two;\npub(crate) use one::One;\npub(crate) use two::{\n    Two,\n};",
            ),
            ("parent::one", "use crate::parent::Two;"),
            ("parent::two", "use std::sync::Arc;"),
        ];
        assert!(found(&files).is_empty());
        let mut circle = files;
        circle[2].1 = "use super::One;";
        assert_eq!(found(&circle), ["parent::one parent::two"]);
    }

    #[test]
    fn a_parent_that_uses_its_child_and_is_used_by_it_is_a_circle() {
        assert_eq!(
            found(&[
                ("parent", "use child::Child;\nfn f() {}"),
                ("parent::child", "use super::f;")
            ]),
            ["parent parent::child"]
        );
    }

    #[test]
    fn tests_and_comments_do_not_count() {
        let files = [
            (
                "a",
                "use crate::b::B; // and crate::c::C\n#[cfg(test)]\nmod tests { use crate::b::B; }",
            ),
            (
                "b",
                "// use crate::a::A;\n#[cfg(test)]\nmod tests;\nuse crate::a::A;",
            ),
        ];
        assert!(found(&files).is_empty());
    }
}
