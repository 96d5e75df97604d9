//! Limits of the disk alone.

use super::{FRAME, REPLICAS, Scratch, joined};
use crate::meter::Stopwatch;
use crate::sample::Sample;
use drystone_env::os::OsDisk;
use drystone_env::{BufferPool, Disk, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

const BLOCK: usize = 4096;
const NO_REFLINK: &str = "--reflink=never";

/// Three new files at once.
pub fn direct_write(watch: &Stopwatch, scratch: &Scratch, size: u64) -> io::Result<Sample> {
    let content = BufferPool::new(0).copy(scratch.content());
    let names: Vec<String> = (0..REPLICAS).map(|replica| format!("direct-{replica}")).collect();
    let running = watch.start();
    std::thread::scope(|scope| {
        let writers: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(|| write_file(scratch.disk(), name, &content, size)))
            .collect();
        writers.into_iter().try_for_each(joined)
    })?;
    let spent = watch.stop(running);
    names.iter().try_for_each(|name| scratch.remove(name))?;
    Ok(Sample::transfer(size, spent))
}

fn write_file(disk: &OsDisk, name: &str, content: &[u8], size: u64) -> io::Result<()> {
    let file = disk.open(
        name,
        OpenOptions {
            create: true,
            exclusive: true,
            direct: true,
        },
    )?;
    for at in (0..size).step_by(FRAME) {
        file.write_at(content, at)?;
    }
    file.sync_data()
}

/// The real `cp` and `sync`.
pub fn copy_three(watch: &Stopwatch, scratch: &Scratch, size: u64) -> io::Result<Sample> {
    let source = scratch.source(size)?;
    let names: Vec<String> = (0..REPLICAS).map(|replica| format!("copy-{replica}")).collect();
    let copy: &[&Path] = if has_reflink() {
        &[Path::new(NO_REFLINK)]
    } else {
        &[]
    };
    let running = watch.start();
    for name in &names {
        command("cp", &[copy, &[&source, &scratch.path(name)]].concat())?;
    }
    command("sync", &[Path::new("-f"), &scratch.path("copy-0")])?;
    let spent = watch.stop(running);
    names.iter().try_for_each(|name| scratch.remove(name))?;
    Ok(Sample::transfer(size, spent))
}

/// Where the file system can share blocks, `cp` would copy nothing; not every `cp` knows the option.
fn has_reflink() -> bool {
    let mut probe = Command::new("cp");
    probe
        .args([NO_REFLINK, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

fn command(program: &str, words: &[&Path]) -> io::Result<()> {
    let ended = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let status = ended.map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if !status.success() {
        return Err(io::Error::other(format!("{program}: {status}")));
    }
    Ok(())
}

/// One file, from the device: direct reads do not take what the page cache holds.
pub fn direct_read(watch: &Stopwatch, scratch: &Scratch, size: u64) -> io::Result<Sample> {
    scratch.source(size)?;
    let file = scratch.disk().open(
        "source",
        OpenOptions {
            direct: true,
            ..OpenOptions::default()
        },
    )?;
    let mut buffer = BufferPool::new(0).take(FRAME);
    let running = watch.start();
    for at in (0..size).step_by(FRAME) {
        file.read_at(&mut buffer, at)?;
    }
    Ok(Sample::transfer(size, watch.stop(running)))
}

/// One block after the other, each synced.
pub fn sync_block(watch: &Stopwatch, scratch: &Scratch, operations: usize) -> io::Result<Sample> {
    let file = scratch.segment("segment-0")?;
    let block = BufferPool::new(0).copy(&scratch.content()[..BLOCK]);
    let mut latencies = Vec::with_capacity(operations);
    let running = watch.start();
    for operation in 0..operations as u64 {
        let began = watch.now();
        file.write_at(&block, operation * BLOCK as u64 % super::scratch::SEGMENT)?;
        file.sync_data()?;
        latencies.push(watch.micros_since(began));
    }
    let spent = watch.stop(running);
    Ok(Sample::operations("writes/s", BLOCK as u64, latencies, spent))
}
