//! Directories that are gone although they were formatted once: a disk that was lost, not mounted, or emptied.
//!
//! A server that has lost what it held never comes back under its old id: the cluster would take it for the one that
//! has it. A chunk server starts anew under a new id, by itself; several at once only if the operator insists, since
//! directories that are empty together are rather disks that are not mounted. A metadata server joins as a learner under a new id,
//! and an operator makes it a voter in the place of the old one. A directory that is there and cannot be used stops
//! its own node only.

use super::plan::{Place, Plan};
use anyhow::bail;
use drystone_env::os::OsDisk;
use drystone_identity::{Identity, IdentityError, Role};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// What people have to know, a line each.
    pub notes: Vec<String>,
    /// Nodes that cannot start, by name, and why.
    pub unusable: BTreeMap<String, String>,
}

enum Found {
    Formatted(Identity),
    /// Nothing is there.
    Blank,
    Unusable(String),
}

/// Compares the plan with the directories, and gives new ids to the nodes whose directories are gone. Formats nothing.
/// `replace_lost`: several chunk servers at once are lost indeed.
///
/// # Errors
/// Without a majority of the metadata servers: nothing that was started could serve.
pub fn settle(plan: &mut Plan, data: &Path, replace_lost: bool) -> anyhow::Result<Lost> {
    let mut lost = Lost::default();
    let mut gone = Vec::new();
    for at in 0..plan.metadata.len() {
        let path = data.join(&plan.metadata[at].name);
        match find(&path, Role::Metadata) {
            Found::Blank if plan.metadata[at].formatted => gone.push(at),
            found => plan
                .retired
                .extend(settle_one(&mut plan.metadata[at], &path, found, &mut lost)),
        }
    }
    let missing = gone.len() + lost.unusable.len();
    if missing > 0 && 2 * missing >= plan.metadata.len() {
        let names: Vec<&str> = (gone.iter().map(|at| &*plan.metadata[*at].name))
            .chain(lost.unusable.keys().map(|name| &**name))
            .collect();
        bail!(
            "the namespace cannot be served: the directories of {} in {} are gone or cannot be used, and {} of {} \
             metadata servers are no majority. Nothing was changed. Put the directories back (is a disk not mounted?), \
             or copies of them; a lone metadata server with a damaged log is brought back by `drystone admin recover`",
            names.join(", "),
            data.display(),
            plan.metadata.len() - missing,
            plan.metadata.len()
        );
    }
    for at in gone {
        let Some(node) = plan.next_metadata_node() else {
            let name = plan.metadata[at].name.clone();
            lost.unusable.insert(
                name,
                "its directory is gone, and no node id is left for another one".to_owned(),
            );
            continue;
        };
        let place = &mut plan.metadata[at];
        let old = std::mem::replace(&mut place.node, node);
        (place.formatted, place.join) = (false, true);
        lost.notes.push(format!(
            "{}: its directory is gone. It joins as a learner under a new id, node {node}; make it a voter in the place \
             of the lost one with `drystone admin raft replace {old} {node}`",
            place.name
        ));
        plan.retired.push(old);
    }
    settle_chunk(plan, data, replace_lost, &mut lost);
    // An id that is in use again.
    let Plan { metadata, chunk, .. } = &*plan;
    let used: Vec<u64> = metadata.iter().chain(chunk).map(|place| place.node).collect();
    plan.retired.retain(|node| !used.contains(node));
    Ok(lost)
}

fn settle_chunk(plan: &mut Plan, data: &Path, replace_lost: bool, lost: &mut Lost) {
    let mut gone = Vec::new();
    for at in 0..plan.chunk.len() {
        let path = data.join(&plan.chunk[at].name);
        match find(&path, Role::Chunk) {
            Found::Blank if plan.chunk[at].formatted => gone.push(at),
            found => plan
                .retired
                .extend(settle_one(&mut plan.chunk[at], &path, found, lost)),
        }
    }
    if gone.len() > 1 && !replace_lost {
        let why = format!(
            "{} chunk directories in {} are empty or missing at the same time: are their disks not mounted? Nothing was \
             changed. End this `drystone up`, mount them and start it again; if what they held is lost, start it with \
             --replace-lost, and they start anew under new ids",
            gone.len(),
            data.display()
        );
        let names = gone.iter().map(|at| plan.chunk[*at].name.clone());
        lost.unusable.extend(names.map(|name| (name, why.clone())));
        return;
    }
    for at in gone {
        let node = plan.next_chunk_node();
        let place = &mut plan.chunk[at];
        let old = std::mem::replace(&mut place.node, node);
        place.formatted = false;
        lost.notes.push(format!(
            "{}: its directory is gone, and what it held. It starts anew under a new id, node {node}; `drystone admin \
             servers --remove {old}` ends the waiting for the old one",
            place.name
        ));
        plan.retired.push(old);
    }
}

/// The directory of a node is there, or was never formatted. Answers the id that the node no longer has, if it was
/// given one meanwhile: it is not given again.
fn settle_one(place: &mut Place, path: &Path, found: Found, lost: &mut Lost) -> Option<u64> {
    match found {
        Found::Formatted(identity) if identity.node.0 != place.node => {
            // A disk that was away came back, in the place of one that was made meanwhile.
            let newer = place.node;
            let mut line = format!(
                "{}: {} is of node {}, not of node {newer}: it starts as that",
                place.name,
                path.display(),
                identity.node,
            );
            if place.formatted {
                let _ = write!(
                    line,
                    ". WARNING: it ran as node {newer} meanwhile. What was acknowledged as node {newer} is not in this \
                     directory: if a disk was mounted, it lies beneath the mount. Keep it until nothing needs it"
                );
                if identity.role == Role::Chunk {
                    let _ = write!(
                        line,
                        ": `drystone admin servers --remove {newer}` refuses while something is stored nowhere else"
                    );
                }
            }
            lost.notes.push(line);
            (place.node, place.join) = (identity.node.0, identity.joining);
            place.formatted = true;
            return Some(newer);
        }
        Found::Formatted(_) => place.formatted = true,
        Found::Blank => {}
        Found::Unusable(why) => {
            lost.unusable.insert(place.name.clone(), why);
        }
    }
    None
}

fn find(path: &Path, role: Role) -> Found {
    let empty = || std::fs::read_dir(path).map(|mut entries| entries.next().is_none());
    match empty() {
        Ok(true) => return Found::Blank,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Found::Blank,
        Err(error) => return Found::Unusable(format!("cannot read {}: {error}", path.display())),
        Ok(false) => {}
    }
    let identity = OsDisk::new(path)
        .map_err(|error| error.to_string())
        .and_then(|disk| match drystone_identity::load(&disk) {
            // The remains of an interrupted format are completed; anything else is somebody's data.
            Err(IdentityError::NotFormatted) => Ok(None),
            Err(error) => Err(error.to_string()),
            Ok(identity) => Ok(Some(identity)),
        });
    match identity {
        Ok(Some(identity)) if identity.role == role => Found::Formatted(identity),
        Ok(Some(_)) => Found::Unusable(format!(
            "{} was formatted for another role; it is left as it is",
            path.display()
        )),
        Ok(None) => Found::Blank,
        Err(why) => Found::Unusable(format!(
            "{} cannot be used: {why}. If what it holds is lost, move it away: the node starts anew then",
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests;
