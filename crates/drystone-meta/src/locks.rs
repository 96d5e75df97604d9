//! Ranks of the locks of a metadata server: whoever holds one takes only locks further down in this table.
//!
//! | lock | held over |
//! |---|---|
//! | [`FLUSHING`] | a batch on its way to the store, or the exchange of the state for a snapshot |
//! | [`STATE`] | apply of a round of entries; a read of the namespace |
//! | [`OFFICE`] | work on a leader's soft state; may be taken while the state is read, never before it |
//! | [`DRAWS`] | random numbers of placement |
//! | [`PROCESSES`], [`PEERS`] | what is known of other metadata servers |
//! | [`APPLIED`], [`READS`] | waiting readers |
//! | [`ARRIVING`], [`MADE`], [`SENDING`] | snapshots on their way |
//! | [`FAILURE`] | why the server stopped: anybody may fail it, whatever else is held |

use drystone_env::sync::Rank;

pub(crate) const FLUSHING: Rank = Rank::new(410, "meta flushing");
pub(crate) const STATE: Rank = Rank::new(420, "meta state");
pub(crate) const OFFICE: Rank = Rank::new(430, "meta office");
pub(crate) const DRAWS: Rank = Rank::new(435, "meta placement draws");
pub(crate) const PROCESSES: Rank = Rank::new(440, "meta processes");
pub(crate) const PEERS: Rank = Rank::new(445, "meta peers");
pub(crate) const APPLIED: Rank = Rank::new(450, "meta applied index");
pub(crate) const READS: Rank = Rank::new(455, "meta read queue");
pub(crate) const ARRIVING: Rank = Rank::new(460, "meta arriving snapshots");
pub(crate) const MADE: Rank = Rank::new(465, "meta made snapshot");
pub(crate) const SENDING: Rank = Rank::new(470, "meta snapshots sent");
pub(crate) const FAILURE: Rank = Rank::new(490, "meta failure");
