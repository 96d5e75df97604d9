//! The order in which this crate takes its locks; see [`drystone_env::sync`]. None is held over a call.

use drystone_env::sync::Rank;

pub(crate) const SERVERS: Rank = Rank::new(210, "the known metadata servers");
pub(crate) const CLUSTER_INFO: Rank = Rank::new(212, "what is known of the cluster");
pub(crate) const RANDOM: Rank = Rank::new(214, "the random numbers of calls");
pub(crate) const SESSION: Rank = Rank::new(216, "the session");
pub(crate) const GRANTS: Rank = Rank::new(220, "the kinds of cached grants");
pub(crate) const POLICIES: Rank = Rank::new(222, "the cached policies");
pub(crate) const WRITERS: Rank = Rank::new(218, "the writers that have begun chunks");
pub(crate) const BEGUN: Rank = Rank::new(223, "the chunks that a writer began");
pub(crate) const WRITE_SUSPECTS: Rank = Rank::new(224, "servers that failed a write");
pub(crate) const READ_SUSPECTS: Rank = Rank::new(230, "servers that failed a read");
pub(crate) const REPORTED: Rank = Rank::new(232, "replicas whose damage was reported");
pub(crate) const LATENCY: Rank = Rank::new(240, "durations of requests");
pub(crate) const HEDGES: Rank = Rank::new(242, "the budget of second reads");
pub(crate) const WAITS: Rank = Rank::new(250, "what is waited for");
