use super::*;
use drystone_proto::record::DiskRecord;
use std::path::PathBuf;

const SECOND: u64 = 1_000_000;

fn config() -> Config {
    Config::new(PathBuf::new(), "127.0.0.1:1".parse().unwrap())
}

fn node(id: u64) -> NodeRecord {
    NodeRecord {
        id,
        roles: role::CHUNK,
        disks: vec![DiskRecord {
            id: id * 10,
            incarnation: 1,
            ..DiskRecord::default()
        }],
        ..NodeRecord::default()
    }
}

fn load(disk: u64, free_bytes: u64, read_only: bool) -> DiskLoad {
    DiskLoad {
        disk,
        free_bytes,
        read_only,
        ..DiskLoad::default()
    }
}

fn heard(servers: &mut Servers, node: u64, loads: Vec<DiskLoad>, now: Monotonic) {
    servers.register(node, now);
    assert!(servers.heartbeat(node, loads, now));
}

fn present(servers: &Servers, nodes: &[NodeRecord], now: Monotonic) -> Option<Vec<u64>> {
    if !servers.knows_all(nodes.iter(), now, Monotonic(0), &config()) {
        return None;
    }
    let disks = servers.present_disks(nodes.iter(), now, &config());
    Some(disks.iter().map(|disk| disk.disk.0).collect())
}

#[test]
fn what_a_new_leader_has_not_heard_is_unknown_and_then_away() {
    let (mut servers, nodes) = (Servers::default(), [node(1), node(2)]);
    let early = Monotonic(SECOND);
    assert_eq!(present(&servers, &nodes, early), None);
    heard(&mut servers, 1, vec![load(10, 5, false)], early);
    assert_eq!(present(&servers, &nodes, early), None, "the other may be well");
    servers.register(2, early);
    assert_eq!(present(&servers, &nodes, early), None, "and its disks not");
    let config = config();
    let late = Monotonic(0).plus(config.suspect_after + config.heartbeat * 2);
    heard(&mut servers, 1, vec![load(10, 5, false)], late);
    assert_eq!(
        present(&servers, &nodes, late),
        Some(vec![10]),
        "never heard: not present"
    );
    heard(&mut servers, 2, vec![load(20, 5, false)], late);
    assert_eq!(present(&servers, &nodes, late), Some(vec![10, 20]));
    assert_eq!(
        present(&servers, &nodes, late.plus(config.suspect_after)),
        Some(vec![])
    );
}

#[test]
fn a_disk_that_failed_or_is_not_served_is_away_and_a_full_one_is_present() {
    let (mut servers, nodes, now) = (Servers::default(), [node(1)], Monotonic(SECOND));
    heard(&mut servers, 1, vec![load(10, 0, true)], now);
    assert_eq!(present(&servers, &nodes, now), Some(vec![10]), "full");
    heard(&mut servers, 1, vec![load(10, 7, true)], now);
    assert_eq!(present(&servers, &nodes, now), Some(vec![]), "failed");
    heard(&mut servers, 1, vec![], now);
    assert_eq!(present(&servers, &nodes, now), Some(vec![]), "not served");
    let fenced = NodeRecord {
        fenced: true,
        ..node(2)
    };
    assert_eq!(
        present(&servers, &[fenced], now),
        Some(vec![]),
        "nobody waits for it"
    );
}

#[test]
fn grants_of_a_moment_share_one_view_until_a_disk_fails() {
    let (mut servers, nodes, now) = (Servers::default(), [node(1)], Monotonic(SECOND));
    heard(&mut servers, 1, vec![load(10, 5, false)], now);
    assert!(!servers.has_views(now) && servers.views().is_none());
    servers.look_at_disks(nodes.iter(), now, &config(), |_| 0);
    assert!(servers.has_views(now.plus(VIEWS_AGE / 2)) && servers.has_new_views(now));
    assert!(servers.heartbeat(1, vec![load(10, 4, false)], now));
    assert!(servers.has_views(now), "nothing new but its load");
    assert!(!servers.has_new_views(now), "which may help who was refused");
    assert!(!servers.has_views(now.plus(VIEWS_AGE)), "old");
    assert!(servers.heartbeat(1, vec![load(10, 4, true)], now));
    assert!(!servers.has_views(now));
    servers.look_at_disks(nodes.iter(), now, &config(), |_| 0);
    assert!(servers.views().unwrap()[0].state == drystone_placement::DiskState::ReadOnly);
}

/// What three disks of two devices can take, alone and together.
#[test]
fn what_a_device_has_left_counts_once_and_less_what_is_promised() {
    let on = |id: u64, device: u64| {
        let mut node = node(id);
        node.disks[0].device = device;
        node
    };
    let nodes = [on(1, 5), on(2, 5), on(3, 6)];
    let (mut servers, now) = (Servers::default(), Monotonic(SECOND));
    for (id, own, shared) in [(1, 10, 100), (2, 20, 90), (3, 30, 100)] {
        let load = DiskLoad {
            shared_free_bytes: shared,
            ..load(id * 10, own + shared, false)
        };
        heard(&mut servers, id, vec![load], now);
    }
    let reserved = |disk| if disk == 20 { 7 } else { 0 };
    servers.look_at_disks(nodes.iter(), now, &config(), reserved);
    let figures = |servers: &Servers| -> Vec<_> {
        let views = servers.views().unwrap().iter();
        views
            .map(|view| (view.free.0, view.device_free.0, view.device_disks))
            .collect()
    };
    assert_eq!(figures(&servers), [(110, 123, 2), (103, 123, 2), (130, 130, 1)]);
    let disks: Vec<DiskRef> = servers.views().unwrap().iter().map(|view| view.disk).collect();
    servers.note_taken(&[disks[0], disks[2]], 50);
    assert_eq!(figures(&servers), [(60, 73, 2), (103, 73, 2), (80, 80, 1)]);
    servers.note_taken(&[disks[0], disks[1]], 50);
    assert_eq!(figures(&servers), [(10, 0, 2), (53, 0, 2), (80, 80, 1)]);
}

/// A server that died said what was free when there was more.
#[test]
fn what_a_silent_server_said_of_a_device_does_not_count() {
    let on = |id: u64| {
        let mut node = node(id);
        node.disks[0].device = 5;
        node
    };
    let (mut servers, now, nodes) = (Servers::default(), Monotonic(SECOND), [on(1), on(2)]);
    let shares = |id: u64, bytes| DiskLoad {
        shared_free_bytes: bytes,
        ..load(id * 10, bytes, false)
    };
    heard(&mut servers, 1, vec![shares(1, 1000)], now);
    let later = now.plus(config().suspect_after);
    heard(&mut servers, 2, vec![shares(2, 90)], later);
    servers.look_at_disks(nodes.iter(), later, &config(), |_| 0);
    let left: Vec<u64> = servers.views().unwrap().iter().map(|v| v.device_free.0).collect();
    assert_eq!(left, [90, 90]);
}
