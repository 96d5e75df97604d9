//! Damaged logs.

use super::image::{Image, follower, lone, rescued, restored, vote, was_written};
use super::member::{Member, log_config, pool};
use drystone_raft::{Input, Start, rescue};
use drystone_wal::tools;
use std::sync::LazyLock;

static IMAGES: LazyLock<[Image; 6]> = LazyLock::new(|| {
    [
        lone(true),
        follower(true),
        restored(true),
        lone(false),
        follower(false),
        restored(false),
    ]
});

const VOTE_ANSWER: u32 = 6;

/// The first byte chooses the image, the rest is a script of `SimDisk::damage`. Opening and rescuing never panic. What
/// they find was written once, unless checksums were forged; after one change of a marked log all of it is there, term
/// and vote included, or it is refused. A member that opens goes on, and opens again with no less.
pub fn log(data: &[u8]) {
    let (choice, script) = data.split_first().unwrap_or((&0, &[]));
    let image = &IMAGES[usize::from(*choice) % IMAGES.len()];
    let disk = image.disk.fork(1);
    let damage = disk.damage(script, &|_, bytes, at| tools::reseal(bytes, at));
    let found = rescue(&disk, &log_config(), &pool());
    if let Ok(found) = found.as_ref()
        && !damage.forged
    {
        for (index, entry) in &found.entries {
            let told = rescued(entry);
            assert!(
                was_written(image, *index, &told),
                "entry {index} was never written"
            );
        }
    }
    let Ok((mut member, opened)) = Member::open(&disk, Start::Existing, image.applied) else {
        return;
    };
    assert!(opened.purged <= opened.commit && opened.commit <= opened.last);
    if image.marked && !damage.forged && damage.changes <= 1 {
        let term = member.node.status().term.0;
        let told = (opened.purged.0, opened.last.0, term);
        assert_eq!(
            told,
            (image.purged, image.last, image.term),
            "a part of the log is silently gone"
        );
        if let Some(candidate) = image.vote {
            one_vote(image, candidate, &disk.fork(2));
        }
    }
    member.give(Input::Tick);
    member.give(Input::Campaign);
    let data = "goes on".into();
    member.give(Input::Propose { token: 7, data });
    let before = member.node.status();
    if damage.forged {
        // A forgery may promise what is not there; only panics count.
        return;
    }
    for (index, told) in &member.delivered {
        let ours = *index > opened.last.0;
        assert!(
            ours || was_written(image, *index, told),
            "entry {index} was never written"
        );
    }
    drop(member);
    disk.crash();
    let (member, again) =
        Member::open(&disk, Start::Existing, image.applied).expect("a log that opened opens again");
    assert!(again.last >= before.synced && member.node.status().term >= before.term);
}

/// Another candidate of the term does not get the vote that was given.
fn one_vote(image: &Image, candidate: u64, disk: &drystone_env::sim::SimDisk) {
    let (mut member, _) = Member::open(disk, Start::Existing, image.applied).expect("it opened a moment ago");
    member.tick(13);
    let other = 5 - candidate;
    member.give(vote(image.term, other, (image.term, image.last + 10)));
    let granted = (member.sent.iter())
        .any(|message| message.kind == VOTE_ANSWER && message.term == image.term && !message.reject);
    assert!(!granted, "two votes in term {}", image.term);
}
