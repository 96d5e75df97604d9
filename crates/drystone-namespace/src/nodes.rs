//! Nodes and disks: who may join under which id, and what an operator decided about them.
//!
//! # One counter on several disks
//! A node takes the highest boot counter of the disks that it can read at a start, plus one, and writes it to all of
//! them before it registers. So a disk of a boot that is recorded here has counted that boot. A start at or below
//! the recorded counter **with** one of the recorded disks is an old process, a copied disk or one that was set back:
//! it is refused, and at the same counter it is a clone for certain. A start **without** any of them proves nothing:
//! its disks may have missed boots while a cable was off ([`may_have_missed_boots`]). It is refused too, but nobody
//! is fenced for it, and it may come back with a boot above the recorded one, which it counts on its disks first.
//! Who lets it know the counter makes sure that the recorded process is silent.

use crate::key::{above, numbers, table};
use crate::limits::{MAX_DISKS, MAX_LABEL_BYTES, MAX_NODE_RECORDS, MAX_NODES};
use crate::namespace::{Context, Namespace};
use crate::records::{corrupt, decode_slice};
use crate::refusal::{ReadError, Refusal, refuse};
use crate::store::{Order, OrderedStore, StoreError, View};
use drystone_proto::command::{Outcome, RegisterNode, UpdateNode};
use drystone_proto::record::{DiskRecord, NodeRecord};
use drystone_types::{Code, NodeId};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// All nodes, decoded, and which of them holds a disk. The tables hold the same.
#[derive(Clone, Default)]
pub(crate) struct Nodes {
    by_id: BTreeMap<u64, NodeRecord>,
    /// How many of them were not removed.
    living: usize,
    /// Disk -> (incarnation, node).
    disks: BTreeMap<u64, (u64, u64)>,
}

impl Nodes {
    pub(crate) fn load(store: &dyn View) -> Result<Self, StoreError> {
        let mut nodes = Self::default();
        let mut fault = None;
        store.scan(
            &[table::NODE],
            &[table::NODE + 1],
            Order::Up,
            &mut |key, value| match decode_slice::<NodeRecord>(key, value) {
                Ok(node) => match nodes.insert(node) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(other) => {
                        let held = format!("one that node {other} holds");
                        fault = Some(corrupt(key, "a node with disks of its own", held));
                        ControlFlow::Break(())
                    }
                },
                Err(error) => {
                    fault = Some(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        fault.map_or(Ok(nodes), Err)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &NodeRecord> {
        self.by_id.values()
    }

    pub(crate) fn get(&self, id: u64) -> Option<&NodeRecord> {
        self.by_id.get(&id)
    }

    pub(crate) fn of_disk(&self, disk: u64, incarnation: u64) -> Option<&NodeRecord> {
        let (held, node) = self.disks.get(&disk)?;
        if *held == incarnation {
            self.by_id.get(node)
        } else {
            None
        }
    }

    /// In the place of what was there under its id; the node that holds one of its disks, if another one does.
    fn insert(&mut self, node: NodeRecord) -> Result<(), u64> {
        self.remove(node.id);
        for disk in &node.disks {
            let before = self.disks.insert(disk.id, (disk.incarnation, node.id));
            if let Some((_, other)) = before {
                return Err(other);
            }
        }
        self.living += usize::from(!node.removed);
        self.by_id.insert(node.id, node);
        Ok(())
    }

    fn remove(&mut self, id: u64) {
        if let Some(node) = self.by_id.remove(&id) {
            self.living -= usize::from(!node.removed);
            for disk in node.disks {
                self.disks.remove(&disk.id);
            }
        }
    }
}

/// The boot counter that `node` has to exceed, if its boot is refused beside `known` although it may be an honest
/// start on disks that missed some boots: none of them is a disk of the recorded boot.
pub fn may_have_missed_boots(known: &NodeRecord, node: &NodeRecord) -> Option<u64> {
    let is_same = (known.boot_counter, known.boot_random) == (node.boot_counter, node.boot_random);
    let is_refused = node.boot_counter <= known.boot_counter && !is_same;
    let is_recorded = |disk: &DiskRecord| {
        let mut recorded = known.disks.iter();
        recorded.any(|other| (other.id, other.incarnation) == (disk.id, disk.incarnation))
    };
    let may = is_refused
        && (known.id, known.incarnation) == (node.id, node.incarnation)
        && !known.fenced
        && !node.disks.is_empty()
        && !node.disks.iter().any(is_recorded);
    may.then_some(known.boot_counter)
}

/// Why a node is refused while its removal is being decided.
pub fn removing(node: NodeId) -> String {
    format!(
        "node {node} is being removed from the cluster: it waits until that is decided (if it was given up in the middle, an \
         operator decides with `drystone admin servers --remove {node}` or `--release {node}`)"
    )
}

/// Why a node that was removed is refused.
pub fn removed(node: NodeId) -> String {
    format!("node {node} was removed from the cluster: format its directories anew, under a new id")
}

fn check_record(node: &NodeRecord) -> Result<(), ReadError> {
    if node.id == 0 || node.incarnation == 0 {
        return refuse(Code::Invalid, "a node has an id and an incarnation");
    }
    let labels = [
        &node.name,
        &node.address,
        &node.admin,
        &node.rack,
        &node.zone,
        &node.host,
    ];
    if labels.iter().any(|label| label.len() > MAX_LABEL_BYTES) {
        return refuse(
            Code::TooLarge,
            format!("a label of a node has at most {MAX_LABEL_BYTES} bytes"),
        );
    }
    if node.disks.len() > MAX_DISKS || node.disks.iter().any(|disk| disk.path.len() > 4096) {
        return refuse(
            Code::TooLarge,
            format!("a node has at most {MAX_DISKS} disks, with paths to 4096 bytes"),
        );
    }
    let mut ids: Vec<u64> = node.disks.iter().map(|disk| disk.id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != node.disks.len() || ids.first() == Some(&0) {
        return refuse(Code::Invalid, "disks have distinct ids above 0");
    }
    Ok(())
}

impl<S: OrderedStore> Namespace<S> {
    fn put_node(&mut self, cx: &Context, mut node: NodeRecord) {
        node.since = cx.since;
        self.tables.put(numbers(table::NODE, [node.id]), &node);
        let inserted = Arc::make_mut(&mut self.nodes).insert(node);
        assert_eq!(inserted, Ok(()), "a disk is held by one node");
    }

    /// Adds or updates a node.
    ///
    /// A lower boot counter is an old process or a clone and is refused; one counter with two randoms on the disks
    /// recorded is a clone for certain: the node is fenced, which stays although the command is refused.
    pub(crate) fn register_node(
        &mut self,
        cx: &Context,
        command: &RegisterNode,
    ) -> Result<Outcome, ReadError> {
        let Some(mut node) = command.node.clone() else {
            return refuse(Code::Invalid, "the command names no node");
        };
        check_record(&node)?;
        for disk in &node.disks {
            if let Some(&(_, holder)) = self.nodes.disks.get(&disk.id)
                && holder != node.id
            {
                return refuse(
                    Code::Stranger,
                    format!("disk {} is held by node {holder}", disk.id),
                );
            }
        }
        let before = self.nodes.get(node.id).cloned();
        let Some(before) = before else {
            if self.nodes.living >= MAX_NODES {
                return refuse(Code::TooLarge, format!("there are {MAX_NODES} nodes already"));
            }
            if self.nodes.by_id.len() >= MAX_NODE_RECORDS {
                let detail = format!("there were {MAX_NODE_RECORDS} nodes: no more ids are recorded");
                return refuse(Code::TooLarge, detail);
            }
            (node.draining, node.fenced, node.removed) = (false, false, false);
            node.removing = false;
            self.put_node(cx, node);
            return Ok(Outcome {
                created: true,
                ..Outcome::default()
            });
        };
        if before.removed {
            return refuse(Code::Stranger, removed(NodeId(node.id)));
        }
        if before.incarnation != node.incarnation {
            return refuse(
                Code::Stranger,
                format!("node {} was formatted anew: it needs a new id", node.id),
            );
        }
        if node.boot_counter < before.boot_counter {
            let detail = format!(
                "boot {} of node {} is over, {} was seen",
                node.boot_counter, node.id, before.boot_counter
            );
            return refuse(Code::Stranger, detail);
        }
        if before.removing {
            return refuse(Code::Busy, removing(NodeId(node.id)));
        }
        if before.fenced {
            return refuse(
                Code::Stranger,
                format!("node {} is fenced until an operator decides", node.id),
            );
        }
        if may_have_missed_boots(&before, &node).is_some() {
            let detail = format!(
                "boot {} of node {} was taken by another process, on other disks",
                node.boot_counter, node.id
            );
            return refuse(Code::Stranger, detail);
        }
        if node.boot_counter == before.boot_counter && node.boot_random != before.boot_random {
            let detail = format!(
                "two processes run as node {}: it is fenced until an operator decides",
                node.id
            );
            self.put_node(
                cx,
                NodeRecord {
                    fenced: true,
                    ..before
                },
            );
            return Ok(Refusal::new(Code::Stranger, detail).outcome());
        }
        (node.draining, node.fenced, node.since) = (before.draining, before.fenced, before.since);
        (node.removed, node.removing) = (false, false);
        node.voter |= before.voter;
        if node != before {
            self.put_node(cx, node);
        }
        Ok(Outcome::default())
    }

    /// An operator's decision.
    pub(crate) fn update_node(&mut self, cx: &Context, command: &UpdateNode) -> Result<Outcome, ReadError> {
        let Some(node) = self.nodes.get(command.node) else {
            return refuse(Code::NotFound, format!("there is no node {}", command.node));
        };
        let mut node = node.clone();
        if command.if_since.is_some_and(|since| since != node.since) {
            return refuse(Code::Conflict, format!("node {} was changed meanwhile", node.id));
        }
        if command.remove {
            for disk in node.disks.iter().filter(|_| !command.with_replicas) {
                let first = numbers(table::REPLICA, [disk.id, disk.incarnation]);
                if self
                    .tables
                    .first(first.as_slice(), &above(first.as_slice()), Order::Up)?
                    .is_some()
                {
                    let detail = format!(
                        "disk {} of node {} holds replicas: drain it first",
                        disk.id, node.id
                    );
                    return refuse(Code::NotEmpty, detail);
                }
            }
            // The record stays: the id is not given again, and whoever comes with it is told why it is refused.
            (node.removed, node.fenced, node.removing) = (true, true, false);
            node.disks.clear();
            self.put_node(cx, node);
            return Ok(Outcome::default());
        }
        if node.removed {
            return refuse(Code::NotFound, format!("node {} was removed", node.id));
        }
        node.draining = command.draining.unwrap_or(node.draining);
        if let Some(fenced) = command.fenced {
            let was_removing = if node.fenced {
                node.removing
            } else {
                command.removing
            };
            (node.fenced, node.removing) = (fenced, fenced && was_removing);
        }
        node.voter = command.voter.unwrap_or(node.voter);
        self.put_node(cx, node);
        Ok(Outcome::default())
    }
}
