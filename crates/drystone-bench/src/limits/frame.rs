//! Frames of the limit programs, and the sockets that they travel on.
//!
//! ```text
//! 0        4        8        12       16
//! | length | CRC32C | number | zero   | payload of `length` bytes ...
//! ```
//! Little-endian. These frames never leave the process that runs the limit program.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// Bytes before the payload.
pub const HEADER: usize = 16;

/// Two ends of a connection over loopback, with the options of Drystone's own sockets.
pub fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        let socket = socket2::SockRef::from(end);
        socket.set_tcp_nodelay(true)?;
        // About speed alone; a system without it still works, as with Drystone's sockets.
        let _ = socket.set_tcp_congestion(b"cubic");
    }
    Ok((near, far))
}

/// Completes a frame whose payload is in place: computes its checksum and writes its header.
pub fn seal(frame: &mut [u8], number: u32) {
    let length = frame.len() - HEADER;
    let checksum = crc32c::crc32c(&frame[HEADER..]);
    for (place, word) in [length as u32, checksum, number, 0].into_iter().enumerate() {
        frame[place * 4..place * 4 + 4].copy_from_slice(&word.to_le_bytes());
    }
}

/// Word `place` of a header.
fn word(header: &[u8], place: usize) -> u32 {
    let bytes: [u8; 4] = header[place * 4..place * 4 + 4]
        .try_into()
        .expect("the slice has four bytes");
    u32::from_le_bytes(bytes)
}

/// The first frame in `buffer`: its number and payload, or `None` while it is not whole.
///
/// # Errors
/// `InvalidData` if the checksum does not match.
pub fn open(buffer: &[u8]) -> io::Result<Option<(u32, &[u8])>> {
    let Some(header) = buffer.get(..HEADER) else {
        return Ok(None);
    };
    let Some(payload) = buffer.get(HEADER..HEADER + word(header, 0) as usize) else {
        return Ok(None);
    };
    if crc32c::crc32c(payload) != word(header, 1) {
        return Err(damaged());
    }
    Ok(Some((word(header, 2), payload)))
}

/// What a failed check gives.
pub fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a checksum does not match")
}
