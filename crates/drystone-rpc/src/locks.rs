//! The ranks of this crate's locks (700 to 799); see [`drystone_env::sync`].

use drystone_env::sync::Rank;

/// The connections of a server.
pub(crate) const CONNECTIONS: Rank = Rank::new(700, "connections of a wire server");
/// The channels of a process; held while one is looked up.
pub(crate) const CHANNELS: Rank = Rank::new(710, "channels of a process");
/// What callers and the driver of a channel share.
pub(crate) const CHANNEL: Rank = Rank::new(720, "state of a channel");
/// Which cluster and history the servers belong to.
pub(crate) const KNOWN: Rank = Rank::new(730, "cluster that channels know");
/// What a retry budget has saved.
pub(crate) const RETRIES: Rank = Rank::new(740, "retry budget");
