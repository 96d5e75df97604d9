//! Which metadata server to ask: a synchronous core.

use drystone_proto::cluster::ClusterInfo;

/// Known metadata servers and who is believed to lead. Followers forward, so a wrong belief costs a hop, no more.
#[derive(Clone, Debug)]
pub(crate) struct MetaServers {
    configured: Vec<String>,
    addresses: Vec<String>,
    believed: usize,
}

/// More servers than any cluster has voters and learners: a bound against nonsense in answers.
const MAX_SERVERS: usize = 64;

impl MetaServers {
    /// At first only the configured ones are known. The first to be asked is the one at `first`, which is drawn, so
    /// that one that is dark does not stop every process that has little time.
    pub(crate) fn new(configured: &[String], first: u64) -> Self {
        Self {
            configured: configured.to_vec(),
            addresses: configured.to_vec(),
            believed: (first % configured.len().max(1) as u64) as usize,
        }
    }

    /// Whom to ask next.
    pub(crate) fn target(&self) -> String {
        self.addresses.get(self.believed).cloned().unwrap_or_default()
    }

    /// `address` did not help: the next one is asked, unless somebody has moved on already.
    pub(crate) fn failed(&mut self, address: &str) -> bool {
        let same = self
            .addresses
            .get(self.believed)
            .is_some_and(|believed| believed == address);
        if same && !self.addresses.is_empty() {
            self.believed = (self.believed + 1) % self.addresses.len();
        }
        same
    }

    /// `address` says that `leader` (empty: somebody else) leads.
    pub(crate) fn redirected(&mut self, address: &str, leader: &str) -> bool {
        if leader.is_empty() || leader == address {
            return self.failed(address);
        }
        let found = self.addresses.iter().position(|known| known == leader);
        let at = found.unwrap_or_else(|| {
            self.addresses.truncate(MAX_SERVERS - 1);
            self.addresses.push(leader.to_owned());
            self.addresses.len() - 1
        });
        let moved = self.believed != at;
        self.believed = at;
        moved
    }

    /// What a server tells of the cluster: its members replace what was known; the configured ones stay as a last
    /// resort.
    pub(crate) fn learned(&mut self, info: &ClusterInfo) {
        let believed = self.target();
        let members = info.members.iter().filter(|member| !member.address.is_empty());
        let mut addresses: Vec<String> = members.clone().map(|member| member.address.clone()).collect();
        addresses.truncate(MAX_SERVERS / 2);
        for address in &self.configured {
            if !addresses.contains(address) && addresses.len() < MAX_SERVERS {
                addresses.push(address.clone());
            }
        }
        let leader = members
            .clone()
            .find(|member| member.node == info.leader)
            .map(|member| &member.address);
        let wanted = leader.unwrap_or(&believed);
        self.believed = addresses
            .iter()
            .position(|address| address == wanted)
            .unwrap_or(0);
        self.addresses = addresses;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_proto::cluster::Member;

    fn servers(names: &[&str]) -> MetaServers {
        MetaServers::new(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), 0)
    }

    #[test]
    fn a_failure_moves_on_once_however_many_report_it() {
        let mut servers = servers(&["a", "b", "c"]);
        assert!(servers.failed("a"));
        assert!(!servers.failed("a"));
        assert_eq!(servers.target(), "b");
    }

    #[test]
    fn any_server_may_be_the_first() {
        let names = ["a".to_owned(), "b".to_owned()];
        assert_eq!(MetaServers::new(&names, 7).target(), "b");
        assert_eq!(MetaServers::new(&[], 7).target(), "");
    }

    #[test]
    fn a_hint_is_followed_even_to_an_unknown_address() {
        let mut servers = servers(&["a", "b"]);
        assert!(servers.redirected("a", "z"));
        assert_eq!(servers.target(), "z");
        assert!(servers.redirected("z", ""));
        assert_eq!(servers.target(), "a");
    }

    #[test]
    fn members_are_learned_and_the_configured_ones_stay() {
        let mut servers = servers(&["front:1"]);
        let member = |node, address: &str| Member {
            node,
            address: address.into(),
            ..Member::default()
        };
        let members = vec![member(1, "a"), member(2, "b")];
        servers.learned(&ClusterInfo {
            leader: 2,
            members,
            ..ClusterInfo::default()
        });
        assert_eq!(servers.target(), "b");
        servers.failed("b");
        assert_eq!(servers.target(), "front:1");
    }
}
