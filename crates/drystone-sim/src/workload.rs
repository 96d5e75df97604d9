//! Clients that do what users do, on few names so that they meet, and write down what they were told.

use crate::check::replicas::Expected;
use crate::check::witness::Witness;
use crate::content::{Piece, digest};
use crate::history::History;
use crate::model::{Op, Seen};
use crate::sometimes::sometimes;
use bytes::Bytes;
use drystone_client::{
    Client, DeleteOptions, Error, ErrorKind, FileLayout, MakeDirectoryOptions, Options, Precondition,
    Published, ReadOptions, RenameOptions, WriteMode, WriteOptions,
};
use drystone_env::sim::World;
use drystone_env::{Env, Rng, SeededRng};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What the clients share.
#[derive(Clone)]
pub struct Work {
    /// The world.
    pub world: World,
    /// What was done.
    pub history: History,
    /// `host:port` of the metadata servers.
    pub metadata: Vec<String>,
    /// Numbers of writes.
    pub writes: Arc<AtomicU32>,
    /// Least redundancy that an acknowledged write may have.
    pub least_redundancy: u32,
    /// What is acknowledged is on disks, not only in memory.
    pub on_disk: bool,
    /// Names in one page of a listing.
    pub page: u32,
    /// Bytes that one write has at most.
    pub largest: u32,
    /// Looks at the disks when something is acknowledged.
    pub witness: Witness,
    /// What must not be: told at the end.
    pub violations: Arc<Mutex<Vec<String>>>,
}

const NAMES: &[&str] = &["a", "b", "c", "d"];

fn path(rng: &mut SeededRng) -> String {
    let name = |rng: &mut SeededRng| NAMES[rng.below(NAMES.len() as u64) as usize];
    match rng.below(10) {
        0..4 => name(rng).to_owned(),
        4..9 => format!("{}/{}", name(rng), name(rng)),
        _ => format!("{}/{}/{}", name(rng), name(rng), name(rng)),
    }
}

fn length(rng: &mut SeededRng, largest: u32) -> u32 {
    let most = match rng.below(10) {
        0 => 1,
        1..4 => 4 << 10,
        4..7 => 64 << 10,
        _ => 300 << 10,
    };
    rng.below(u64::from(largest).min(most)) as u32
}

/// What a client does next: with `looks` it changes nothing.
pub fn choose(rng: &mut SeededRng, work: &Work, looks: bool) -> Op {
    let piece = |rng: &mut SeededRng| {
        let length = length(rng, work.largest);
        Piece::whole(work.writes.fetch_add(1, Ordering::Relaxed) + 1, length)
    };
    match rng.below(if looks { 33 } else { 100 }) + if looks { 67 } else { 0 } {
        0..25 => Op::Put {
            path: path(rng),
            piece: piece(rng),
            absent: rng.chance(1, 4),
        },
        25..35 => Op::Append {
            path: path(rng),
            piece: piece(rng),
        },
        35..40 => Op::Range {
            path: path(rng),
            offset: rng.below(100 << 10),
            piece: piece(rng),
        },
        40..50 => Op::MakeDirectory { path: path(rng) },
        50..57 => Op::Delete {
            path: path(rng),
            recursive: rng.chance(1, 3),
        },
        57..67 => Op::Rename {
            from: path(rng),
            to: path(rng),
            overwrite: rng.chance(1, 2),
        },
        67..90 => Op::Get { path: path(rng) },
        90..95 => Op::List {
            path: if rng.chance(1, 2) {
                String::new()
            } else {
                path(rng)
            },
        },
        _ => Op::Stat { path: path(rng) },
    }
}

/// What was acknowledged is as redundant as the policy and the answer say.
async fn acknowledged(client: &Client, path: &str, published: &Published, work: &Work) {
    if published.redundancy == 0 {
        return;
    }
    let fault = |fault: String| work.violations.lock().expect("no panic holds it").push(fault);
    if published.redundancy < work.least_redundancy {
        fault(format!(
            "{path} was acknowledged with {} replicas",
            published.redundancy
        ));
    }
    if !work.on_disk {
        return;
    }
    let Some(copies) = work.witness.look() else { return };
    let Ok(layout) = client.extents(path).await else {
        return;
    };
    if layout.attributes.content_version() != published.content_version() {
        return;
    }
    let expected = replicas_of(&layout);
    sometimes("acknowledged content looked at");
    for lacking in work.witness.lacking(&copies, &expected, work.least_redundancy) {
        fault(format!("{path}: {lacking}"));
    }
}

/// Where the namespace says that a file's bytes lie.
pub fn replicas_of(layout: &FileLayout) -> Vec<Expected> {
    let mut expected = Vec::new();
    for extent in &layout.extents {
        expected.extend(extent.replicas.iter().map(|replica| Expected {
            chunk: extent.chunk,
            disk: replica.disk,
            length: extent.chunk_length,
            checksum: extent.checksum,
        }));
    }
    expected.sort_unstable();
    expected.dedup();
    expected
}

/// Does `op` and answers as the model would.
pub async fn perform(client: &Client, op: &Op, work: &Work) -> Result<Seen, Error> {
    let absolute = |path: &str| format!("/{path}");
    let publish = |path: &str, piece: Piece, options: WriteOptions| {
        let (client, path) = (client.clone(), absolute(path));
        async move {
            let moved = client.metrics().snapshot().inline_moved;
            let published = client.put(&path, piece.bytes(), options).await?;
            if client.metrics().snapshot().inline_moved > moved {
                sometimes("tiny content moved to a chunk");
            }
            acknowledged(&client, &path, &published, work).await;
            Ok(Seen::Done)
        }
    };
    let mode = |mode| WriteOptions {
        mode,
        ..WriteOptions::default()
    };
    match op {
        Op::Put { path, piece, absent } => {
            let options = WriteOptions {
                precondition: if *absent {
                    Precondition::absent()
                } else {
                    Precondition::default()
                },
                ..WriteOptions::default()
            };
            publish(path, *piece, options).await
        }
        Op::Append { path, piece } => publish(path, *piece, mode(WriteMode::Append)).await,
        Op::Range { path, offset, piece } => publish(path, *piece, mode(WriteMode::Range(*offset))).await,
        Op::MakeDirectory { path } => {
            client
                .make_directory(&absolute(path), MakeDirectoryOptions::default())
                .await?;
            Ok(Seen::Done)
        }
        Op::Delete { path, recursive } => {
            let options = DeleteOptions {
                recursive: *recursive,
                ..DeleteOptions::default()
            };
            client.delete(&absolute(path), options).await?;
            Ok(Seen::Done)
        }
        Op::Rename { from, to, overwrite } => {
            let options = RenameOptions {
                overwrite: *overwrite,
                ..RenameOptions::default()
            };
            client.rename(&absolute(from), &absolute(to), options).await?;
            Ok(Seen::Done)
        }
        Op::Get { path } => {
            let bytes: Bytes = client
                .open(&absolute(path), ReadOptions::default())
                .await?
                .read_all()
                .await?;
            Ok(Seen::Content(digest(&bytes)))
        }
        Op::List { path } => {
            let (mut names, mut after) = (Vec::new(), String::new());
            loop {
                let page = client.list(&absolute(path), &after, work.page).await?;
                names.extend(page.entries.into_iter().map(|entry| entry.name));
                match page.next {
                    Some(next) => after = next,
                    None => return Ok(Seen::Names(names)),
                }
            }
        }
        Op::Stat { path } => {
            let attributes = client.stat(&absolute(path)).await?;
            Ok(Seen::Kind(
                (!attributes.is_directory()).then_some(attributes.size),
            ))
        }
    }
}

/// Does `op` and writes it down.
pub async fn recorded(client: &Client, id: u32, op: Op, work: &Work) -> Option<Seen> {
    let call = work.history.begin(id, op.clone(), work.world.now().0);
    let answer = perform(client, &op, work).await;
    let now = work.world.now().0;
    match answer {
        Ok(seen) => {
            work.history.end(call, now, seen.clone());
            Some(seen)
        }
        Err(error) => match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::Exists
            | ErrorKind::NotEmpty
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::Invalid
            | ErrorKind::Range => {
                let seen = Seen::Refused(error.kind());
                work.history.end(call, now, seen.clone());
                Some(seen)
            }
            // The way in which a creation says that the name is taken.
            ErrorKind::PreconditionFailed => {
                let seen = Seen::Refused(ErrorKind::Exists);
                work.history.end(call, now, seen.clone());
                Some(seen)
            }
            ErrorKind::Unknown => {
                sometimes("answer unknown");
                None
            }
            // Nothing was done, and nothing is said about the state.
            ErrorKind::Busy
            | ErrorKind::Unavailable
            | ErrorKind::NotEnoughDomains
            | ErrorKind::NoSpace
            | ErrorKind::Changed => {
                sometimes(&format!("answer {}", error.kind()));
                work.history.forget(call);
                None
            }
            // Where one replica is enough it may have been that of the one server that garbles.
            ErrorKind::Corrupt if work.least_redundancy == 1 => {
                sometimes("answer corrupt");
                work.history.forget(call);
                None
            }
            _ => {
                let fault = format!("client {id} {op:?}: {error}");
                work.violations.lock().expect("no panic holds it").push(fault);
                work.history.forget(call);
                None
            }
        },
    }
}

/// A client of the cluster; asks until it gets in, each time another server first, as somebody would who sees that the
/// one he named is dark.
pub async fn connect(env: &Env, work: &Work, deadline: Duration) -> Client {
    let mut metadata = work.metadata.clone();
    loop {
        let options = Options {
            deadline,
            session_ttl: Duration::from_secs(120),
            ..Options::new(metadata.clone())
        };
        if let Ok(client) = Client::connect(env.clone(), options).await {
            return client;
        }
        metadata.rotate_left(1);
        env.clock.sleep(Duration::from_millis(200)).await;
    }
}
