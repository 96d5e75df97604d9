//! Where the bytes of a writer are that it has sealed: so that it can read them back.

use super::chunk::SealedPart;
use crate::read::{ReadContext, ReadStream, written};
use crate::target::Target;
use drystone_proto::meta::{DiskLocation, LocatedExtent, LookupReply};
use drystone_proto::record::{ChunkRecord, PlacedReplica, PlacementState};
use std::collections::BTreeMap;

/// Parts that are remembered: 4 TiB in chunks of 64 MiB, and some 20 MB of memory. What is longer cannot be read back.
const MAX_PARTS: usize = 65_536;

/// See the module.
#[derive(Default)]
pub(super) struct WrittenParts {
    extents: Vec<LocatedExtent>,
    chunks: Vec<ChunkRecord>,
    disks: BTreeMap<u64, DiskLocation>,
    length: u64,
}

impl WrittenParts {
    /// The next part of the stream is sealed.
    pub(super) fn add(&mut self, part: &SealedPart) {
        let offset = self.length;
        self.length += part.length;
        if self.extents.len() >= MAX_PARTS {
            return;
        }
        self.extents.push(LocatedExtent {
            offset,
            length: part.length,
            chunk: part.chunk.chunk,
            chunk_offset: 0,
        });
        let replicas = part.members.iter();
        self.chunks.push(ChunkRecord {
            id: part.chunk.chunk,
            length: part.length,
            replicas: replicas
                .map(|member| PlacedReplica::new(member.replica, PlacementState::Verified))
                .collect(),
            ..ChunkRecord::default()
        });
        for member in &part.members {
            let known = self.disks.entry(member.replica.disk).or_default();
            if known.address != member.address {
                *known = DiskLocation {
                    disk: member.replica.disk,
                    incarnation: member.replica.incarnation,
                    node: member.node.0,
                    address: member.address.clone(),
                    ..DiskLocation::default()
                };
            }
        }
    }

    /// Bytes of all parts.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// All bytes in order; `None` if there were too many parts.
    pub(super) fn read(self, context: ReadContext, target: &Target) -> Option<ReadStream> {
        let last = self.extents.last();
        let known = last.map_or(0, |last| last.offset + last.length);
        let places = LookupReply {
            extents: self.extents,
            chunks: self.chunks,
            disks: self.disks.into_values().collect(),
            ..LookupReply::default()
        };
        (known == self.length).then(|| written(context, target.clone(), &places, self.length))
    }
}
