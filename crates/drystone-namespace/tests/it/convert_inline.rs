//! Inline content that moves to chunks.

use crate::cluster::{Cluster, POLICY, at, code, inline};
use crate::invariants;
use drystone_namespace::{Caller, Want};
use drystone_proto::command::*;
use drystone_proto::record::InodeRecord;
use drystone_types::Code;

fn found(cluster: &Cluster) -> InodeRecord {
    let found = cluster
        .ns
        .lookup(&at("f").unwrap(), &Caller::superuser(), Want::Content);
    found.unwrap().inode
}

fn put(cluster: &mut Cluster, user: &str, bytes: &[u8], file_mode: Option<u32>) -> Outcome {
    let op = Op::Publish(Publish {
        target: at("f"),
        content: Some(inline(bytes)),
        file_mode,
        ..Publish::default()
    });
    let outcome = cluster.run(user, op);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome
}

fn convert(file: &Outcome, content: Content) -> Op {
    Op::ConvertInline(ConvertInline {
        inode: file.inode,
        version: file.version,
        content: Some(content),
    })
}

#[test]
fn nothing_of_the_file_changes_for_its_users() {
    let mut cluster = Cluster::new();
    let file = put(&mut cluster, "ann", b"some bytes", Some(0o444));
    let before = found(&cluster);
    let content = cluster.holding(b"some bytes");
    // Its owner could not write to it now, and need not be able to.
    let converted = cluster.run("ann", convert(&file, content));
    assert_eq!((converted.code, converted.redundancy), (0, 2), "{converted:?}");
    assert_eq!((converted.version, converted.size), (file.version, 10));
    let after = found(&cluster);
    let expected = InodeRecord {
        inline: None,
        extents: 1,
        since: after.since,
        ..before
    };
    assert_eq!(after, expected);
    assert!(
        after.since > file.version,
        "a change of the record, for whoever follows it"
    );
    assert_eq!(cluster.ns.counters().inline_bytes, 0);
    invariants::check(&cluster.ns);
}

#[test]
fn other_bytes_other_versions_and_other_callers_are_refused() {
    let mut cluster = Cluster::new();
    let old = put(&mut cluster, "ann", b"some bytes", None);
    let content = cluster.holding(b"some bytes");
    assert_eq!(
        code(&cluster.run("bob", convert(&old, content))),
        Some(Code::Denied)
    );
    for bytes in [&b"other byte"[..], b"some", b"some bytes and more"] {
        let content = cluster.holding(bytes);
        assert_eq!(cluster.refused(convert(&old, content)), Some(Code::Invalid));
    }
    assert_eq!(
        cluster.refused(convert(&old, Content::default())),
        Some(Code::Invalid)
    );
    assert_eq!(
        cluster.refused(convert(&old, inline(b"some bytes"))),
        Some(Code::Invalid)
    );
    let new = put(&mut cluster, "ann", b"some bytes", None);
    let content = cluster.holding(b"some bytes");
    assert_eq!(
        cluster.refused(convert(&old, content.clone())),
        Some(Code::PreconditionFailed)
    );
    let stricter = AttributeChanges {
        policy: Some(drystone_proto::record::PolicyRecord {
            replicas: 3,
            ..POLICY
        }),
        ..AttributeChanges::default()
    };
    cluster.ok(Op::SetAttributes(SetAttributes {
        target: at("f"),
        changes: Some(stricter),
        precondition: None,
    }));
    assert_eq!(
        cluster.refused(convert(&new, content.clone())),
        Some(Code::PolicyDiffers),
        "the policy in force counts"
    );
    let inherited = AttributeChanges {
        inherit_policy: true,
        ..AttributeChanges::default()
    };
    cluster.ok(Op::SetAttributes(SetAttributes {
        target: at("f"),
        changes: Some(inherited),
        precondition: None,
    }));
    cluster.ok(convert(&new, content));
    let again = cluster.holding(b"some bytes");
    assert_eq!(
        cluster.refused(convert(&new, again)),
        Some(Code::PreconditionFailed),
        "it is not inline any more"
    );
    invariants::check(&cluster.ns);
}

/// An append to an inline file that makes it a chunk once needed the right to read it.
#[test]
fn who_may_write_may_look_at_inline_content_to_convert_it() {
    let mut cluster = Cluster::new();
    put(&mut cluster, "ann", b"some bytes", Some(0o202));
    let look = |user: &str, want| {
        let caller = Caller::new(user, &[]);
        cluster.ns.lookup(&at("f").unwrap(), &caller, want)
    };
    for user in ["ann", "bob"] {
        assert!(look(user, Want::Content).is_err(), "{user} may not read it");
        let found = look(user, Want::ToConvert).unwrap();
        assert_eq!(found.inode.inline.as_deref(), Some(&b"some bytes"[..]), "{user}");
    }
    let mut cluster = Cluster::new();
    put(&mut cluster, "ann", b"some bytes", Some(0o444));
    let look = |user: &str, want| {
        let caller = Caller::new(user, &[]);
        cluster.ns.lookup(&at("f").unwrap(), &caller, want)
    };
    assert!(look("bob", Want::Content).is_ok());
    assert!(look("bob", Want::ToConvert).is_err(), "bob may not write to it");
    assert!(look("ann", Want::ToConvert).is_ok(), "its owner may convert it");
}
