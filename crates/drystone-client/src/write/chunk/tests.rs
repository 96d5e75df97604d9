//! The core against a seeded world of chunk servers that die, pause, come back and lose answers.

use super::super::doubts::{Doubts, Standing};
use super::*;
use drystone_env::{Rng, SeededRng};
use drystone_proto::data::HopState;

const SECOND: u64 = 1_000_000;
const REPLICAS: u32 = 3;

#[derive(Default)]
struct Replica {
    data: Vec<u8>,
    durable: usize,
    sealed: bool,
}

#[derive(Default)]
struct Server {
    dead: bool,
    paused_until: u64,
    replicas: BTreeMap<u64, Replica>,
}

struct World {
    rng: SeededRng,
    now: u64,
    servers: Vec<Server>,
    minimum: u32,
    next_chunk: u64,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    cancelled_below: u64,
    // Appends reach the first member in order.
    append_at: u64,
    notes: BTreeSet<Note>,
    released: u64,
    // When each chunk was granted; its servers refuse it once it is older than `life`.
    granted: BTreeMap<u64, u64>,
    life: u64,
    blamed: usize,
    parts: Vec<Part>,
    // Only the newest wish counts, as in the shell.
    wake: Option<u64>,
    // Those of the whole process.
    doubts: Doubts,
    // A server that gives signs of life and takes no bytes.
    hung: Option<usize>,
    // Copies that such a server was asked to take.
    spoiled: usize,
}

#[allow(clippy::large_enum_variant, reason = "a test keeps few of them")]
enum Event {
    // `u64`: when it was asked, to honour cancellation.
    Deliver(Output),
    Answer(Input, u64),
    Feed(Input),
    Probe(u64),
    Kill(usize),
    Revive(usize),
    Pause(usize, u64),
}

fn replica(node: usize) -> ReplicaRecord {
    ReplicaRecord {
        disk: node as u64,
        incarnation: 7,
        placement: 1,
    }
}

fn trouble(code: Code) -> Trouble {
    Trouble::new(code, "simulated")
}

impl World {
    fn new(rng: SeededRng, servers: usize, minimum: u32, life: u64) -> Self {
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
            doubts: Doubts::default(),
            hung: None,
            spoiled: 0,
        }
    }

    fn push(&mut self, at: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    fn answers(&self, node: usize) -> bool {
        !self.servers[node].dead && self.servers[node].paused_until <= self.now
    }

    fn policy(&self) -> PolicyRecord {
        PolicyRecord {
            replicas: REPLICAS,
            ack: 0,
            degraded_minimum: self.minimum,
            chunk_bytes: 64 << 20,
        }
    }

    fn grant(&mut self, avoid: &[u64]) -> Grant {
        let mut nodes: Vec<usize> = (0..self.servers.len()).collect();
        for at in (1..nodes.len()).rev() {
            nodes.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
        nodes.sort_by_key(|node| avoid.contains(&(*node as u64)));
        nodes.truncate(REPLICAS as usize);
        self.next_chunk += 1;
        self.granted.insert(self.next_chunk, self.now);
        self.grant_on(self.next_chunk, &nodes)
    }

    fn grant_on(&self, chunk: u64, nodes: &[usize]) -> Grant {
        let member = |&node: &usize| Member {
            replica: replica(node),
            node: node as u64,
            address: format!("s{node}"),
        };
        Grant {
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

    fn expired(&self, chunk: u64) -> bool {
        self.now >= self.granted[&chunk] + self.life
    }

    fn receipt(&mut self, node: usize, chunk: u64, length: usize) -> Result<Receipt, Trouble> {
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
    fn append(&mut self, send: &Send) -> AppendReply {
        let mut hops = Vec::new();
        for &at in &send.chain {
            let node = send.grant.members[at].node as usize;
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
    fn handle(&mut self, output: Output) -> Option<(Input, u64)> {
        let silent = trouble(Code::Unknown);
        Some(match output {
            Output::Grant { step, avoid, .. } => (
                Input::Granted {
                    step,
                    result: Ok(self.grant(&avoid)),
                },
                0,
            ),
            Output::Append { step, position, send } => {
                let first = send.grant.members[send.chain[0]].node as usize;
                let dead = self.servers[first].dead;
                let hung = |at: &usize| self.hung == Some(send.grant.members[*at].node as usize);
                let stuck = send.chain.iter().any(hung);
                let answer = if self.answers(first) {
                    let reply = self.append(&send);
                    if stuck { Err(silent) } else { Ok(reply) }
                } else {
                    Err(silent)
                };
                let wait = if answer.is_ok() || dead { 0 } else { 30 * SECOND };
                (
                    Input::Appended {
                        step,
                        position,
                        result: answer,
                    },
                    wait,
                )
            }
            Output::Status {
                probe,
                member,
                chunk,
                to,
            } => {
                let node = to.node as usize;
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
                    Input::Status {
                        probe,
                        member,
                        result,
                    },
                    if answers { 0 } else { SECOND },
                )
            }
            Output::Finish {
                step,
                member,
                grant,
                length,
                to,
            } => {
                let answers = self.answers(to.node as usize);
                let result = match answers {
                    true => self.receipt(to.node as usize, grant.chunk, length as usize),
                    false => Err(silent),
                };
                (
                    Input::Finished { step, member, result },
                    if answers { 0 } else { 10 * SECOND },
                )
            }
            Output::Replace {
                step,
                grant,
                have,
                avoid,
            } => {
                let free = |node: &usize| !have.iter().any(|replica| replica.disk == *node as u64);
                let mut nodes: Vec<usize> = (0..self.servers.len()).filter(free).collect();
                nodes.sort_by_key(|node| avoid.contains(&(*node as u64)));
                nodes.truncate(1);
                let result = match nodes.is_empty() {
                    true => Err(trouble(Code::NotEnoughDomains)),
                    false => Ok(self.grant_on(grant.chunk, &nodes)),
                };
                (Input::Replacement { step, result }, 0)
            }
            Output::Ask { step, to, .. } => {
                let (standing, node) = (self.doubts.standing(to.node, Monotonic(self.now)), to.node);
                let server = &self.servers[node as usize];
                let pause = server.paused_until.saturating_sub(self.now);
                let (sign, wait) = match standing {
                    Standing::Away { probe } => {
                        if probe {
                            self.push(self.now + 500, Event::Probe(node));
                        }
                        (Sign::Away, 0)
                    }
                    Standing::Ask if server.dead => (Sign::Silent, 0),
                    // It answers when it goes on.
                    Standing::Ask if pause < SECOND => (Sign::Here, pause),
                    Standing::Ask => (Sign::Silent, SECOND),
                };
                if standing == Standing::Ask {
                    self.doubts
                        .heard(node, Monotonic(self.now + wait), sign == Sign::Here);
                }
                (Input::Asked { step, sign }, wait)
            }
            Output::Copy {
                step,
                grant,
                length,
                from,
                to,
                brief,
                ..
            } => {
                let (from, to) = (from.node as usize, to.node as usize);
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
                (Input::Copied { step, result }, if answers { 0 } else { wait })
            }
            _ => return None,
        })
    }

    /// One server at a time is down, for good or for a while.
    fn disturb(&mut self, rng: &mut SeededRng, faults: u64, calm: u64, span: u64) {
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

    fn fault(&mut self, event: &Event) {
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
                let sign = self.answers(*node as usize);
                self.doubts.heard(*node, Monotonic(self.now), sign);
            }
            Event::Pause(node, until) => self.servers[*node].paused_until = *until,
            _ => {}
        }
    }

    fn take_outputs(&mut self, out: &mut Vec<Output>) -> Option<Result<Vec<Part>, Trouble>> {
        self.wake = None;
        for output in out.drain(..) {
            match output {
                Output::Cancel => self.cancelled_below = self.queued,
                Output::Wake(at) => {
                    self.wake = Some(
                        self.wake
                            .map_or(at.0, |before| before.min(at.0))
                            .max(self.now + 1),
                    )
                }
                Output::Release(bytes) => self.released += bytes,
                Output::Note(note) => {
                    self.notes.insert(note);
                }
                Output::Blamed(node) => {
                    self.blamed += 1;
                    self.doubts.blamed(node, Monotonic(self.now));
                }
                Output::Trusted(node) => self.doubts.trusted(node),
                Output::Spoiled(node) => self.doubts.spoiled(node, Monotonic(self.now)),
                Output::Sealed(part) => {
                    let age = self.now - self.granted[&part.chunk.chunk];
                    assert!(
                        age < self.life,
                        "a part is sealed while it can still be committed"
                    );
                    self.parts.push(part);
                }
                Output::Done => return Some(Ok(std::mem::take(&mut self.parts))),
                Output::Failed(trouble) => return Some(Err(trouble)),
                request => {
                    let mut at = self.now + 50 + self.rng.below(2_000);
                    if matches!(request, Output::Append { .. }) {
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
type Ending = (Result<Vec<Part>, Trouble>, BTreeSet<Note>, u64);

/// `calm`: how long after one fault the next may come; 0: they overlap.
fn run(seed: u64, servers: usize, minimum: u32, faults: u64, calm: u64) -> Ending {
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
            Event::Feed(Input::Frame(Frame::new(bytes::Bytes::copy_from_slice(part)))),
        );
        if rng.chance(1, 10) {
            world.push(at, Event::Feed(Input::Flush));
        }
    }
    at += if rng.chance(1, 3) { SECOND } else { 0 };
    world.push(at, Event::Feed(Input::End));
    world.disturb(&mut rng, faults, calm, at + 20_000);
    let limits = Limits {
        window: 4,
        sync_every: 40_000,
        patience: Duration::from_secs(60),
    };
    let ending = drive(&mut world, limits, &data);
    (ending, world.notes, world.now)
}

/// A source that gives a little now and then, for many times as long as a grant lives.
fn run_slowly(seed: u64, life: u64, faults: u64) -> (Result<Vec<Part>, Trouble>, World) {
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
            Event::Feed(Input::Frame(Frame::new(bytes::Bytes::copy_from_slice(part)))),
        );
    }
    at += rng.below(life * 2);
    world.push(at, Event::Feed(Input::End));
    world.disturb(&mut rng, faults, SECOND, at / faults.max(1));
    let limits = Limits {
        window: 4,
        sync_every: 40_000,
        patience: Duration::from_secs(60),
    };
    let ending = drive(&mut world, limits, &data);
    (ending, world)
}

fn drive(world: &mut World, limits: Limits, data: &[u8]) -> Result<Vec<Part>, Trouble> {
    let doubts = world.doubts.nodes(Monotonic(world.now));
    let mut core = ChunkWrite::new(limits, world.policy(), doubts);
    let (mut out, mut steps) = (Vec::new(), 0);
    loop {
        steps += 1;
        assert!(steps < 200_000, "no end in sight");
        let next = world.queue.first_key_value().map(|(&(at, _), _)| at);
        if let Some(wake) = world.wake.filter(|wake| next.is_none_or(|next| *wake < next)) {
            world.now = wake;
            core.on(Monotonic(wake), Input::Tick, &mut out);
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
fn check(world: &World, parts: &[Part], data: &[u8]) {
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

#[test]
fn without_faults_there_is_one_chunk_with_all_receipts() {
    for seed in 0..300 {
        let (ending, notes, _) = run(seed, 3, REPLICAS, 0, 0);
        let parts = ending.unwrap();
        assert!(parts.len() == 1 && notes.is_empty(), "seed {seed}");
        assert_eq!(parts[0].chunk.receipts.len(), 3);
    }
}

#[test]
fn one_server_down_at_a_time_never_fails_a_write() {
    let (mut seen, mut short) = (BTreeSet::new(), 0);
    for seed in 0..1_000 {
        for (servers, minimum) in [(4, REPLICAS), (3, 2)] {
            let (ending, notes, _) = run(seed, servers, minimum, 3, SECOND);
            let parts =
                ending.unwrap_or_else(|trouble| panic!("seed {seed}, {servers} servers: {trouble:?}"));
            short += parts.iter().filter(|part| part.chunk.receipts.len() < 3).count();
            seen.extend(notes);
        }
    }
    let all: BTreeSet<Note> = [Note::Rewritten, Note::CutShort, Note::Replaced].into();
    assert_eq!(seen, all, "every way out of trouble was taken");
    assert!(
        short > 0,
        "redundancy was reduced where only two of three servers lived"
    );
}

#[test]
fn what_is_sealed_is_sound_whatever_fails() {
    let mut failed = 0;
    for seed in 0..500 {
        let (ending, ..) = run(seed, 3, REPLICAS, 6, 0);
        failed += u32::from(ending.is_err());
    }
    assert!((1..500).contains(&failed), "{failed} of 500 failed");
}

#[test]
fn a_seed_always_runs_the_same_way() {
    for seed in 0..50 {
        assert_eq!(run(seed, 4, REPLICAS, 4, 0), run(seed, 4, REPLICAS, 4, 0));
    }
}

#[test]
fn a_stream_that_lasts_longer_than_grants_live_succeeds() {
    let mut many = 0;
    for seed in 0..300 {
        let (ending, world) = run_slowly(seed, 3 * SECOND, 0);
        let parts = ending.unwrap_or_else(|trouble| panic!("seed {seed}: {trouble:?}"));
        assert!(parts.iter().all(|part| part.chunk.receipts.len() == 3));
        assert_eq!(
            world.blamed, 0,
            "seed {seed}: nobody is to blame for time that passes"
        );
        assert_eq!(world.notes, BTreeSet::new(), "seed {seed}: nothing is sent twice");
        many += usize::from(parts.len() > 2);
    }
    assert!(many > 200, "{many} of 300 streams outlived two grants");
}

#[test]
fn a_slow_stream_survives_servers_that_fail() {
    for seed in 0..300 {
        let (ending, _) = run_slowly(seed, 120 * SECOND, 5);
        ending.unwrap_or_else(|trouble| panic!("seed {seed}: {trouble:?}"));
    }
}

#[test]
fn nobody_is_blamed_for_an_expired_grant() {
    let mut world = World::new(SeededRng::new(1), 4, REPLICAS, 3 * SECOND);
    let mut core = ChunkWrite::new(
        Limits {
            window: 4,
            sync_every: 1,
            patience: Duration::from_secs(60),
        },
        world.policy(),
        [],
    );
    let (mut out, data) = (Vec::new(), bytes::Bytes::from(vec![1; 8192]));
    let grant = world.grant(&[]);
    core.on(Monotonic(0), Input::Frame(Frame::new(data)), &mut out);
    core.on(
        Monotonic(0),
        Input::Granted {
            step: core.step,
            result: Ok(grant),
        },
        &mut out,
    );
    core.on(Monotonic(SECOND / 2), Input::Tick, &mut out);
    out.clear();
    // The first bytes are durable and forgotten when the process sleeps for longer than the grant lives.
    let hops = (0..3)
        .map(|_| HopState {
            durable: 8192,
            ..HopState::default()
        })
        .collect();
    let acknowledged = Input::Appended {
        step: core.step,
        position: 0,
        result: Ok(AppendReply { hops }),
    };
    core.on(Monotonic(SECOND / 2), acknowledged, &mut out);
    core.on(Monotonic(100 * SECOND), Input::Tick, &mut out);
    let asked: Vec<usize> = out
        .iter()
        .filter_map(|output| match output {
            Output::Finish { member, .. } => Some(*member),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 3);
    for member in asked {
        let result = Err(trouble(Code::GrantExpired));
        core.on(
            Monotonic(100 * SECOND),
            Input::Finished {
                step: core.step,
                member,
                result,
            },
            &mut out,
        );
    }
    assert!(!out.iter().any(|output| matches!(output, Output::Blamed(_))));
    let failed = |output: &Output| matches!(output, Output::Failed(trouble) if trouble.is_of_grant());
    assert!(out.iter().any(failed));
}

/// One process writes chunks of a frame each for so long, one after another. Gives when each was begun, how long it
/// took and how many receipts it has.
fn run_chunks(world: &mut World, until: u64) -> Vec<(u64, u64, usize)> {
    let (mut chunks, limits) = (
        Vec::new(),
        Limits {
            window: 4,
            sync_every: 40_000,
            patience: Duration::from_secs(30),
        },
    );
    while world.now < until {
        let (began, data) = (world.now, vec![chunks.len() as u8; 8192]);
        world.released = 0;
        let frame = Frame::new(bytes::Bytes::copy_from_slice(&data));
        world.push(began, Event::Feed(Input::Frame(frame)));
        world.push(began, Event::Feed(Input::End));
        let parts = drive(world, limits.clone(), &data).unwrap();
        let receipts = parts.iter().map(|part| part.chunk.receipts.len()).min().unwrap();
        chunks.push((began, world.now - began, receipts));
        // What is left belongs to the chunk that is over; faults are still to come.
        world.wake = None;
        world
            .queue
            .retain(|_, event| !matches!(event, Event::Deliver(_) | Event::Answer(..) | Event::Feed(_)));
        world.now += 1_000;
    }
    chunks
}

/// Once it cost every chunk of the next 10 s a replica, and nothing repaired them.
#[test]
fn one_slow_moment_of_a_server_costs_no_redundancy() {
    for seed in 0..20 {
        let mut world = World::new(SeededRng::new(seed), 3, 2, 3_600 * SECOND);
        world.servers[1].paused_until = SECOND * 9 / 5;
        let chunks = run_chunks(&mut world, 12 * SECOND);
        assert!(world.blamed > 0, "seed {seed}: the moment was noticed");
        for (began, _, receipts) in &chunks {
            assert_eq!(*receipts, 3, "seed {seed}: the chunk begun at {began}");
        }
        assert!(chunks.len() > 500, "seed {seed}: {} chunks", chunks.len());
    }
}

#[test]
fn a_dead_server_holds_nobody_up_for_long_and_is_found_again() {
    for (seed, paused) in (0..10).flat_map(|seed| [(seed, false), (seed, true)]) {
        let (mut world, back) = (
            World::new(SeededRng::new(seed), 3, 2, 3_600 * SECOND),
            30 * SECOND,
        );
        if paused {
            world.servers[1].paused_until = back;
        } else {
            world.push(0, Event::Kill(1));
            world.push(back, Event::Revive(1));
        }
        let chunks = run_chunks(&mut world, 40 * SECOND);
        let waited: u64 = chunks
            .iter()
            .filter(|chunk| chunk.1 > SECOND / 10)
            .map(|chunk| chunk.1)
            .sum();
        assert!(
            waited < 6 * SECOND,
            "seed {seed}, {paused}: writers waited {waited} us in all"
        );
        for (began, _, receipts) in &chunks {
            let expected = if *began < back - 3 * SECOND { 2..=2 } else { 2..=3 };
            assert!(
                expected.contains(receipts),
                "seed {seed}: {receipts} of the chunk begun at {began}"
            );
            assert!(
                *began < back + 2 * SECOND || *receipts == 3,
                "seed {seed}: it is back at {began}"
            );
        }
    }
}

/// Its disk hangs, and its process does not know.
#[test]
fn a_server_that_only_seems_well_is_tried_less_and_less() {
    let mut world = World::new(SeededRng::new(1), 3, 2, 3_600 * SECOND);
    world.hung = Some(1);
    let chunks = run_chunks(&mut world, 60 * SECOND);
    assert!((2..=10).contains(&world.spoiled), "{} copies", world.spoiled);
    assert!(chunks.iter().all(|chunk| chunk.2 == 2 && chunk.1 < 15 * SECOND));
    let waited: u64 = chunks
        .iter()
        .filter(|chunk| chunk.1 > SECOND / 10)
        .map(|chunk| chunk.1)
        .sum();
    assert!(waited < 45 * SECOND, "{waited}");
}
