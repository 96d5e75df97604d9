//! A cached file to a socket without a copy in between, checked by who receives it.

use super::{FRAME, Scratch, frame, joined, shares};
use crate::meter::Stopwatch;
use crate::sample::Sample;
use std::fs::File;
use std::io::{self, Read};
use std::net::TcpStream;
use std::path::Path;

/// `streams` connections side by side, each with a part of the file.
pub fn sendfile(watch: &Stopwatch, scratch: &Scratch, size: u64, streams: usize) -> io::Result<Sample> {
    let source = scratch.source(size)?;
    let checksum = crc32c::crc32c(scratch.content());
    let mut links = Vec::new();
    let mut offset = 0;
    for share in shares(size, streams) {
        links.push((frame::connection()?, offset, share));
        offset += share;
    }
    let running = watch.start();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for ((near, far), offset, share) in links {
            let source = &source;
            threads.push(scope.spawn(move || serve(source, far, offset, share)));
            threads.push(scope.spawn(move || receive(near, share, checksum)));
        }
        threads.into_iter().try_for_each(joined)
    })?;
    Ok(Sample::transfer(size, watch.stop(running)))
}

fn serve(source: &Path, to: TcpStream, mut offset: u64, length: u64) -> io::Result<()> {
    let file = File::open(source)?;
    let end = offset + length;
    while offset < end {
        let most = (end - offset).min(FRAME as u64) as usize;
        if rustix::fs::sendfile(&to, &file, Some(&mut offset), most)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn receive(mut from: TcpStream, length: u64, checksum: u32) -> io::Result<()> {
    let mut buffer = vec![0; FRAME];
    for _ in 0..length / FRAME as u64 {
        from.read_exact(&mut buffer)?;
        if crc32c::crc32c(&buffer) != checksum {
            return Err(frame::damaged());
        }
    }
    Ok(())
}
