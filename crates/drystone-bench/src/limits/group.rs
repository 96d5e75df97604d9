//! Small objects, durable on three: batches as they arrive, one sync for each batch.

use super::frame::{self, HEADER};
use super::scratch::SEGMENT;
use super::{REPLICAS, Scratch, joined};
use crate::meter::Stopwatch;
use crate::sample::Sample;
use drystone_env::{BufferPool, DiskFile, Monotonic};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const BLOCK: usize = 4096;
/// The largest batch: twice what 64 clients with 64 KiB have under way.
const BATCH: usize = 8 << 20;
/// Bytes of an acknowledgement: the number of the object.
const ACK: usize = 4;
/// Batches of acknowledgements between the readers and the clients; each of 1,024 clients has at most three
/// acknowledgements under way, so it never fills.
const ACK_BATCHES: usize = 4096;

/// `clients` objects of `bytes` under way until `operations` are durable on all three servers.
pub fn group_commit(
    watch: &Stopwatch,
    scratch: &Scratch,
    bytes: usize,
    clients: usize,
    operations: usize,
) -> io::Result<Sample> {
    let mut servers = Vec::new();
    for replica in 0..REPLICAS {
        servers.push((
            frame::connection()?,
            scratch.segment(&format!("segment-{replica}"))?,
        ));
    }
    let (sender, receiver) = sync_channel(ACK_BATCHES);
    let running = watch.start();
    let latencies = std::thread::scope(|scope| {
        let (mut threads, mut sockets) = (Vec::new(), Vec::new());
        for ((near, far), segment) in servers {
            let (acks, sender) = (near.try_clone()?, sender.clone());
            threads.push(scope.spawn(move || serve(far, &segment)));
            threads.push(scope.spawn(move || gather(acks, &sender)));
            sockets.push(near);
        }
        drop(sender);
        let content = &scratch.content()[..bytes];
        let latencies = Clients::new(watch, content, clients, operations).run(&mut sockets, &receiver);
        for socket in &sockets {
            // A server that has failed has closed it already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        threads.into_iter().try_for_each(joined)?;
        latencies
    })?;
    let spent = watch.stop(running);
    Ok(Sample::operations("objects/s", bytes as u64, latencies, spent))
}

/// A server: whatever has arrived is checked, written from where it was received, synced and acknowledged.
fn serve(mut socket: TcpStream, segment: &Arc<dyn DiskFile>) -> io::Result<()> {
    let mut buffer = BufferPool::new(0).take(BATCH);
    let (mut filled, mut place) = (0, 0);
    let mut acks = Vec::new();
    loop {
        match socket.read(&mut buffer[filled..])? {
            0 => return Ok(()),
            more => filled += more,
        }
        let mut whole = 0;
        acks.clear();
        while let Some((number, payload)) = frame::open(&buffer[whole..filled])? {
            acks.extend_from_slice(&number.to_le_bytes());
            whole += HEADER + payload.len();
        }
        if whole == 0 {
            continue;
        }
        let padded = whole.next_multiple_of(BLOCK);
        if place + padded as u64 > SEGMENT {
            place = 0;
        }
        segment.write_at(&buffer[..padded], place)?;
        segment.sync_data()?;
        place += padded as u64;
        socket.write_all(&acks)?;
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

/// Reads acknowledgements until the connection ends, which an empty batch says.
fn gather(mut socket: TcpStream, to: &SyncSender<Vec<u8>>) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK];
    let mut filled = 0;
    loop {
        // A connection that breaks is a server that failed; it reports why itself.
        let more = socket.read(&mut buffer[filled..]).unwrap_or(0);
        if more == 0 {
            // Nobody listens any more when all is done.
            let _ = to.try_send(Vec::new());
            return Ok(());
        }
        filled += more;
        let whole = filled - filled % ACK;
        if whole > 0 && to.send(buffer[..whole].to_vec()).is_err() {
            return Ok(());
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

/// All clients: each has one object under way.
struct Clients<'a> {
    watch: &'a Stopwatch,
    /// A frame for each client, so that nothing is copied into a batch.
    frames: Vec<u8>,
    frame: usize,
    began: Vec<Monotonic>,
    acks: Vec<usize>,
    left: usize,
    latencies: Vec<u64>,
    operations: usize,
}

impl<'a> Clients<'a> {
    fn new(watch: &'a Stopwatch, content: &[u8], clients: usize, operations: usize) -> Self {
        let mut one = vec![0; HEADER];
        one.extend_from_slice(content);
        Self {
            watch,
            frame: one.len(),
            frames: one.repeat(clients),
            began: vec![Monotonic::default(); clients],
            acks: vec![0; clients],
            left: operations,
            latencies: Vec::with_capacity(operations),
            operations,
        }
    }

    fn run(mut self, sockets: &mut [TcpStream], acks: &Receiver<Vec<u8>>) -> io::Result<Vec<u64>> {
        let mut idle: Vec<u32> = (0..self.acks.len() as u32).collect();
        while self.latencies.len() < self.operations {
            self.send(&mut idle, sockets)?;
            let mut next = acks.recv().ok();
            while let Some(batch) = next {
                if batch.is_empty() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                self.take(&batch, &mut idle);
                next = acks.try_recv().ok();
            }
        }
        Ok(self.latencies)
    }

    /// One write to each server for everything that idle clients send.
    fn send(&mut self, idle: &mut Vec<u32>, sockets: &mut [TcpStream]) -> io::Result<()> {
        idle.truncate(self.left);
        self.left -= idle.len();
        let now = self.watch.now();
        for (client, frame) in idle.iter().zip(self.frames.chunks_exact_mut(self.frame)) {
            frame::seal(frame, *client);
            self.began[*client as usize] = now;
            self.acks[*client as usize] = 0;
        }
        let batch = &self.frames[..idle.len() * self.frame];
        idle.clear();
        sockets.iter_mut().try_for_each(|socket| socket.write_all(batch))
    }

    fn take(&mut self, acks: &[u8], idle: &mut Vec<u32>) {
        for ack in acks.chunks_exact(ACK) {
            let client = u32::from_le_bytes(ack.try_into().expect("a chunk of exactly four bytes"));
            self.acks[client as usize] += 1;
            if self.acks[client as usize] == REPLICAS {
                self.latencies
                    .push(self.watch.micros_since(self.began[client as usize]));
                idle.push(client);
            }
        }
    }
}
