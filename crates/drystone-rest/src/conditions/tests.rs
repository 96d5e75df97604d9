use super::*;
use drystone_client::{InodeId, Kind, Since};
use std::collections::BTreeMap;

const OURS: ContentVersion = ContentVersion {
    inode: InodeId(5),
    version: Since(70),
};
const OTHER: ContentVersion = ContentVersion {
    inode: InodeId(5),
    version: Since(71),
};
/// Seconds since 1970.
const MODIFIED: u64 = 1_000_000;

fn file() -> Attributes {
    Attributes {
        inode: OURS.inode,
        kind: Kind::File,
        link: None,
        size: 3,
        mode: 0o644,
        owner: "ann".to_owned(),
        group: "ann".to_owned(),
        created: 0,
        // Dates have whole seconds: a part of one is no later.
        modified: MODIFIED * MICROS + 999_999,
        accessed: 0,
        changed: 0,
        version: OURS.version,
        own_policy: None,
        policy: None,
        xattrs: BTreeMap::new(),
    }
}

fn some(version: ContentVersion) -> Option<Tags> {
    Some(Tags::Some(vec![version]))
}

fn change(conditions: &Conditions, is_there: bool) -> Verdict {
    conditions.judge_change(is_there.then(file).as_ref())
}

#[test]
fn tags_are_judged_for_changes_of_what_is_there_and_of_what_is_not() {
    use Verdict::{Failed, Holds};
    let if_match = |tags| Conditions {
        if_match: tags,
        ..Conditions::default()
    };
    let if_none_match = |tags| Conditions {
        if_none_match: tags,
        ..Conditions::default()
    };
    for (conditions, there, absent) in [
        (Conditions::default(), Holds, Holds),
        (if_match(Some(Tags::Any)), Holds, Failed),
        (if_match(some(OURS)), Holds, Failed),
        (if_match(some(OTHER)), Failed, Failed),
        (if_match(Some(Tags::Some(Vec::new()))), Failed, Failed),
        (if_none_match(Some(Tags::Any)), Failed, Holds),
        (if_none_match(some(OURS)), Failed, Holds),
        (if_none_match(some(OTHER)), Holds, Holds),
    ] {
        assert_eq!(change(&conditions, true), there, "{conditions:?}");
        assert_eq!(change(&conditions, false), absent, "{conditions:?}");
    }
}

#[test]
fn a_date_holds_at_its_own_second() {
    for (since, verdict) in [
        (MODIFIED - 1, Verdict::Failed),
        (MODIFIED, Verdict::Holds),
        (MODIFIED + 1, Verdict::Holds),
    ] {
        let conditions = Conditions {
            if_unmodified_since: Some(since),
            ..Conditions::default()
        };
        assert_eq!(change(&conditions, true), verdict, "{since}");
        assert_eq!(conditions.judge_read(&file()), verdict, "{since}");
        // What is not there has no date: the condition is ignored.
        assert_eq!(change(&conditions, false), Verdict::Holds);
    }
    for (since, verdict) in [
        (MODIFIED - 1, Verdict::Holds),
        (MODIFIED, Verdict::NotModified),
        (MODIFIED + 1, Verdict::NotModified),
    ] {
        let conditions = Conditions {
            if_modified_since: Some(since),
            ..Conditions::default()
        };
        assert_eq!(conditions.judge_read(&file()), verdict, "{since}");
        assert_eq!(change(&conditions, true), Verdict::Holds, "reads alone");
    }
}

#[test]
fn a_date_that_was_judged_holds_for_that_content_alone() {
    let conditions = |since| Conditions {
        if_unmodified_since: Some(since),
        ..Conditions::default()
    };
    let held = conditions(MODIFIED).precondition_after(Some(&file()));
    assert_eq!(held.versions, [OURS]);
    let failed = conditions(MODIFIED - 1).precondition_after(Some(&file()));
    assert_eq!(failed.versions, [ContentVersion::default()], "nothing has it");
    assert!(conditions(MODIFIED).precondition_after(None).absent);
    let none = Conditions::default().precondition_after(Some(&file()));
    assert_eq!(none, Precondition::default());
}

#[test]
fn a_list_of_tags_comes_before_a_date() {
    let date = "Sun, 22 Nov 2026 05:33:18 GMT";
    let mut headers = HeaderMap::new();
    for name in [header::IF_UNMODIFIED_SINCE, header::IF_MODIFIED_SINCE] {
        headers.insert(name.clone(), date.parse().unwrap());
        assert_eq!(super::date(&headers, &name), Some(1_795_325_598));
    }
    headers.append(header::IF_MODIFIED_SINCE, date.parse().unwrap());
    assert_eq!(super::date(&headers, &header::IF_MODIFIED_SINCE), None, "twice");
    headers.insert(header::IF_UNMODIFIED_SINCE, "yesterday".parse().unwrap());
    assert_eq!(super::date(&headers, &header::IF_UNMODIFIED_SINCE), None);
}
