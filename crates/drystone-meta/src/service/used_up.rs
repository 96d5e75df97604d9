//! Ids that no node can have any more.

use drystone_proto::record::{NodeRecord, role};
use std::collections::BTreeSet;

/// Ids that a status names.
const MAX_USED_UP: usize = 1_000;

/// Ids of recorded nodes that are neither chunk servers nor members any more, in order: the highest [`MAX_USED_UP`] of them.
pub(super) fn used_up<'a>(nodes: impl Iterator<Item = &'a NodeRecord>, members: &BTreeSet<u64>) -> Vec<u64> {
    let is_former =
        |node: &&NodeRecord| node.removed || node.roles & role::CHUNK == 0 && !members.contains(&node.id);
    let mut ids: Vec<u64> = nodes.filter(is_former).map(|node| node.id).collect();
    ids.sort_unstable();
    ids.split_off(ids.len().saturating_sub(MAX_USED_UP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_former_nodes_are_named_up_to_a_bound() {
        let node = |id, roles, removed| NodeRecord {
            id,
            roles,
            removed,
            ..NodeRecord::default()
        };
        let nodes = [
            node(1, role::METADATA, false),
            // Replaced by 1.
            node(2, role::METADATA, false),
            node(21, role::CHUNK, false),
            node(22, role::CHUNK, true),
            node(40, role::CHUNK, true),
        ];
        let members = BTreeSet::from([1]);
        assert_eq!(used_up(nodes.iter(), &members), [2, 22, 40]);
        let many: Vec<_> = (1..=3_000).map(|id| node(id, role::CHUNK, true)).collect();
        let named: Vec<u64> = (2_001..=3_000).collect();
        assert_eq!(used_up(many.iter(), &members), named);
    }
}
