use super::super::look::look_at;
use super::*;
use crate::args::UpOptions;
use crate::format::{ClusterFile, format_node};
use std::fs;

fn looks(plan: &Plan, data: &Path) -> Looks {
    let metadata = plan.metadata.iter().map(|place| (place, Role::Metadata));
    let chunk = plan.chunk.iter().map(|place| (place, Role::Chunk));
    let look = |(place, role): (&Place, Role)| {
        let look = look_at(data, &data.join(&place.name), role);
        (place.name.clone(), look)
    };
    metadata.chain(chunk).map(look).collect()
}

/// While no node runs.
fn settle(plan: &mut Plan, data: &Path, replace_lost: bool) -> anyhow::Result<Lost> {
    let looks = looks(plan, data);
    settle_looks(plan, data, &looks, &BTreeSet::new(), replace_lost)
}

fn settle_looks(
    plan: &mut Plan,
    data: &Path,
    looks: &Looks,
    running: &BTreeSet<String>,
    replace_lost: bool,
) -> anyhow::Result<Lost> {
    let seen = Seen {
        data,
        looks,
        running,
        replace_lost,
    };
    super::settle(plan, &seen)
}

/// A cluster that was formatted once.
fn formatted(data: &Path, metadata: u32) -> (Plan, ClusterFile) {
    let options = UpOptions {
        data: data.to_owned(),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        metadata: Some(metadata),
        chunk_servers: Some(2),
        racks: 2,
        processes: false,
        replace_lost: false,
        insecure: false,
        host: Vec::new(),
    };
    let mut plan = Plan::load_or_make(&options, data).unwrap();
    assert_eq!(
        settle(&mut plan, data, false).unwrap(),
        Lost::default(),
        "a new cluster has lost nothing"
    );
    let (file, _) = ClusterFile::load_or_draw(&data.join("cluster.secret"), &plan.voters()).unwrap();
    format(&mut plan, data, &file);
    (plan, file)
}

fn format(plan: &mut Plan, data: &Path, file: &ClusterFile) {
    for node in &plan.nodes(data) {
        format_node(node, file).unwrap();
    }
    plan.note_formatted(|_| true);
}

fn nodes(plan: &Plan) -> Vec<u64> {
    let all = plan.metadata.iter().chain(&plan.chunk);
    all.map(|place| place.node).collect()
}

#[test]
fn a_chunk_server_whose_directory_is_gone_starts_under_a_new_id_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let (mut plan, file) = formatted(data, 1);
    assert_eq!(nodes(&plan), [1, 21, 22]);
    fs::remove_dir_all(data.join("chunk-1")).unwrap();
    let lost = settle(&mut plan, data, false).unwrap();
    assert_eq!((nodes(&plan), plan.retired.clone()), (vec![1, 23, 22], vec![21]));
    assert!(lost.unusable.is_empty());
    assert!(
        lost.notes[0].contains("node 23") && lost.notes[0].contains("--remove 21"),
        "{lost:?}"
    );
    // Interrupted before it was formatted: nothing more is lost.
    assert_eq!(settle(&mut plan, data, false).unwrap(), Lost::default());
    format(&mut plan, data, &file);
    assert_eq!(settle(&mut plan, data, false).unwrap(), Lost::default());
    // Emptied, as a disk that is not mounted looks.
    let away = data.join("away");
    fs::rename(data.join("chunk-1"), &away).unwrap();
    fs::create_dir(data.join("chunk-1")).unwrap();
    settle(&mut plan, data, false).unwrap();
    assert_eq!(nodes(&plan), [1, 24, 22]);
    format(&mut plan, data, &file);
    // The disk is mounted again.
    fs::remove_dir_all(data.join("chunk-1")).unwrap();
    fs::rename(&away, data.join("chunk-1")).unwrap();
    let lost = settle(&mut plan, data, false).unwrap();
    assert_eq!(nodes(&plan), [1, 23, 22]);
    assert!(lost.notes[0].contains("is of node 23"), "{lost:?}");
    assert!(
        lost.notes[0].contains("WARNING") && lost.notes[0].contains("--remove 24"),
        "{lost:?}"
    );
    // The newer id is not given again.
    assert_eq!((plan.retired.clone(), plan.next_chunk_node()), (vec![21, 24], 25));
}

#[test]
fn a_directory_that_cannot_be_used_stops_its_node_only_and_nothing_of_it_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let (mut plan, _) = formatted(data, 1);
    let identity = data.join("chunk-2/identity");
    fs::write(&identity, "rot").unwrap();
    let lost = settle(&mut plan, data, false).unwrap();
    assert_eq!(lost.unusable.keys().collect::<Vec<_>>(), ["chunk-2"]);
    assert!(lost.unusable["chunk-2"].contains("move it away"), "{lost:?}");
    assert_eq!(nodes(&plan), [1, 21, 22]);
    assert_eq!(fs::read_to_string(identity).unwrap(), "rot");
}

#[test]
fn a_lost_voter_joins_under_a_new_id_and_without_a_majority_nothing_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let (mut plan, file) = formatted(data, 3);
    fs::remove_dir_all(data.join("metadata-2")).unwrap();
    let lost = settle(&mut plan, data, false).unwrap();
    assert_eq!(nodes(&plan)[..3], [1, 4, 3]);
    assert!(lost.notes[0].contains("raft replace 2 4"), "{lost:?}");
    let config = plan
        .nodes(data)
        .into_iter()
        .find(|node| node.name == "metadata-2")
        .unwrap();
    assert!(
        config.join && config.metadata.unwrap().join.len() == 2,
        "it asks the others"
    );
    format(&mut plan, data, &file);
    assert_eq!(settle(&mut plan, data, false).unwrap(), Lost::default());
    for name in ["metadata-1", "metadata-3"] {
        fs::remove_dir_all(data.join(name)).unwrap();
    }
    let before = plan.clone();
    let refused = settle(&mut plan, data, false).unwrap_err().to_string();
    assert!(refused.contains("metadata-1, metadata-3"), "{refused}");
    assert_eq!(plan, before);
    let alone = tempfile::tempdir().unwrap();
    let (mut plan, _) = formatted(alone.path(), 1);
    fs::remove_dir_all(alone.path().join("metadata-1")).unwrap();
    assert!(
        settle(&mut plan, alone.path(), false).is_err(),
        "an empty namespace is not put in its place"
    );
}

#[test]
fn several_chunk_directories_that_are_empty_at_once_are_made_anew_only_if_the_operator_insists() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let (mut plan, file) = formatted(data, 1);
    // One is empty, as a mount point is, and the other is not even there.
    let away = data.join("away");
    fs::create_dir(&away).unwrap();
    for name in ["chunk-1", "chunk-2"] {
        fs::rename(data.join(name), away.join(name)).unwrap();
    }
    fs::create_dir(data.join("chunk-1")).unwrap();
    let before = plan.clone();
    let lost = settle(&mut plan, data, false).unwrap();
    assert_eq!(lost.unusable.keys().collect::<Vec<_>>(), ["chunk-1", "chunk-2"]);
    let why = &lost.unusable["chunk-1"];
    assert!(
        why.starts_with("2 chunk directories")
            && why.contains("not mounted?")
            && why.contains("--replace-lost"),
        "{why}"
    );
    assert!(lost.notes.is_empty(), "{lost:?}");
    assert_eq!(plan, before);
    assert!(!data.join("chunk-2").exists());
    // The disks are mounted.
    fs::remove_dir(data.join("chunk-1")).unwrap();
    for name in ["chunk-1", "chunk-2"] {
        fs::rename(away.join(name), data.join(name)).unwrap();
    }
    assert_eq!(settle(&mut plan, data, false).unwrap(), Lost::default());
    assert_eq!(plan, before);
    // They are lost indeed.
    for name in ["chunk-1", "chunk-2"] {
        fs::remove_dir_all(data.join(name)).unwrap();
    }
    let lost = settle(&mut plan, data, true).unwrap();
    assert!(lost.unusable.is_empty() && lost.notes.len() == 2, "{lost:?}");
    assert_eq!(nodes(&plan), [1, 23, 24]);
    format(&mut plan, data, &file);
    assert_eq!(settle(&mut plan, data, false).unwrap(), Lost::default());
}

#[test]
fn a_disk_that_is_not_mounted_is_waited_for_until_it_is_or_the_operator_says_that_it_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let (mut plan, file) = formatted(data, 1);
    let no_one = BTreeSet::new();
    let with_mount = |plan: &Plan, is_mount: bool| {
        let mut looks = looks(plan, data);
        looks.get_mut("chunk-1").unwrap().is_mount = is_mount;
        looks
    };
    let looks = with_mount(&plan, true);
    settle_looks(&mut plan, data, &looks, &no_one, false).unwrap();
    assert!(plan.chunk[0].mounted && !plan.chunk[1].mounted);
    let away = data.join("away");
    fs::rename(data.join("chunk-1"), &away).unwrap();
    fs::create_dir(data.join("chunk-1")).unwrap();
    let before = plan.clone();
    let looks = with_mount(&plan, false);
    let lost = settle_looks(&mut plan, data, &looks, &no_one, false).unwrap();
    let why = &lost.unusable["chunk-1"];
    assert!(
        why.contains("not mounted") && why.contains("--replace-lost"),
        "{why}"
    );
    assert_eq!((&plan, lost.notes.len()), (&before, 0));
    // Another disk is mounted in its place: an operator has put it there.
    let looks = with_mount(&plan, true);
    settle_looks(&mut plan, data, &looks, &no_one, false).unwrap();
    assert_eq!((nodes(&plan), plan.chunk[0].mounted), (vec![1, 23, 22], true));
    // It is lost, and what is beneath the mount is used.
    plan = before.clone();
    let looks = with_mount(&plan, false);
    settle_looks(&mut plan, data, &looks, &no_one, true).unwrap();
    assert_eq!((nodes(&plan), plan.chunk[0].mounted), (vec![1, 23, 22], false));
    format(&mut plan, data, &file);
    assert_eq!(settle(&mut plan, data, false).unwrap(), Lost::default());
    // It is mounted again.
    plan = before;
    fs::remove_dir_all(data.join("chunk-1")).unwrap();
    fs::rename(&away, data.join("chunk-1")).unwrap();
    let looks = with_mount(&plan, true);
    let lost = settle_looks(&mut plan, data, &looks, &no_one, false).unwrap();
    assert_eq!((lost, nodes(&plan)), (Lost::default(), vec![1, 21, 22]));
}

#[test]
fn a_node_that_runs_is_left_alone_unless_nothing_is_left_of_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let (mut plan, _) = formatted(data, 1);
    let running = ["chunk-1", "chunk-2"].map(String::from).into();
    fs::write(data.join("chunk-1/identity"), "rot").unwrap();
    fs::remove_dir_all(data.join("chunk-2")).unwrap();
    let looks = looks(&plan, data);
    let lost = settle_looks(&mut plan, data, &looks, &running, false).unwrap();
    assert_eq!(nodes(&plan), [1, 21, 23]);
    assert!(lost.unusable.is_empty() && lost.notes.len() == 1, "{lost:?}");
}

#[test]
fn a_directory_that_lost_its_identity_and_nothing_else_is_not_taken_for_a_lost_one() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let (mut plan, _) = formatted(data, 1);
    fs::write(data.join("chunk-1/somebody-s"), "data").unwrap();
    fs::remove_file(data.join("chunk-1/identity")).unwrap();
    let lost = settle(&mut plan, data, false).unwrap();
    assert_eq!(nodes(&plan), [1, 21, 22]);
    let why = &lost.unusable["chunk-1"];
    assert!(
        why.contains("not formatted") && why.contains("somebody-s"),
        "{why}"
    );
}

#[test]
fn metadata_servers_are_lost_more_often_than_there_are_small_ids() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let (mut plan, file) = formatted(data, 3);
    let mut seen = BTreeSet::from([1, 2, 3, 21, 22]);
    for _ in 0..40 {
        fs::remove_dir_all(data.join("metadata-2")).unwrap();
        settle(&mut plan, data, false).unwrap();
        assert!(seen.insert(plan.metadata[1].node), "{plan:?}");
        format(&mut plan, data, &file);
    }
    assert!(seen.insert(plan.next_chunk_node()));
}
