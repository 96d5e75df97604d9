//! The network alone: a chain of three over loopback with a checksum at every hop.

use super::frame::{self, HEADER};
use super::{FRAME, REPLICAS, joined, shares};
use crate::meter::Stopwatch;
use crate::sample::Sample;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// Frames under way, as Drystone's own append window.
const WINDOW: usize = 8;
/// Bytes of an acknowledgement.
const ACK: usize = 8;

/// `streams` chains side by side.
pub fn chain(watch: &Stopwatch, size: u64, streams: usize) -> io::Result<Sample> {
    let mut links = Vec::new();
    for _ in 0..streams * REPLICAS {
        links.push(frame::connection()?);
    }
    let running = watch.start();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for share in shares(size, streams) {
            let mine = links.split_off(links.len() - REPLICAS);
            start(scope, mine, share / FRAME as u64, &mut threads)?;
        }
        threads.into_iter().try_for_each(joined)
    })?;
    Ok(Sample::transfer(size, watch.stop(running)))
}

type Thread<'scope> = std::thread::ScopedJoinHandle<'scope, io::Result<()>>;

/// Threads of one chain: the sender and its acknowledgements, two hops with both directions, the last hop. Each
/// owns its ends of the sockets, which close when it ends.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    links: Vec<(TcpStream, TcpStream)>,
    frames: u64,
    threads: &mut Vec<Thread<'scope>>,
) -> io::Result<()> {
    let (permits, returned) = sync_channel(WINDOW);
    let mut previous: Option<TcpStream> = None;
    let mut permits = Some(permits);
    let mut returned = Some(returned);
    for (near, far) in links {
        let back = near.try_clone()?;
        match previous.take() {
            Some(incoming) => {
                let ack = incoming.try_clone()?;
                threads.push(scope.spawn(move || relay(incoming, Some(near), frames)));
                threads.push(scope.spawn(move || hand_back(back, ack, frames)));
            }
            None => {
                let permits = permits.take().expect("a chain has one first link");
                let returned = returned.take().expect("a chain has one first link");
                threads.push(scope.spawn(move || send(near, permits, frames)));
                threads.push(scope.spawn(move || confirm(back, returned, frames)));
            }
        }
        previous = Some(far);
    }
    let last = previous.expect("a chain has links");
    threads.push(scope.spawn(move || relay(last, None, frames)));
    Ok(())
}

fn send(mut to: TcpStream, permits: SyncSender<()>, frames: u64) -> io::Result<()> {
    let mut buffer = vec![0x5a; HEADER + FRAME];
    for number in 0..frames {
        if permits.send(()).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        frame::seal(&mut buffer, number as u32);
        to.write_all(&buffer)?;
    }
    Ok(())
}

fn confirm(mut from: TcpStream, returned: Receiver<()>, frames: u64) -> io::Result<()> {
    let mut ack = [0; ACK];
    for _ in 0..frames {
        from.read_exact(&mut ack)?;
        // The sender may have ended with an error, which it reports itself.
        let _ = returned.recv();
    }
    Ok(())
}

/// Checks each frame and hands it on; the last hop acknowledges it.
fn relay(mut from: TcpStream, mut to: Option<TcpStream>, frames: u64) -> io::Result<()> {
    let mut buffer = vec![0; HEADER + FRAME];
    for number in 0..frames {
        from.read_exact(&mut buffer)?;
        if !matches!(frame::open(&buffer), Ok(Some(_))) {
            // The other direction's thread holds the same sockets: it must end too.
            from.shutdown(Shutdown::Both)?;
            to.map_or(Ok(()), |next| next.shutdown(Shutdown::Both))?;
            return Err(frame::damaged());
        }
        match &mut to {
            Some(next) => next.write_all(&buffer)?,
            None => from.write_all(&number.to_le_bytes())?,
        }
    }
    Ok(())
}

fn hand_back(mut from: TcpStream, mut to: TcpStream, frames: u64) -> io::Result<()> {
    let mut ack = [0; ACK];
    for _ in 0..frames {
        from.read_exact(&mut ack)?;
        to.write_all(&ack)?;
    }
    Ok(())
}
