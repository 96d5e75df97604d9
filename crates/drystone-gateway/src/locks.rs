//! The ranks of this crate's locks (100 to 199); see [`drystone_env::sync`].

use drystone_env::sync::Rank;

/// The connections of an HTTP server.
pub(crate) const CONNECTIONS: Rank = Rank::new(100, "connections of an HTTP server");
