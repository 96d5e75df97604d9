//! Logs of any records behind checksums that fit.

use super::image::rescued;
use super::member::{Member, Told, log_config, pool};
use bytes::Bytes;
use drystone_env::Monotonic;
use drystone_env::sim::SimDisk;
use drystone_raft::{Input, Start, rescue};
use drystone_wal::{Wal, tools};
use std::collections::BTreeMap;
use std::sync::Arc;

/// More than any state that a log can be in needs.
const MOST_RECORDS: usize = 64;

/// The first byte is what the state machine has applied, the rest are records: a length of one byte, and so many
/// bytes. Opening and rescuing never panic; a member that opens delivers what the records say, each entry once and in
/// order, and opens again as it was.
pub fn records(data: &[u8]) {
    let (applied, mut rest) = data.split_first().unwrap_or((&0, &[]));
    let applied = u64::from(*applied);
    let disk = SimDisk::new(1);
    write(&disk, || {
        let (length, behind) = rest.split_first()?;
        let (record, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        Some(record)
    });
    let found = rescue(&disk, &log_config(), &pool()).expect("the directory is readable");
    assert!(found.log.gaps.is_empty() && found.log.fault.is_none());
    let Ok((mut member, opened)) = Member::open(&disk, Start::Existing, applied) else {
        return;
    };
    assert!(opened.purged <= opened.commit && opened.commit <= opened.last);
    assert!(opened.needs_snapshot || opened.commit.0 >= applied);
    let expected: BTreeMap<u64, Told> = (found.entries.iter())
        .map(|(index, entry)| (*index, rescued(entry)))
        .collect();
    let before = member.node.status();
    member.give(Input::Tick);
    for (index, told) in &member.delivered {
        // A member of one commits what its log holds at once.
        assert_eq!(expected.get(index), Some(told), "entry {index}");
    }
    drop(member);
    disk.kill();
    let (member, again) =
        Member::open(&disk, Start::Existing, applied).expect("a log that opened opens again");
    assert_eq!(
        (again.purged, again.last, member.node.status().term),
        (opened.purged, opened.last, before.term)
    );
    let mut member = member;
    member.give(Input::Campaign);
    let data = "goes on".into();
    member.give(Input::Propose { token: 7, data });
}

fn write<'a>(disk: &SimDisk, mut next: impl FnMut() -> Option<&'a [u8]>) {
    let opened = Wal::open(Arc::new(disk.clone()), log_config(), pool(), &mut |_, _| Ok(()));
    let (mut wal, _) = opened.expect("an empty disk");
    for _ in 0..MOST_RECORDS {
        let Some(record) = next() else { break };
        let record = Bytes::copy_from_slice(record);
        if wal.append(std::slice::from_ref(&record)).is_err() {
            tools::drain(&mut wal, Monotonic(0), &pool()).expect("a disk without faults");
            wal.append(&[record]).expect("the batch is empty");
        }
    }
    tools::drain(&mut wal, Monotonic(0), &pool()).expect("a disk without faults");
}
