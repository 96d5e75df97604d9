//! Reading: pinned to one content version, verified, hedged, in order, in bounded memory.
//!
//! [`piece`] is the synchronous core of one read over its replicas, [`locate`] knows where bytes are, [`fetch`] runs
//! a piece, [`stream`] keeps several under way, [`suspects`] remembers who failed, [`shared`] what the readers of a
//! process share, [`open_file`] what a look-up found.

mod fetch;
mod locate;
mod open_file;
mod options;
mod piece;
mod reader;
mod shared;
mod stream;
mod suspects;

pub use options::ReadOptions;
pub use reader::Reader;
pub(crate) use reader::{open, written};
pub(crate) use shared::{ReadContext, ReadShared};
pub use stream::ReadStream;
