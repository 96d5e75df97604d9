//! Chunk servers that die, pause, come back and lose answers, all drawn from a seed.

use crate::write::buffer::StretchFrame;
use crate::write::chunk::{
    ChainFrame, ChainMember, ChunkInput, ChunkOutput, ChunkWrite, GrantedChunk, Note, SealedPart, Sign,
    StretchLimits, Trouble,
};
use crate::write::suspects::{SuspectStanding, Suspects};
use drystone_env::{Monotonic, Rng, SeededRng};
use drystone_proto::command::Receipt;
use drystone_proto::data::{AppendReply, ChunkStatus, HopState, ReplicaState};
use drystone_proto::record::{PolicyRecord, ReplicaRecord};
use drystone_types::{Code, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) const SECOND: u64 = 1_000_000;
pub(super) const REPLICAS: u32 = 3;

#[derive(Default)]
pub(super) struct Replica {
    pub(super) data: Vec<u8>,
    pub(super) durable: usize,
    pub(super) sealed: bool,
}

#[derive(Default)]
pub(super) struct Server {
    pub(super) dead: bool,
    pub(super) paused_until: u64,
    pub(super) replicas: BTreeMap<u64, Replica>,
}

pub(super) struct World {
    pub(super) rng: SeededRng,
    pub(super) now: u64,
    pub(super) servers: Vec<Server>,
    pub(super) minimum: u32,
    pub(super) next_chunk: u64,
    pub(super) queue: BTreeMap<(u64, u64), Event>,
    pub(super) queued: u64,
    pub(super) cancelled_below: u64,
    // Appends reach the first member in order.
    pub(super) append_at: u64,
    pub(super) notes: BTreeSet<Note>,
    pub(super) released: u64,
    // When each chunk was granted; its servers refuse it once it is older than `life`.
    pub(super) granted: BTreeMap<u64, u64>,
    pub(super) life: u64,
    pub(super) blamed: usize,
    pub(super) parts: Vec<SealedPart>,
    // Only the newest wish counts, as in the shell.
    pub(super) wake: Option<u64>,
    // Those of the whole process.
    pub(super) suspects: Suspects,
    // A server that gives signs of life and takes no bytes.
    pub(super) hung: Option<usize>,
    // Copies that such a server was asked to take.
    pub(super) spoiled: usize,
}

#[allow(clippy::large_enum_variant, reason = "a test keeps few of them")]
pub(super) enum Event {
    // `u64`: when it was asked, to honour cancellation.
    Deliver(ChunkOutput),
    Answer(ChunkInput, u64),
    Feed(ChunkInput),
    Probe(NodeId),
    Kill(usize),
    Revive(usize),
    Pause(usize, u64),
}

pub(super) fn replica(node: usize) -> ReplicaRecord {
    ReplicaRecord {
        disk: node as u64,
        incarnation: 7,
        placement: 1,
    }
}

pub(super) fn trouble(code: Code) -> Trouble {
    Trouble::new(code, "simulated")
}

impl World {
    pub(super) fn new(rng: SeededRng, servers: usize, minimum: u32, life: u64) -> Self {
        Self {
            rng,
            now: 0,
            servers: (0..servers).map(|_| Server::default()).collect(),
            minimum,
            next_chunk: 0,
            queue: BTreeMap::new(),
            queued: 0,
            cancelled_below: 0,
            append_at: 0,
            notes: BTreeSet::new(),
            released: 0,
            granted: BTreeMap::new(),
            life,
            blamed: 0,
            parts: Vec::new(),
            wake: None,
            suspects: Suspects::default(),
            hung: None,
            spoiled: 0,
        }
    }

    pub(super) fn push(&mut self, at: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    pub(super) fn answers(&self, node: usize) -> bool {
        !self.servers[node].dead && self.servers[node].paused_until <= self.now
    }

    pub(super) fn policy(&self) -> PolicyRecord {
        PolicyRecord {
            replicas: REPLICAS,
            ack: 0,
            degraded_minimum: self.minimum,
            chunk_bytes: 64 << 20,
        }
    }

    pub(super) fn grant(&mut self, avoid: &[NodeId]) -> GrantedChunk {
        let mut nodes: Vec<usize> = (0..self.servers.len()).collect();
        for at in (1..nodes.len()).rev() {
            nodes.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
        nodes.sort_by_key(|node| avoid.contains(&NodeId(*node as u64)));
        nodes.truncate(REPLICAS as usize);
        self.next_chunk += 1;
        self.granted.insert(self.next_chunk, self.now);
        self.grant_on(self.next_chunk, &nodes)
    }

    pub(super) fn grant_on(&self, chunk: u64, nodes: &[usize]) -> GrantedChunk {
        let member = |&node: &usize| ChainMember {
            replica: replica(node),
            node: NodeId(node as u64),
            address: format!("s{node}"),
        };
        GrantedChunk {
            chunk,
            token: bytes::Bytes::new(),
            epoch: 1,
            capacity: 64 << 20,
            members: nodes.iter().map(member).collect(),
            policy: self.policy(),
            asked_at: Monotonic(self.granted[&chunk]),
            life: Duration::from_micros(self.life),
        }
    }

    pub(super) fn expired(&self, chunk: u64) -> bool {
        self.now >= self.granted[&chunk] + self.life
    }

    pub(super) fn receipt(&mut self, node: usize, chunk: u64, length: usize) -> Result<Receipt, Trouble> {
        if self.expired(chunk) {
            return Err(trouble(Code::GrantExpired));
        }
        let replica_of = self.servers[node]
            .replicas
            .get_mut(&chunk)
            .ok_or_else(|| trouble(Code::NotFound))?;
        if !replica_of.sealed {
            if length > replica_of.data.len() {
                return Err(trouble(Code::Conflict));
            }
            replica_of.data.truncate(length);
            (replica_of.sealed, replica_of.durable) = (true, length);
        }
        let receipt = Receipt {
            chunk,
            epoch: 1,
            length: replica_of.data.len() as u64,
            checksum: crc32c::crc32c(&replica_of.data),
            replica: Some(replica(node)),
            signature: bytes::Bytes::new(),
        };
        if receipt.length != length as u64 {
            return Err(Trouble {
                receipt: Some(Box::new(receipt)),
                ..trouble(Code::Conflict)
            });
        }
        Ok(receipt)
    }

    /// The whole chain at once: each hop stores what it can, the first silent one is blamed.
    pub(super) fn append(&mut self, send: &ChainFrame) -> AppendReply {
        let mut hops = Vec::new();
        for &at in send.chain.iter() {
            let node = send.grant.members[at].node.0 as usize;
            let mut hop = HopState {
                replica: Some(replica(node)),
                ..HopState::default()
            };
            if self.hung == Some(node) {
                break;
            }
            if !self.answers(node) {
                hop.code = Code::Unavailable.number();
                hops.push(hop);
                break;
            }
            if self.expired(send.grant.chunk) {
                hop.code = Code::GrantExpired.number();
                hops.push(hop);
                break;
            }
            let kept = self.servers[node].replicas.entry(send.grant.chunk).or_default();
            if kept.sealed || kept.data.len() as u64 != send.offset {
                hop.code = Code::Conflict.number();
                hops.push(hop);
                break;
            }
            kept.data.extend_from_slice(&send.frame.data);
            if send.sync {
                kept.durable = kept.data.len();
            }
            (hop.received, hop.durable) = (kept.data.len() as u64, kept.durable as u64);
            let length = kept.data.len();
            if let Some(sum) = send.last {
                assert_eq!(
                    sum,
                    crc32c::crc32c(&kept.data),
                    "the writer's checksum is that of the bytes it sent"
                );
                hop.receipt = self.receipt(node, send.grant.chunk, length).ok();
            }
            hops.push(hop);
        }
        AppendReply { hops }
    }

    /// A request arrives; gives its answer and how long a silent receiver lets the caller wait.
    pub(super) fn handle(&mut self, output: ChunkOutput) -> Option<(ChunkInput, u64)> {
        let silent = trouble(Code::Unknown);
        Some(match output {
            ChunkOutput::Grant { step, avoid, .. } => (
                ChunkInput::Granted {
                    step,
                    result: Ok(self.grant(&avoid)),
                },
                0,
            ),
            ChunkOutput::Append { step, position, send } => {
                let first = send.grant.members[send.chain[0]].node.0 as usize;
                let dead = self.servers[first].dead;
                let hung = |at: &usize| self.hung == Some(send.grant.members[*at].node.0 as usize);
                let stuck = send.chain.iter().any(hung);
                let answer = if self.answers(first) {
                    let reply = self.append(&send);
                    if stuck { Err(silent) } else { Ok(reply) }
                } else {
                    Err(silent)
                };
                let wait = if answer.is_ok() || dead { 0 } else { 30 * SECOND };
                (
                    ChunkInput::Appended {
                        step,
                        position,
                        result: answer,
                    },
                    wait,
                )
            }
            ChunkOutput::Status {
                probe,
                member,
                chunk,
                to,
            } => {
                let node = to.node.0 as usize;
                let kept = self.servers[node].replicas.get(&chunk);
                let status = kept.map_or(ChunkStatus::default(), |kept| ChunkStatus {
                    state: if kept.sealed {
                        ReplicaState::Sealed
                    } else {
                        ReplicaState::Open
                    } as i32,
                    received: kept.data.len() as u64,
                    durable: kept.durable as u64,
                    ..ChunkStatus::default()
                });
                let answers = self.answers(node);
                let result = if answers { Ok(status) } else { Err(silent) };
                (
                    ChunkInput::Status {
                        probe,
                        member,
                        result,
                    },
                    if answers { 0 } else { SECOND },
                )
            }
            ChunkOutput::Finish {
                step,
                member,
                grant,
                length,
                to,
            } => {
                let answers = self.answers(to.node.0 as usize);
                let result = match answers {
                    true => self.receipt(to.node.0 as usize, grant.chunk, length as usize),
                    false => Err(silent),
                };
                (
                    ChunkInput::Finished { step, member, result },
                    if answers { 0 } else { 10 * SECOND },
                )
            }
            ChunkOutput::Replace {
                step,
                grant,
                have,
                avoid,
            } => {
                let free = |node: &usize| !have.iter().any(|replica| replica.disk == *node as u64);
                let mut nodes: Vec<usize> = (0..self.servers.len()).filter(free).collect();
                nodes.sort_by_key(|node| avoid.contains(&NodeId(*node as u64)));
                nodes.truncate(1);
                let result = match nodes.is_empty() {
                    true => Err(trouble(Code::NotEnoughDomains)),
                    false => Ok(self.grant_on(grant.chunk, &nodes)),
                };
                (ChunkInput::Replacement { step, result }, 0)
            }
            ChunkOutput::Ask { step, to, .. } => {
                let (standing, node) = (self.suspects.standing(to.node, Monotonic(self.now)), to.node);
                let server = &self.servers[node.0 as usize];
                let pause = server.paused_until.saturating_sub(self.now);
                let (sign, wait) = match standing {
                    SuspectStanding::Away { probe } => {
                        if probe {
                            self.push(self.now + 500, Event::Probe(node));
                        }
                        (Sign::Away, 0)
                    }
                    SuspectStanding::Ask if server.dead => (Sign::Silent, 0),
                    // It answers when it goes on.
                    SuspectStanding::Ask if pause < SECOND => (Sign::Here, pause),
                    SuspectStanding::Ask => (Sign::Silent, SECOND),
                };
                if standing == SuspectStanding::Ask {
                    self.suspects
                        .heard(node, Monotonic(self.now + wait), sign == Sign::Here);
                }
                (ChunkInput::Asked { step, sign }, wait)
            }
            ChunkOutput::Copy {
                step,
                grant,
                length,
                from,
                to,
                brief,
                ..
            } => {
                let (from, to) = (from.node.0 as usize, to.node.0 as usize);
                let hung = self.hung == Some(to);
                self.spoiled += usize::from(hung);
                let answers = self.answers(from) && self.answers(to) && !hung;
                let result = match answers {
                    true => {
                        let data = self.servers[from].replicas[&grant.chunk].data[..length as usize].to_vec();
                        let copy = Replica {
                            durable: data.len(),
                            data,
                            sealed: false,
                        };
                        self.servers[to].replicas.insert(grant.chunk, copy);
                        self.receipt(to, grant.chunk, length as usize)
                    }
                    false => Err(silent),
                };
                let wait = if brief { 3 * SECOND } else { 10 * SECOND };
                (
                    ChunkInput::Copied { step, result },
                    if answers { 0 } else { wait },
                )
            }
            _ => return None,
        })
    }

    /// One server at a time is down, for good or for a while.
    pub(super) fn disturb(&mut self, rng: &mut SeededRng, faults: u64, calm: u64, span: u64) {
        let (mut fault_at, servers) = (0, self.servers.len() as u64);
        for _ in 0..faults {
            fault_at += rng.below(span);
            let (node, lasts) = (rng.below(servers) as usize, rng.below(4 * SECOND));
            if rng.chance(1, 2) {
                self.push(fault_at, Event::Kill(node));
                self.push(fault_at + lasts, Event::Revive(node));
            } else {
                self.push(fault_at, Event::Pause(node, fault_at + lasts));
            }
            fault_at = if calm == 0 { 0 } else { fault_at + lasts + calm };
        }
    }

    pub(super) fn fault(&mut self, event: &Event) {
        match event {
            Event::Kill(node) => {
                let server = &mut self.servers[*node];
                server.dead = true;
                for replica in server.replicas.values_mut() {
                    replica.data.truncate(replica.durable);
                }
            }
            Event::Revive(node) => self.servers[*node].dead = false,
            Event::Probe(node) => {
                let sign = self.answers(node.0 as usize);
                self.suspects.heard(*node, Monotonic(self.now), sign);
            }
            Event::Pause(node, until) => self.servers[*node].paused_until = *until,
            _ => {}
        }
    }

    pub(super) fn take_outputs(
        &mut self,
        out: &mut Vec<ChunkOutput>,
    ) -> Option<Result<Vec<SealedPart>, Trouble>> {
        self.wake = None;
        for output in out.drain(..) {
            match output {
                ChunkOutput::Cancel => self.cancelled_below = self.queued,
                ChunkOutput::Wake(at) => {
                    self.wake = Some(
                        self.wake
                            .map_or(at.0, |before| before.min(at.0))
                            .max(self.now + 1),
                    )
                }
                ChunkOutput::Release(bytes) => self.released += bytes,
                ChunkOutput::Note(note) => {
                    self.notes.insert(note);
                }
                ChunkOutput::Blamed(node) => {
                    self.blamed += 1;
                    self.suspects.blamed(node, Monotonic(self.now));
                }
                ChunkOutput::Trusted(node) => self.suspects.trusted(node),
                ChunkOutput::Spoiled(node) => self.suspects.spoiled(node, Monotonic(self.now)),
                ChunkOutput::Sealed(part) => {
                    let age = self.now - self.granted[&part.chunk.chunk];
                    assert!(
                        age < self.life,
                        "a part is sealed while it can still be committed"
                    );
                    self.parts.push(part);
                }
                ChunkOutput::Done => return Some(Ok(std::mem::take(&mut self.parts))),
                ChunkOutput::Failed(trouble) => return Some(Err(trouble)),
                request => {
                    let mut at = self.now + 50 + self.rng.below(2_000);
                    if matches!(request, ChunkOutput::Append { .. }) {
                        at = at.max(self.append_at + 1);
                        self.append_at = at;
                    }
                    self.push(at, Event::Deliver(request));
                }
            }
        }
        None
    }
}

/// What a run did, for comparison and for coverage.
type Ending = (Result<Vec<SealedPart>, Trouble>, BTreeSet<Note>, u64);

/// `calm`: how long after one fault the next may come; 0: they overlap.
pub(super) fn run(seed: u64, servers: usize, minimum: u32, faults: u64, calm: u64) -> Ending {
    let mut rng = SeededRng::new(seed);
    let frames = 1 + rng.below(40);
    let data: Vec<u8> = (0..frames * 8192 - rng.below(4000))
        .map(|_| rng.next_u64() as u8)
        .collect();
    let mut world = World::new(rng.split("world"), servers, minimum, 3_600 * SECOND);
    let mut at = 0;
    for part in data.chunks(8192) {
        let pause = if rng.chance(1, 20) { SECOND } else { 3_000 };
        at += rng.below(pause);
        world.push(
            at,
            Event::Feed(ChunkInput::Frame(StretchFrame::new(
                bytes::Bytes::copy_from_slice(part),
            ))),
        );
        if rng.chance(1, 10) {
            world.push(at, Event::Feed(ChunkInput::Flush));
        }
    }
    at += if rng.chance(1, 3) { SECOND } else { 0 };
    world.push(at, Event::Feed(ChunkInput::End));
    world.disturb(&mut rng, faults, calm, at + 20_000);
    let limits = StretchLimits {
        window: 4,
        sync_every: 40_000,
        patience: Duration::from_secs(60),
    };
    let ending = drive(&mut world, limits, &data);
    (ending, world.notes, world.now)
}

/// A source that gives a little now and then, for many times as long as a grant lives.
pub(super) fn run_slowly(seed: u64, life: u64, faults: u64) -> (Result<Vec<SealedPart>, Trouble>, World) {
    let mut rng = SeededRng::new(seed);
    let mut data = vec![0; 8192 * (5 + rng.below(40) as usize)];
    rng.fill(&mut data);
    let mut world = World::new(rng.split("world"), 4, REPLICAS, life);
    let mut at = 0;
    for part in data.chunks(8192) {
        // Sometimes it is silent for longer than any grant lives.
        let pause = if rng.chance(1, 10) { life * 3 } else { life / 6 };
        at += rng.below(pause);
        world.push(
            at,
            Event::Feed(ChunkInput::Frame(StretchFrame::new(
                bytes::Bytes::copy_from_slice(part),
            ))),
        );
    }
    at += rng.below(life * 2);
    world.push(at, Event::Feed(ChunkInput::End));
    world.disturb(&mut rng, faults, SECOND, at / faults.max(1));
    let limits = StretchLimits {
        window: 4,
        sync_every: 40_000,
        patience: Duration::from_secs(60),
    };
    let ending = drive(&mut world, limits, &data);
    (ending, world)
}

pub(super) fn drive(
    world: &mut World,
    limits: StretchLimits,
    data: &[u8],
) -> Result<Vec<SealedPart>, Trouble> {
    let suspects = world.suspects.nodes(Monotonic(world.now));
    let mut core = ChunkWrite::new(limits, world.policy(), suspects);
    let (mut out, mut steps) = (Vec::new(), 0);
    loop {
        steps += 1;
        assert!(steps < 200_000, "no end in sight");
        let next = world.queue.first_key_value().map(|(&(at, _), _)| at);
        if let Some(wake) = world.wake.filter(|wake| next.is_none_or(|next| *wake < next)) {
            world.now = wake;
            core.on(Monotonic(wake), ChunkInput::Tick, &mut out);
            if let Some(ending) = world.take_outputs(&mut out) {
                return ending.inspect(|parts| check(world, parts, data));
            }
            continue;
        }
        let Some(((at, number), event)) = world.queue.pop_first() else {
            panic!("nothing will happen any more")
        };
        world.now = at;
        let input = match event {
            Event::Deliver(output) => {
                // What is cancelled before it is sent never arrives; half of it was sent already.
                if number <= world.cancelled_below && world.rng.chance(1, 2) {
                    continue;
                }
                if let Some((input, wait)) = world.handle(output) {
                    let after = wait.max(50 + world.rng.below(500));
                    let at = world.now + after;
                    world.push(at, Event::Answer(input, number));
                }
                continue;
            }
            Event::Answer(_, asked) if asked <= world.cancelled_below => continue,
            Event::Answer(input, _) | Event::Feed(input) => input,
            fault => {
                world.fault(&fault);
                continue;
            }
        };
        core.on(Monotonic(world.now), input, &mut out);
        if let Some(ending) = world.take_outputs(&mut out) {
            assert!(core.is_over());
            if let Ok(parts) = &ending {
                check(world, parts, data);
            }
            return ending;
        }
    }
}

/// Every part is sealed on the replicas whose receipts it brings, and together they are the stream.
pub(super) fn check(world: &World, parts: &[SealedPart], data: &[u8]) {
    let mut at = 0;
    for part in parts {
        let expected = &data[at..at + part.length as usize];
        assert!(
            part.chunk.receipts.len() as u32 >= world.minimum,
            "fewer receipts than the policy demands"
        );
        let disks: BTreeSet<u64> = part
            .chunk
            .receipts
            .iter()
            .filter_map(|of| of.replica.map(|of| of.disk))
            .collect();
        assert_eq!(disks.len(), part.chunk.receipts.len(), "a disk counts once");
        for disk in disks {
            let kept = &world.servers[disk as usize].replicas[&part.chunk.chunk];
            assert!(kept.sealed && kept.durable == kept.data.len() && kept.data == expected);
        }
        at += part.length as usize;
    }
    assert_eq!(at, data.len());
    assert_eq!(
        world.released,
        data.len() as u64,
        "every byte gives its budget back, once"
    );
}
