//! The client library: the only public API of Drystone, and the only thing that doors use.
//!
//! Owns leader discovery, retries, idempotency sessions, the write path (chunks streamed down chains, receipts,
//! one committing command) and the read path (verified, hedged, pinned to one content version). Architecture
//! invariant: holds no state that a crash of this process could lose after an acknowledgement, and decides
//! nothing that the namespace decides (existence, permissions, preconditions).
//!
//! ```no_run
//! # async fn example(env: drystone_env::Env) -> Result<(), drystone_client::Error> {
//! use drystone_client::{Client, Options, ReadOptions, WriteOptions};
//! let client = Client::connect(env, Options::new(["127.0.0.1:9710"])).await?;
//! let published = client.put("/hello", "a dry-stone wall".into(), WriteOptions::default()).await?;
//! let reader = client.open("/hello", ReadOptions::default()).await?;
//! assert_eq!(reader.attributes().version, published.version);
//! let content = reader.read_all().await?;
//! # Ok(()) }
//! ```
//!
//! **Durability.** When [`Writer::finish`] (or [`Client::put`]) returns, the content is on stable media on as many
//! replicas as the directory's policy names ([`Published::redundancy`] says how many) and the command that makes it
//! visible is committed by a majority of voters. **Atomicity.** Every mutation is one command: readers see before or
//! after, never a mixture, also when the caller dies in the middle. **Cancellation.** Dropping a future or a
//! [`Writer`] leaves nothing half visible; a mutation whose future is dropped may still happen. **Errors.** See
//! [`ErrorKind`]: each kind says what to do next; a timeout of a mutation is [`ErrorKind::Unknown`], never "failed".
//!
//! Read [`Client`] first, then `write` and `read` (each a synchronous core and a thin asynchronous shell), then
//! `meta` for how the leader is found and commands are repeated.

pub mod admin;
mod attributes;
mod client;
mod cluster;
mod error;
mod latency;
mod locks;
mod meta;
mod metrics;
mod namespace;
mod options;
mod read;
mod requester;
mod target;
mod version;
mod waits;
mod walk;
mod write;

pub use attributes::{
    Attributes, DeleteOptions, Entry, Expect, ExtentInfo, FileLayout, Idempotency, Kind,
    MakeDirectoryOptions, MakeSymbolicLinkOptions, Page, RenameOptions, ReplicaInfo, SetAttributes,
};
pub use client::Client;
pub use error::{Error, ErrorKind, Retry};
pub use metrics::{Metrics, MetricsSnapshot};
pub use options::{Caller, Consistency, Options};
pub use read::{ReadOptions, ReadStream, Reader};
pub use target::Target;
pub use version::{ContentVersion, Precondition};
pub use waits::{Tried, Wait, Waiting, Waits};
pub use walk::{Walk, WalkEntry};
pub use write::{Published, WriteMode, WriteOptions, Writer};

pub use drystone_types::{AckPolicy, ByteCount, Code, InodeId, Policy, Since};
