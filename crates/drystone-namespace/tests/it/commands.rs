//! Named cases of single commands.

use crate::cluster::{Cluster, at, code, inline, node, settings};
use crate::invariants;
use bytes::Bytes;
use drystone_namespace::limits::*;
use drystone_namespace::{Caller, Want};
use drystone_proto::command::*;
use drystone_proto::grant::sign_receipt;
use drystone_proto::record::{PolicyRecord, Xattr};
use drystone_types::{ChunkId, Code, DiskId, DiskRef, Incarnation, PlacementIndex};

fn put(path: &str, content: Content) -> Op {
    Cluster::publish(path, PublishMode::Replace, 0, content)
}

fn append(path: &str, content: Content) -> Op {
    Cluster::publish(path, PublishMode::Append, 0, content)
}

#[test]
fn a_cached_inode_below_a_deleted_tree_is_not_found() {
    let mut cluster = Cluster::new();
    cluster.ok(Cluster::mkdir("a"));
    let below = cluster.ok(Cluster::mkdir("a/b"));
    cluster.ok(Cluster::remove("a", true));
    let target = Target {
        base: below.inode,
        path: "new".into(),
    };
    let refused = cluster.refused(Op::MakeDirectory(MakeDirectory {
        target: Some(target.clone()),
        parents: false,
        mode: 0,
    }));
    assert_eq!(refused, Some(Code::NotFound));
    let found = cluster.ns.lookup(&target, &Caller::superuser(), Want::Attributes);
    assert!(found.is_err());
    cluster.housekeep();
    invariants::check(&cluster.ns);
}

#[test]
fn a_base_inode_works_wherever_its_directory_was_moved() {
    let mut cluster = Cluster::new();
    let moved = cluster.ok(Cluster::mkdir("a"));
    cluster.ok(Cluster::mkdir("c"));
    let rename = Rename {
        from: at("a"),
        to: at("c/d"),
        ..Rename::default()
    };
    let renamed = cluster.ok(Op::Rename(rename));
    assert!(
        renamed.version > moved.version,
        "a directory's version changes with its place"
    );
    let target = Some(Target {
        base: moved.inode,
        path: "f".into(),
    });
    cluster.ok(Op::Publish(Publish {
        target,
        content: Some(inline(b"x")),
        ..Publish::default()
    }));
    let found = cluster
        .ns
        .lookup(&at("c/d/f").unwrap(), &Caller::superuser(), Want::Content)
        .unwrap();
    assert_eq!(found.inode.inline.as_deref(), Some(&b"x"[..]));
}

#[test]
fn names_that_are_no_names_are_invalid() {
    let mut cluster = Cluster::new();
    for path in ["a/../b", ".", "x//y", "a\0", &"n".repeat(256)] {
        assert_eq!(
            cluster.refused(Cluster::mkdir(path)),
            Some(Code::Invalid),
            "{path}"
        );
    }
    cluster.ok(Cluster::mkdir(&"n".repeat(255)));
    cluster.ok(Cluster::mkdir("ü😀"));
}

#[test]
fn inline_content_stays_inline_up_to_its_limit_and_never_meets_chunks() {
    let mut cluster = Cluster::new();
    cluster.ok(put("f", inline(&vec![1; MAX_INLINE_BYTES])));
    assert_eq!(
        cluster.refused(append("f", inline(b"x"))),
        Some(Code::InlineRefused)
    );
    assert_eq!(
        cluster.refused(put("g", inline(&vec![1; MAX_INLINE_BYTES + 1]))),
        Some(Code::InlineRefused)
    );
    let chunked = cluster.chunked(10, 1);
    assert_eq!(
        cluster.refused(append("f", chunked.clone())),
        Some(Code::InlineRefused)
    );
    // The refused command left its chunk free: the client replaces the content by it.
    let replaced = cluster.ok(put("f", chunked));
    assert_eq!((replaced.size, replaced.redundancy), (10, 2));
    assert_eq!(
        cluster.refused(append("f", inline(b"x"))),
        Some(Code::InlineRefused)
    );
    invariants::check(&cluster.ns);
}

#[test]
fn receipts_are_believed_only_when_all_of_them_fit() {
    let mut cluster = Cluster::new();
    let commit = |cluster: &mut Cluster, chunk: NewChunk| {
        let extents = vec![NewExtent {
            length: 10,
            chunk: chunk.chunk,
            chunk_offset: 0,
        }];
        cluster.refused(put(
            "f",
            Content {
                inline: None,
                extents,
                chunks: vec![chunk],
            },
        ))
    };
    let good = cluster.chunk(10);
    let with = |change: &dyn Fn(&mut Receipt)| {
        let mut chunk = good.clone();
        change(&mut chunk.receipts[1]);
        sign_receipt(&settings().key, settings().history, &mut chunk.receipts[1]);
        chunk
    };
    let mut forged = good.clone();
    forged.receipts[0].signature = Bytes::from_static(&[0; 32]);
    assert_eq!(commit(&mut cluster, forged), Some(Code::Denied));
    assert_eq!(
        commit(&mut cluster, with(&|receipt| receipt.length = 11)),
        Some(Code::Invalid)
    );
    assert_eq!(
        commit(&mut cluster, with(&|receipt| receipt.checksum = 1)),
        Some(Code::Invalid)
    );
    assert_eq!(
        commit(&mut cluster, with(&|receipt| receipt.epoch = 2)),
        Some(Code::Invalid)
    );
    assert_eq!(
        commit(&mut cluster, with(&|receipt| receipt.chunk += 1)),
        Some(Code::Invalid)
    );
    let placement = |receipt: &mut Receipt| receipt.replica.as_mut().unwrap().placement += 1;
    assert_eq!(commit(&mut cluster, with(&placement)), Some(Code::Invalid));
    let same_disk = |receipt: &mut Receipt| receipt.replica.as_mut().unwrap().disk = 1;
    assert_eq!(commit(&mut cluster, with(&same_disk)), Some(Code::Invalid));
    // A disk that was wiped, or is unknown, holds nothing.
    let wiped = |receipt: &mut Receipt| receipt.replica.as_mut().unwrap().incarnation = 99;
    assert_eq!(commit(&mut cluster, with(&wiped)), Some(Code::NotEnoughDomains));
    let mut few = good.clone();
    few.receipts.pop();
    assert_eq!(commit(&mut cluster, few.clone()), Some(Code::NotEnoughDomains));
    let unknown = cluster.chunk_with_id(1 << 40, 10);
    assert_eq!(commit(&mut cluster, unknown), Some(Code::Invalid));
    few.policy = Some(PolicyRecord {
        degraded_minimum: 1,
        ..few.policy.unwrap()
    });
    assert_eq!(commit(&mut cluster, few), None, "the policy allows one replica");
    assert_eq!(
        commit(&mut cluster, good),
        Some(Code::Conflict),
        "recorded already"
    );
    invariants::check(&cluster.ns);
}

#[test]
fn below_the_grant_floor_nothing_is_committed_and_the_floor_never_falls() {
    let mut cluster = Cluster::new();
    let late = cluster.chunked(10, 1);
    let floor = cluster.next_chunk;
    cluster.own(Op::RaiseGrantFloor(RaiseGrantFloor { floor }));
    cluster.own(Op::RaiseGrantFloor(RaiseGrantFloor { floor: 1 }));
    assert_eq!(cluster.ns.grant_floor().0, floor);
    assert_eq!(cluster.refused(put("f", late)), Some(Code::GrantExpired));
    let timely = cluster.chunked(10, 1);
    cluster.ok(put("f", timely));
    let floor = cluster.ns.next_chunk().0 + 1;
    let above = cluster.refused(Op::RaiseGrantFloor(RaiseGrantFloor { floor }));
    assert_eq!(above, Some(Code::Invalid));
}

#[test]
fn an_extent_beyond_its_chunk_or_into_anothers_is_refused() {
    let mut cluster = Cluster::new();
    let mut content = cluster.chunked(10, 1);
    content.extents[0].length = 11;
    assert_eq!(cluster.refused(put("f", content)), Some(Code::Invalid));
    let own = cluster.chunked(10, 1);
    let chunk = own.extents[0].chunk;
    assert_eq!(code(&cluster.run("ann", put("f", own))), None);
    let share = Content {
        extents: vec![NewExtent {
            length: 10,
            chunk,
            chunk_offset: 0,
        }],
        ..Content::default()
    };
    assert_eq!(
        code(&cluster.run("ann", append("f", share.clone()))),
        None,
        "the same file may"
    );
    assert_eq!(
        code(&cluster.run("bob", put("stolen", share.clone()))),
        Some(Code::Denied)
    );
    cluster.ok(Cluster::remove("f", false));
    assert_eq!(
        cluster.refused(put("g", share)),
        Some(Code::Conflict),
        "it is doomed"
    );
    invariants::check(&cluster.ns);
}

#[test]
fn a_doomed_chunk_is_forgotten_with_its_last_replica() {
    let mut cluster = Cluster::new();
    let content = cluster.chunked(10, 1);
    let chunk = content.extents[0].chunk;
    cluster.ok(put("f", content));
    let record = cluster.ns.chunk(chunk).unwrap().unwrap();
    let forget = |replica| ChunkReplica {
        chunk,
        replica: Some(replica),
    };
    cluster.own(Op::ForgetReplicas(ForgetReplicas {
        replicas: vec![forget(record.replicas[0].replica())],
    }));
    assert_eq!(
        cluster.ns.chunk(chunk).unwrap(),
        Some(record.clone()),
        "only doomed chunks lose replicas"
    );
    cluster.ok(Cluster::remove("f", false));
    assert_eq!(cluster.ns.doomed(0, 10).unwrap().len(), 1);
    let mut other = record.replicas[0].replica();
    other.placement += 1;
    cluster.own(Op::ForgetReplicas(ForgetReplicas {
        replicas: vec![forget(other)],
    }));
    let disk = DiskRef {
        disk: DiskId(1),
        incarnation: Incarnation(11),
    };
    let first = (ChunkId(0), PlacementIndex(0));
    assert_eq!(
        cluster.ns.replicas_on(disk, first, 10).unwrap(),
        vec![(ChunkId(chunk), record.replicas[0].replica())]
    );
    cluster.own(Op::ForgetReplicas(ForgetReplicas {
        replicas: vec![forget(record.replicas[0].replica())],
    }));
    assert!(cluster.ns.replicas_on(disk, first, 10).unwrap().is_empty());
    cluster.own(Op::ForgetReplicas(ForgetReplicas {
        replicas: vec![forget(record.replicas[1].replica())],
    }));
    assert_eq!(cluster.ns.chunk(chunk).unwrap(), None);
    assert_eq!(cluster.ns.counters().doomed, 0);
}

#[test]
fn a_staged_file_is_resumed_by_its_size_and_published_once() {
    let mut cluster = Cluster::new();
    let staged = cluster
        .ok(Op::Stage(Stage {
            target: at(""),
            lease: 1_000,
        }))
        .inode;
    let first = cluster.chunked(10, 2);
    let extend = |offset, content| {
        Op::StageExtend(StageExtend {
            inode: staged,
            offset,
            content,
            lease: 1_000,
        })
    };
    assert_eq!(cluster.ok(extend(0, Some(first.clone()))).size, 20);
    assert_eq!(
        cluster.refused(extend(0, Some(first))),
        Some(Code::Conflict),
        "a repeated step"
    );
    let next = cluster.chunked(5, 1);
    let foreign = cluster.run("ann", extend(20, Some(next.clone())));
    assert_eq!(code(&foreign), Some(Code::Denied));
    assert_eq!(cluster.ok(extend(20, Some(next))).size, 25);
    let publish = Op::Publish(Publish {
        target: at("big"),
        staged,
        ..Publish::default()
    });
    let published = cluster.ok(publish.clone());
    assert_eq!(
        (published.inode, published.size, published.created),
        (staged, 25, true)
    );
    assert_eq!(cluster.refused(publish), Some(Code::NotFound));
    assert_eq!(cluster.ns.counters().staged, 0);
    invariants::check(&cluster.ns);
}

#[test]
fn too_much_in_one_command_is_refused() {
    let mut cluster = Cluster::new();
    let mut content = Content::default();
    for _ in 0..=MAX_CHUNKS_PER_COMMAND {
        let chunk = cluster.chunk(4);
        content.extents.push(NewExtent {
            length: 4,
            chunk: chunk.chunk,
            chunk_offset: 0,
        });
        content.chunks.push(chunk);
    }
    assert_eq!(cluster.refused(put("f", content.clone())), Some(Code::TooLarge));
    content.extents.pop();
    content.chunks.pop();
    cluster.ok(put("f", content));
    let pieces = cluster.chunked(1, MAX_EXTENTS_PER_COMMAND as u64 + 1);
    assert_eq!(cluster.refused(append("f", pieces)), Some(Code::TooLarge));
    invariants::check(&cluster.ns);
}

#[test]
fn a_file_with_many_extents_is_replaced_at_once_and_reclaimed_later() {
    let mut cluster = Cluster::new();
    let content = cluster.chunked(1, 1000);
    let first = cluster.ok(put("f", content));
    let second = cluster.ok(put("f", inline(b"small")));
    assert_ne!(
        first.inode, second.inode,
        "the content is left to housekeeping with the old inode"
    );
    assert_eq!(cluster.ns.counters().doomed, 0);
    invariants::check(&cluster.ns);
    cluster.housekeep();
    assert_eq!(cluster.ns.counters().doomed, 1);
    assert_eq!(cluster.ns.inode(first.inode).unwrap(), None);
    invariants::check(&cluster.ns);
}

#[test]
fn attributes_are_changed_by_those_who_may() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.run("ann", put("f", inline(b"x"))).code, 0);
    let set = |change: SetAttributes| {
        Op::SetAttributes(SetAttributes {
            target: at("f"),
            ..change
        })
    };
    let owner = SetAttributes {
        owner: Some("bob".into()),
        ..SetAttributes::default()
    };
    let mode = SetAttributes {
        mode: Some(0o600),
        ..SetAttributes::default()
    };
    let xattr = |name: &str, bytes| Xattr {
        name: name.into(),
        value: Bytes::from(vec![0; bytes]),
    };
    let tag = |bytes| SetAttributes {
        set_xattrs: vec![xattr("user.tag", bytes)],
        ..SetAttributes::default()
    };
    assert_eq!(code(&cluster.run("ann", set(owner.clone()))), Some(Code::Denied));
    assert_eq!(code(&cluster.run("bob", set(mode.clone()))), Some(Code::Denied));
    assert_eq!(code(&cluster.run("bob", set(tag(1)))), Some(Code::Denied));
    assert_eq!(code(&cluster.run("ann", set(tag(MAX_XATTR_BYTES)))), None);
    assert_eq!(
        code(&cluster.run("ann", set(tag(MAX_XATTR_BYTES + 1)))),
        Some(Code::TooLarge)
    );
    assert_eq!(code(&cluster.run("ann", set(mode))), None);
    cluster.ok(set(owner));
    let inode = cluster
        .ns
        .lookup(&at("f").unwrap(), &Caller::superuser(), Want::Attributes)
        .unwrap()
        .inode;
    assert_eq!(
        (inode.owner.as_str(), inode.mode, inode.xattrs.len()),
        ("bob", 0o600, 1)
    );
    let bad = PolicyRecord {
        replicas: 9,
        ..PolicyRecord::default()
    };
    assert_eq!(
        cluster.refused(set(SetAttributes {
            policy: Some(bad),
            ..Default::default()
        })),
        Some(Code::Invalid)
    );
}

#[test]
fn a_policy_is_inherited_from_the_nearest_directory_that_has_one() {
    let mut cluster = Cluster::new();
    cluster.ok(Cluster::mkdir("a"));
    cluster.ok(Cluster::mkdir("a/b"));
    cluster.ok(put("a/b/f", inline(b"x")));
    let replicas = |cluster: &Cluster| {
        let found = cluster
            .ns
            .lookup(&at("a/b/f").unwrap(), &Caller::superuser(), Want::Attributes)
            .unwrap();
        found.policy.replicas
    };
    assert_eq!(replicas(&cluster), 2, "the cluster's");
    let policy = Some(PolicyRecord {
        replicas: 1,
        ack: 0,
        degraded_minimum: 0,
        chunk_bytes: 1 << 20,
    });
    let set = SetAttributes {
        target: at("a"),
        policy,
        ..SetAttributes::default()
    };
    cluster.ok(Op::SetAttributes(set));
    assert_eq!(replicas(&cluster), 1);
}

#[test]
fn the_caller_without_a_name_is_nobody() {
    let mut cluster = Cluster::new();
    cluster.ok(Cluster::mkdir("a"));
    assert_eq!(code(&cluster.run("", Cluster::mkdir("a/b"))), Some(Code::Denied));
    let own = Op::AllocateRange(AllocateRange { count: 1 });
    assert_eq!(
        code(&cluster.run("ann", own)),
        Some(Code::Denied),
        "the cluster's commands are not users'"
    );
    assert_eq!(cluster.run("", Cluster::mkdir("mine")).code, 0);
    let found = cluster
        .ns
        .lookup(&at("mine").unwrap(), &Caller::superuser(), Want::Attributes)
        .unwrap();
    assert_eq!(found.inode.owner, "nobody");
}

#[test]
fn strangers_and_clones_are_refused() {
    let mut cluster = Cluster::new();
    let register =
        |cluster: &mut Cluster, node| cluster.refused(Op::RegisterNode(RegisterNode { node: Some(node) }));
    let mut again = node(1, &[(1, 11), (2, 12)]);
    assert_eq!(register(&mut cluster, again.clone()), None);
    again.incarnation = 5;
    assert_eq!(
        register(&mut cluster, again),
        Some(Code::Stranger),
        "another formatting"
    );
    assert_eq!(
        register(&mut cluster, node(3, &[(1, 11)])),
        Some(Code::Stranger),
        "another's disk"
    );
    let mut wiped = node(1, &[(1, 21), (2, 12)]);
    wiped.boot_counter = 2;
    assert_eq!(
        register(&mut cluster, wiped.clone()),
        None,
        "a wiped disk returns"
    );
    let old = DiskRef {
        disk: DiskId(1),
        incarnation: Incarnation(11),
    };
    let new = DiskRef {
        disk: DiskId(1),
        incarnation: Incarnation(21),
    };
    assert!(cluster.ns.node_of_disk(old).is_none() && cluster.ns.node_of_disk(new).is_some());
    assert_eq!(
        register(&mut cluster, node(1, &[])),
        Some(Code::Stranger),
        "a boot that is over"
    );
    let clone = drystone_proto::record::NodeRecord {
        boot_random: 9,
        ..wiped.clone()
    };
    assert_eq!(register(&mut cluster, clone), Some(Code::Stranger));
    assert!(cluster.ns.node(1).unwrap().fenced);
    assert_eq!(
        register(&mut cluster, wiped.clone()),
        Some(Code::Stranger),
        "both are fenced"
    );
    cluster.own(Op::UpdateNode(UpdateNode {
        node: 1,
        fenced: Some(false),
        ..UpdateNode::default()
    }));
    assert_eq!(register(&mut cluster, wiped), None);
}

#[test]
fn a_start_on_disks_that_missed_boots_is_refused_and_fences_nobody() {
    let mut cluster = Cluster::new();
    let boot = |disks: &[(u64, u64)], boot_counter, boot_random| drystone_proto::record::NodeRecord {
        boot_counter,
        boot_random,
        ..node(1, disks)
    };
    let register =
        |cluster: &mut Cluster, node| cluster.refused(Op::RegisterNode(RegisterNode { node: Some(node) }));
    let (a, b) = ((1, 11), (2, 12));
    let recorded = boot(&[b], 6, 1);
    assert_eq!(register(&mut cluster, recorded.clone()), None);
    for (disks, counter, above) in [
        (&[a][..], 6, Some(6)),
        (&[a], 5, Some(6)),
        (&[(2, 99)], 5, Some(6)),
        (&[a], 7, None),
        (&[a, b], 5, None),
        (&[], 5, None),
    ] {
        let other = boot(disks, counter, 2);
        let may = drystone_namespace::may_have_missed_boots(&recorded, &other);
        assert_eq!(may, above, "{disks:?} at {counter}");
        if counter <= 6 {
            assert_eq!(register(&mut cluster, other), Some(Code::Stranger), "{disks:?}");
        }
    }
    assert!(!cluster.ns.node(1).unwrap().fenced);
    assert_eq!(
        register(&mut cluster, recorded.clone()),
        None,
        "the recorded boot goes on"
    );
    assert_eq!(register(&mut cluster, boot(&[a], 7, 2)), None, "a boot above it");
    assert_eq!(register(&mut cluster, recorded), Some(Code::Stranger));
    let clone = boot(&[a], 7, 3);
    assert_eq!(
        drystone_namespace::may_have_missed_boots(cluster.ns.node(1).unwrap(), &clone),
        None
    );
    assert_eq!(register(&mut cluster, clone), Some(Code::Stranger));
    assert!(
        cluster.ns.node(1).unwrap().fenced,
        "the same disk in two processes"
    );
}

#[test]
fn a_node_with_replicas_is_not_removed() {
    let mut cluster = Cluster::new();
    let content = cluster.chunked(10, 1);
    cluster.ok(put("f", content));
    let remove = Op::UpdateNode(UpdateNode {
        node: 2,
        remove: true,
        ..UpdateNode::default()
    });
    assert_eq!(cluster.refused(remove.clone()), Some(Code::NotEmpty));
    cluster.ok(Cluster::remove("f", false));
    let chunk = cluster.ns.doomed(0, 1).unwrap().remove(0);
    let replicas = chunk
        .holders()
        .map(|held| ChunkReplica {
            chunk: chunk.id,
            replica: Some(held.replica()),
        })
        .collect();
    cluster.own(Op::ForgetReplicas(ForgetReplicas { replicas }));
    cluster.ok(remove);
    assert!(cluster.ns.node(2).is_none());
}

#[test]
fn log_time_never_falls() {
    let mut cluster = Cluster::new();
    let before = cluster.ns.log_time();
    cluster.time = 5;
    cluster.ok(Cluster::mkdir("a"));
    assert_eq!(cluster.ns.log_time(), before);
}
