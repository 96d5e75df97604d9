use super::*;
use crate::args::UpOptions;
use std::fs;

/// The plan of a cluster of three metadata and two chunk servers, formatted.
async fn formatted(data: &Path) -> Plan {
    let options = UpOptions {
        data: data.to_owned(),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        metadata: Some(3),
        chunk_servers: Some(2),
        racks: 2,
        processes: false,
        replace_lost: false,
        insecure: false,
        host: Vec::new(),
    };
    let mut plan = Plan::load_or_make(&options, data).unwrap();
    prepare(&mut plan, data).await.unwrap();
    plan
}

async fn prepare(plan: &mut Plan, data: &Path) -> anyhow::Result<Prepared> {
    let (env, no_one) = (Env::os(), BTreeSet::new());
    let settled = Settled::find(&env, plan, data, &no_one, false).await?;
    settled.apply(&env, plan, data, &no_one).await
}

/// Every file, and what is in it.
fn contents(data: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => drop(found.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    found
}

#[tokio::test]
async fn a_lost_cluster_file_is_written_again_from_what_the_directories_say() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let mut plan = formatted(data).await;
    let before = contents(data);
    fs::remove_file(data.join(SECRET)).unwrap();
    // One more is away: two of three know it.
    fs::rename(data.join("metadata-2"), data.join("away")).unwrap();
    fs::write(data.join("metadata-2"), "no directory").unwrap();
    prepare(&mut plan, data).await.unwrap();
    fs::remove_file(data.join("metadata-2")).unwrap();
    fs::rename(data.join("away"), data.join("metadata-2")).unwrap();
    assert!(before == contents(data));
}

#[tokio::test]
async fn a_lost_cluster_file_is_refused_before_anything_is_changed_if_the_directories_do_not_say_what_was_in_it()
 {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let mut plan = formatted(data).await;
    fs::remove_file(data.join(SECRET)).unwrap();
    // A directory of another cluster.
    let elsewhere = tempfile::tempdir().unwrap();
    formatted(elsewhere.path()).await;
    fs::rename(data.join("chunk-1"), data.join("away")).unwrap();
    fs::rename(elsewhere.path().join("chunk-1"), data.join("chunk-1")).unwrap();
    let before = contents(data);
    let refused = prepare(&mut plan, data).await.err().unwrap().to_string();
    assert!(
        refused.contains("cluster.secret is gone") && refused.contains("Put it back"),
        "{refused}"
    );
    assert!(refused.contains("do not agree"), "{refused}");
    assert!(before == contents(data));
    // In a new data directory it is not taken for the beginning of a new namespace over old data.
    let empty = tempfile::tempdir().unwrap();
    fs::rename(data.join("chunk-1"), empty.path().join("chunk-1")).unwrap();
    let before = contents(empty.path());
    let mut new = plan.clone();
    for place in new.metadata.iter_mut().chain(&mut new.chunk) {
        place.formatted = false;
    }
    let refused = prepare(&mut new, empty.path()).await.err().unwrap().to_string();
    assert!(refused.contains("cluster.secret is gone"), "{refused}");
    assert!(before == contents(empty.path()));
}

#[tokio::test]
async fn a_directory_that_is_stuck_is_reported_and_not_waited_for() {
    let env = Env::os();
    let (stuck, end) = std::sync::mpsc::channel::<()>();
    let patience = std::time::Duration::from_millis(10);
    let looking = patiently(&env, Path::new("/d"), patience, move || end.recv().is_ok());
    let why = looking.await.unwrap_err();
    assert!(why.contains("/d does not answer"), "{why}");
    drop(stuck);
}
