//! Writing: chunks streamed down chains in parallel, then one command that makes the content visible.
//!
//! In this order: [`buffer`] is what may have to be sent again, [`suspects`] what becomes of servers that failed,
//! [`chunk`] the synchronous core of one stretch. [`grants`] fetches chunks to write to, [`policies`] how redundant
//! they must be, [`shared`] is what the writers of a process share. [`run`] is the shell around the core
//! ([`trouble_wait`] says what it waits for), [`parts`] what it has sealed, [`holes`] what is not stored of it, [`sealed`] keeps that until it is published, [`writer`] cuts the stream, [`publish`] makes it visible,
//! [`convert_inline`] moves a file out of the metadata when bytes in chunks are added to it, [`written`] knows where the
//! sealed bytes are, in case they have to be written again ([`write_again`]). What was begun and is not published is given
//! up ([`abandon`]).

mod abandon;
mod buffer;
mod chunk;
mod convert_inline;
mod grants;
mod holes;
mod options;
mod parts;
mod policies;
mod publish;
mod run;
mod sealed;
mod shared;
mod suspects;
mod trouble_wait;
mod write_again;
mod writer;
mod written;

pub use options::{Published, WriteMode, WriteOptions};
pub(crate) use shared::{WriteContext, WriteShared};
pub use writer::Writer;
