use super::*;
use drystone_env::{Rng, SeededRng};

fn replica(n: u64) -> ReplicaRecord {
    ReplicaRecord {
        disk: n,
        incarnation: 100 + n,
        placement: 7,
    }
}

fn frame(id: u64, end: u64, ask: Ask, deadline: u64) -> Input {
    Input::Frame(Frame {
        id: FrameId(id),
        end,
        ask,
        deadline: Monotonic(deadline),
    })
}

fn on(chain: &mut Chain, now: u64, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    chain.on(Monotonic(now), input, &mut out);
    out
}

fn replies(out: &[Output]) -> Vec<&Result<Vec<HopState>, ErrorReply>> {
    out.iter()
        .filter_map(|o| {
            if let Output::Reply(_, reply) = o {
                Some(reply)
            } else {
                None
            }
        })
        .collect()
}

fn receipt(length: u64, checksum: u32) -> Option<Receipt> {
    Some(Receipt {
        chunk: 1,
        epoch: 1,
        length,
        checksum,
        ..Receipt::default()
    })
}

#[test]
fn a_receipt_for_other_bytes_is_blamed_and_not_passed_on_as_good() {
    for (checksum, blamed) in [(5, false), (6, true)] {
        let mut chain = Chain::new(replica(1), vec![replica(2), replica(3)]);
        on(&mut chain, 0, frame(1, 10, Ask::Durable, 1_000_000));
        let below = [2, 3].map(|n| HopState {
            replica: Some(replica(n)),
            received: 10,
            durable: 10,
            receipt: receipt(10, if n == 3 { checksum } else { 5 }),
            ..HopState::default()
        });
        on(&mut chain, 1, Input::Below(FrameId(1), Ok(below.to_vec())));
        let own = Held {
            receipt: receipt(10, 5),
            ..held(10)
        };
        let out = on(&mut chain, 2, Input::Stored(FrameId(1), Ok(own)));
        let hops = replies(&out)[0].as_ref().unwrap();
        let codes: Vec<u32> = hops.iter().map(|hop| hop.code).collect();
        let fault = if blamed { Code::Conflict.number() } else { 0 };
        assert_eq!(codes, [0, 0, fault]);
        assert_eq!(chain.is_broken(), blamed);
    }
}

#[test]
#[should_panic(expected = "of 10 bytes are durable")]
fn an_acknowledgement_of_less_than_was_asked_for_is_a_programmers_error() {
    let mut chain = Chain::new(replica(1), Vec::new());
    on(&mut chain, 0, frame(1, 10, Ask::Durable, 1_000_000));
    let less = Held {
        durable: 9,
        ..held(10)
    };
    on(&mut chain, 1, Input::Stored(FrameId(1), Ok(less)));
}

#[test]
#[should_panic(expected = "took it up to 10, and holds 9 bytes")]
fn a_store_that_holds_less_than_it_took_is_a_programmers_error() {
    let mut chain = Chain::new(replica(1), Vec::new());
    on(&mut chain, 0, frame(1, 10, Ask::Received, 1_000_000));
    on(&mut chain, 1, Input::Stored(FrameId(1), Ok(held(9))));
}

fn held(bytes: u64) -> Held {
    Held {
        received: bytes,
        durable: bytes,
        receipt: None,
    }
}

fn hop(n: u64, bytes: u64) -> HopState {
    HopState {
        replica: Some(replica(n)),
        received: bytes,
        durable: bytes,
        ..HopState::default()
    }
}

#[test]
fn it_tells_how_long_it_waits_and_for_whom() {
    let mut chain = Chain::new(replica(1), vec![replica(2)]);
    on(&mut chain, 0, frame(1, 10, Ask::Received, 1_000_000));
    let wait = Duration::from_micros;
    assert_eq!(
        chain.waits(Monotonic(4)),
        [(replica(1), wait(4)), (replica(2), wait(4))]
    );
    assert!(replies(&on(&mut chain, 5, Input::Stored(FrameId(1), Ok(held(10))))).is_empty());
    assert_eq!(chain.waits(Monotonic(9)), [(replica(2), wait(9))]);
    let out = on(&mut chain, 10, Input::Below(FrameId(1), Ok(vec![hop(2, 10)])));
    let hops = replies(&out)[0].as_ref().unwrap();
    assert_eq!(hops.iter().map(|hop| hop.waited_us).collect::<Vec<_>>(), [10, 10]);
    assert!(chain.is_idle());
}

#[test]
fn a_sync_frame_waits_for_the_own_store_and_for_all_below() {
    for own_first in [true, false] {
        let mut chain = Chain::new(replica(1), vec![replica(2), replica(3)]);
        on(&mut chain, 0, frame(1, 10, Ask::Durable, 1_000_000));
        let own = Input::Stored(FrameId(1), Ok(held(10)));
        let below = Input::Below(FrameId(1), Ok(vec![hop(2, 10), hop(3, 10)]));
        let (first, second) = if own_first { (own, below) } else { (below, own) };
        assert!(replies(&on(&mut chain, 5, first)).is_empty());
        let out = on(&mut chain, 9, second);
        let hops = replies(&out)[0].as_ref().unwrap();
        assert_eq!(
            hops.iter().map(|hop| (hop.durable, hop.code)).collect::<Vec<_>>(),
            [(10, 0); 3]
        );
    }
}

#[test]
fn a_next_hop_that_is_not_durable_or_says_nothing_of_the_rest_is_not_believed() {
    for (hops, blamed) in [
        (vec![hop(2, 9), hop(3, 10)], 2),
        (vec![hop(2, 10), hop(3, 9)], 3),
        (vec![hop(2, 10)], 3),
        (vec![hop(3, 10)], 2),
        (vec![], 2),
    ] {
        let mut chain = Chain::new(replica(1), vec![replica(2), replica(3)]);
        on(&mut chain, 0, frame(1, 10, Ask::Durable, 1_000_000));
        on(&mut chain, 1, Input::Stored(FrameId(1), Ok(held(10))));
        let out = on(&mut chain, 2, Input::Below(FrameId(1), Ok(hops)));
        let hops = replies(&out)[0].as_ref().unwrap();
        let first = hops.iter().find(|hop| hop.code != 0).unwrap();
        assert_eq!(first.replica, Some(replica(blamed)));
    }
}

#[test]
fn after_a_refusal_of_the_own_store_nothing_is_forwarded() {
    let mut chain = Chain::new(replica(1), vec![replica(2)]);
    on(&mut chain, 0, frame(1, 10, Ask::Received, 1_000_000));
    let error = refusal(Code::NoSpace, "full");
    let out = on(&mut chain, 1, Input::Stored(FrameId(1), Err(error.clone())));
    assert_eq!(out, [Output::Reply(FrameId(1), Err(error.clone()))]);
    let out = on(&mut chain, 2, frame(2, 20, Ask::Received, 1_000_000));
    assert_eq!(out, [Output::Reply(FrameId(2), Err(error))]);
}

#[test]
fn a_late_answer_does_not_hide_what_a_newer_one_told() {
    let mut chain = Chain::new(replica(1), vec![replica(2)]);
    on(&mut chain, 0, frame(1, 10, Ask::Durable, 1_000_000));
    on(&mut chain, 0, frame(2, 20, Ask::Received, 1_000_000));
    on(&mut chain, 1, Input::Stored(FrameId(1), Ok(held(10))));
    let early = HopState {
        durable: 3,
        ..hop(2, 20)
    };
    on(&mut chain, 2, Input::Below(FrameId(2), Ok(vec![early])));
    let out = on(&mut chain, 3, Input::Below(FrameId(1), Ok(vec![hop(2, 10)])));
    let hops = replies(&out)[0].as_ref().unwrap();
    assert_eq!((hops[1].received, hops[1].durable, hops[1].code), (20, 10, 0));
}

#[test]
fn deadlines_shrink_and_leave_time_for_the_way_back() {
    let (mut now, mut deadline) = (Monotonic(0), Monotonic(2_000_000));
    for _ in 0..7 {
        let (answer_by, forward_by) = plan_deadlines(now, deadline);
        assert!(forward_by < answer_by && answer_by < deadline);
        (now, deadline) = (now.plus(Duration::from_micros(100)), forward_by);
    }
    assert!(deadline.0 > 700_000);
    assert_eq!(
        plan_deadlines(Monotonic(9), Monotonic(5)),
        (Monotonic(5), Monotonic(5))
    );
}

// ---- three hops under a seeded network ----

#[derive(Clone, PartialEq, Debug)]
enum Fault {
    None,
    /// The hop stops taking anything from this time on.
    Silent {
        hop: usize,
        from: u64,
    },
    /// Every frame to and from it may be lost.
    Lossy {
        hop: usize,
    },
    /// Its disk does not answer from this time on.
    StuckDisk {
        hop: usize,
        from: u64,
    },
}

#[derive(Clone, Debug)]
enum Event {
    Arrive {
        hop: usize,
        frame: Frame,
    },
    Stored {
        hop: usize,
        id: FrameId,
        held: Result<Held, ErrorReply>,
    },
    Answer {
        hop: usize,
        id: FrameId,
        reply: Result<Vec<HopState>, ErrorReply>,
    },
    Tick {
        hop: usize,
        id: FrameId,
    },
}

struct World {
    rng: SeededRng,
    now: u64,
    order: u64,
    events: BTreeMap<(u64, u64), Event>,
    hops: Vec<Chain>,
    received: Vec<u64>,
    durable: Vec<u64>,
    fault: Fault,
    reorder: bool,
    /// Answers as the writer gets them.
    answers: BTreeMap<FrameId, (u64, Result<Vec<HopState>, ErrorReply>)>,
    ends: BTreeMap<FrameId, u64>,
}

const HOPS: usize = 3;
const FRAME: u64 = 1 << 20;
const DEADLINE: u64 = 1_000_000;

impl World {
    fn new(seed: u64, fault: Fault, reorder: bool) -> Self {
        let hops = (0..HOPS).map(|at| {
            Chain::new(
                replica(at as u64),
                (at + 1..HOPS).map(|n| replica(n as u64)).collect(),
            )
        });
        Self {
            rng: SeededRng::new(seed),
            now: 0,
            order: 0,
            events: BTreeMap::new(),
            hops: hops.collect(),
            received: vec![0; HOPS],
            durable: vec![0; HOPS],
            fault,
            reorder,
            answers: BTreeMap::new(),
            ends: BTreeMap::new(),
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.events.insert((time, self.order), event);
    }

    fn is_silent(&self, hop: usize) -> bool {
        matches!(self.fault, Fault::Silent { hop: silent, from } if silent == hop && self.now >= from)
    }

    fn loses(&mut self, to: usize) -> bool {
        matches!(self.fault, Fault::Lossy { hop } if hop == to) && self.rng.chance(1, 4)
    }

    /// A frame on its way to `hop`; whoever sent it learns at its deadline if nothing comes back.
    fn send(&mut self, hop: usize, frame: Frame) {
        let delay = if self.reorder {
            self.rng.below(3_000)
        } else {
            1_000
        };
        let lost = self.loses(hop);
        if !lost {
            self.at(self.now + 200 + delay, Event::Arrive { hop, frame });
        }
        let silence = Err(refusal(Code::Unknown, "no answer"));
        self.at(
            frame.deadline.0,
            Event::Answer {
                hop,
                id: frame.id,
                reply: silence,
            },
        );
    }

    /// The store of `hop` takes the frame now and answers later.
    fn store(&mut self, hop: usize, frame: Frame) {
        let result = if frame.end == self.received[hop] + FRAME {
            self.received[hop] = frame.end;
            if frame.ask == Ask::Durable {
                self.durable[hop] = frame.end;
            }
            Ok(Held {
                received: frame.end,
                durable: self.durable[hop],
                receipt: None,
            })
        } else {
            Err(refusal(Code::Conflict, "out of order"))
        };
        let stuck = matches!(self.fault, Fault::StuckDisk { hop: at, from } if at == hop && self.now >= from);
        if !stuck {
            let delay = 300 + self.rng.below(2_000);
            self.at(
                self.now + delay,
                Event::Stored {
                    hop,
                    id: frame.id,
                    held: result,
                },
            );
        }
    }

    fn feed(&mut self, hop: usize, input: Input) {
        let taken = if let Input::Frame(frame) = &input {
            Some(*frame)
        } else {
            None
        };
        let mut out = Vec::new();
        self.hops[hop].on(Monotonic(self.now), input, &mut out);
        for output in out {
            match output {
                Output::Store(_) => self.store(hop, taken.expect("only frames are stored")),
                Output::Forward(_, deadline) => {
                    let frame = taken.expect("only frames are forwarded");
                    self.send(hop + 1, Frame { deadline, ..frame });
                }
                Output::Reply(id, reply) => {
                    let delay = 200 + self.rng.below(500);
                    if !self.loses(hop) {
                        self.at(self.now + delay, Event::Answer { hop, id, reply });
                    }
                }
                Output::Wake(id, at) => self.at(at.0.max(self.now), Event::Tick { hop, id }),
            }
        }
    }

    fn step(&mut self) -> bool {
        let Some(((time, _), event)) = self.events.pop_first() else {
            return false;
        };
        self.now = time;
        match event {
            Event::Arrive { hop, frame } if !self.is_silent(hop) => self.feed(hop, Input::Frame(frame)),
            Event::Stored { hop, id, held } if !self.is_silent(hop) => {
                self.feed(hop, Input::Stored(id, held))
            }
            Event::Tick { hop, id } if !self.is_silent(hop) => self.feed(hop, Input::Tick(id)),
            // What `hop` answers is heard by the hop before it, or by the writer.
            Event::Answer { hop: 0, id, reply } => {
                self.check(id, &reply);
                self.answers.entry(id).or_insert((time, reply));
            }
            Event::Answer { hop, id, reply } if !self.is_silent(hop - 1) => {
                self.feed(hop - 1, Input::Below(id, reply))
            }
            _ => {}
        }
        true
    }

    /// An answer without a blame to a frame that asked for it means that all hold it.
    fn check(&self, id: FrameId, reply: &Result<Vec<HopState>, ErrorReply>) {
        let Ok(hops) = reply else { return };
        let sync = id.0 % 8 == 7;
        if sync && hops.iter().all(|hop| hop.code == 0) {
            assert_eq!(hops.len(), HOPS);
            for (at, hop) in hops.iter().enumerate() {
                assert!(hop.durable >= self.ends[&id] && self.durable[at] >= self.ends[&id]);
            }
        }
    }

    fn run(mut self) -> Self {
        for id in 0..24 {
            let ask = if id % 8 == 7 { Ask::Durable } else { Ask::Received };
            let frame = Frame {
                id: FrameId(id),
                end: (id + 1) * FRAME,
                ask,
                deadline: Monotonic(self.now + DEADLINE),
            };
            self.ends.insert(frame.id, frame.end);
            self.send(0, frame);
            let until = self.now + 1_500;
            while self
                .events
                .first_key_value()
                .is_some_and(|((time, _), _)| *time <= until)
            {
                self.step();
            }
            self.now = until;
        }
        while self.step() {}
        assert_eq!(self.answers.len(), 24, "every frame is answered or given up");
        self
    }

    /// Whom the first bad answer names.
    fn blamed(&self) -> Option<u64> {
        let mut answers: Vec<_> = self.answers.values().collect();
        answers.sort_by_key(|(time, _)| *time);
        answers.iter().find_map(|(_, reply)| match reply {
            Ok(hops) => hops
                .iter()
                .find(|hop| hop.code != 0)
                .and_then(|hop| hop.replica)
                .map(|r| r.disk),
            Err(_) => Some(0),
        })
    }
}

#[test]
fn without_faults_every_seed_ends_durable_everywhere() {
    for seed in 0..300 {
        let world = World::new(seed, Fault::None, false).run();
        assert_eq!(world.blamed(), None, "seed {seed}");
        assert_eq!(world.durable, [24 * FRAME; HOPS], "seed {seed}");
        assert!(world.hops.iter().all(Chain::is_idle), "seed {seed}");
    }
}

#[test]
fn the_silent_hop_is_the_one_blamed() {
    for seed in 0..600 {
        let hop = seed as usize % HOPS;
        let from = SeededRng::new(seed).below(20_000);
        let world = World::new(seed, Fault::Silent { hop, from }, false).run();
        assert_eq!(world.blamed(), Some(hop as u64), "seed {seed} from {from}");
    }
}

#[test]
fn the_hop_with_the_stuck_disk_is_the_one_blamed() {
    for seed in 0..600 {
        let hop = seed as usize % HOPS;
        let from = SeededRng::new(seed).below(20_000);
        let world = World::new(seed, Fault::StuckDisk { hop, from }, false).run();
        assert_eq!(world.blamed(), Some(hop as u64), "seed {seed} from {from}");
    }
}

#[test]
fn under_loss_and_reordering_nothing_is_claimed_that_is_not_durable() {
    let mut broken = 0;
    for seed in 0..1_000 {
        let hop = seed as usize % HOPS;
        let world = World::new(seed, Fault::Lossy { hop }, seed % 2 == 0).run();
        broken += u32::from(world.blamed().is_some());
    }
    assert!(broken > 900, "the faults fell inside the run: {broken}");
}

#[test]
fn one_seed_runs_the_same_way_twice() {
    let run = |seed| {
        format!(
            "{:?}",
            World::new(seed, Fault::Lossy { hop: 1 }, true).run().answers
        )
    };
    assert_eq!(run(5), run(5));
}
