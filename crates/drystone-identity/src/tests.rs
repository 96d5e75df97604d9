use super::*;
use drystone_env::os::OsDisk;
use drystone_env::{Disk, OpenOptions, SeededRng};
use drystone_proto::grant::ClusterKey;
use drystone_types::{BootId, ClusterId, DiskId, DiskRef, HistoryId, Incarnation, NodeId};

fn identity() -> Identity {
    Identity {
        cluster: ClusterId([1; 16]),
        history: HistoryId([2; 16]),
        key: ClusterKey([3; 32]),
        node: NodeId(4),
        node_incarnation: Incarnation(5),
        role: Role::Chunk,
        disk: Some(DiskRef {
            disk: DiskId(6),
            incarnation: Incarnation(7),
        }),
        voters: vec![(NodeId(1), "127.0.0.1:9710".to_owned())],
        joining: false,
        name: "stone".to_owned(),
    }
}

struct Formatted {
    _directory: tempfile::TempDir,
    disk: OsDisk,
}

fn empty() -> Formatted {
    let directory = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(directory.path()).unwrap();
    Formatted {
        _directory: directory,
        disk,
    }
}

fn formatted() -> Formatted {
    let empty = empty();
    format(&empty.disk, &identity()).unwrap();
    empty
}

fn flip(disk: &dyn Disk, name: &str, at: u64) {
    let file = disk.open(name, OpenOptions::default()).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 0x20], at).unwrap();
}

#[test]
fn a_directory_is_who_it_was_formatted_to_be() {
    let formatted = formatted();
    assert_eq!(load(&formatted.disk).unwrap(), identity());
    let metadata = Identity {
        role: Role::Metadata,
        disk: None,
        joining: true,
        ..identity()
    };
    assert_eq!(Identity::decode(&metadata.encode()).unwrap(), metadata);
}

#[test]
fn only_an_empty_directory_is_formatted() {
    let formatted = formatted();
    assert!(matches!(
        format(&formatted.disk, &identity()),
        Err(IdentityError::AlreadyFormatted)
    ));
    let other = empty();
    other
        .disk
        .open(
            "photos",
            OpenOptions {
                create: true,
                ..Default::default()
            },
        )
        .unwrap();
    assert!(
        matches!(format(&other.disk, &identity()), Err(IdentityError::NotEmpty(name)) if name == "photos")
    );
    assert!(matches!(load(&other.disk), Err(IdentityError::NotFormatted)));
    assert!(matches!(
        boot(&other.disk, &mut SeededRng::new(1)),
        Err(IdentityError::NotFormatted)
    ));
}

#[test]
fn an_interrupted_format_can_be_repeated() {
    let formatted = formatted();
    formatted.disk.rename("identity", "identity.new").unwrap();
    assert!(matches!(load(&formatted.disk), Err(IdentityError::NotFormatted)));
    let again = Identity {
        voters: Vec::new(),
        ..identity()
    };
    format(&formatted.disk, &again).unwrap();
    assert_eq!(load(&formatted.disk).unwrap(), again);
}

#[test]
fn every_damaged_byte_of_an_identity_is_found() {
    let formatted = formatted();
    for at in 0..identity().encode().len() as u64 {
        flip(&formatted.disk, "identity", at);
        assert!(load(&formatted.disk).is_err(), "byte {at}");
        flip(&formatted.disk, "identity", at);
    }
    load(&formatted.disk).unwrap();
    assert!(Identity::decode(&identity().encode()[..20]).is_err());
}

#[test]
fn an_identity_that_contradicts_itself_is_refused() {
    for bad in [
        Identity {
            disk: None,
            ..identity()
        },
        Identity {
            role: Role::Metadata,
            ..identity()
        },
        Identity {
            node: NodeId(0),
            ..identity()
        },
        Identity {
            history: HistoryId::default(),
            ..identity()
        },
    ] {
        assert!(matches!(
            format(&empty().disk, &bad),
            Err(IdentityError::Malformed { .. })
        ));
    }
}

#[test]
fn boot_counters_grow_by_one() {
    let (formatted, mut rng) = (formatted(), SeededRng::new(1));
    let boots: Vec<_> = (0..5).map(|_| boot(&formatted.disk, &mut rng).unwrap()).collect();
    assert_eq!(
        boots.iter().map(|boot| boot.counter).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    assert_ne!(boots[0].random, boots[1].random);
}

#[test]
fn no_counter_is_used_twice_whichever_boot_file_is_damaged() {
    for name in ["boot-a", "boot-b"] {
        for at in 0..48 {
            let (formatted, mut rng) = (formatted(), SeededRng::new(1));
            let before: Vec<u64> = (0..3)
                .map(|_| boot(&formatted.disk, &mut rng).unwrap().counter)
                .collect();
            flip(&formatted.disk, name, at);
            let after = boot(&formatted.disk, &mut rng).unwrap().counter;
            assert!(after > *before.last().unwrap(), "{name} byte {at}");
            assert_eq!(boot(&formatted.disk, &mut rng).unwrap().counter, after + 1);
        }
    }
}

#[test]
fn a_boot_counted_elsewhere_is_not_used_again_whichever_boot_file_is_damaged() {
    let far = BootId {
        counter: 700,
        random: 9,
    };
    for (earlier, name) in [(0, "boot-a"), (0, "boot-b"), (3, "boot-a"), (4, "boot-b")] {
        let (formatted, mut rng) = (formatted(), SeededRng::new(1));
        for _ in 0..earlier {
            boot(&formatted.disk, &mut rng).unwrap();
        }
        boot_at(&formatted.disk, far).unwrap();
        flip(&formatted.disk, name, 20);
        assert_eq!(boot(&formatted.disk, &mut rng).unwrap().counter, 702);
        assert_eq!(boot(&formatted.disk, &mut rng).unwrap().counter, 703);
        assert!(matches!(
            boot_at(&formatted.disk, far),
            Err(IdentityError::Malformed { .. })
        ));
        assert_eq!(boot(&formatted.disk, &mut rng).unwrap().counter, 704);
    }
}

#[test]
fn without_a_readable_boot_file_nothing_starts() {
    let formatted = formatted();
    flip(&formatted.disk, "boot-a", 20);
    flip(&formatted.disk, "boot-b", 20);
    assert!(matches!(
        boot(&formatted.disk, &mut SeededRng::new(1)),
        Err(IdentityError::Damaged { .. })
    ));
}

#[test]
fn boot_files_of_another_formatting_are_not_taken() {
    let formatted = formatted();
    let other = Identity {
        node_incarnation: Incarnation(99),
        ..identity()
    };
    crate::boot::prepare(&formatted.disk, &other).unwrap();
    assert!(boot(&formatted.disk, &mut SeededRng::new(1)).is_err());
}

#[test]
fn golden_bytes_of_a_boot_file() {
    let formatted = formatted();
    boot(&formatted.disk, &mut SeededRng::new(1)).unwrap();
    let file = formatted.disk.open("boot-a", OpenOptions::default()).unwrap();
    let mut bytes = [0; 48];
    file.read_at(&mut bytes, 0).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex.get(..24), Some("445259420100000020000000"));
    assert_eq!(hex.get(32..48), Some("0100000000000000"));
    assert_eq!(hex.get(64..), Some("04000000000000000500000000000000"));
}

#[test]
fn a_directory_takes_another_history_and_nothing_else_changes() {
    let formatted = formatted();
    let before = boot(&formatted.disk, &mut SeededRng::new(1)).unwrap();
    let history = HistoryId([7; 16]);
    Identity::adopt_history(&formatted.disk, history).unwrap();
    let found = load(&formatted.disk).unwrap();
    let expected = Identity {
        history,
        ..identity()
    };
    assert_eq!(found, expected);
    let after = boot(&formatted.disk, &mut SeededRng::new(2)).unwrap();
    assert_eq!(after.counter, before.counter + 1);
    let zero = Identity::adopt_history(&formatted.disk, HistoryId::default());
    assert!(matches!(zero, Err(IdentityError::Malformed { .. })));
    assert_eq!(load(&formatted.disk).unwrap(), expected);
    assert!(matches!(
        Identity::adopt_history(&empty().disk, history),
        Err(IdentityError::NotFormatted)
    ));
}
