//! Named cases of single commands.

use crate::cluster::{Cluster, POLICY, at, code, given_up, inline, node, settings};
use crate::invariants;
use bytes::Bytes;
use drystone_namespace::limits::*;
use drystone_namespace::{Caller, Recorded, Want};
use drystone_proto::command::*;
use drystone_proto::grant::sign_receipt;
use drystone_proto::record::{ChunkRecord, InodeKind, PlacedReplica, PolicyRecord, ReplicaRecord, Xattr};
use drystone_types::{ChunkId, Code, DiskId, DiskRef, Incarnation, InodeId, NodeId, PlacementIndex};

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
        mode: None,
        attributes: None,
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
    let weak = PolicyRecord {
        degraded_minimum: 1,
        ..few.policy.unwrap()
    };
    few.policy = Some(weak);
    let claimed = commit(&mut cluster, few.clone());
    assert_eq!(
        claimed,
        Some(Code::PolicyDiffers),
        "the writer does not choose the policy"
    );
    cluster.ok(Op::SetAttributes(SetAttributes {
        target: at(""),
        changes: Some(AttributeChanges {
            policy: Some(weak),
            ..AttributeChanges::default()
        }),
        precondition: None,
    }));
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
fn what_its_writer_gave_up_is_deleted_at_once_and_never_published() {
    let mut cluster = Cluster::new();
    let (kept, left) = (cluster.chunked(10, 1), cluster.chunked(10, 1));
    cluster.ok(put("kept", kept.clone()));
    cluster.own(given_up(&kept));
    let chunk = |content: &Content| ChunkId(content.chunks[0].chunk);
    let record = cluster.ns.chunk(chunk(&kept)).unwrap().unwrap();
    assert!(!record.is_doomed(), "what is published stays");
    cluster.own(given_up(&left));
    cluster.own(given_up(&left));
    let doomed = cluster.ns.doomed(ChunkId(0), 10).unwrap();
    let replicas: Vec<ReplicaRecord> = doomed
        .iter()
        .flat_map(ChunkRecord::holders)
        .map(PlacedReplica::replica)
        .collect();
    let granted = left.chunks[0]
        .receipts
        .iter()
        .filter_map(|receipt| receipt.replica);
    assert_eq!(replicas, granted.collect::<Vec<_>>());
    assert_eq!(doomed[0].doomed_at, 0, "nobody reads it");
    assert_eq!(cluster.refused(put("f", left.clone())), Some(Code::GrantExpired));
    invariants::check(&cluster.ns);

    let gone = replicas.iter().map(|replica| ChunkReplica {
        chunk: chunk(&left).0,
        replica: Some(*replica),
    });
    cluster.own(Op::ForgetReplicas(ForgetReplicas {
        replicas: gone.collect(),
    }));
    assert_eq!(cluster.ns.chunk(chunk(&left)).unwrap(), None);
    assert_eq!(
        cluster.refused(put("f", left.clone())),
        Some(Code::GrantExpired),
        "it is still known"
    );
    let late = cluster.ns.is_recorded(chunk(&left), &replicas[0]).unwrap();
    assert_eq!(late, Recorded::Never, "a frame that came after the deletion");
    cluster.housekeep();
    assert_eq!(cluster.ns.counters().abandoned, 1);
    let floor = cluster.next_chunk;
    cluster.own(Op::RaiseGrantFloor(RaiseGrantFloor { floor }));
    cluster.housekeep();
    assert_eq!(cluster.ns.counters().abandoned, 0);
    assert_eq!(
        cluster.refused(put("f", left)),
        Some(Code::GrantExpired),
        "below the floor"
    );
    invariants::check(&cluster.ns);
}

#[test]
fn only_replicas_that_may_be_there_are_recorded_of_what_is_given_up() {
    let mut cluster = Cluster::new();
    let content = cluster.chunked(10, 1);
    let chunk = content.chunks[0].chunk;
    let good = content.chunks[0].receipts[0].replica.unwrap();
    let of = |replicas: Vec<ReplicaRecord>, chunk: u64| {
        Op::AbandonChunks(AbandonChunks {
            chunks: vec![AbandonedChunk { chunk, replicas }],
        })
    };
    let elsewhere = ReplicaRecord { disk: 999, ..good };
    let earlier = ReplicaRecord {
        placement: good.placement - 1,
        ..good
    };
    cluster.own(of(vec![elsewhere, earlier, good, good], chunk));
    let record = cluster.ns.chunk(ChunkId(chunk)).unwrap().unwrap();
    assert_eq!(
        record.holders().map(PlacedReplica::replica).collect::<Vec<_>>(),
        [good]
    );
    let never = cluster.ns.next_chunk().0;
    cluster.own(of(vec![good], never));
    assert_eq!(
        cluster.ns.chunk(ChunkId(never)).unwrap(),
        None,
        "its id was not given out"
    );
    let nowhere = cluster.chunked(10, 1);
    cluster.own(of(vec![], nowhere.chunks[0].chunk));
    assert_eq!(cluster.refused(put("f", nowhere)), Some(Code::GrantExpired));
    let many = AbandonChunks {
        chunks: vec![AbandonedChunk::default(); MAX_ABANDONED + 1],
    };
    assert_eq!(cluster.refused(Op::AbandonChunks(many)), Some(Code::TooLarge));
    invariants::check(&cluster.ns);
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
    let record = cluster.ns.chunk(ChunkId(chunk)).unwrap().unwrap();
    let forget = |replica| ChunkReplica {
        chunk,
        replica: Some(replica),
    };
    cluster.own(Op::ForgetReplicas(ForgetReplicas {
        replicas: vec![forget(record.replicas[0].replica())],
    }));
    assert_eq!(
        cluster.ns.chunk(ChunkId(chunk)).unwrap(),
        Some(record.clone()),
        "only doomed chunks lose replicas"
    );
    cluster.ok(Cluster::remove("f", false));
    assert_eq!(cluster.ns.doomed(ChunkId(0), 10).unwrap().len(), 1);
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
    assert_eq!(cluster.ns.chunk(ChunkId(chunk)).unwrap(), None);
    assert_eq!(cluster.ns.counters().doomed, 0);
}

#[test]
fn a_staged_file_is_resumed_by_its_size_and_published_once() {
    let mut cluster = Cluster::new();
    let staged = cluster
        .ok(Op::Stage(Stage {
            target: at(""),
            lease: 1_000,
            ..Stage::default()
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
    assert_eq!(cluster.ns.inode(InodeId(first.inode)).unwrap(), None);
    invariants::check(&cluster.ns);
}

#[test]
fn attributes_are_changed_by_those_who_may() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.run("ann", put("f", inline(b"x"))).code, 0);
    let set = |changes: AttributeChanges| {
        Op::SetAttributes(SetAttributes {
            target: at("f"),
            changes: Some(changes),
            precondition: None,
        })
    };
    let owner = AttributeChanges {
        owner: Some("bob".into()),
        ..AttributeChanges::default()
    };
    let mode = AttributeChanges {
        mode: Some(0o600),
        ..AttributeChanges::default()
    };
    let xattr = |name: &str, bytes| Xattr {
        name: name.into(),
        value: Bytes::from(vec![0; bytes]),
    };
    let tag = |bytes| AttributeChanges {
        set_xattrs: vec![xattr("user.tag", bytes)],
        ..AttributeChanges::default()
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
        cluster.refused(set(AttributeChanges {
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
        changes: Some(AttributeChanges {
            policy,
            ..AttributeChanges::default()
        }),
        precondition: None,
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
    assert!(cluster.ns.node(NodeId(1)).unwrap().fenced);
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
    assert!(!cluster.ns.node(NodeId(1)).unwrap().fenced);
    assert_eq!(
        register(&mut cluster, recorded.clone()),
        None,
        "the recorded boot goes on"
    );
    assert_eq!(register(&mut cluster, boot(&[a], 7, 2)), None, "a boot above it");
    assert_eq!(register(&mut cluster, recorded), Some(Code::Stranger));
    let clone = boot(&[a], 7, 3);
    assert_eq!(
        drystone_namespace::may_have_missed_boots(cluster.ns.node(NodeId(1)).unwrap(), &clone),
        None
    );
    assert_eq!(register(&mut cluster, clone), Some(Code::Stranger));
    assert!(
        cluster.ns.node(NodeId(1)).unwrap().fenced,
        "the same disk in two processes"
    );
}

#[test]
fn a_node_waits_while_its_removal_is_undecided_and_a_fence_for_another_reason_ends_it() {
    let mut cluster = Cluster::new();
    let boot = |boot_counter, boot_random| drystone_proto::record::NodeRecord {
        boot_counter,
        boot_random,
        // What a node says of itself is no decision.
        removing: true,
        ..node(1, &[(1, 11)])
    };
    let register =
        |cluster: &mut Cluster, node| cluster.refused(Op::RegisterNode(RegisterNode { node: Some(node) }));
    let fence = |fenced, removing| {
        Op::UpdateNode(UpdateNode {
            node: 1,
            fenced: Some(fenced),
            removing,
            ..UpdateNode::default()
        })
    };
    assert_eq!(register(&mut cluster, boot(5, 1)), None);
    assert!(!cluster.ns.node(NodeId(1)).unwrap().removing);
    cluster.ok(fence(true, true));
    assert_eq!(register(&mut cluster, boot(6, 1)), Some(Code::Busy), "undecided");
    assert!(cluster.ns.node(NodeId(1)).unwrap().removing);
    cluster.ok(fence(false, false));
    assert_eq!(register(&mut cluster, boot(6, 1)), None, "refused");
    // A clone is found: a removal that begins after that changes nothing of it.
    assert_eq!(register(&mut cluster, boot(6, 2)), Some(Code::Stranger));
    cluster.ok(fence(true, true));
    assert_eq!(register(&mut cluster, boot(7, 1)), Some(Code::Stranger));
    cluster.ok(fence(false, true));
    assert_eq!(register(&mut cluster, boot(7, 1)), None);
    cluster.ok(fence(true, true));
    cluster.ok(Op::UpdateNode(UpdateNode {
        node: 1,
        remove: true,
        with_replicas: true,
        ..UpdateNode::default()
    }));
    assert_eq!(
        register(&mut cluster, boot(8, 1)),
        Some(Code::Stranger),
        "removed"
    );
    assert!(!cluster.ns.node(NodeId(1)).unwrap().removing);
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
    let chunk = cluster.ns.doomed(ChunkId(0), 1).unwrap().remove(0);
    let replicas = chunk
        .holders()
        .map(|held| ChunkReplica {
            chunk: chunk.id,
            replica: Some(held.replica()),
        })
        .collect();
    cluster.own(Op::ForgetReplicas(ForgetReplicas { replicas }));
    cluster.ok(remove);
    let removed = cluster.ns.node(NodeId(2)).unwrap();
    assert!(removed.removed && removed.fenced && removed.disks.is_empty());
}

#[test]
fn a_node_that_was_removed_with_its_replicas_counts_for_nothing_and_never_returns() {
    let mut cluster = Cluster::new();
    let content = cluster.chunked(10, 1);
    cluster.ok(put("f", content));
    let before = cluster.ns.node(NodeId(2)).unwrap().clone();
    cluster.ok(Op::UpdateNode(UpdateNode {
        node: 2,
        remove: true,
        with_replicas: true,
        ..UpdateNode::default()
    }));
    let disk = drystone_types::DiskRef {
        disk: drystone_types::DiskId(before.disks[0].id),
        incarnation: drystone_types::Incarnation(before.disks[0].incarnation),
    };
    assert!(cluster.ns.node_of_disk(disk).is_none());
    assert_eq!(
        cluster.ns.replicas_on(disk, Default::default(), 9).unwrap().len(),
        1,
        "what it held is still found, to be made again elsewhere"
    );
    let later = drystone_proto::record::NodeRecord {
        boot_counter: before.boot_counter + 1,
        ..before.clone()
    };
    let register = |node| Op::RegisterNode(RegisterNode { node: Some(node) });
    assert_eq!(cluster.refused(register(later)), Some(Code::Stranger));
    let release = UpdateNode {
        node: 2,
        fenced: Some(false),
        ..UpdateNode::default()
    };
    assert_eq!(cluster.refused(Op::UpdateNode(release)), Some(Code::NotFound));
    // A receipt of it does not count any more.
    let content = cluster.chunked(10, 1);
    assert_eq!(cluster.refused(put("g", content)), Some(Code::NotEnoughDomains));
    // Under another id its formatted-anew disks are welcome.
    let anew = drystone_proto::record::NodeRecord { id: 77, ..before };
    assert_eq!(cluster.refused(register(anew)), None);
}

#[test]
fn a_node_that_was_removed_leaves_room_for_another() {
    let mut cluster = Cluster::new();
    let register = |id| {
        Op::RegisterNode(RegisterNode {
            node: Some(node(id, &[])),
        })
    };
    let most = drystone_namespace::limits::MAX_NODES as u64;
    for id in 3..=most {
        cluster.own(register(id));
    }
    let (one, other) = (most + 1, most + 2);
    assert_eq!(cluster.refused(register(one)), Some(Code::TooLarge));
    let remove = UpdateNode {
        node: 5,
        remove: true,
        ..UpdateNode::default()
    };
    // Removing it twice makes room once.
    cluster.ok(Op::UpdateNode(remove.clone()));
    cluster.ok(Op::UpdateNode(remove));
    assert_eq!(
        cluster.refused(register(5)),
        Some(Code::Stranger),
        "an id is used once"
    );
    assert_eq!(cluster.refused(register(one)), None);
    assert_eq!(cluster.refused(register(other)), Some(Code::TooLarge));
    // A replica that reads the same records counts the same.
    cluster.flush();
    let store = std::sync::Arc::clone(cluster.ns.store());
    cluster.ns = drystone_namespace::Namespace::open(store, crate::cluster::settings()).unwrap();
    assert_eq!(cluster.refused(register(other)), Some(Code::TooLarge));
    cluster.ok(Op::UpdateNode(UpdateNode {
        node: 6,
        remove: true,
        ..UpdateNode::default()
    }));
    assert_eq!(cluster.refused(register(other)), None);
}

#[test]
fn a_decision_about_a_node_that_was_changed_meanwhile_is_refused() {
    let mut cluster = Cluster::new();
    let update = UpdateNode {
        node: 2,
        ..UpdateNode::default()
    };
    let fence = |fenced| {
        Op::UpdateNode(UpdateNode {
            fenced: Some(fenced),
            ..update.clone()
        })
    };
    let since = |cluster: &Cluster| cluster.ns.node(NodeId(2)).unwrap().since;
    cluster.ok(fence(true));
    let fenced_at = since(&cluster);
    assert_eq!(fenced_at, drystone_types::Since::new(cluster.ns.applied(), 0).0);
    // Another operator lets it work again, and yet another fences it: it was not fenced all the while.
    cluster.ok(fence(false));
    cluster.ok(fence(true));
    let decide = |since, remove, fenced| {
        Op::UpdateNode(UpdateNode {
            if_since: Some(since),
            with_replicas: remove,
            remove,
            fenced,
            ..update.clone()
        })
    };
    for refused in [
        decide(fenced_at, true, None),
        decide(fenced_at, false, Some(false)),
    ] {
        assert_eq!(cluster.refused(refused), Some(Code::Conflict));
        let node = cluster.ns.node(NodeId(2)).unwrap();
        assert!(node.fenced && !node.removed);
    }
    let now = since(&cluster);
    cluster.ok(decide(now, true, None));
    assert!(cluster.ns.node(NodeId(2)).unwrap().removed);
}

#[test]
fn log_time_never_falls() {
    let mut cluster = Cluster::new();
    let before = cluster.ns.log_time();
    cluster.time = 5;
    cluster.ok(Cluster::mkdir("a"));
    assert_eq!(cluster.ns.log_time(), before);
}

fn link(path: &str, link: &str) -> MakeSymbolicLink {
    MakeSymbolicLink {
        target: at(path),
        link: link.to_owned(),
        ..MakeSymbolicLink::default()
    }
}

#[test]
fn a_link_is_found_at_the_end_of_a_path_and_refused_on_the_way() {
    let mut cluster = Cluster::new();
    cluster.ok(Cluster::mkdir("a"));
    cluster.ok(put("a/f", inline(b"x")));
    let made = cluster.ok(Op::MakeSymbolicLink(link("l", "/a")));
    assert_eq!((made.created, made.size), (true, 2));
    let look = |cluster: &Cluster, path: &str| {
        let caller = Caller::superuser();
        cluster.ns.lookup(&at(path).unwrap(), &caller, Want::Content)
    };
    let found = look(&cluster, "l").unwrap().inode;
    assert_eq!(
        (found.kind(), found.link.as_str()),
        (InodeKind::SymbolicLink, "/a")
    );
    let Err(drystone_namespace::ReadError::Refused(refusal)) = look(&cluster, "l/f") else {
        panic!("the way leads through a link")
    };
    assert_eq!(refusal.code, Code::IsALink);
    assert!(refusal.message.contains("\"/a\""), "{refusal}");
    for op in [
        put("l", inline(b"y")),
        put("l/f", inline(b"y")),
        Cluster::mkdir("l/d"),
        Cluster::remove("l/f", false),
        Op::Stage(Stage {
            target: at("l"),
            lease: 9,
            ..Stage::default()
        }),
    ] {
        assert_eq!(cluster.refused(op), Some(Code::IsALink));
    }
    let page = cluster
        .ns
        .list(&at("").unwrap(), &Caller::superuser(), "", 10)
        .unwrap();
    let kinds: Vec<i32> = page
        .entries
        .iter()
        .map(|entry| entry.inode.as_ref().unwrap().kind)
        .collect();
    assert_eq!(
        kinds,
        [InodeKind::Directory as i32, InodeKind::SymbolicLink as i32]
    );
    assert_eq!(cluster.ns.counters().links, 1);
    assert_eq!(cluster.ns.counters().files, 1);
    invariants::check(&cluster.ns);
    // It goes as a file goes, alone and in a tree; what it points to stays.
    cluster.ok(Op::MakeSymbolicLink(link("a/l", "nowhere")));
    cluster.ok(Cluster::remove("l", false));
    cluster.ok(Cluster::remove("a", true));
    cluster.housekeep();
    assert_eq!(cluster.ns.counters().links, 0);
    invariants::check(&cluster.ns);
}

#[test]
fn a_link_takes_the_place_of_a_file_when_it_may_and_the_other_way_round() {
    let mut cluster = Cluster::new();
    let content = cluster.chunked(10, 1);
    let chunk = content.extents[0].chunk;
    cluster.ok(put("f", content));
    cluster.ok(Cluster::mkdir("d"));
    assert_eq!(
        cluster.refused(Op::MakeSymbolicLink(link("f", "x"))),
        Some(Code::Exists)
    );
    let over = |path| {
        Op::MakeSymbolicLink(MakeSymbolicLink {
            overwrite: true,
            ..link(path, "x")
        })
    };
    assert_eq!(cluster.refused(over("d")), Some(Code::IsADirectory));
    assert!(!cluster.ok(over("f")).created);
    assert!(cluster.ns.chunk(ChunkId(chunk)).unwrap().unwrap().is_doomed());
    assert_eq!(cluster.ns.counters().files, 0);
    cluster.ok(put("g", inline(b"x")));
    let rename = |from, to| {
        Op::Rename(Rename {
            from: at(from),
            to: at(to),
            overwrite: true,
            ..Rename::default()
        })
    };
    cluster.ok(rename("g", "f"));
    assert_eq!((cluster.ns.counters().links, cluster.ns.counters().files), (0, 1));
    for bad in [String::new(), "a\0b".to_owned(), "x".repeat(4096)] {
        assert_eq!(
            cluster.refused(Op::MakeSymbolicLink(link("l", &bad))),
            Some(Code::Invalid)
        );
    }
    cluster.ok(Op::MakeSymbolicLink(link("l", &"x".repeat(4095))));
    let mode = AttributeChanges {
        mode: Some(0o600),
        ..AttributeChanges::default()
    };
    let set = |changes| {
        Op::SetAttributes(SetAttributes {
            target: at("l"),
            changes: Some(changes),
            precondition: None,
        })
    };
    assert_eq!(cluster.refused(set(mode)), Some(Code::Invalid));
    cluster.ok(set(AttributeChanges {
        modified: Some(5),
        ..AttributeChanges::default()
    }));
    invariants::check(&cluster.ns);
}

#[test]
fn content_and_attributes_come_together() {
    let mut cluster = Cluster::new();
    let changes = AttributeChanges {
        mode: Some(0o600),
        modified: Some(77),
        set_xattrs: vec![Xattr {
            name: "user.tag".into(),
            value: Bytes::from_static(b"1"),
        }],
        ..AttributeChanges::default()
    };
    let with = |op: Op, changes: &AttributeChanges| match op {
        Op::Publish(publish) => Op::Publish(Publish {
            attributes: Some(changes.clone()),
            ..publish
        }),
        _ => panic!("not a publication"),
    };
    let look = |cluster: &Cluster| {
        let caller = Caller::superuser();
        let found = cluster.ns.lookup(&at("f").unwrap(), &caller, Want::Content);
        let inode = found.unwrap().inode;
        (inode.mode, inode.modified, inode.xattrs.len(), inode.owner)
    };
    assert_eq!(cluster.run("ann", with(put("f", inline(b"x")), &changes)).code, 0);
    assert_eq!(look(&cluster), (0o600, 77, 1, "ann".to_owned()));
    // Of a file that is there too: nobody reads the new bytes under the old bits.
    let open = AttributeChanges {
        mode: Some(0o640),
        modified: Some(78),
        replace_xattrs: true,
        ..AttributeChanges::default()
    };
    assert_eq!(cluster.run("ann", with(put("f", inline(b"y")), &open)).code, 0);
    assert_eq!(look(&cluster), (0o640, 78, 0, "ann".to_owned()));
    // One command: what may not be set keeps the content from being published.
    let give = AttributeChanges {
        owner: Some("bob".into()),
        ..AttributeChanges::default()
    };
    let before = cluster.ns.counters();
    let refused = cluster.run("ann", with(put("f", inline(b"longer")), &give));
    assert_eq!(code(&refused), Some(Code::Denied));
    assert_eq!(cluster.ns.counters(), before);
    // Staged content, new and in the place of old.
    for (mode, modified) in [(0o600, 80), (0o400, 81)] {
        let stage = Op::Stage(Stage {
            target: at("f"),
            lease: 1_000,
            ..Stage::default()
        });
        let staged = cluster.run("ann", stage).inode;
        let changes = AttributeChanges {
            mode: Some(mode),
            modified: Some(modified),
            ..AttributeChanges::default()
        };
        let publish = Op::Publish(Publish {
            target: at("f"),
            staged,
            attributes: Some(changes),
            ..Publish::default()
        });
        assert_eq!(cluster.run("ann", publish).code, 0);
        let (found_mode, found_modified, ..) = look(&cluster);
        assert_eq!((found_mode, found_modified), (mode, modified));
        cluster.ok(Cluster::remove("f", false));
    }
    let directory = MakeDirectory {
        target: at("d"),
        attributes: Some(AttributeChanges {
            mode: Some(0o711),
            modified: Some(9),
            ..AttributeChanges::default()
        }),
        ..MakeDirectory::default()
    };
    cluster.ok(Op::MakeDirectory(directory));
    let found = cluster
        .ns
        .lookup(&at("d").unwrap(), &Caller::superuser(), Want::Attributes);
    let inode = found.unwrap().inode;
    assert_eq!((inode.mode, inode.modified), (0o711, 9));
    invariants::check(&cluster.ns);
}

#[test]
fn mode_0_is_a_mode_and_no_mode_is_the_usual_one() {
    let mut cluster = Cluster::new();
    for (mode, of_file, of_directory) in [(None, 0o644, 0o755), (Some(0), 0, 0), (Some(0o640), 0o640, 0o640)]
    {
        let stage = Op::Stage(Stage {
            target: at(""),
            lease: 1_000,
            policy: None,
        });
        let staged = cluster.ok(stage).inode;
        for (name, staged) in [("f", 0), ("s", staged)] {
            cluster.ok(Op::Publish(Publish {
                target: at(name),
                file_mode: mode,
                content: (staged == 0).then(|| inline(b"x")),
                staged,
                ..Publish::default()
            }));
        }
        cluster.ok(Op::MakeDirectory(MakeDirectory {
            target: at("d"),
            mode,
            ..MakeDirectory::default()
        }));
        for (name, expected) in [("f", of_file), ("s", of_file), ("d", of_directory)] {
            let found = cluster
                .ns
                .lookup(&at(name).unwrap(), &Caller::superuser(), Want::Attributes);
            assert_eq!(found.unwrap().inode.mode, expected, "{name} made with {mode:?}");
            cluster.ok(Cluster::remove(name, false));
        }
    }
}

#[test]
fn no_rename_makes_a_tree_deeper_than_the_limit() {
    let mut cluster = Cluster::new();
    let chain = |name: &str, length: usize| vec![name; length].join("/");
    let make = |path: String| {
        Op::MakeDirectory(MakeDirectory {
            target: at(&path),
            parents: true,
            ..MakeDirectory::default()
        })
    };
    assert_eq!(
        cluster.refused(make(chain("a", MAX_DEPTH + 1))),
        Some(Code::TooLarge)
    );
    cluster.ok(make(chain("a", 600)));
    cluster.ok(make(chain("b", 400)));
    cluster.ok(make(chain("c", 401)));
    let rename = |from: String, to: String| {
        Op::Rename(Rename {
            from: at(&from),
            to: at(&to),
            ..Rename::default()
        })
    };
    let below = |name: &str| format!("{}/{name}", chain("a", 600));
    assert_eq!(
        cluster.refused(rename("c".into(), below("c"))),
        Some(Code::TooLarge)
    );
    cluster.ok(rename("b".into(), below("b")));
    let deepest = format!("{}/{}", chain("a", 600), chain("b", 400));
    cluster.ok(put(&format!("{deepest}/f"), inline(b"x")));
    assert_eq!(
        cluster.refused(Cluster::mkdir(&format!("{deepest}/d"))),
        Some(Code::TooLarge)
    );
    invariants::check(&cluster.ns);
    // Its height is not lowered by deletions, and is looked at again when it would keep a tree from being moved.
    cluster.ok(Cluster::remove(&chain("c", 2), true));
    cluster.housekeep();
    let below = format!("{}/c", chain("a", 600));
    cluster.ok(rename("c".into(), below));
    invariants::check(&cluster.ns);
}

fn set_replicas(path: &str, replicas: u32) -> Op {
    let policy = PolicyRecord {
        replicas,
        chunk_bytes: 1 << 20,
        ..PolicyRecord::default()
    };
    Op::SetAttributes(SetAttributes {
        target: at(path),
        changes: Some(AttributeChanges {
            policy: Some(policy),
            ..AttributeChanges::default()
        }),
        precondition: None,
    })
}

/// Receipts of two disks come with a chunk, granted under a policy of two replicas.
#[test]
fn a_publication_is_judged_by_the_policy_in_force_at_its_place() {
    let mut cluster = Cluster::new();
    cluster.ok(Cluster::mkdir("a"));
    cluster.ok(set_replicas("a", 3));
    let content = cluster.chunked(10, 1);
    let chunk = content.extents[0].chunk;
    assert_eq!(
        cluster.refused(put("a/f", content.clone())),
        Some(Code::PolicyDiffers)
    );
    assert_eq!(cluster.ns.chunk(ChunkId(chunk)).unwrap(), None);
    // A weaker one is kept to by what was written under a stronger one, and is what the chunk is recorded under.
    cluster.ok(set_replicas("a", 1));
    cluster.ok(put("a/f", content));
    let record = cluster.ns.chunk(ChunkId(chunk)).unwrap().unwrap();
    assert_eq!((record.wanted(), record.redundancy(|_| true)), (1, 2));
    // The file's own policy counts for its next content.
    cluster.ok(set_replicas("a/f", 3));
    let content = cluster.chunked(10, 1);
    assert_eq!(cluster.refused(put("a/f", content)), Some(Code::PolicyDiffers));
    // Too few receipts for the policy that they were granted under too: that is not for want of another policy.
    let mut content = cluster.chunked(10, 1);
    content.chunks[0].receipts.truncate(1);
    assert_eq!(cluster.refused(put("a/f", content)), Some(Code::NotEnoughDomains));
    let policy = |path: &str| cluster.ns.policy_at(&at(path).unwrap()).unwrap().replicas;
    assert_eq!((policy("a/f"), policy("a/new/x"), policy("new")), (3, 1, 2));
    invariants::check(&cluster.ns);
}

#[test]
fn staged_content_is_judged_by_the_policy_in_force_when_it_is_published() {
    let mut cluster = Cluster::new();
    cluster.ok(Cluster::mkdir("a"));
    let stage = |cluster: &mut Cluster| {
        let stage = Op::Stage(Stage {
            target: at("a/f"),
            lease: 1_000,
            ..Stage::default()
        });
        let inode = cluster.ok(stage).inode;
        let content = cluster.chunked(10, 1);
        cluster.ok(Op::StageExtend(StageExtend {
            inode,
            offset: 0,
            content: Some(content),
            lease: 1_000,
        }));
        inode
    };
    let publish = |staged| {
        Op::Publish(Publish {
            target: at("a/f"),
            staged,
            ..Publish::default()
        })
    };
    let staged = stage(&mut cluster);
    let by_inode = Target {
        base: staged,
        path: String::new(),
    };
    assert_eq!(cluster.ns.policy_at(&by_inode).unwrap().replicas, 2);
    cluster.ok(set_replicas("a", 3));
    assert_eq!(
        cluster.ns.policy_at(&by_inode).unwrap().replicas,
        2,
        "as it was staged"
    );
    assert_eq!(cluster.refused(publish(staged)), Some(Code::PolicyDiffers));
    cluster.ok(set_replicas("a", 1));
    let published = cluster.ok(publish(staged));
    let inode = cluster.ns.inode(InodeId(published.inode)).unwrap().unwrap();
    assert_eq!(inode.policy, None, "it is the directory's from now on");
    invariants::check(&cluster.ns);
}

/// A writer that began under a policy stages what it has sealed, whatever is in force by then; what was staged under it
/// was once refused there and then, and lost.
#[test]
fn content_is_staged_under_the_policy_that_it_follows() {
    let mut cluster = Cluster::new();
    cluster.ok(Cluster::mkdir("a"));
    cluster.ok(set_replicas("a", 3));
    let stage = |policy| {
        Op::Stage(Stage {
            target: at("a/f"),
            lease: 1_000,
            policy,
        })
    };
    let none = PolicyRecord::default();
    assert_eq!(cluster.refused(stage(Some(none))), Some(Code::Invalid));
    let staged = cluster.ok(stage(Some(POLICY))).inode;
    let content = cluster.chunked(10, 1);
    cluster.ok(Op::StageExtend(StageExtend {
        inode: staged,
        content: Some(content),
        lease: 1_000,
        ..StageExtend::default()
    }));
    let publish = || {
        Op::Publish(Publish {
            target: at("a/f"),
            staged,
            ..Publish::default()
        })
    };
    assert_eq!(cluster.refused(publish()), Some(Code::PolicyDiffers));
    cluster.ok(set_replicas("a", 2));
    cluster.ok(publish());
    invariants::check(&cluster.ns);
}

#[test]
fn a_hole_has_a_length_and_no_chunk() {
    let mut cluster = Cluster::new();
    let hole = |length, chunk_offset| {
        let extents = vec![NewExtent {
            length,
            chunk: 0,
            chunk_offset,
        }];
        Content {
            extents,
            ..Content::default()
        }
    };
    assert_eq!(cluster.refused(put("f", hole(0, 0))), Some(Code::Invalid));
    assert_eq!(cluster.refused(put("f", hole(5, 1))), Some(Code::Invalid));
    assert_eq!(cluster.refused(put("f", hole(u64::MAX, 0))), Some(Code::TooLarge));
    assert_eq!(
        cluster.refused(put("f", hole((1 << 50) + 1, 0))),
        Some(Code::TooLarge)
    );
    let sparse = cluster.ok(put("f", hole(1 << 50, 0)));
    assert_eq!((sparse.size, sparse.redundancy), (1 << 50, 0));
    assert_eq!(cluster.ns.counters().chunks, 0);
    // Bytes in the middle of it, and the end of what was written over.
    let content = cluster.chunked(10, 1);
    cluster.ok(Cluster::publish("f", PublishMode::Range, 1 << 40, content));
    let page = cluster.ns.content(InodeId(sparse.inode), 0, 0, 10).unwrap();
    let extents = page
        .extents
        .iter()
        .map(|extent| (extent.offset, extent.length, extent.chunk > 0));
    assert_eq!(
        extents.collect::<Vec<_>>(),
        [
            (0, 1 << 40, false),
            (1 << 40, 10, true),
            ((1 << 40) + 10, (1 << 50) - (1 << 40) - 10, false)
        ]
    );
    assert_eq!(page.chunks.len(), 1);
    invariants::check(&cluster.ns);
    cluster.ok(Cluster::remove("f", false));
    invariants::check(&cluster.ns);
}
