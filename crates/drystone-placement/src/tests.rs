use super::*;
use drystone_env::SeededRng;
use drystone_types::{ByteCount, DiskId, DiskRef, Incarnation, NodeId};
use proptest::prelude::*;
use std::collections::BTreeSet;

const GIB: u64 = 1 << 30;

fn reference(disk: u64) -> DiskRef {
    DiskRef {
        disk: DiskId(disk),
        incarnation: Incarnation(disk + 100),
    }
}

/// One line per disk: `id node host rack zone` and any of `free=GiB load=N suspect draining read-only unheard`, and of its
/// device `device=ID of=DISKS common=MIB`.
fn disks(text: &str) -> Vec<DiskView> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [id, node, host, rack, zone, flags @ ..] = &words[..] else {
            panic!("short line {line:?}")
        };
        let value = |name: &str| {
            flags
                .iter()
                .find_map(|flag| flag.strip_prefix(name))
                .map(|v| v.parse().unwrap())
        };
        let free = ByteCount(value("free=").unwrap_or(80) * GIB);
        DiskView {
            disk: reference(id.parse().unwrap()),
            node: NodeId(node.parse().unwrap()),
            host: (*host).to_owned(),
            rack: (*rack).to_owned(),
            zone: (*zone).to_owned(),
            device: value("device=").unwrap_or_else(|| id.parse().unwrap()),
            device_disks: value("of=").unwrap_or(1) as u32,
            device_free: value("common=").map_or(free, |mib| ByteCount(mib << 20)),
            free,
            load: value("load=").unwrap_or(0) as u32,
            state: DiskState::of(DiskFacts {
                heard: !flags.contains(&"unheard"),
                suspect: flags.contains(&"suspect"),
                draining: flags.contains(&"draining"),
                read_only: flags.contains(&"read-only"),
                ..DiskFacts::default()
            }),
            draining: flags.contains(&"draining"),
        }
    };
    text.lines()
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(line)
        .collect()
}

fn demand(replicas: u32) -> Demand {
    Demand {
        replicas,
        bytes: ByteCount(64 << 20),
        ..Demand::default()
    }
}

/// Every set of disks that any of many draws chooses, each as sorted ids; or the one refusal.
fn check(demand: &Demand, text: &str, expected: Result<&[&[u64]], (u32, u32)>) {
    let disks = disks(text);
    let plans: BTreeSet<_> = (0..400)
        .map(
            |seed| match plan_replicas(demand, &disks, &mut SeededRng::new(seed)) {
                Ok(chosen) => {
                    let mut ids: Vec<u64> = chosen.iter().map(|disk| disk.disk.0).collect();
                    ids.sort_unstable();
                    Ok(ids)
                }
                Err(
                    PlacementError::NotEnoughDomains { needed, found, .. }
                    | PlacementError::NoSpace { needed, found, .. },
                ) => Err((needed, found)),
            },
        )
        .collect();
    let expected: BTreeSet<_> = match expected {
        Ok(sets) => sets.iter().map(|set| Ok(set.to_vec())).collect(),
        Err(refusal) => BTreeSet::from([Err(refusal)]),
    };
    assert_eq!(plans, expected, "{text}");
}

#[test]
fn replicas_spread_over_racks_before_hosts() {
    let text = "1 1 a r1 z
                2 2 b r1 z
                3 3 c r2 z
                4 4 d r3 z";
    check(&demand(3), text, Ok(&[&[1, 3, 4], &[2, 3, 4]]));
    check(&demand(4), text, Ok(&[&[1, 2, 3, 4]]));
}

#[test]
fn zones_come_before_racks() {
    let text = "1 1 a r1 z1
                2 2 b r2 z1
                3 3 c r1 z2";
    check(&demand(2), text, Ok(&[&[1, 3], &[2, 3]]));
}

#[test]
fn with_two_racks_the_third_goes_to_another_host() {
    let text = "1 1 a r1 z
                2 1 a r1 z
                3 2 b r2 z
                4 3 c r2 z";
    check(&demand(3), text, Ok(&[&[1, 3, 4], &[2, 3, 4]]));
}

#[test]
fn two_servers_on_one_host_are_one_domain() {
    let text = "1 1 a r z
                2 2 a r z
                3 3 b r z";
    check(&demand(2), text, Ok(&[&[1, 3], &[2, 3]]));
}

#[test]
fn two_replicas_share_a_host_only_if_every_host_has_one() {
    let two = "1 1 a r1 z
               2 1 a r1 z
               3 2 b r2 z
               4 2 b r2 z";
    let all: &[&[u64]] = &[&[1, 2, 3], &[1, 2, 4], &[1, 3, 4], &[2, 3, 4]];
    check(&demand(3), two, Ok(all));
    for absent in ["suspect", "read-only", "unheard", "free=0"] {
        check(&demand(3), &format!("{two}\n5 3 c r3 z {absent}"), Err((3, 2)));
    }
    check(&demand(3), &format!("{two}\n5 3 c r3 z draining"), Ok(all));
    let demand = Demand {
        avoid: vec![NodeId(3)],
        ..demand(3)
    };
    check(&demand, &format!("{two}\n5 3 c r3 z"), Err((3, 2)));
}

#[test]
fn another_host_in_a_crowded_rack_is_better_than_the_same_host() {
    let text = "1 1 a r1 z
                2 1 a r1 z
                3 2 b r2 z
                4 3 c r2 z
                5 4 d r2 z";
    check(&demand(4), text, Ok(&[&[1, 3, 4, 5], &[2, 3, 4, 5]]));
}

/// What helps against it is space, not another attempt.
#[test]
fn disks_that_are_all_full_are_told_from_servers_that_are_missing() {
    let refusal = |text: &str| plan_replicas(&demand(2), &disks(text), &mut SeededRng::new(1)).unwrap_err();
    let full = refusal("1 1 a r1 z free=0\n2 2 b r2 z free=0\n3 3 c r3 z unheard");
    assert!(
        matches!(
            full,
            PlacementError::NoSpace {
                needed: 2,
                found: 0,
                ..
            }
        ),
        "{full}"
    );
    let few = refusal("1 1 a r1 z free=0\n2 2 b r2 z unheard\n3 3 c r3 z unheard");
    assert!(
        matches!(
            few,
            PlacementError::NotEnoughDomains {
                needed: 2,
                found: 0,
                ..
            }
        ),
        "{few}"
    );
}

#[test]
fn three_servers_of_one_machine_take_three_replicas() {
    let text = "1 1 me r1 z device=1
                2 2 me r2 z device=1
                3 3 me r3 z device=1";
    check(&demand(3), text, Ok(&[&[1, 2, 3]]));
}

#[test]
fn what_is_full_suspect_draining_read_only_or_avoided_takes_nothing() {
    let text = "1 1 a r1 z
                2 2 b r2 z free=0
                3 3 c r3 z suspect
                4 4 d r4 z draining
                5 5 e r5 z read-only
                6 6 f r6 z
                7 7 g r7 z free=1";
    let demand = Demand {
        avoid: vec![NodeId(6)],
        ..demand(2)
    };
    check(&demand, text, Ok(&[&[1, 7]]));
    check(
        &Demand {
            replicas: 3,
            ..demand.clone()
        },
        text,
        Err((3, 2)),
    );
    let error = plan_replicas(
        &Demand {
            replicas: 3,
            ..demand
        },
        &disks(text),
        &mut SeededRng::new(1),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "3 replicas are needed, 2 can be placed: disks are full (7 disks known, 1 avoided, 1 draining, 1 full, 1 read-only, 1 suspect)"
    );
}

#[test]
fn fewer_replicas_are_given_only_down_to_the_minimum() {
    let text = "1 1 a r1 z
                2 2 b r2 z";
    check(
        &Demand {
            minimum: 2,
            ..demand(3)
        },
        text,
        Ok(&[&[1, 2]]),
    );
    check(
        &Demand {
            minimum: 3,
            ..demand(3)
        },
        text,
        Err((3, 2)),
    );
    check(
        &Demand {
            minimum: 9,
            ..demand(3)
        },
        text,
        Err((3, 2)),
    );
    check(&demand(1), "", Err((1, 0)));
}

#[test]
fn existing_replicas_count_and_their_domains_are_taken() {
    let text = "1 1 a r1 z
                2 2 b r1 z
                3 3 c r2 z
                4 4 d r3 z suspect";
    check(
        &Demand {
            have: vec![reference(1)],
            ..demand(2)
        },
        text,
        Ok(&[&[3]]),
    );
    check(
        &Demand {
            have: vec![reference(1), reference(4)],
            ..demand(3)
        },
        text,
        Ok(&[&[3]]),
    );
    check(
        &Demand {
            have: vec![reference(1), reference(3)],
            ..demand(2)
        },
        text,
        Ok(&[&[]]),
    );
    // Another incarnation of the disk is the same device: it gets no second replica of its own chunk.
    let old = DiskRef {
        incarnation: Incarnation(1),
        ..reference(1)
    };
    let two = "1 1 a r1 z
               3 3 c r2 z";
    check(
        &Demand {
            have: vec![old],
            ..demand(2)
        },
        two,
        Ok(&[&[3]]),
    );
}

#[test]
fn the_first_replica_is_near_the_writer() {
    let text = "1 1 a r1 z
                2 2 b r2 z
                3 3 c r3 z
                4 4 d r4 z";
    for seed in 0..200 {
        let near = Demand {
            near_host: "c".to_owned(),
            ..demand(3)
        };
        let chosen = plan_replicas(&near, &disks(text), &mut SeededRng::new(seed)).unwrap();
        assert_eq!(chosen.first(), Some(&reference(3)));
    }
    check(
        &Demand {
            near_host: "nowhere".to_owned(),
            ..demand(4)
        },
        text,
        Ok(&[&[1, 2, 3, 4]]),
    );
}

fn shares(text: &str) -> Vec<u32> {
    let disks = disks(text);
    let mut counts = vec![0; disks.len()];
    let mut rng = SeededRng::new(5);
    for _ in 0..10_000 {
        let chosen = plan_replicas(&demand(1), &disks, &mut rng).unwrap();
        let at = disks.iter().position(|view| view.disk == chosen[0]).unwrap();
        counts[at] += 1;
    }
    counts
}

#[test]
fn disks_of_one_device_have_its_space_once() {
    // 64 MiB each, and room for two of them on the device of three.
    let text = "1 1 a r1 z free=100 device=1 of=3 common=190
                2 2 b r2 z free=100 device=1 of=3 common=190
                3 3 c r3 z free=100 device=1 of=3 common=190
                4 4 d r4 z";
    check(&demand(3), text, Ok(&[&[1, 2, 4], &[1, 3, 4], &[2, 3, 4]]));
    check(&demand(4), text, Err((4, 3)));
    let full = plan_replicas(&demand(4), &disks(text), &mut SeededRng::new(1));
    assert_eq!(
        full.unwrap_err().to_string(),
        "4 replicas are needed, 3 can be placed: disks are full (4 disks known, 1 full)"
    );
    // What others have taken is not free any more.
    let text = "1 1 a r1 z device=1 of=3 common=63
                4 4 d r4 z";
    check(&demand(1), text, Ok(&[&[4]]));
    // They attract as much as one disk of such a size.
    let text = "1 1 a r1 z device=1 of=3 common=81920
                2 2 b r2 z device=1 of=3 common=81920
                3 3 c r3 z device=1 of=3 common=81920
                4 4 d r4 z";
    let counts = shares(text);
    assert!(counts[3] > 4 * counts[0] / 2 && counts[3] < 9_000, "{counts:?}");
}

#[test]
fn space_and_idleness_attract() {
    let even = shares("1 1 a r1 z\n2 2 b r2 z\n3 3 c r3 z\n4 4 d r4 z");
    assert!(
        even.iter().all(|&count| (1_500..4_500).contains(&count)),
        "{even:?}"
    );
    let space = shares("1 1 a r1 z free=80\n2 2 b r2 z free=20");
    assert!(space[0] > 2 * space[1] && space[1] > 100, "{space:?}");
    let load = shares("1 1 a r1 z load=50\n2 2 b r2 z load=1\n3 3 c r3 z load=1");
    assert!(load[0] * 2 < load[1] && load[0] > 0, "{load:?}");
}

proptest! {
    #[test]
    fn plans_are_distinct_eligible_and_as_spread_as_racks_and_hosts_allow(
        servers in prop::collection::vec((0u64..5, any::<[bool; 3]>(), 0u64..100, 1u64..3), 0..20),
        replicas in 1u32..6,
        seed in any::<u64>(),
    ) {
        let mut disks = Vec::new();
        for (i, &(rack, [suspect, draining, read_only], free, count)) in servers.iter().enumerate() {
            disks.extend((0..count).map(|at| DiskView {
                disk: reference(i as u64 * 2 + at),
                node: NodeId(i as u64),
                host: format!("h{i}"),
                rack: format!("r{rack}"),
                zone: "z".to_owned(),
                device: i as u64 * 2 + at,
                device_disks: 1,
                device_free: ByteCount(free * GIB),
                free: ByteCount(free * GIB),
                load: (free % 9) as u32,
                state: DiskState::of(DiskFacts {
                    heard: true,
                    suspect: suspect && draining,
                    draining: draining && read_only,
                    read_only: read_only && suspect,
                    ..DiskFacts::default()
                }),
                draining: draining && read_only,
            }));
        }
        let demand = Demand { minimum: 1, ..demand(replicas) };
        let Ok(chosen) = plan_replicas(&demand, &disks, &mut SeededRng::new(seed)) else { return Ok(()) };
        let again = plan_replicas(&demand, &disks, &mut SeededRng::new(seed)).unwrap();
        prop_assert_eq!(&chosen, &again);
        let views: Vec<&DiskView> = chosen.iter().map(|disk| disks.iter().find(|view| view.disk == *disk).unwrap()).collect();
        prop_assert!(views.iter().all(|view| view.state.may_place() && view.free >= demand.bytes));
        prop_assert_eq!(views.iter().map(|view| view.disk).collect::<BTreeSet<_>>().len(), views.len());
        let eligible: BTreeSet<&str> = disks.iter()
            .filter(|view| view.state.may_place() && view.free >= demand.bytes)
            .map(|view| view.rack.as_str()).collect();
        let used: BTreeSet<&str> = views.iter().map(|view| view.rack.as_str()).collect();
        prop_assert!(used.len() >= eligible.len().min(views.len()));
        let hosts: BTreeSet<NodeId> = disks.iter().filter(|view| !view.draining).map(|view| view.node).collect();
        let used: BTreeSet<NodeId> = views.iter().map(|view| view.node).collect();
        prop_assert!(used.len() >= hosts.len().min(views.len()));
    }
}
