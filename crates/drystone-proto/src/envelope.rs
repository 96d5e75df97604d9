//! A command on its way into the log. It is encoded once, by whoever makes it, and those bytes travel and are logged; a
//! server decodes it once, to judge it and to apply it.
//!
//! ```text
//! client: encode(op) -> MutateRequest.command -> leader: Envelope::read -> Envelope::stamp -> the log, and apply here
//!                                                                                          -> other voters decode it
//! ```

use crate::command::{Command, Entry, Op, Origin};
use bytes::Bytes;
use prost::Message;
use prost::encoding::{bytes as bytes_field, message, uint64};

/// The encoding of a command.
pub fn encode(op: &Op) -> Bytes {
    let mut bytes = Vec::with_capacity(op.encoded_len());
    op.encode(&mut bytes);
    bytes.into()
}

/// A command that is not known here, or not as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the command is not known here")]
pub struct UnknownCommand;

/// A command with its encoding, without the times that the log gives it.
#[derive(Clone, PartialEq, Debug)]
pub struct Envelope {
    op: Op,
    origin: Option<Origin>,
    /// [`Command`], in the one shortest way.
    command: Bytes,
}

impl Envelope {
    /// Of a command that is made here.
    pub fn of(op: Op, origin: Option<Origin>) -> Self {
        let command = encode(&op);
        Self { op, origin, command }
    }

    /// Of a command that somebody else has encoded.
    ///
    /// # Errors
    /// It holds something that this version does not know: whoever decodes it from the log would stop in front of it.
    pub fn read(command: Bytes, origin: Option<Origin>) -> Result<Self, UnknownCommand> {
        let known = Command::decode(command.clone()).map_err(|_| UnknownCommand)?;
        if known.encoded_len() != command.len() {
            return Err(UnknownCommand);
        }
        let op = known.op.ok_or(UnknownCommand)?;
        Ok(Self { op, origin, command })
    }

    /// The command.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// Who asks, and the place in its session.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Bytes of the encoded command.
    pub fn command_bytes(&self) -> usize {
        self.command.len()
    }

    /// The entry that gets these times, encoded and as it is. Zeros are not written: whoever reads the entry takes bytes
    /// that its own encoding would not have for something newer.
    pub fn stamp(self, time: u64, wall: u64) -> (Bytes, Entry) {
        const TIMES: usize = 22;
        let origin_bytes = self.origin.as_ref().map_or(0, Origin::encoded_len);
        let mut bytes = Vec::with_capacity(TIMES + origin_bytes + self.command.len() + 12);
        for (tag, value) in [(1, time), (4, wall)] {
            if value != 0 {
                uint64::encode(tag, &value, &mut bytes);
            }
        }
        if let Some(origin) = &self.origin {
            message::encode(2, origin, &mut bytes);
        }
        bytes_field::encode(3, &self.command, &mut bytes);
        let entry = Entry {
            time,
            origin: self.origin,
            command: Some(Command { op: Some(self.op) }),
            wall,
        };
        (bytes.into(), entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{CloseSession, Delete};

    fn op() -> Op {
        Op::Delete(Delete::default())
    }

    fn origin() -> Option<Origin> {
        Some(Origin {
            sequence: 7,
            user: "anna".to_owned(),
            ..Origin::default()
        })
    }

    #[test]
    fn what_is_stamped_is_the_entry_in_its_one_shortest_way() {
        for (origin, time, wall) in [(origin(), 77, 99), (None, 0, 99), (origin(), 5, 0)] {
            let made = Envelope::of(op(), origin.clone());
            let read = Envelope::read(encode(&op()), origin.clone()).unwrap();
            assert_eq!(made, read);
            let (bytes, entry) = read.stamp(time, wall);
            assert_eq!((entry.time, entry.wall, &entry.origin), (time, wall, &origin));
            assert_eq!(Entry::decode(bytes.clone()).unwrap(), entry);
            assert_eq!(bytes.len(), entry.encoded_len());
        }
        let (bytes, entry) = Envelope::of(Op::CloseSession(CloseSession {}), None).stamp(1, 1);
        assert_eq!(Entry::decode(bytes).unwrap(), entry);
    }

    #[test]
    fn a_command_is_known_as_a_whole_or_not_at_all() {
        let mut newer = encode(&op()).to_vec();
        bytes_field::encode(4_000, &b"new".to_vec(), &mut newer);
        for unknown in [Bytes::new(), newer.into(), vec![0xff; 9].into()] {
            assert_eq!(Envelope::read(unknown, None), Err(UnknownCommand));
        }
    }
}
