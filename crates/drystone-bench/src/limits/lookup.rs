//! Look-ups behind one connection: everything that has arrived is answered with one write.

use super::frame::{self, HEADER};
use super::joined;
use crate::meter::Stopwatch;
use crate::sample::Sample;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

/// Names in the map.
const NAMES: u32 = 10_000;
/// Bytes of an answer: about what an inode's record has.
const ANSWER: usize = 96;
/// Bytes of a name, and so of a request.
const NAME: usize = 24;
const BUFFER: usize = 256 << 10;

/// `clients` requests under way until `operations` are answered.
pub fn look_up(watch: &Stopwatch, clients: usize, operations: usize) -> io::Result<Sample> {
    let (near, far) = frame::connection()?;
    let map: BTreeMap<Vec<u8>, [u8; ANSWER]> = (0..NAMES).map(|n| (name(n), [n as u8; ANSWER])).collect();
    let running = watch.start();
    let latencies = std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(far, &map));
        let latencies = ask(watch, &near, clients, operations);
        // The server may have closed it already.
        let _ = near.shutdown(Shutdown::Both);
        joined(server)?;
        latencies
    })?;
    let spent = watch.stop(running);
    Ok(Sample::operations("look-ups/s", 0, latencies, spent))
}

fn name(number: u32) -> Vec<u8> {
    format!("{:0width$}", number, width = NAME).into_bytes()
}

/// Reads until `buffer` holds more; false at the end of the connection.
fn receive(mut from: &TcpStream, buffer: &mut [u8], filled: &mut usize) -> io::Result<bool> {
    let more = from.read(&mut buffer[*filled..])?;
    *filled += more;
    Ok(more > 0)
}

fn serve(socket: TcpStream, map: &BTreeMap<Vec<u8>, [u8; ANSWER]>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let (mut filled, mut answers) = (0, Vec::new());
    while receive(&socket, &mut buffer, &mut filled)? {
        let mut whole = 0;
        answers.clear();
        while let Some((number, asked)) = frame::open(&buffer[whole..filled])? {
            let found = map.get(asked).ok_or(io::ErrorKind::NotFound)?;
            let start = answers.len();
            answers.extend_from_slice(&[0; HEADER]);
            answers.extend_from_slice(found);
            frame::seal(&mut answers[start..], number);
            whole += HEADER + asked.len();
        }
        (&socket).write_all(&answers)?;
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
    Ok(())
}

fn ask(watch: &Stopwatch, socket: &TcpStream, clients: usize, operations: usize) -> io::Result<Vec<u64>> {
    let mut socket = socket;
    let mut buffer = vec![0; BUFFER];
    let (mut filled, mut sent, mut requests) = (0, 0, Vec::new());
    let mut idle: Vec<u32> = (0..clients as u32).collect();
    let mut began = vec![watch.now(); clients];
    let mut latencies = Vec::with_capacity(operations);
    while latencies.len() < operations {
        idle.truncate(operations - sent);
        requests.clear();
        let now = watch.now();
        for client in idle.drain(..) {
            let start = requests.len();
            requests.extend_from_slice(&[0; HEADER]);
            requests.extend_from_slice(&name(sent as u32 % NAMES));
            frame::seal(&mut requests[start..], client);
            began[client as usize] = now;
            sent += 1;
        }
        socket.write_all(&requests)?;
        if !receive(socket, &mut buffer, &mut filled)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut whole = 0;
        while let Some((client, answer)) = frame::open(&buffer[whole..filled])? {
            latencies.push(watch.micros_since(began[client as usize]));
            idle.push(client);
            whole += HEADER + answer.len();
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
    Ok(latencies)
}
