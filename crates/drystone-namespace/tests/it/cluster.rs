//! A namespace with nodes and chunk ids, and short ways to command it.

use bytes::Bytes;
use drystone_namespace::{MemoryStore, Namespace, Settings};
use drystone_proto::command::*;
use drystone_proto::grant::{ClusterKey, sign_receipt};
use drystone_proto::record::{DiskRecord, NodeRecord, PolicyRecord, ReplicaRecord};
use drystone_types::{Code, HistoryId, LogIndex, ShardId};
use std::sync::Arc;

pub const CLIENT: [u8; 16] = [7; 16];
pub const POLICY: PolicyRecord = PolicyRecord {
    replicas: 2,
    ack: 0,
    degraded_minimum: 0,
    chunk_bytes: 64 << 20,
};

pub fn settings() -> Settings {
    Settings {
        shard: ShardId(0),
        key: ClusterKey([5; 32]),
        history: HistoryId([9; 16]),
    }
}

pub struct Cluster {
    pub ns: Namespace<MemoryStore>,
    pub index: u64,
    pub time: u64,
    /// Log index of the range of chunk ids.
    pub placement: u64,
    pub next_chunk: u64,
    pub sequence: u64,
    pub log: Vec<(u64, Entry)>,
    /// The answer to each entry of the log.
    pub outcomes: Vec<Outcome>,
}

pub fn node(id: u64, disks: &[(u64, u64)]) -> NodeRecord {
    let disks = disks.iter().map(|&(id, incarnation)| DiskRecord {
        id,
        incarnation,
        ..DiskRecord::default()
    });
    NodeRecord {
        id,
        incarnation: 100 + id,
        roles: 2,
        name: format!("n{id}"),
        address: format!("127.0.0.1:{id}"),
        disks: disks.collect(),
        boot_counter: 1,
        boot_random: 1,
        ..NodeRecord::default()
    }
}

pub fn at(path: &str) -> Option<Target> {
    Some(Target {
        base: 0,
        path: path.to_owned(),
    })
}

pub fn inline(bytes: &[u8]) -> Content {
    Content {
        inline: Some(Bytes::copy_from_slice(bytes)),
        ..Content::default()
    }
}

pub fn code(outcome: &Outcome) -> Option<Code> {
    Code::from_number(outcome.code)
}

impl Cluster {
    pub fn new() -> Self {
        let ns = Namespace::open(Arc::new(MemoryStore::new()), settings()).unwrap();
        let mut cluster = Self {
            ns,
            index: 0,
            time: 1_000_000,
            placement: 0,
            next_chunk: 0,
            sequence: 0,
            log: Vec::new(),
            outcomes: Vec::new(),
        };
        cluster.own(Op::Initialize(Initialize {
            policy: Some(POLICY),
            ..Initialize::default()
        }));
        cluster.own(Op::RegisterNode(RegisterNode {
            node: Some(node(1, &[(1, 11), (2, 12)])),
        }));
        cluster.own(Op::RegisterNode(RegisterNode {
            node: Some(node(2, &[(3, 13)])),
        }));
        let range = cluster.own(Op::AllocateRange(AllocateRange { count: 65_536 }));
        cluster.placement = cluster.index;
        cluster.next_chunk = range.first_chunk;
        let open = cluster.entry(
            "drystone",
            0,
            Op::OpenSession(OpenSession {
                ttl: 1 << 40,
                seen: 0,
            }),
        );
        assert_eq!(cluster.apply(open).code, 0);
        cluster
    }

    pub fn apply(&mut self, entry: Entry) -> Outcome {
        self.index += 1;
        let outcome = self.ns.apply(LogIndex(self.index), &entry).unwrap();
        self.log.push((self.index, entry));
        self.outcomes.push(outcome.clone());
        outcome
    }

    /// The cluster's own command.
    pub fn own(&mut self, op: Op) -> Outcome {
        self.time += 10;
        let entry = Entry {
            time: self.time,
            origin: None,
            command: Some(Command { op: Some(op) }),
            wall: 0,
        };
        let outcome = self.apply(entry);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome
    }

    pub fn entry(&mut self, user: &str, sequence: u64, op: Op) -> Entry {
        self.time += 10;
        let origin = Origin {
            client: Bytes::copy_from_slice(&CLIENT),
            sequence,
            acknowledged_below: sequence.saturating_sub(5),
            user: user.to_owned(),
            ..Origin::default()
        };
        Entry {
            time: self.time,
            origin: Some(origin),
            command: Some(Command { op: Some(op) }),
            wall: 0,
        }
    }

    pub fn run(&mut self, user: &str, op: Op) -> Outcome {
        self.sequence += 1;
        let entry = self.entry(user, self.sequence, op);
        self.apply(entry)
    }

    /// As the superuser; must succeed.
    pub fn ok(&mut self, op: Op) -> Outcome {
        let outcome = self.run("drystone", op);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        outcome
    }

    pub fn refused(&mut self, op: Op) -> Option<Code> {
        code(&self.run("drystone", op))
    }

    pub fn chunk(&mut self, length: u64) -> NewChunk {
        let chunk = self.next_chunk;
        self.next_chunk += 1;
        self.chunk_with_id(chunk, length)
    }

    pub fn chunk_with_id(&self, chunk: u64, length: u64) -> NewChunk {
        let receipts =
            [(1, 11), (3, 13)].map(|(disk, incarnation)| self.receipt(chunk, length, disk, incarnation));
        NewChunk {
            chunk,
            receipts: receipts.to_vec(),
            policy: Some(POLICY),
        }
    }

    pub fn receipt(&self, chunk: u64, length: u64, disk: u64, incarnation: u64) -> Receipt {
        let replica = ReplicaRecord {
            disk,
            incarnation,
            placement: self.placement,
        };
        let mut receipt = Receipt {
            chunk,
            epoch: 1,
            length,
            checksum: 77,
            replica: Some(replica),
            signature: Bytes::new(),
        };
        sign_receipt(&settings().key, settings().history, &mut receipt);
        receipt
    }

    /// One chunk, wholly used, in `pieces` extents: the last piece first, so that none can be joined.
    pub fn chunked(&mut self, length: u64, pieces: u64) -> Content {
        let chunk = self.chunk(length * pieces);
        let extents = (0..pieces).rev().map(|piece| NewExtent {
            length,
            chunk: chunk.chunk,
            chunk_offset: piece * length,
        });
        Content {
            inline: None,
            extents: extents.collect(),
            chunks: vec![chunk],
        }
    }

    /// One chunk that holds these bytes.
    pub fn holding(&mut self, bytes: &[u8]) -> Content {
        let mut chunk = self.chunk(bytes.len() as u64);
        for receipt in &mut chunk.receipts {
            receipt.checksum = crc32c::crc32c(bytes);
            sign_receipt(&settings().key, settings().history, receipt);
        }
        let extent = NewExtent {
            length: bytes.len() as u64,
            chunk: chunk.chunk,
            chunk_offset: 0,
        };
        Content {
            inline: None,
            extents: vec![extent],
            chunks: vec![chunk],
        }
    }

    pub fn publish(path: &str, mode: PublishMode, offset: u64, content: Content) -> Op {
        Op::Publish(Publish {
            target: at(path),
            mode: mode as i32,
            offset,
            content: Some(content),
            ..Publish::default()
        })
    }

    pub fn mkdir(path: &str) -> Op {
        Op::MakeDirectory(MakeDirectory {
            target: at(path),
            parents: false,
            mode: None,
            attributes: None,
        })
    }

    pub fn remove(path: &str, recursive: bool) -> Op {
        Op::Delete(Delete {
            target: at(path),
            recursive,
            ..Delete::default()
        })
    }

    pub fn housekeep(&mut self) {
        for _ in 0..10_000 {
            if !self.own(Op::Housekeep(Housekeep { limit: 7 })).more {
                return;
            }
        }
        panic!("housekeeping does not end");
    }

    pub fn flush(&mut self) {
        if let Some(batch) = self.ns.freeze() {
            let done = batch.write_to(&**self.ns.store()).unwrap();
            drop(self.ns.flushed(done));
        }
    }
}

/// The writer of this content gives its chunks up.
pub fn given_up(content: &Content) -> Op {
    let given_up = |new: &NewChunk| AbandonedChunk {
        chunk: new.chunk,
        replicas: new
            .receipts
            .iter()
            .filter_map(|receipt| receipt.replica)
            .collect(),
    };
    Op::AbandonChunks(AbandonChunks {
        chunks: content.chunks.iter().map(given_up).collect(),
    })
}
