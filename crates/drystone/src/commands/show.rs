//! `ls`, `stat`, `du`, `find`: what a person wants to see.

use super::names::{base_name, join, matches};
use super::tree::Walk;
use super::{Context, is_not_found};
use crate::exit::{Failures, UsageError};
use crate::output::{Lines, OutputError, line, printable};
use drystone_client::{Attributes, ByteCount, Kind};
use drystone_gateway::describe;
use serde_json::{Value, json};

/// `drystone ls`.
pub async fn list(context: &Context, path: &str, long: bool, recursive: bool) -> anyhow::Result<()> {
    let attributes = context.client.stat(path).await?;
    let (mut out, mut failures) = (Lines::new(), Failures::new(context.json));
    if !attributes.is_directory() {
        let name = base_name(path).unwrap_or(path);
        entry_line(&mut out, context, name, &attributes, long)?;
        return Ok(out.finish()?);
    }
    let mut walk = Walk::begin(&context.client, path, recursive).await?;
    while let Some(found) = walk.next(&mut failures).await? {
        let name = match recursive {
            true => join(path, &found.path),
            false => found.entry.name.clone(),
        };
        let mut attributes = found.entry.attributes.clone();
        // Listings do not hold what links lead to.
        if long && attributes.kind == Kind::SymbolicLink {
            attributes = match context.client.stat(found.place()).await {
                Err(error) if is_not_found(&error) => continue,
                other => other?,
            };
        }
        entry_line(&mut out, context, &name, &attributes, long)?;
    }
    out.finish()?;
    failures.finish()
}

fn entry_line(
    out: &mut Lines,
    context: &Context,
    name: &str,
    attributes: &Attributes,
    long: bool,
) -> Result<(), OutputError> {
    if context.json {
        let mut value = describe::attributes(attributes);
        value["name"] = name.into();
        if let Some(link) = &attributes.link {
            value["link"] = link.as_str().into();
        }
        return out.line(value);
    }
    let mark = match attributes.kind {
        Kind::Directory => "/".to_owned(),
        Kind::SymbolicLink => match &attributes.link {
            Some(link) => format!(" -> {}", printable(link)),
            None => "@".to_owned(),
        },
        Kind::File => String::new(),
    };
    if !long {
        return out.line(format_args!("{}{mark}", printable(name)));
    }
    out.line(format_args!(
        "{}{} {:<10} {:<10} {:>12} {} {}{mark}",
        match attributes.kind {
            Kind::Directory => 'd',
            Kind::SymbolicLink => 'l',
            Kind::File => '-',
        },
        permissions(attributes.mode),
        attributes.owner,
        attributes.group,
        attributes.size,
        time(attributes.modified).get(..16).unwrap_or_default(),
        printable(name)
    ))
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
    value["link"] = attributes.link.clone().into();
    if let Some(layout) = &layout {
        value["inline"] = layout.inline.into();
        value["extents"] = layout.extents.iter().map(describe::extent).collect();
    }
    if context.json {
        return Ok(line(value)?);
    }
    let mut out = Lines::new();
    out.line(printable(path))?;
    for key in [
        "kind", "link", "size", "mode", "owner", "group", "created", "modified", "accessed", "changed",
        "inode", "version", "policy",
    ] {
        let text = match &value[key] {
            Value::String(text) => text.clone(),
            Value::Null => continue,
            other => other.to_string(),
        };
        out.line(format_args!("  {key:<9} {text}"))?;
    }
    for (name, data) in &attributes.xattrs {
        out.line(format_args!("  xattr     {} = {data:?}", printable(name)))?;
    }
    for extent in layout.iter().flat_map(|layout| &layout.extents) {
        if extent.state == "hole" {
            out.line(format_args!("  hole      {} +{}", extent.offset, extent.length))?;
            continue;
        }
        let places: Vec<String> = extent
            .replicas
            .iter()
            .map(|replica| format!("{} ({})", replica.server, replica.rack))
            .collect();
        out.line(format_args!(
            "  extent    {} +{} chunk {} {}: {}",
            extent.offset,
            extent.length,
            extent.chunk,
            extent.state,
            places.join(", ")
        ))?;
    }
    if layout.is_some_and(|layout| layout.inline) {
        out.line("  content   in the namespace itself")?;
    }
    Ok(out.finish()?)
}

fn time(micros: u64) -> String {
    drystone_gateway::time::rfc3339(micros)
}

/// `drystone du`.
pub async fn usage(context: &Context, path: &str) -> anyhow::Result<()> {
    let attributes = context.client.stat(path).await?;
    let mut failures = Failures::new(context.json);
    let (mut files, mut directories, mut links, mut size) = (0u64, 0u64, 0u64, 0u64);
    if attributes.is_directory() {
        let mut walk = Walk::begin(&context.client, path, true).await?;
        while let Some(found) = walk.next(&mut failures).await? {
            let attributes = found.entry.attributes;
            match attributes.kind {
                Kind::Directory => directories += 1,
                Kind::SymbolicLink => links += 1,
                Kind::File => (files, size) = (files + 1, size + attributes.size),
            }
        }
    } else {
        match attributes.kind {
            Kind::SymbolicLink => links = 1,
            _ => (files, size) = (1, attributes.size),
        }
    }
    if context.json {
        line(
            json!({ "path": path, "files": files, "directories": directories, "links": links, "bytes": size }),
        )?;
    } else {
        line(format_args!(
            "{size} bytes in {files} files and {directories} directories below {}",
            printable(path)
        ))?;
    }
    failures.finish()
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
    let (mut out, mut failures) = (Lines::new(), Failures::new(context.json));
    let mut tell = |path: String, own_name: &str, attributes: &Attributes| {
        let own_kind = match attributes.kind {
            Kind::File => "f",
            Kind::Directory => "d",
            Kind::SymbolicLink => "l",
        };
        let kind_fits = kind.is_none_or(|kind| kind == own_kind);
        let name_fits = name.is_none_or(|pattern| matches(pattern, own_name));
        if !kind_fits || !name_fits || attributes.size < least.0 {
            return Ok(());
        }
        if context.json {
            let mut value = describe::attributes(attributes);
            value["path"] = path.into();
            return out.line(value);
        }
        out.line(printable(&path))
    };
    let start = context.client.stat(path).await?;
    if start.is_directory() {
        let mut walk = Walk::begin(&context.client, path, true).await?;
        while let Some(found) = walk.next(&mut failures).await? {
            let entry = &found.entry;
            tell(join(path, &found.path), &entry.name, &entry.attributes)?;
        }
    } else {
        tell(path.to_owned(), base_name(path).unwrap_or(path), &start)?;
    }
    out.finish()?;
    failures.finish()
}
