//! Failure domains of voters: inline content is in the log of each, and policies count domains, not copies.

use drystone_proto::record::NodeRecord;
use drystone_types::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// Which voters fail together: those of one host, as placement of chunks has it, so that what is configured for the
/// one holds for the other. A voter without a record counts nowhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Domains(BTreeMap<u64, usize>);

impl Domains {
    /// Those of `voters`, with the record of each.
    pub(crate) fn new<'a>(voters: &[u64], record: impl Fn(u64) -> Option<&'a NodeRecord>) -> Self {
        let mut known: Vec<(&str, &str, &str)> = Vec::new();
        let mut domains = BTreeMap::new();
        for &voter in voters {
            let Some(node) = record(voter) else { continue };
            let place = (node.zone.as_str(), node.rack.as_str(), node.host.as_str());
            let at = known.iter().position(|other| *other == place);
            let at = at.unwrap_or_else(|| {
                known.push(place);
                known.len() - 1
            });
            domains.insert(voter, at);
        }
        Self(domains)
    }

    /// In how many of them these voters are.
    pub(crate) fn count(&self, voters: impl IntoIterator<Item = NodeId>) -> u32 {
        let domains = voters.into_iter().filter_map(|voter| self.0.get(&voter.0));
        domains.collect::<BTreeSet<_>>().len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_of_one_host_are_one_domain_and_unknown_ones_are_none() {
        let node = |id: u64, rack: &str, host: &str| NodeRecord {
            id,
            rack: rack.to_owned(),
            host: host.to_owned(),
            ..NodeRecord::default()
        };
        let nodes = [
            node(1, "r1", "a"),
            node(2, "r1", "a"),
            node(3, "r1", "b"),
            node(4, "r2", "a"),
        ];
        let find = |id: u64| nodes.iter().find(|node| node.id == id);
        let domains = Domains::new(&[1, 2, 3, 4, 5], find);
        let count = |ids: &[u64]| domains.count(ids.iter().map(|id| NodeId(*id)));
        assert_eq!(count(&[1, 2]), 1, "one host");
        assert_eq!(count(&[1, 3]), 2, "two hosts of a rack");
        assert_eq!(count(&[2, 4]), 2, "equal names in two racks");
        assert_eq!(count(&[1, 2, 3, 4, 5]), 3);
        assert_eq!(count(&[5, 6]), 0);
    }
}
