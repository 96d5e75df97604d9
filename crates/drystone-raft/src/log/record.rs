//! One record of the log. The log below adds length, CRC and sequence; these are the bytes inside.
//!
//! ```text
//! all      0 kind u8 | 1 version u8 = 1 | 2 flags u8 | 3 zero u8
//! entry    kind 1, flags: 0 command, 1 membership
//!          4 term u64 | 12 index u64 | 20 context length u32 | 24 data length u32 | 28 context | data
//! state    kind 2    4 term u64 | 12 vote u64 | 20 commit u64
//! base     kind 3, flags: 0 entries up to index are purged, 1 a snapshot replaced the whole log
//!          4 node u64 | 12 index u64 | 20 term u64 | 28 membership (RaftConfState)
//! ```
//! All numbers are little-endian. An entry replaces every earlier entry of its index or a higher one.

use bytes::{BufMut, Bytes, BytesMut};
use drystone_proto::raft::{RaftConfState, RaftEntry, RaftHardState};
use drystone_types::{LogIndex, NodeId, Term};
use prost::Message as _;

const VERSION: u8 = 1;
const ENTRY: u8 = 1;
const STATE: u8 = 2;
const BASE: u8 = 3;
const HEAD: usize = 28;

/// What the log begins after.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Base {
    /// Whose log it is.
    pub node: NodeId,
    /// The last index that is not in the log.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The membership as of that index.
    pub conf: RaftConfState,
    /// True if everything before this record is void; false if only entries up to `index` are gone.
    pub reset: bool,
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    Entry(RaftEntry),
    State(RaftHardState),
    Base(Base),
}

impl Record {
    /// The record's parts, without copying an entry's data.
    pub(crate) fn encode(&self) -> Vec<Bytes> {
        let mut head = BytesMut::with_capacity(HEAD);
        match self {
            Record::Entry(entry) => {
                head.put_slice(&[ENTRY, VERSION, entry.kind as u8, 0]);
                head.put_u64_le(entry.term);
                head.put_u64_le(entry.index);
                head.put_u32_le(entry.context.len() as u32);
                head.put_u32_le(entry.data.len() as u32);
                vec![head.freeze(), entry.context.clone(), entry.data.clone()]
            }
            Record::State(state) => {
                head.put_slice(&[STATE, VERSION, 0, 0]);
                head.put_u64_le(state.term);
                head.put_u64_le(state.vote);
                head.put_u64_le(state.commit);
                vec![head.freeze()]
            }
            Record::Base(base) => {
                head.put_slice(&[BASE, VERSION, u8::from(base.reset), 0]);
                head.put_u64_le(base.node.0);
                head.put_u64_le(base.index.0);
                head.put_u64_le(base.term.0);
                vec![head.freeze(), base.conf.encode_to_vec().into()]
            }
        }
    }

    /// The record in `bytes`; an entry's data is copied, so that it does not keep a whole batch in memory.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Record, String> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Err(format!("a record of {} bytes", bytes.len()));
        };
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i])) as usize;
        let [kind, version, flags, zero, ..] = *head;
        if version != VERSION || zero != 0 || flags > 1 {
            return Err(format!("record version {version}, flags {flags}, {zero}"));
        }
        match kind {
            ENTRY => {
                let (context, data) = (u32_at(20), u32_at(24));
                if rest.len() != context + data {
                    return Err(format!(
                        "{} bytes behind an entry that has {context} and {data}",
                        rest.len()
                    ));
                }
                let (context, data) = rest.split_at(context);
                Ok(Record::Entry(RaftEntry {
                    kind: u32::from(flags),
                    term: u64_at(4),
                    index: u64_at(12),
                    data: Bytes::copy_from_slice(data),
                    context: Bytes::copy_from_slice(context),
                }))
            }
            STATE if rest.is_empty() && flags == 0 => Ok(Record::State(RaftHardState {
                term: u64_at(4),
                vote: u64_at(12),
                commit: u64_at(20),
            })),
            BASE => {
                let conf = RaftConfState::decode(rest).map_err(|error| format!("membership: {error}"))?;
                Ok(Record::Base(Base {
                    node: NodeId(u64_at(4)),
                    index: LogIndex(u64_at(12)),
                    term: Term(u64_at(20)),
                    conf,
                    reset: flags == 1,
                }))
            }
            _ => Err(format!("record kind {kind}")),
        }
    }
}

#[cfg(test)]
mod tests;
