//! What the journal says.
//!
//! ```text
//! version u8 = 2   kind u8
//! kind 1 (replica): entry (see codec)  first u32  count u32  offset u64  data u32
//!                   count checksums u32 of the blocks from `first`, data bytes at `offset` of the chunk
//! kind 2 (delete):  chunk u64  placement u64
//! kind 3 (floor):   chunk u64
//! ```
//! A replica record holds the whole state of the chunk but for bytes and checksums that earlier ones brought, so
//! replaying any of them twice changes nothing.

use crate::index::{ENTRY_BYTES, FieldReader, IndexEntry, put_entry, put_sums};
use bytes::Bytes;
use drystone_types::{ChunkId, MAX_CHUNK_BYTES, PlacementIndex};

const VERSION: u8 = 2;
const REPLICA: u8 = 1;
const DELETE: u8 = 2;
const FLOOR: u8 = 3;

/// A journal record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum JournalRecord {
    Replica {
        chunk: ChunkId,
        entry: IndexEntry,
        first: u32,
        sums: Vec<u32>,
        offset: u64,
        data: Vec<Bytes>,
    },
    Delete {
        chunk: ChunkId,
        placement: PlacementIndex,
    },
    Floor {
        floor: ChunkId,
    },
}

impl JournalRecord {
    /// The record's bytes, in parts of which the data are shared.
    pub(crate) fn encode(&self) -> Vec<Bytes> {
        let mut head = vec![VERSION];
        match self {
            JournalRecord::Replica {
                chunk,
                entry,
                first,
                sums,
                offset,
                data,
            } => {
                head.reserve(ENTRY_BYTES + 21 + sums.len() * 4);
                head.push(REPLICA);
                put_entry(&mut head, *chunk, entry);
                head.extend_from_slice(&first.to_le_bytes());
                head.extend_from_slice(&(sums.len() as u32).to_le_bytes());
                head.extend_from_slice(&offset.to_le_bytes());
                let length: usize = data.iter().map(Bytes::len).sum();
                head.extend_from_slice(&(length as u32).to_le_bytes());
                put_sums(&mut head, sums);
                let mut parts = vec![head.into()];
                parts.extend(data.iter().cloned());
                parts
            }
            JournalRecord::Delete { chunk, placement } => {
                head.push(DELETE);
                head.extend_from_slice(&chunk.0.to_le_bytes());
                head.extend_from_slice(&placement.0.to_le_bytes());
                vec![head.into()]
            }
            JournalRecord::Floor { floor } => {
                head.push(FLOOR);
                head.extend_from_slice(&floor.0.to_le_bytes());
                vec![head.into()]
            }
        }
    }

    /// The record in `bytes`; `None` if they are none.
    pub(crate) fn decode(bytes: &Bytes) -> Option<JournalRecord> {
        let mut reader = FieldReader(bytes);
        if reader.u8()? != VERSION {
            return None;
        }
        let record = match reader.u8()? {
            REPLICA => {
                let (chunk, entry) = reader.entry()?;
                let (first, count) = (reader.u32()?, reader.u32()?);
                let (offset, length) = (reader.u64()?, reader.u32()?);
                // No chunk is longer; what lies outside could not be counted with.
                if offset.checked_add(u64::from(length))? > MAX_CHUNK_BYTES {
                    return None;
                }
                let sums = reader.sums(count)?;
                let data = reader.take(length as usize)?;
                let data = if data.is_empty() {
                    Vec::new()
                } else {
                    vec![bytes.slice_ref(data)]
                };
                JournalRecord::Replica {
                    chunk,
                    entry,
                    first,
                    sums,
                    offset,
                    data,
                }
            }
            DELETE => JournalRecord::Delete {
                chunk: ChunkId(reader.u64()?),
                placement: PlacementIndex(reader.u64()?),
            },
            FLOOR => JournalRecord::Floor {
                floor: ChunkId(reader.u64()?),
            },
            _ => return None,
        };
        reader.0.is_empty().then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Run, Runs};
    use crate::index::EntryState;
    use drystone_types::Epoch;

    fn example() -> JournalRecord {
        let run = Run {
            arena: 3,
            first: 2,
            units: 17,
        };
        let entry = IndexEntry {
            placement: PlacementIndex(5),
            epoch: Epoch(1),
            state: EntryState::Open,
            runs: Some(Runs::One(run)),
            length: 4100,
            stored: 4096,
            checksum: 0,
            tail_at: 0,
        };
        let data = vec![Bytes::from_static(b"tail")];
        JournalRecord::Replica {
            chunk: ChunkId(9),
            entry,
            first: 0,
            sums: vec![77],
            offset: 4096,
            data,
        }
    }

    fn joined(record: &JournalRecord) -> Vec<u8> {
        record.encode().concat()
    }

    #[test]
    fn records_are_read_back() {
        let records = [
            example(),
            JournalRecord::Delete {
                chunk: ChunkId(4),
                placement: PlacementIndex(8),
            },
            JournalRecord::Floor {
                floor: ChunkId(1 << 50),
            },
        ];
        for record in records {
            let bytes = Bytes::from(joined(&record));
            assert_eq!(JournalRecord::decode(&bytes), Some(record));
            for cut in 0..bytes.len() {
                assert_eq!(JournalRecord::decode(&bytes.slice(..cut)), None);
            }
        }
    }

    #[test]
    fn bytes_beyond_the_end_of_any_chunk_are_no_record() {
        for (at, fits) in [
            (MAX_CHUNK_BYTES - 4, true),
            (MAX_CHUNK_BYTES - 3, false),
            (u64::MAX - 1, false),
        ] {
            let mut record = example();
            if let JournalRecord::Replica { offset, .. } = &mut record {
                *offset = at;
            }
            assert_eq!(
                JournalRecord::decode(&joined(&record).into()).is_some(),
                fits,
                "{at}"
            );
        }
    }

    #[test]
    fn the_bytes_of_version_2_do_not_change() {
        let text: String = joined(&example()).iter().map(|b| format!("{b:02x}")).collect();
        let golden = "02010900000000000000050000000000000001000000000000000104100000000000\
                      0000100000000000000000000000000000010011001000c00000000000000001\
                      0000000010000000000000040000004d0000007461696c";
        assert_eq!(text, golden);
    }
}
