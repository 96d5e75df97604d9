//! `drystone admin lost`: the files that miss bytes.
//!
//! The leader names inodes; their paths are found by listing the directories that they are in, each once.

use super::super::Context;
use super::super::names::join;
use crate::output::{Lines, line, note, printable};
use anyhow::Context as _;
use drystone_client::Client;
use drystone_client::admin::{AdminOp, LostChunk, LostFile};
use serde_json::json;
use std::collections::BTreeMap;

/// Entries asked for at once.
const PAGE: u32 = 10_000;

/// Names of directories that are remembered between files; beyond that they are looked for again.
const MAX_KNOWN: usize = 100_000;

/// The whole command.
pub async fn run(context: &Context) -> anyhow::Result<()> {
    let mut paths = Paths {
        client: &context.client,
        known: BTreeMap::new(),
    };
    let (mut after, mut chunks, mut bytes) = (0, 0u64, 0u64);
    loop {
        let reply = context.client.admin(AdminOp::Lost(after)).await?;
        let page = reply
            .lost
            .context("the leader answered without the lost chunks")?;
        if after == 0 && !page.unheard.is_empty() {
            note(format_args!(
                "warning: the leader does not hear {}: what only they hold is listed here, and is there again when they are",
                page.unheard.join(", ")
            ));
        }
        let mut out = Lines::new();
        for lost in &page.chunks {
            chunks += 1;
            bytes += lost.chunk.as_ref().map_or(0, |chunk| chunk.length);
            for file in &lost.files {
                let path = paths.of(file).await?;
                print(&mut out, context.json, lost, file, path.as_deref())?;
            }
            if lost.more_files {
                note(format_args!("chunk {}: more files have bytes in it", id(lost)));
            }
        }
        out.finish()?;
        if page.next == 0 {
            break;
        }
        after = page.next;
    }
    if !context.json && !context.quiet {
        line(format_args!(
            "{chunks} chunks with {} have no replica that can be read",
            crate::output::bytes(bytes)
        ))?;
    }
    Ok(())
}

fn id(lost: &LostChunk) -> u64 {
    lost.chunk.as_ref().map_or(0, |chunk| chunk.id)
}

fn print(
    out: &mut Lines,
    is_json: bool,
    lost: &LostChunk,
    file: &LostFile,
    path: Option<&str>,
) -> anyhow::Result<()> {
    if is_json {
        out.line(json!({
            "path": path,
            "inode": file.inode,
            "offsets": file.offsets,
            "chunk": id(lost),
            "length": lost.chunk.as_ref().map_or(0, |chunk| chunk.length),
            "servers": lost.servers,
        }))?;
        return Ok(());
    }
    let shown = match path {
        Some(path) => printable(path),
        None if file.detached => format!("(inode {}, being deleted or staged)", file.inode),
        None => format!("(inode {}, renamed or deleted meanwhile)", file.inode),
    };
    let servers = match lost.servers.is_empty() {
        true => "no server that is known".to_owned(),
        false => lost.servers.join(", "),
    };
    out.line(format_args!("{shown}  chunk {}: was on {servers}", id(lost)))?;
    Ok(())
}

struct Paths<'a> {
    client: &'a Client,
    // By (directory, inode): the name of the inode in it.
    known: BTreeMap<(String, u64), String>,
}

impl Paths<'_> {
    /// The path of a file; `None` if it is not there any more.
    async fn of(&mut self, file: &LostFile) -> anyhow::Result<Option<String>> {
        if file.detached {
            return Ok(None);
        }
        let mut path = "/".to_owned();
        for inode in file.directories.iter().chain([&file.inode]) {
            let Some(name) = self.name(&path, *inode).await? else {
                return Ok(None);
            };
            path = join(&path, &name);
        }
        Ok(Some(path))
    }

    async fn name(&mut self, directory: &str, inode: u64) -> anyhow::Result<Option<String>> {
        if let Some(name) = self.known.get(&(directory.to_owned(), inode)) {
            return Ok(Some(name.clone()));
        }
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        let mut after = String::new();
        loop {
            let page = match self.client.list(directory, &after, PAGE).await {
                Err(error) if super::super::is_not_found(&error) => return Ok(None),
                other => other?,
            };
            for entry in page.entries {
                let key = (directory.to_owned(), entry.attributes.inode.0);
                let is_it = entry.attributes.inode.0 == inode;
                if is_it || self.known.len() < MAX_KNOWN {
                    self.known.insert(key, entry.name.clone());
                }
                if is_it {
                    return Ok(Some(entry.name));
                }
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(None),
            }
        }
    }
}
