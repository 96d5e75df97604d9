//! `cargo xtask docs`: the configuration page, made from the comments of the structs that read the files.

use crate::root;
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::fs;

const PAGE: &str = "docs/configuration.md";
const SECTIONS: &[(&str, &str, &str)] = &[
    ("crates/drystone/src/node/config.rs", "NodeConfig", "The node"),
    (
        "crates/drystone-meta/src/config.rs",
        "Config",
        "`[metadata]`: metadata server",
    ),
    (
        "crates/drystone-meta/src/config.rs",
        "PolicyConfig",
        "`[metadata.policy]`: the cluster's default policy",
    ),
    (
        "crates/drystone-chunk/src/config.rs",
        "Config",
        "`[chunk]`: chunk server",
    ),
    (
        "crates/drystone/src/node/gateway.rs",
        "GatewayConfig",
        "`[gateway]`: doors",
    ),
];
const HEAD: &str = "# Configuration

One TOML file configures a node: `drystone node --config FILE`, after `drystone format --config FILE`. Keys are in
kebab-case, unknown keys are refused, sizes are written `\"64MiB\"` and durations `\"10s\"`. Every fault of a file is
reported at once. This page is made from the comments of the code (`cargo xtask docs`).
";

/// Writes the page.
pub fn write() -> anyhow::Result<()> {
    fs::write(root().join(PAGE), page()?).context(PAGE)
}

/// Fails if the page is not what the code says.
pub fn check() -> anyhow::Result<()> {
    let present = fs::read_to_string(root().join(PAGE)).unwrap_or_default();
    if present != page()? {
        bail!("{PAGE} is out of date: run `cargo xtask docs`");
    }
    Ok(())
}

fn page() -> anyhow::Result<String> {
    let mut text = HEAD.to_owned();
    for (file, name, title) in SECTIONS {
        let source = fs::read_to_string(root().join(file)).with_context(|| (*file).to_owned())?;
        let fields = fields(&source, name).with_context(|| format!("{file}: no struct {name}"))?;
        write!(text, "\n## {title}\n\n| key | meaning |\n|---|---|\n")?;
        for (field, meaning) in fields {
            writeln!(text, "| `{}` | {meaning} |", field.replace('_', "-"))?;
        }
    }
    Ok(text)
}

/// The public fields of a struct with their comments, each in one line.
fn fields(source: &str, name: &str) -> Option<Vec<(String, String)>> {
    let begin = source.find(&format!("pub struct {name} {{"))?;
    let body = source.get(begin..)?.split("\n}").next()?;
    let mut found = Vec::new();
    let mut comment = String::new();
    for line in body.lines().skip(1).map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            let words = words
                .trim()
                .replace('|', "\\|")
                .replace("[`", "`")
                .replace("`]", "`");
            comment = format!("{comment} {words}").trim().to_owned();
        } else if let Some(field) = line.strip_prefix("pub ").and_then(|rest| rest.split(':').next()) {
            found.push((field.to_owned(), std::mem::take(&mut comment)));
        }
    }
    Some(found)
}
