use super::*;
use crate::read::Caller;
use bytes::Bytes;
use drystone_proto::record::PolicyRecord;

/// Of the owner, a member of the group, somebody else and the superuser: who may.
type Who = [bool; 4];

const OWNER: Who = [true, false, false, true];
const SUPERUSER: Who = [false, false, false, true];
const ALL: Who = [true; 4];

/// What an inode is, its mode, and who may write to it.
const INODES: [(InodeKind, u32, Who); 5] = [
    (InodeKind::File, 0o600, OWNER),
    (InodeKind::File, 0o660, [true, true, false, true]),
    (InodeKind::File, 0o606, [true, false, true, true]),
    (InodeKind::File, 0o666, ALL),
    // The owner may although the bits say no, and all others may not although they say yes.
    (InodeKind::SymbolicLink, 0o777, OWNER),
];

fn callers() -> [Caller; 4] {
    let caller = |user: &str, groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        Caller::new(user, &groups)
    };
    [
        caller("ann", &["staff", "wheel"]),
        caller("bob", &["staff", "wheel"]),
        caller("carl", &["wheel"]),
        Caller::superuser(),
    ]
}

/// Changes of one field each: who may make them, or, if it is none, whoever may write.
fn changes() -> Vec<(&'static str, AttributeChanges, Option<Who>)> {
    let with = |set: fn(&mut AttributeChanges)| {
        let mut changes = AttributeChanges::default();
        set(&mut changes);
        changes
    };
    let xattr = Xattr {
        name: "user.tag".to_owned(),
        value: Bytes::from_static(b"x"),
    };
    let tagged = AttributeChanges {
        set_xattrs: vec![xattr],
        ..AttributeChanges::default()
    };
    vec![
        ("nothing", with(|_| {}), None),
        ("mode", with(|to| to.mode = Some(0o644)), Some(OWNER)),
        ("owner", with(|to| to.owner = Some("ann".into())), Some(OWNER)),
        ("owner", with(|to| to.owner = Some("bob".into())), Some(SUPERUSER)),
        ("group", with(|to| to.group = Some("staff".into())), Some(OWNER)),
        ("group", with(|to| to.group = Some("wheel".into())), Some(OWNER)),
        (
            "group",
            with(|to| to.group = Some("games".into())),
            Some(SUPERUSER),
        ),
        ("modified", with(|to| to.modified = Some(1)), Some(OWNER)),
        ("accessed", with(|to| to.accessed = Some(1)), Some(OWNER)),
        (
            "policy",
            with(|to| to.policy = Some(PolicyRecord::default())),
            Some(OWNER),
        ),
        ("inherit", with(|to| to.inherit_policy = true), Some(OWNER)),
        ("set xattrs", tagged, None),
        (
            "remove xattrs",
            with(|to| to.remove_xattrs = vec!["user.tag".into()]),
            None,
        ),
        ("replace xattrs", with(|to| to.replace_xattrs = true), None),
    ]
}

/// Both changes in one command.
fn together(one: &AttributeChanges, other: &AttributeChanges) -> AttributeChanges {
    AttributeChanges {
        mode: one.mode.or(other.mode),
        owner: one.owner.clone().or_else(|| other.owner.clone()),
        group: one.group.clone().or_else(|| other.group.clone()),
        modified: one.modified.or(other.modified),
        accessed: one.accessed.or(other.accessed),
        set_xattrs: [&one.set_xattrs[..], &other.set_xattrs].concat(),
        remove_xattrs: [&one.remove_xattrs[..], &other.remove_xattrs].concat(),
        replace_xattrs: one.replace_xattrs || other.replace_xattrs,
        policy: one.policy.or(other.policy),
        inherit_policy: one.inherit_policy || other.inherit_policy,
    }
}

/// Whoever named the owner that the file had needed no right at all, and the bits of links let everybody change their
/// extended attributes.
#[test]
fn every_change_asks_for_its_right_alone_and_beside_every_other() {
    let changes = changes();
    for (kind, mode, writers) in INODES {
        let inode = InodeRecord {
            id: 7,
            kind: kind as i32,
            mode,
            owner: "ann".to_owned(),
            group: "staff".to_owned(),
            ..InodeRecord::default()
        };
        for (at, caller) in callers().into_iter().enumerate() {
            let cx = Context {
                index: 1,
                since: 1,
                now: 1,
                wall: 1,
                caller,
            };
            let expected = |who: Option<Who>| who.unwrap_or(writers)[at];
            for (first, one, who) in &changes {
                for (second, other, and_who) in &changes {
                    if first == second && one != other {
                        continue;
                    }
                    let checked = check_rights(&cx, &together(one, other), &inode);
                    let user = &cx.caller.user;
                    assert_eq!(
                        checked.is_ok(),
                        expected(*who) && expected(*and_who),
                        "{user}: {first} and {second} of {kind:?} {mode:o}"
                    );
                }
            }
        }
    }
}
