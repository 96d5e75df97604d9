//! Where the bytes of a file are: pages of extents, and which replica is asked first. Synchronous.

use drystone_proto::meta::{DiskLocation, LocatedExtent, LookupReply};
use drystone_proto::record::{ChunkRecord, HOLE, ReplicaRecord};
use drystone_types::{MAX_PAYLOAD_BYTES, NodeId};
use std::collections::BTreeMap;

/// A page of a file's extents with everything needed to read them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExtentPage {
    /// File offsets that it speaks of.
    pub(crate) from: u64,
    pub(crate) to: u64,
    extents: Vec<LocatedExtent>,
    chunks: BTreeMap<u64, ChunkRecord>,
    disks: BTreeMap<u64, DiskLocation>,
}

/// At most 1 MiB of one chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReadPiece {
    /// In the file.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Or [`HOLE`].
    pub(crate) chunk: u64,
    /// In the chunk.
    pub(crate) chunk_offset: u64,
}

/// A replica and how to reach it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ReplicaPlace {
    pub(crate) replica: ReplicaRecord,
    pub(crate) node: NodeId,
    pub(crate) address: String,
}

/// Whom to ask first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preference<'a> {
    pub(crate) disk: Option<u64>,
    pub(crate) host: &'a str,
    /// Nodes that failed us lately.
    pub(crate) suspects: &'a [NodeId],
    /// This process's own number, drawn at random.
    pub(crate) draw: u64,
}

impl ExtentPage {
    /// The page that answers a look-up from `from` of a file of `size` bytes.
    pub(crate) fn of(reply: &LookupReply, from: u64, asked: Option<u64>, size: u64) -> Self {
        let end = asked
            .filter(|&asked| asked > 0)
            .map_or(size, |asked| from.saturating_add(asked))
            .min(size);
        Self {
            from,
            to: if reply.next_offset > from {
                reply.next_offset.min(size)
            } else {
                end
            },
            extents: reply.extents.clone(),
            chunks: reply
                .chunks
                .iter()
                .map(|chunk| (chunk.id, chunk.clone()))
                .collect(),
            disks: reply.disks.iter().map(|disk| (disk.disk, disk.clone())).collect(),
        }
    }

    pub(crate) fn covers(&self, position: u64) -> bool {
        self.from <= position && position < self.to
    }

    /// What to read next from `position`, before `end`; cut at whole MiB of the chunk, so that everybody reads (and
    /// servers cache) the same pieces. `None`: nothing covers it, not even a hole, which a sound answer never has.
    pub(crate) fn piece(&self, position: u64, end: u64) -> Option<ReadPiece> {
        let index = self
            .extents
            .partition_point(|extent| extent.offset.saturating_add(extent.length) <= position);
        let extent = self
            .extents
            .get(index)
            .filter(|extent| extent.offset <= position)?;
        let within = position - extent.offset;
        let chunk_offset = match extent.chunk {
            HOLE => 0,
            _ => extent.chunk_offset.checked_add(within)?,
        };
        let unit = MAX_PAYLOAD_BYTES as u64;
        let length = (extent.length - within)
            .min(end.saturating_sub(position))
            .min(unit - chunk_offset % unit);
        (length > 0).then_some(ReadPiece {
            offset: position,
            length,
            chunk: extent.chunk,
            chunk_offset,
        })
    }

    /// The replicas of `chunk` that can be reached, the best first.
    pub(crate) fn places(&self, chunk: u64, preference: Preference<'_>) -> Vec<ReplicaPlace> {
        let sources = self.chunks.get(&chunk).into_iter().flat_map(ChunkRecord::sources);
        let mut ranked: Vec<(Rank, ReplicaPlace)> = sources
            .filter_map(|replica| {
                let at = self.disks.get(&replica.disk)?;
                let here = !preference.host.is_empty()
                    && (at.server == preference.host
                        || at
                            .address
                            .rsplit_once(':')
                            .is_some_and(|(host, _)| host == preference.host));
                let rank = (
                    !replica.is_verified(),
                    preference.disk != Some(replica.disk),
                    at.suspect || preference.suspects.contains(&NodeId(at.node)),
                    !here,
                    spread(preference.draw, chunk, replica.disk),
                );
                (!at.address.is_empty()).then(|| {
                    (
                        rank,
                        ReplicaPlace {
                            replica: replica.replica(),
                            node: NodeId(at.node),
                            address: at.address.clone(),
                        },
                    )
                })
            })
            .collect();
        ranked.sort_by_key(|&(rank, _)| rank);
        ranked.into_iter().map(|(_, place)| place).collect()
    }
}

/// The lower the better: not verified, not the preferred disk, suspect, not on the reader's host, then by a draw.
type Rank = (bool, bool, bool, bool, u64);

/// One process always ranks the equal replicas of a chunk alike, so that it reads from one cache; different processes
/// rank them differently, so that the readers of a hot chunk share its servers, and each disk is the first for its
/// share of chunks.
fn spread(draw: u64, chunk: u64, disk: u64) -> u64 {
    let mut z = draw.wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(32)
        ^ chunk.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ disk.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_proto::record::{PlacedReplica, PlacementState};

    fn page() -> ExtentPage {
        let extent = |offset, length, chunk, chunk_offset| LocatedExtent {
            offset,
            length,
            chunk,
            chunk_offset,
        };
        let replica = |disk| ReplicaRecord {
            disk,
            incarnation: 1,
            placement: 1,
        };
        let chunk = |id| ChunkRecord {
            id,
            replicas: (1..=3)
                .map(|disk| PlacedReplica::new(replica(disk), PlacementState::Verified))
                .collect(),
            ..ChunkRecord::default()
        };
        let disk = |disk| DiskLocation {
            disk,
            node: disk + 10,
            address: format!("host{disk}:1"),
            suspect: disk == 2,
            ..DiskLocation::default()
        };
        let reply = LookupReply {
            extents: vec![extent(0, 3 << 20, 7, 4096), extent(3 << 20, 100, 8, 0)],
            chunks: vec![chunk(7), chunk(8)],
            disks: (1..=3).map(disk).collect(),
            ..LookupReply::default()
        };
        ExtentPage::of(&reply, 0, None, (3 << 20) + 100)
    }

    #[test]
    fn pieces_cover_a_range_without_gap_and_end_at_whole_mebibytes() {
        let page = page();
        for (from, end) in [
            (0, (3 << 20) + 100),
            (1, 2),
            (4095, 1 << 21),
            ((3 << 20) - 1, (3 << 20) + 1),
        ] {
            let mut position = from;
            while position < end {
                let piece = page.piece(position, end).unwrap();
                assert_eq!(piece.offset, position);
                assert!(
                    piece.chunk_offset / (1 << 20) == (piece.chunk_offset + piece.length - 1) / (1 << 20)
                );
                position += piece.length;
            }
            assert_eq!(position, end);
        }
        assert_eq!(page.piece((3 << 20) + 100, u64::MAX), None);
    }

    #[test]
    fn suspects_are_asked_last_and_a_pinned_disk_first() {
        let none = Preference {
            disk: None,
            host: "",
            suspects: &[],
            draw: 5,
        };
        let order = |preference| -> Vec<u64> {
            page()
                .places(7, preference)
                .iter()
                .map(|place| place.replica.disk)
                .collect()
        };
        assert_eq!(order(none).last(), Some(&2));
        assert_eq!(
            order(Preference {
                disk: Some(2),
                ..none
            })
            .first(),
            Some(&2)
        );
        assert_eq!(
            order(Preference {
                host: "host3",
                ..none
            })
            .first(),
            Some(&3)
        );
        assert_eq!(
            order(Preference {
                host: "host3",
                suspects: &[NodeId(13)],
                ..none
            })
            .first(),
            Some(&1)
        );
    }

    #[test]
    fn processes_share_equal_replicas_and_each_keeps_to_its_own() {
        let page = page();
        let first = |draw, chunk| {
            let preference = Preference {
                disk: None,
                host: "",
                suspects: &[],
                draw,
            };
            page.places(chunk, preference)[0].replica.disk
        };
        for chunk in [7, 8] {
            // Disk 2 is suspect; 1 and 3 are equal.
            let ones = (0..1_000u64).filter(|&draw| first(draw, chunk) == 1).count();
            assert!(
                (400..600).contains(&ones),
                "{ones} of 1000 processes read disk 1 first"
            );
            assert!((0..1_000u64).all(|draw| first(draw, chunk) == first(draw, chunk)));
        }
        let differ = (0..1_000u64)
            .filter(|&draw| first(draw, 7) != first(draw, 8))
            .count();
        assert!(
            (400..600).contains(&differ),
            "a process reads from all disks alike: {differ}"
        );
    }
}
