//! `drystone admin recover` and `admin adopt`: what is left of a lone metadata server, in a new history.
//!
//! The work on the metadata server's directory is drystone-meta's. Here is what else belongs to a history: the
//! directories of chunk servers and the cluster file. In a directory of `drystone up` all of them are found and
//! changed together; elsewhere `adopt` is run where they are.

use crate::exit::UsageError;
use crate::format::ClusterFile;
use crate::output::say;
use crate::up::Tree;
use anyhow::{Context, bail};
use drystone_env::os::{LockedDirectory, OsDisk, lock_directory, random_bytes};
use drystone_identity::Identity;
use drystone_meta::recover::{RecoverError, Recovery, Survey};
use drystone_types::{ClusterId, HistoryId};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The whole command.
pub fn run(data: &Path, dry_run: bool, as_json: bool) -> anyhow::Result<()> {
    let data = data
        .canonicalize()
        .with_context(|| format!("cannot find {}", data.display()))?;
    let tree = Tree::load(&data)?;
    // Nothing of a cluster on this machine may run meanwhile.
    let _locks = match &tree {
        Some(tree) => lock_all(std::iter::once(&data).chain(&tree.chunk))?,
        None => Vec::new(),
    };
    let metadata = match &tree {
        None => data.clone(),
        Some(tree) => match tree.metadata.as_slice() {
            [one] => one.clone(),
            several => bail!(UsageError(format!(
                "this cluster has {} metadata servers: while a majority of them is well nothing is to be recovered, and \
                 a damaged one is replaced (`drystone admin raft replace`)",
                several.len()
            ))),
        },
    };
    let recovery = Recovery::open(&metadata).map_err(usage)?;
    if let Some(survey) = recovery.survey() {
        if as_json {
            say(format_args!("{}", in_json(survey, dry_run)));
        } else {
            print(survey, dry_run);
        }
    } else if !as_json {
        say("an interrupted recovery goes on");
    }
    if dry_run {
        return Ok(());
    }
    let mut drawn = [0; 16];
    random_bytes(&mut drawn);
    let history = recovery.stage(HistoryId(drawn))?;
    recovery.switch(history)?;
    let cluster = recovery.identity().cluster;
    if let Some(tree) = &tree {
        for directory in &tree.chunk {
            adopt_directory(directory, cluster, history)?;
        }
        adopt_cluster_file(&tree.secret, cluster, history)?;
    }
    let old = recovery.old_place();
    recovery.finish()?;
    if !as_json {
        print_end(history, &old, &metadata, tree.is_some());
    }
    Ok(())
}

fn usage(error: RecoverError) -> anyhow::Error {
    match error {
        RecoverError::Intact | RecoverError::NotAlone { .. } => UsageError(error.to_string()).into(),
        other => other.into(),
    }
}

fn lock_all<'a>(directories: impl Iterator<Item = &'a PathBuf>) -> anyhow::Result<Vec<LockedDirectory>> {
    directories
        .map(|path| {
            lock_directory(path).with_context(|| format!("stop the cluster on {} first", path.display()))
        })
        .collect()
}

fn time(survey: &Survey) -> String {
    match survey.restored_time {
        0 => "an unknown time".to_owned(),
        micros => drystone_gateway::time::rfc3339(micros),
    }
}

fn print(survey: &Survey, dry_run: bool) {
    let (verb, loses) = if dry_run {
        ("would be restored", "would be lost")
    } else {
        ("restored", "lost")
    };
    if !survey.log_fault.is_empty() {
        say(format_args!("damage: {}", survey.log_fault));
    }
    for refused in &survey.refused {
        say(format_args!("not used: {refused}"));
    }
    say(format_args!(
        "{verb}: everything up to log index {} of {}, from {} (index {}) and {} log entries behind it",
        survey.restored,
        time(survey),
        survey.base,
        survey.base_index,
        survey.restored - survey.base_index
    ));
    let lost = &survey.lost;
    if lost.is_nothing() {
        say(format_args!("{loses}: nothing is known to be"));
    } else if lost.entries == 0 {
        say(format_args!(
            "{loses}: what was in a file of the log that is gone; nothing tells how much"
        ));
    } else {
        say(format_args!(
            "{loses}: {} log entries from index {} on; {} of them are intact but stand on what is missing",
            lost.entries,
            survey.restored + 1,
            lost.intact
        ));
    }
    for place in &lost.places {
        say(format_args!("  {place}"));
    }
    if let Some(tail) = &lost.tail {
        say(format_args!(
            "  the end of the log, {tail}: a write that nobody was told of, or damage; nothing tells which"
        ));
    }
}

fn in_json(survey: &Survey, dry_run: bool) -> serde_json::Value {
    json!({
        "dry_run": dry_run,
        "restored_index": survey.restored,
        "restored_time": (survey.restored_time > 0).then(|| time(survey)),
        "base": survey.base,
        "base_index": survey.base_index,
        "not_used": survey.refused,
        "log_fault": survey.log_fault,
        "lost": {
            "entries": survey.lost.entries,
            "intact": survey.lost.intact,
            "places": survey.lost.places,
            "more": survey.lost.more,
            "tail": survey.lost.tail,
        },
    })
}

fn print_end(history: HistoryId, old: &Path, metadata: &Path, is_tree: bool) {
    say(format_args!("new history: {history}"));
    say(format_args!(
        "what was there before is in {}; remove it when nobody needs it",
        old.display()
    ));
    if is_tree {
        say("the chunk servers in this directory belong to the new history; start it with `drystone up`");
    } else {
        say(format_args!(
            "on every node of the cluster run `drystone admin adopt {history} DIRECTORY...` for each directory of a \
             chunk server and for the cluster file, then start {}",
            metadata.display()
        ));
    }
    say(
        "no replica is deleted in the new history until you say so: look whether files are missing, then run \
         `drystone admin release-deletion`",
    );
}

/// `admin adopt`: directories of chunk servers, and cluster files.
pub fn adopt(history: &str, paths: &[PathBuf]) -> anyhow::Result<()> {
    let history = HistoryId::from_hex(history)
        .filter(|history| *history != HistoryId::default())
        .ok_or_else(|| {
            UsageError(format!(
                "{history} is no history id: it has 32 hexadecimal digits"
            ))
        })?;
    for path in paths {
        if path.is_dir() {
            let _lock = lock_all(std::iter::once(path))?;
            let disk = OsDisk::new(path)?;
            let cluster = drystone_identity::load(&disk)
                .with_context(|| path.display().to_string())?
                .cluster;
            adopt_directory(path, cluster, history)?;
        } else {
            let file = ClusterFile::load(path)?;
            let cluster =
                ClusterId::from_hex(&file.cluster).context("the cluster file's cluster id is malformed")?;
            adopt_cluster_file(path, cluster, history)?;
        }
        say(format_args!("{} belongs to history {history}", path.display()));
    }
    Ok(())
}

fn adopt_directory(path: &Path, cluster: ClusterId, history: HistoryId) -> anyhow::Result<()> {
    let context = || format!("cannot give {} its new history", path.display());
    let disk = OsDisk::new(path).with_context(context)?;
    let identity = drystone_identity::load(&disk).with_context(context)?;
    if identity.cluster != cluster {
        bail!(
            "{} belongs to cluster {}, not {cluster}",
            path.display(),
            identity.cluster
        );
    }
    if identity.role == drystone_identity::Role::Metadata {
        bail!(UsageError(format!(
            "{} is a metadata server's: only `admin recover` gives it another history",
            path.display()
        )));
    }
    Identity::adopt_history(&disk, history).with_context(context)?;
    Ok(())
}

fn adopt_cluster_file(path: &Path, cluster: ClusterId, history: HistoryId) -> anyhow::Result<()> {
    let mut file = ClusterFile::load(path)?;
    if ClusterId::from_hex(&file.cluster) != Some(cluster) {
        bail!("{} is of cluster {}, not {cluster}", path.display(), file.cluster);
    }
    file.history = history.to_string();
    file.replace(path)
}
