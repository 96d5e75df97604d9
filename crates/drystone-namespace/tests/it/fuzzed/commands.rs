//! Any command, from any caller.

use super::{BASE, store};
use crate::cluster::{CLIENT, Cluster, at, inline, node, settings};
use crate::invariants;
use bytes::Bytes;
use drystone_namespace::{Caller, Namespace, Want, read_entry};
use drystone_proto::Message;
use drystone_proto::command::*;
use drystone_proto::grant::sign_receipt;
use drystone_types::LogIndex;
use std::sync::Arc;

const MOST_COMMANDS: usize = 16;

fn cluster() -> Cluster {
    let base = &*BASE;
    let ns = Namespace::open(Arc::new(store(&base.records)), settings()).expect("it was written so");
    Cluster {
        ns,
        index: base.index,
        time: base.time,
        placement: base.placement,
        next_chunk: base.next_chunk,
        sequence: base.sequence,
        log: Vec::new(),
        outcomes: Vec::new(),
    }
}

/// Commands: a byte about the caller, two bytes of length, and the encoding. What a
/// leader would propose every voter can read and apply, or all of them stop; what must hold of every state holds after
/// each command, and the state opens again as it was.
pub fn commands(data: &[u8]) {
    let mut cluster = cluster();
    let mut rest = data;
    for _ in 0..MOST_COMMANDS {
        let Some((&[how, low, high], behind)) = rest.split_first_chunk::<3>() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes([low, high])).min(behind.len());
        let (body, behind) = behind.split_at(length);
        rest = behind;
        if let Ok(mut command) = Command::decode(body) {
            if how & 1 == 0 {
                sign(&mut command);
            }
            if command.op.is_some() {
                apply(&mut cluster, how, command);
            }
        }
    }
    let hash = cluster.ns.state_hash().expect("memory");
    cluster.flush();
    let again = Namespace::open(Arc::clone(cluster.ns.store()), settings()).expect("it opens as it was");
    assert_eq!(again.state_hash().expect("memory"), hash);
}

/// Receipts that the cluster's servers could have signed.
fn sign(command: &mut Command) {
    let chunks = match &mut command.op {
        Some(Op::Publish(publish)) => publish.content.as_mut().map(|content| &mut content.chunks),
        Some(Op::StageExtend(extend)) => extend.content.as_mut().map(|content| &mut content.chunks),
        Some(Op::ConvertInline(convert)) => convert.content.as_mut().map(|content| &mut content.chunks),
        _ => None,
    };
    for receipt in chunks.into_iter().flatten().flat_map(|chunk| &mut chunk.receipts) {
        sign_receipt(&settings().key, settings().history, receipt);
    }
}

fn apply(cluster: &mut Cluster, how: u8, command: Command) {
    let origin = (how & 2 == 0).then(|| {
        // Sometimes once more.
        cluster.sequence += u64::from(how & 4 == 0);
        Origin {
            client: Bytes::copy_from_slice(&CLIENT),
            sequence: cluster.sequence,
            acknowledged_below: cluster.sequence.saturating_sub(u64::from(how >> 6)),
            user: ["drystone", "ann", "", "bob"][usize::from(how >> 3 & 3)].to_owned(),
            key: if how & 32 == 0 {
                String::new()
            } else {
                "key".to_owned()
            },
            key_hash: if how & 32 == 0 { "" } else { "0123456789abcdef" }.into(),
            outstanding: (how & 1 == 1)
                .then(|| cluster.sequence.saturating_sub(9))
                .into_iter()
                .collect(),
            ..Origin::default()
        }
    });
    cluster.time += 10;
    let entry = Entry {
        time: cluster.time,
        origin,
        command: Some(command),
        wall: cluster.time,
    };
    // As a voter reads it from its log: one that could not would stop, and all others with it.
    let entry = read_entry(entry.encode_to_vec().into()).expect("what is proposed can be read");
    match cluster.ns.apply(LogIndex(cluster.index + 1), &entry) {
        Ok(_) => cluster.index += 1,
        Err(error) => panic!("every voter would stop: {error}"),
    }
    invariants::check(&cluster.ns);
}

fn framed(how: u8, op: Op) -> Vec<u8> {
    let body = Command { op: Some(op) }.encode_to_vec();
    [&[how], &(body.len() as u16).to_le_bytes()[..], &body].concat()
}

/// One of each kind.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut made = cluster();
    let mut chunked = || made.chunked(500, 2);
    let publish = Cluster::publish;
    let staged = BASE.staged;
    let mode = |mode: PublishMode, offset, content| publish("a/b/chunked", mode, offset, content);
    let attributes = SetAttributes {
        target: at("a/inline"),
        changes: Some(AttributeChanges {
            mode: Some(0o640),
            owner: Some("ann".to_owned()),
            ..AttributeChanges::default()
        }),
        precondition: None,
    };
    let link = MakeSymbolicLink {
        target: at("c/link"),
        link: "/a/inline".to_owned(),
        ..MakeSymbolicLink::default()
    };
    let mut ops: Vec<(&str, u8, Op)> = vec![
        (
            "publish-inline",
            0,
            publish("new", PublishMode::Replace, 0, inline(b"x")),
        ),
        (
            "publish-chunked",
            0,
            publish("new", PublishMode::Replace, 0, chunked()),
        ),
        ("publish-append", 0, mode(PublishMode::Append, 0, chunked())),
        ("publish-range", 0, mode(PublishMode::Range, 700, chunked())),
        ("publish-unsigned", 1, mode(PublishMode::Append, 0, chunked())),
        (
            "publish-append-inline",
            0,
            publish("a/inline", PublishMode::Append, 0, inline(b"more")),
        ),
        (
            "publish-range-inline",
            0,
            publish("a/inline", PublishMode::Range, 3, inline(b"more")),
        ),
        ("make-directory", 0, Cluster::mkdir("c/d")),
        ("make-directory-denied", 8, Cluster::mkdir("c/d")),
        ("delete", 0, Cluster::remove("a/inline", false)),
        ("delete-tree", 0, Cluster::remove("a", true)),
        ("set-attributes", 0, Op::SetAttributes(attributes)),
        ("make-symbolic-link", 0, Op::MakeSymbolicLink(link)),
        (
            "rename",
            0,
            Op::Rename(Rename {
                from: at("a/b"),
                to: at("c/e"),
                overwrite: true,
                ..Rename::default()
            }),
        ),
        (
            "stage",
            0,
            Op::Stage(Stage {
                target: at("c/staged"),
                lease: 5_000,
                ..Stage::default()
            }),
        ),
        (
            "stage-extend",
            0,
            Op::StageExtend(StageExtend {
                inode: staged,
                content: Some(chunked()),
                lease: 5_000,
                ..StageExtend::default()
            }),
        ),
        (
            "stage-abandon",
            0,
            Op::StageAbandon(StageAbandon { inode: staged }),
        ),
        (
            "open-session",
            0,
            Op::OpenSession(OpenSession {
                ttl: 1_000_000,
                seen: 1 << 40,
            }),
        ),
        ("close-session", 0, Op::CloseSession(CloseSession {})),
        (
            "initialize",
            2,
            Op::Initialize(Initialize {
                policy: Some(crate::cluster::POLICY),
                ..Initialize::default()
            }),
        ),
        (
            "allocate-range",
            2,
            Op::AllocateRange(AllocateRange { count: 100 }),
        ),
        (
            "raise-grant-floor",
            2,
            Op::RaiseGrantFloor(RaiseGrantFloor {
                floor: BASE.next_chunk + 5,
            }),
        ),
        ("housekeep", 2, Op::Housekeep(Housekeep { limit: 100 })),
        (
            "register-node",
            2,
            Op::RegisterNode(RegisterNode {
                node: Some(node(2, &[(3, 13), (9, 19)])),
            }),
        ),
        ("release-deletion", 2, Op::ReleaseDeletion(ReleaseDeletion {})),
        (
            "forget-replicas",
            2,
            Op::ForgetReplicas(ForgetReplicas::default()),
        ),
        ("update-node", 2, Op::UpdateNode(UpdateNode::default())),
        (
            "abandon-chunks",
            2,
            Op::AbandonChunks(AbandonChunks {
                chunks: vec![AbandonedChunk {
                    chunk: BASE.next_chunk,
                    replicas: Vec::new(),
                }],
            }),
        ),
    ];
    // Last, so that the chunks of the others keep their ids.
    let file = at("a/inline").expect("a target");
    let found = made.ns.lookup(&file, &Caller::superuser(), Want::Content);
    let found = found.expect("it is there").inode;
    let convert = ConvertInline {
        inode: found.id,
        version: found.version,
        content: Some(made.holding(b"content")),
    };
    ops.push(("convert-inline", 0, Op::ConvertInline(convert)));
    let mut seeds: Vec<(&str, Vec<u8>)> = (ops.into_iter())
        .map(|(name, how, op)| (name, framed(how, op)))
        .collect();
    let replaced = framed(0, publish("a/b/chunked", PublishMode::Replace, 0, inline(b"x")));
    let gone = framed(0, Cluster::remove("a", true));
    let kept = framed(2, Op::Housekeep(Housekeep { limit: 100 }));
    seeds.push(("replace-delete-housekeep", [replaced, gone, kept].concat()));
    let repeated = framed(36, Cluster::mkdir("c/f"));
    seeds.push(("repeated", [framed(32, Cluster::mkdir("c/f")), repeated].concat()));
    seeds
}
