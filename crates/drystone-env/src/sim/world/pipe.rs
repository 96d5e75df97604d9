//! One direction of a connection: bytes under way, bytes that arrived, and how it ended.

use super::host::HostId;
use bytes::Bytes;
use std::collections::VecDeque;
use std::task::Waker;

/// Bytes that one direction holds, sent and not yet read: a small socket buffer, so that back-pressure is common.
pub(super) const WINDOW: usize = 256 << 10;

pub(super) enum Segment {
    Data(Bytes),
    /// The writer is done.
    Fin,
    /// The other end is gone.
    Reset,
}

/// See the module. The reverse direction has the number with the last bit flipped.
pub(super) struct Pipe {
    pub(super) from: HostId,
    pub(super) to: HostId,
    /// With the time of arrival; they arrive in order.
    pub(super) flight: VecDeque<(u64, Segment)>,
    pub(super) arrived: VecDeque<Bytes>,
    /// Bytes that count against the window.
    pub(super) held: usize,
    /// Read, and not yet known to the writer because nothing travels back.
    pub(super) unacknowledged: usize,
    pub(super) last_arrival: u64,
    /// What is under way waits for the link or the power.
    pub(super) stalled: bool,
    pub(super) ended: bool,
    pub(super) reset: bool,
    pub(super) writer_gone: bool,
    pub(super) reader_gone: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Pipe {
    pub(super) fn new(from: HostId, to: HostId) -> Self {
        Self {
            from,
            to,
            flight: VecDeque::new(),
            arrived: VecDeque::new(),
            held: 0,
            unacknowledged: 0,
            last_arrival: 0,
            stalled: false,
            ended: false,
            reset: false,
            writer_gone: false,
            reader_gone: false,
            reader: None,
            writer: None,
        }
    }

    /// Takes back bytes from the window. The writer must be woken.
    pub(super) fn acknowledge(&mut self, bytes: usize) -> Option<Waker> {
        self.held = self.held.saturating_sub(bytes);
        self.writer.take()
    }
}
