//! Everybody who takes part in a run.

use crate::clients::Clients;
use crate::cluster::Cluster;
use crate::operator::Operator;

/// See the module.
pub struct Run {
    /// The servers.
    pub cluster: Cluster,
    /// Who works with files.
    pub clients: Clients,
    /// Who changes the cluster.
    pub operator: Operator,
}
