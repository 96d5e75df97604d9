//! `ls`, `stat`, `du`, `find`: what a person wants to see.

use super::Context;
use super::names::{base_name, matches};
use super::tree::Walk;
use crate::exit::UsageError;
use drystone_client::{Attributes, ByteCount};
use drystone_gateway::describe;
use serde_json::{Value, json};
use std::io::Write;

/// `drystone ls`.
pub async fn list(context: &Context, path: &str, long: bool, recursive: bool) -> anyhow::Result<()> {
    let attributes = context.client.stat(path).await?;
    let mut out = std::io::BufWriter::new(std::io::stdout());
    if !attributes.is_directory() {
        line(
            &mut out,
            context,
            base_name(path).unwrap_or(path),
            &attributes,
            long,
        )?;
        return Ok(out.flush()?);
    }
    let mut walk = Walk::new(&context.client, path, recursive);
    while let Some((entry, attributes)) = walk.next().await? {
        let name = if recursive {
            entry.as_str()
        } else {
            base_name(&entry).unwrap_or(&entry)
        };
        line(&mut out, context, name, &attributes, long)?;
    }
    Ok(out.flush()?)
}

fn line(
    out: &mut impl Write,
    context: &Context,
    name: &str,
    attributes: &Attributes,
    long: bool,
) -> std::io::Result<()> {
    if context.json {
        let mut value = describe::attributes(attributes);
        value["name"] = name.into();
        return writeln!(out, "{value}");
    }
    let mark = if attributes.is_directory() { "/" } else { "" };
    if !long {
        return writeln!(out, "{}{mark}", printable(name));
    }
    writeln!(
        out,
        "{}{} {:<10} {:<10} {:>12} {} {}{mark}",
        if attributes.is_directory() { 'd' } else { '-' },
        permissions(attributes.mode),
        attributes.owner,
        attributes.group,
        attributes.size,
        time(attributes.modified).get(..16).unwrap_or_default(),
        printable(name)
    )
}

/// Control characters in a name must not drive the terminal.
fn printable(name: &str) -> String {
    name.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

fn permissions(mode: u32) -> String {
    (0..9)
        .map(|i| {
            if mode >> (8 - i) & 1 == 1 {
                ['r', 'w', 'x'][i % 3]
            } else {
                '-'
            }
        })
        .collect()
}

/// `drystone stat`.
pub async fn stat(context: &Context, path: &str, extents: bool) -> anyhow::Result<()> {
    let (attributes, layout) = if extents {
        let layout = context.client.extents(path).await?;
        (layout.attributes.clone(), Some(layout))
    } else {
        (context.client.stat(path).await?, None)
    };
    let mut value = describe::attributes(&attributes);
    value["path"] = path.into();
    if let Some(layout) = &layout {
        value["inline"] = layout.inline.into();
        value["extents"] = layout.extents.iter().map(describe::extent).collect();
    }
    if context.json {
        println!("{value}");
        return Ok(());
    }
    println!("{path}");
    for key in [
        "kind", "size", "mode", "owner", "group", "created", "modified", "accessed", "changed", "inode",
        "version", "policy",
    ] {
        let text = match &value[key] {
            Value::String(text) => text.clone(),
            Value::Null => continue,
            other => other.to_string(),
        };
        println!("  {key:<9} {text}");
    }
    for (name, data) in &attributes.xattrs {
        println!("  xattr     {} = {:?}", printable(name), data);
    }
    for extent in layout.iter().flat_map(|layout| &layout.extents) {
        let places: Vec<String> = extent
            .replicas
            .iter()
            .map(|replica| format!("{} ({})", replica.server, replica.rack))
            .collect();
        println!(
            "  extent    {} +{} chunk {} {}: {}",
            extent.offset,
            extent.length,
            extent.chunk,
            extent.state,
            places.join(", ")
        );
    }
    if layout.is_some_and(|layout| layout.inline) {
        println!("  content   in the namespace itself");
    }
    Ok(())
}

fn time(micros: u64) -> String {
    drystone_gateway::time::rfc3339(micros)
}

/// `drystone du`.
pub async fn usage(context: &Context, path: &str) -> anyhow::Result<()> {
    let attributes = context.client.stat(path).await?;
    let (mut files, mut directories, mut bytes) = (0u64, 0u64, 0u64);
    if attributes.is_directory() {
        let mut walk = Walk::new(&context.client, path, true);
        while let Some((_, attributes)) = walk.next().await? {
            if attributes.is_directory() {
                directories += 1;
            } else {
                (files, bytes) = (files + 1, bytes + attributes.size);
            }
        }
    } else {
        (files, bytes) = (1, attributes.size);
    }
    if context.json {
        println!(
            "{}",
            json!({ "path": path, "files": files, "directories": directories, "bytes": bytes })
        );
    } else {
        println!("{bytes} bytes in {files} files and {directories} directories below {path}");
    }
    Ok(())
}

/// `drystone find`.
pub async fn find(
    context: &Context,
    path: &str,
    name: Option<&str>,
    kind: Option<&str>,
    min_size: Option<&str>,
) -> anyhow::Result<()> {
    let least: ByteCount = min_size.unwrap_or("0").parse().map_err(UsageError)?;
    let mut walk = Walk::new(&context.client, path, true);
    let mut out = std::io::BufWriter::new(std::io::stdout());
    while let Some((entry, attributes)) = walk.next().await? {
        let kind_fits = kind.is_none_or(|kind| (kind == "d") == attributes.is_directory());
        let name_fits =
            name.is_none_or(|pattern| base_name(&entry).is_some_and(|name| matches(pattern, name)));
        if !kind_fits || !name_fits || attributes.size < least.0 {
            continue;
        }
        if context.json {
            let mut value = describe::attributes(&attributes);
            value["path"] = entry.into();
            writeln!(out, "{value}")?;
        } else {
            writeln!(out, "{}", printable(&entry))?;
        }
    }
    Ok(out.flush()?)
}
