//! What the last client sees: the servers, every name, every byte, and where the namespace says that they lie.

use crate::check::replicas::{self, Expected};
use crate::content::Piece;
use crate::model::{Op, Seen};
use crate::sometimes::sometimes;
use crate::workload::{self, Work};
use drystone_client::Client;
use drystone_client::admin::{AdminOp, Member};
use drystone_env::Env;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Within this time after the faults every server is known to be alive.
const ALIVE: u32 = 30;
/// So often the last file is tried, a second apart.
const ATTEMPTS: u32 = 15;

/// Every chunk server is alive, but for those that need not be; `voters` are there and vote, and so does every other
/// metadata server that is there and that nobody has to decide about.
pub(super) async fn servers(client: &Client, env: &Env, work: &Work, excused: &[u64], voters: &[u64]) {
    let mut missing = Vec::new();
    for _ in 0..ALIVE {
        missing.clear();
        match client.status().await {
            Ok(status) => {
                let nodes = status
                    .servers
                    .into_iter()
                    .filter_map(|server| Some((server.node?.id, server.state)));
                missing.extend(nodes.filter(|(node, state)| state != "alive" && !excused.contains(node)));
                missing.extend(not_voting(&status.members, voters));
                if missing.is_empty() {
                    note_moved(&status.members, work);
                    return;
                }
            }
            Err(error) => missing.push((0, error.to_string())),
        }
        env.clock.sleep(Duration::from_secs(1)).await;
    }
    let fault = format!("servers are not alive {ALIVE} s after the faults: {missing:?}");
    work.violations.lock().expect("no panic holds it").push(fault);
}

/// Voters that are not where they were formatted to be.
fn note_moved(members: &[Member], work: &Work) {
    for voter in members {
        let formatted = work.metadata.get(voter.node as usize - 1);
        if voter.voter && formatted.is_some_and(|address| *address != voter.address) {
            sometimes("a voter counts at another address");
        }
    }
}

fn not_voting(members: &[Member], voters: &[u64]) -> Vec<(u64, String)> {
    let known = |voter: u64| members.iter().find(|member| member.node == voter);
    let learners = members.iter().filter(|member| !member.voter && member.alive);
    let learners = learners.filter(|member| !member.fenced).map(|member| member.node);
    let silent = |voter: &u64| !known(*voter).is_some_and(|member| member.voter && member.alive);
    let silent = voters.iter().copied().filter(silent);
    let all: BTreeSet<u64> = silent.chain(learners).collect();
    all.into_iter()
        .map(|node| (node, format!("{:?}", known(node))))
        .collect()
}

/// Which of these chunks, that are in no file, have a record: they belong to content that somebody staged and did not
/// publish, for as long as its lease lasts.
pub(super) async fn staged(client: Client, chunks: Vec<u64>) -> BTreeSet<u64> {
    let mut staged = BTreeSet::new();
    for chunk in chunks {
        let record = client
            .admin(AdminOp::Chunk(chunk))
            .await
            .ok()
            .and_then(|reply| reply.chunk);
        if record.is_some_and(|record| !record.is_doomed()) {
            staged.insert(chunk);
        }
    }
    staged
}

/// A file can be written, soon.
async fn write_last(client: &Client, env: &Env, work: &Work) {
    for _ in 0..ATTEMPTS {
        let write = work.writes.fetch_add(1, Ordering::Relaxed) + 1;
        let piece = Piece::whole(write, work.largest.min(100_000));
        let op = Op::Put {
            path: "last".to_owned(),
            piece,
            absent: false,
        };
        if workload::recorded(client, 0, op, work).await == Some(Seen::Done) {
            return;
        }
        sometimes("a last write was refused");
        env.clock.sleep(Duration::from_secs(1)).await;
    }
    let fault = "no file could be written after the faults".to_owned();
    work.violations.lock().expect("no panic holds it").push(fault);
}

/// Writes one file and reads the whole tree; answers the replicas that the namespace names. A file may be unreadable
/// only where the one replica of a chunk was on a disk that was damaged.
pub(super) async fn look(client: &Client, env: &Env, work: &Work, damaged: &[u64]) -> Vec<Expected> {
    write_last(client, env, work).await;
    let (mut directories, mut expected) = (vec![String::new()], Vec::new());
    while let Some(directory) = directories.pop() {
        let list = Op::List {
            path: directory.clone(),
        };
        let Some(Seen::Names(names)) = workload::recorded(client, 0, list, work).await else {
            continue;
        };
        for name in names {
            let path = if directory.is_empty() {
                name
            } else {
                format!("{directory}/{name}")
            };
            let stat = Op::Stat { path: path.clone() };
            match workload::recorded(client, 0, stat, work).await {
                Some(Seen::Kind(None)) => directories.push(path),
                Some(Seen::Kind(Some(_))) => {
                    let get = Op::Get { path: path.clone() };
                    let read = workload::recorded(client, 0, get, work).await.is_some();
                    let replicas = match client.extents(&format!("/{path}")).await {
                        Ok(layout) => workload::replicas_of(&layout),
                        Err(_) => {
                            sometimes("a layout could not be read");
                            Vec::new()
                        }
                    };
                    if !read && replicas::lost(&replicas, damaged).is_empty() {
                        let fault = format!("{path} could not be read after the faults");
                        work.violations.lock().expect("no panic holds it").push(fault);
                    }
                    expected.extend(replicas);
                }
                _ => {}
            }
        }
    }
    expected
}
