use super::*;
use crate::clock::{Clock, Monotonic, WallTime};
use crate::disk::{Disk, DiskFile, OpenOptions};
use crate::rng::{Rng, SeededRng};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

fn created(disk: &SimDisk, name: &str) -> Arc<dyn DiskFile> {
    disk.open(
        name,
        OpenOptions {
            create: true,
            ..Default::default()
        },
    )
    .unwrap()
}

/// A durable file of `blocks` blocks of ones.
fn disk_with_file(seed: u64, blocks: usize) -> SimDisk {
    let disk = SimDisk::new(seed);
    let file = created(&disk, "a");
    file.write_at(&vec![1; blocks * 4096], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    disk
}

#[test]
fn a_crash_keeps_synced_blocks_and_any_subset_of_the_others() {
    let mut seen = BTreeSet::new();
    for seed in 0..2_000 {
        let disk = disk_with_file(seed, 4);
        let file = created(&disk, "a");
        file.write_at(&[2; 4096], 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(&[3; 8192], 4096).unwrap();
        disk.crash();
        let now = disk.contents("a").unwrap();
        assert!(now[..4096].iter().all(|byte| *byte == 2) && now[12288..].iter().all(|byte| *byte == 1));
        let kind = |block: &[u8]| {
            assert!(
                block
                    .chunks(512)
                    .all(|sector| sector.iter().all(|byte| *byte == sector[0]))
            );
            (block.contains(&1), block.contains(&3))
        };
        seen.insert((kind(&now[4096..8192]), kind(&now[8192..12288])));
        assert!(
            file.sync_data().is_err(),
            "the handle belongs to the dead process"
        );
    }
    // Each block old, new or torn, independently.
    assert_eq!(seen.len(), 9);
}

#[test]
fn a_crash_keeps_any_subset_of_unsynced_names() {
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        let disk = disk_with_file(seed, 1);
        disk.create_dir("d").unwrap();
        disk.sync_dir("").unwrap();
        created(&disk, "d/b");
        disk.rename("a", "c").unwrap();
        disk.crash();
        let files = disk.files();
        assert!(
            files.contains(&"a".to_owned()) != files.contains(&"c".to_owned()),
            "a rename is atomic: {files:?}"
        );
        seen.insert(files);
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn synced_names_stay_and_files_of_a_lost_directory_do_not() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        disk.create_dir("d").unwrap();
        created(&disk, "d/b");
        disk.sync_dir("d").unwrap();
        created(&disk, "e");
        disk.fork(seed).crash();
        disk.crash();
        lost += usize::from(disk.list("d").is_err());
        disk.create_dir("d").unwrap();
        disk.sync_dir("").unwrap();
        disk.crash();
        assert!(disk.list("d").is_ok());
    }
    assert!(lost > 0);
}

#[test]
fn a_failed_sync_loses_pages_for_ever() {
    let (mut ghosts, mut evicted) = (0, 0);
    for seed in 0..200 {
        let disk = disk_with_file(seed, 1);
        let file = created(&disk, "a");
        file.write_at(&[9; 4096], 0).unwrap();
        disk.fail_sync(1);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        let before = disk.contents("a").unwrap()[0];
        disk.crash();
        let after = disk.contents("a").unwrap()[0];
        assert!(after == 1 || before == 9);
        ghosts += usize::from((before, after) == (9, 1));
        evicted += usize::from((before, after) == (1, 1));
    }
    assert!(ghosts > 0 && evicted > 0);
}

#[test]
fn armed_faults_fire_once_at_their_turn() {
    let disk = disk_with_file(1, 4);
    let file = created(&disk, "a");
    disk.fail_write(2);
    file.write_at(&[2; 4096], 0).unwrap();
    assert!(file.write_at(&[2; 4096], 4096).is_err());
    disk.lose_write(1);
    file.write_at(&[3; 4096], 8192).unwrap();
    assert_eq!(disk.contents("a").unwrap()[8192], 1);
    disk.misdirect_write(1);
    file.write_at(&[4; 4096], 8192).unwrap();
    let now = disk.contents("a").unwrap();
    assert_eq!(
        (now[8192], now.iter().filter(|byte| **byte == 4).count()),
        (1, 4096)
    );
    disk.fail_read(1);
    assert!(file.read_at(&mut [0; 8], 0).is_err());
    file.read_at(&mut [0; 8], 0).unwrap();
    disk.break_block("a", 4096);
    assert!(file.read_at(&mut [0; 8], 4100).is_err());
    file.write_at(&[5; 4096], 4096).unwrap();
    file.read_at(&mut [0; 8], 4100).unwrap();
    disk.flip("a", 4096, 1);
    assert_eq!(disk.contents("a").unwrap()[4096], 7);
    assert_eq!(disk.stats().faults, 4);
}

#[test]
fn nothing_works_while_the_power_is_off() {
    let disk = disk_with_file(3, 1);
    let file = created(&disk, "a");
    disk.power_off_at(2);
    file.write_at(&[2; 4096], 0).unwrap();
    assert!(file.sync_data().is_err() && disk.is_off());
    assert!(file.read_at(&mut [0; 8], 0).is_err() && disk.list("").is_err());
    disk.crash();
    assert_eq!(disk.list("").unwrap(), ["a"]);
}

#[test]
fn a_full_disk_refuses_and_a_deletion_makes_room() {
    let disk = SimDisk::with_capacity(1, 8192);
    let file = created(&disk, "a");
    file.allocate(8192).unwrap();
    let other = created(&disk, "b");
    assert_eq!(
        other.write_at(&[1], 0).unwrap_err().kind(),
        std::io::ErrorKind::StorageFull
    );
    assert_eq!(disk.space().unwrap().free, 0);
    disk.unlink("a").unwrap();
    other.write_at(&[1], 0).unwrap();
}

#[test]
fn lengths_read_as_zeros_and_direct_files_want_whole_blocks() {
    let disk = disk_with_file(1, 2);
    let file = disk
        .open(
            "a",
            OpenOptions {
                direct: true,
                ..Default::default()
            },
        )
        .unwrap();
    file.truncate(100).unwrap();
    file.allocate(8192).unwrap();
    let now = disk.contents("a").unwrap();
    assert!(now[..100].iter().all(|byte| *byte == 1) && now[100..].iter().all(|byte| *byte == 0));
    assert!(file.write_at(&[1; 100], 0).is_err() && file.read_at(&mut [0; 4096], 1).is_err());
    assert!(file.read_at(&mut [0; 4096], 8192).is_err());
}

#[test]
fn a_seed_gives_one_disk() {
    let run = |seed| {
        let disk = disk_with_file(seed, 64);
        created(&disk, "a").write_at(&[2; 64 * 4096], 0).unwrap();
        disk.crash();
        disk.contents("a")
    };
    assert!(run(5) == run(5));
    assert!((0..20).any(|seed| run(seed) != run(5)));
}

#[test]
fn sleepers_wake_when_time_is_moved() {
    let clock = SimClock::new(Monotonic(5), WallTime(100));
    let mut sleep = clock.sleep_until(Monotonic(1_000_005));
    let mut context = Context::from_waker(Waker::noop());
    assert!(sleep.as_mut().poll(&mut context).is_pending());
    assert_eq!(clock.next_deadline(), Some(Monotonic(1_000_005)));
    clock.advance(Duration::from_millis(999));
    assert!(sleep.as_mut().poll(&mut context).is_pending());
    assert!(clock.advance_to_next());
    assert!(sleep.as_mut().poll(&mut context).is_ready());
    assert_eq!(
        (clock.now(), clock.wall()),
        (Monotonic(1_000_005), WallTime(1_000_100))
    );
    assert!(!clock.advance_to_next());
}

#[test]
fn a_script_of_damage_does_what_it_says_and_any_bytes_are_one() {
    let disk = SimDisk::new(1);
    disk.set_contents("a", &[7; 5000]);
    disk.set_contents("d/b", &[9; 4096]);
    let never = |_: &str, _: &mut [u8], _: usize| panic!("nothing asks for new checksums");
    let done = disk.damage(&[0, 0, 1, 0, 2, 0, 3, 0, 2, 1, 0, 0, 10, 0, 0, 0], &never);
    assert_eq!((done.changes, done.forged), (2, false));
    assert_eq!(disk.contents("a").unwrap()[4098], 7 ^ 8);
    assert_eq!(disk.contents("d/b").unwrap(), [9; 10]);
    let done = disk.damage(&[7, 1, 0, 0, 2, 0, 1, 0, 1, 2, 3], &never);
    assert!(
        done.forged && done.changes == 2,
        "two bytes are written, one is a change of its own"
    );
    assert_eq!(disk.contents("d/b").unwrap()[1..5], [9, 1, 2, 9]);
    let resealed = std::cell::Cell::new(0);
    let count = |name: &str, bytes: &mut [u8], at: usize| {
        assert_eq!((name, bytes.len(), at), ("a", 5000, 4100));
        resealed.set(resealed.get() + 1);
    };
    assert!(disk.damage(&[128, 0, 1, 0, 4, 0, 0, 0], &count).forged);
    assert_eq!(resealed.get(), 1);
    disk.damage(&[5, 0, 0, 0, 0, 0, 0, 1], &never);
    assert_eq!(disk.contents("a").unwrap().len(), 10);
    disk.damage(&[4, 0, 0, 0, 0, 0, 0, 0], &never);
    assert_eq!(disk.files(), ["d/b"]);
    for seed in 0..500 {
        let mut rng = SeededRng::new(seed);
        let mut script = vec![0; rng.below(300) as usize];
        rng.fill(&mut script);
        disk.fork(seed).damage(&script, &|_, _, _| {});
    }
}
