//! What is done before nodes start: their directories are looked at, lost ones get new ids, new ones are formatted.
//!
//! Everything that can refuse comes before anything is changed.

use super::look::{Found, Looks, PATIENCE, look, patiently};
use super::lost::{Seen, settle};
use super::plan::Plan;
use super::{SECRET, Started};
use crate::format::{ClusterFile, format_node};
use crate::node::config::NodeConfig;
use crate::output::note;
use anyhow::{Context, bail};
use drystone_env::Env;
use drystone_identity::{Identity, Role};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A plan that goes with the directories. Nothing is changed yet.
pub struct Settled {
    plan: Plan,
    file: ClusterFile,
    is_file_new: bool,
    unusable: BTreeMap<String, String>,
    notes: Vec<String>,
    /// Nodes that run, although nothing is left of their directories: they have to end before they start anew.
    pub robbed: Vec<String>,
}

/// The nodes of a plan, ready to be started.
pub struct Prepared {
    /// All of them, metadata servers first, the gateway last.
    pub nodes: Vec<NodeConfig>,
    /// Those that cannot start, by name, and why.
    pub unusable: BTreeMap<String, String>,
    /// What people have to know.
    pub notes: Vec<String>,
}

impl Settled {
    /// Looks into the directories of the plan, and changes nothing. `running`: the nodes that run.
    ///
    /// # Errors
    /// There is no majority of metadata servers, or the cluster file is lost and cannot be made again.
    pub async fn find(
        env: &Env,
        plan: &Plan,
        data: &Path,
        running: &BTreeSet<String>,
        replace_lost: bool,
    ) -> anyhow::Result<Self> {
        let looks = look(env, plan, data).await;
        let seen = Seen {
            data,
            looks: &looks,
            running,
            replace_lost,
        };
        let mut settled = plan.clone();
        let mut lost = settle(&mut settled, &seen)?;
        let path = data.join(SECRET);
        let (file, is_file_new) = match path.try_exists() {
            Ok(false) => (cluster_file(plan, data, &looks, &mut lost.notes)?, true),
            // A fault shows when it is read.
            _ => (ClusterFile::load(&path)?, false),
        };
        let nodes = (plan.metadata.iter().chain(&plan.chunk))
            .zip(settled.metadata.iter().chain(&settled.chunk))
            .filter(|(old, new)| old.node != new.node && running.contains(&old.name));
        Ok(Self {
            robbed: nodes.map(|(_, new)| new.name.clone()).collect(),
            plan: settled,
            file,
            is_file_new,
            unusable: lost.unusable,
            notes: lost.notes,
        })
    }

    /// Keeps the plan, and formats what is new or lost. `running`: the nodes that run now.
    ///
    /// # Errors
    /// There is no majority of metadata servers, or the plan cannot be kept.
    pub async fn apply(
        self,
        env: &Env,
        plan: &mut Plan,
        data: &Path,
        running: &BTreeSet<String>,
    ) -> anyhow::Result<Prepared> {
        for line in &self.notes {
            note(format_args!("drystone: {line}"));
        }
        // New ids are kept before anything is formatted under them.
        self.plan.save(data)?;
        *plan = self.plan;
        if self.is_file_new {
            self.file.create(&data.join(SECRET))?;
        }
        let nodes = plan.nodes(data);
        let mut unusable = self.unusable;
        let todo = nodes
            .iter()
            .filter(|node| !unusable.contains_key(&node.name) && !running.contains(&node.name));
        let formats = todo.map(|node| {
            let (config, file) = (node.clone(), self.file.clone());
            let path = data.join(&node.name);
            async move {
                let done = patiently(env, &path, PATIENCE, move || format_node(&config, &file)).await;
                let fault = match done {
                    Ok(Ok(_)) => return None,
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(why) => why,
                };
                Some((node.name.clone(), fault))
            }
        });
        let faults = join_all(formats).await;
        unusable.extend(faults.into_iter().flatten());
        plan.note_formatted(|name| !unusable.contains_key(name));
        plan.save(data)?;
        let prepared = Prepared {
            nodes,
            unusable,
            notes: self.notes,
        };
        if !plan.has_majority(|name| !prepared.unusable.contains_key(name)) {
            bail!(
                "too few metadata servers can start: {}",
                prepared.faults().join("; ")
            );
        }
        Ok(prepared)
    }
}

impl Prepared {
    /// The nodes that can be started.
    pub fn usable(&self) -> impl Iterator<Item = &NodeConfig> {
        self.nodes
            .iter()
            .filter(|node| !self.unusable.contains_key(&node.name))
    }

    /// Why others cannot.
    pub fn faults(&self) -> Vec<String> {
        let faults = self.unusable.iter();
        faults
            .map(|(name, why)| format!("node {name} cannot start: {why}"))
            .collect()
    }

    /// The beginning of an answer about what is started: what cannot be.
    pub fn started(&self) -> Started {
        Started {
            names: Vec::new(),
            faults: self.faults(),
            notes: self.notes.clone(),
        }
    }
}

/// The cluster file in the place of one that is gone: a new one for a new cluster, else what the directories say.
fn cluster_file(
    plan: &Plan,
    data: &Path,
    looks: &Looks,
    notes: &mut Vec<String>,
) -> anyhow::Result<ClusterFile> {
    let identities: BTreeMap<&str, &Identity> = looks
        .iter()
        .filter_map(|(name, look)| match &look.found {
            Found::Formatted(identity) => Some((&**name, &**identity)),
            _ => None,
        })
        .collect();
    let was_formatted = (plan.metadata.iter().chain(&plan.chunk)).any(|place| place.formatted);
    if identities.is_empty() && !was_formatted {
        return Ok(ClusterFile::draw(&plan.voters()));
    }
    let path = data.join(SECRET);
    let what_to_do = format!(
        "{} is gone, and without it nothing can be told from the directories of another cluster. Nothing was changed. \
         Put it back from a copy (a node of this cluster on another machine has one); to begin a new cluster, name \
         another --data",
        path.display()
    );
    let mut voters = identities
        .values()
        .filter(|identity| identity.role == Role::Metadata);
    // A new one would make strangers of all of them, and one directory alone may have come from elsewhere.
    let first = voters.next().with_context(|| what_to_do.clone())?;
    if (1 + voters.count()) * 2 <= plan.metadata.len() {
        bail!(what_to_do);
    }
    for (name, identity) in &identities {
        let same = |a: &Identity, b: &Identity| {
            (a.cluster, a.history, a.key.0) == (b.cluster, b.history, b.key.0) && a.voters == b.voters
        };
        if !same(first, identity) {
            bail!("{what_to_do}. (The directories do not agree on what was in it: {name} differs)");
        }
    }
    notes.push(format!(
        "{} was gone: it is written again from what the directories of its {} nodes say",
        path.display(),
        identities.len()
    ));
    Ok(ClusterFile::of(first))
}

#[cfg(test)]
mod tests;
