//! One read of at most 1 MiB over the replicas of its chunk: a synchronous core.
//!
//! Asks one replica; hedges once when it is slow; on an error asks the next. When all have failed it asks for the
//! locations again and starts over, until time is up or every replica has twice said that it cannot help.

use drystone_env::Monotonic;
use drystone_types::Code;
use std::time::Duration;

/// Rounds over replicas that are all damaged or missing before the bytes count as corrupt: repair may just have
/// moved them.
const BAD_ROUNDS: u32 = 2;
/// Between rounds, doubled up to 1 s.
const ROUND_BASE: Duration = Duration::from_millis(50);

/// What happens to a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PieceInput {
    /// The answer of the request with this number; `Ok` if it holds the right bytes.
    Answered {
        request: u32,
        result: Result<(), Code>,
    },
    /// Locations were asked for again: there are so many replicas.
    Located {
        replicas: usize,
    },
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PieceOutput {
    /// Ask the replica at this place of the order of preference.
    Ask {
        request: u32,
        replica: usize,
        hedge: bool,
    },
    /// Tell the cluster what this replica is.
    Report {
        replica: usize,
        code: Code,
    },
    /// Ask for the locations again, now.
    Locate,
    Wake(Monotonic),
    /// The bytes of this request are the answer; the others are cancelled.
    Done {
        request: u32,
        hedged: bool,
    },
    Failed(Code),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PieceRead {
    replicas: usize,
    next: usize,
    requests: u32,
    // Request number and replica of those under way.
    asked: Vec<(u32, usize, bool)>,
    hedge_after: Option<Duration>,
    hedge_at: Option<Monotonic>,
    deadline: Monotonic,
    rounds: u32,
    bad_rounds: u32,
    // In this round a replica failed in a way that may pass.
    passing: bool,
    again_at: Option<Monotonic>,
    locating: bool,
    over: bool,
}

impl PieceRead {
    /// A read over `replicas` in order of preference, given up at `deadline`; `hedge_after`: a second replica is
    /// asked when the first has not answered by then.
    pub(crate) fn new(replicas: usize, hedge_after: Option<Duration>, deadline: Monotonic) -> Self {
        Self {
            replicas,
            next: 0,
            requests: 0,
            asked: Vec::new(),
            hedge_after,
            hedge_at: None,
            deadline,
            rounds: 0,
            bad_rounds: 0,
            passing: false,
            again_at: None,
            locating: false,
            over: false,
        }
    }

    /// Takes an input; what is to be done is appended to `out`. The first input is a `Tick`.
    pub(crate) fn on(&mut self, now: Monotonic, input: PieceInput, out: &mut Vec<PieceOutput>) {
        if self.over {
            return;
        }
        match input {
            PieceInput::Answered { request, result } => self.on_answer(request, result, out),
            PieceInput::Located { replicas } => {
                self.replicas = replicas;
                (self.next, self.locating, self.passing) = (0, false, replicas == 0);
            }
            PieceInput::Tick => {}
        }
        if !self.over {
            self.advance(now, out);
        }
    }

    fn on_answer(&mut self, request: u32, result: Result<(), Code>, out: &mut Vec<PieceOutput>) {
        let Some(at) = self.asked.iter().position(|&(number, ..)| number == request) else {
            return;
        };
        let (_, replica, hedged) = self.asked.swap_remove(at);
        match result {
            Ok(()) => {
                self.over = true;
                out.push(PieceOutput::Done { request, hedged });
            }
            Err(code @ (Code::Corrupt | Code::NotFound)) => out.push(PieceOutput::Report { replica, code }),
            Err(_) => self.passing = true,
        }
    }

    fn advance(&mut self, now: Monotonic, out: &mut Vec<PieceOutput>) {
        if now >= self.deadline {
            self.over = true;
            return out.push(PieceOutput::Failed(Code::Unavailable));
        }
        out.push(PieceOutput::Wake(self.deadline));
        if self.locating {
            return;
        }
        if let Some(at) = self.again_at {
            if at > now {
                return out.push(PieceOutput::Wake(at));
            }
            (self.again_at, self.locating) = (None, true);
            return out.push(PieceOutput::Locate);
        }
        if self.asked.is_empty() {
            if self.next >= self.replicas {
                return self.end_round(now, out);
            }
            self.ask(false, out);
            self.hedge_at = self.hedge_after.map(|after| now.plus(after));
        }
        match self.hedge_at {
            Some(at) if self.asked.len() == 1 && self.next < self.replicas => {
                if at <= now {
                    self.hedge_at = None;
                    self.ask(true, out);
                } else {
                    out.push(PieceOutput::Wake(at));
                }
            }
            _ => {}
        }
    }

    fn ask(&mut self, hedge: bool, out: &mut Vec<PieceOutput>) {
        let (request, replica) = (self.requests, self.next);
        self.requests += 1;
        self.next += 1;
        self.asked.push((request, replica, hedge));
        out.push(PieceOutput::Ask {
            request,
            replica,
            hedge,
        });
    }

    /// Every replica has failed.
    fn end_round(&mut self, now: Monotonic, out: &mut Vec<PieceOutput>) {
        self.bad_rounds += u32::from(!self.passing);
        if self.bad_rounds >= BAD_ROUNDS {
            self.over = true;
            return out.push(PieceOutput::Failed(Code::Corrupt));
        }
        let delay = ROUND_BASE * (1 << self.rounds.min(5));
        self.rounds += 1;
        // A hedge answers slowness; after a round of failures it would only add load.
        self.hedge_at = None;
        let at = now.plus(delay.min(Duration::from_secs(1)));
        self.again_at = Some(at);
        out.push(PieceOutput::Wake(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_env::{Rng, SeededRng};

    const END: Monotonic = Monotonic(30_000_000);

    fn step(core: &mut PieceRead, at: u64, input: PieceInput) -> Vec<PieceOutput> {
        let mut out = Vec::new();
        core.on(Monotonic(at), input, &mut out);
        out.retain(|output| !matches!(output, PieceOutput::Wake(_)));
        out
    }

    fn answer(request: u32, result: Result<(), Code>) -> PieceInput {
        PieceInput::Answered { request, result }
    }

    #[test]
    fn the_next_replica_is_asked_and_damage_reported() {
        let mut core = PieceRead::new(3, None, END);
        assert_eq!(
            step(&mut core, 0, PieceInput::Tick),
            [PieceOutput::Ask {
                request: 0,
                replica: 0,
                hedge: false
            }]
        );
        assert_eq!(
            step(&mut core, 1, answer(0, Err(Code::Corrupt))),
            [
                PieceOutput::Report {
                    replica: 0,
                    code: Code::Corrupt
                },
                PieceOutput::Ask {
                    request: 1,
                    replica: 1,
                    hedge: false
                }
            ]
        );
        assert_eq!(
            step(&mut core, 2, answer(1, Err(Code::Unknown))),
            [PieceOutput::Ask {
                request: 2,
                replica: 2,
                hedge: false
            }]
        );
        assert_eq!(
            step(&mut core, 3, answer(2, Ok(()))),
            [PieceOutput::Done {
                request: 2,
                hedged: false
            }]
        );
    }

    #[test]
    fn a_slow_replica_is_hedged_once() {
        let mut core = PieceRead::new(3, Some(Duration::from_micros(100)), END);
        step(&mut core, 0, PieceInput::Tick);
        assert_eq!(step(&mut core, 99, PieceInput::Tick), []);
        assert_eq!(
            step(&mut core, 100, PieceInput::Tick),
            [PieceOutput::Ask {
                request: 1,
                replica: 1,
                hedge: true
            }]
        );
        assert_eq!(step(&mut core, 500, PieceInput::Tick), []);
        assert_eq!(
            step(&mut core, 501, answer(1, Ok(()))),
            [PieceOutput::Done {
                request: 1,
                hedged: true
            }]
        );
        assert_eq!(step(&mut core, 502, answer(0, Ok(()))), []);
    }

    #[test]
    fn bytes_that_no_replica_has_are_corrupt_after_looking_again() {
        let mut core = PieceRead::new(1, None, END);
        step(&mut core, 0, PieceInput::Tick);
        step(&mut core, 1, answer(0, Err(Code::Corrupt)));
        assert_eq!(
            step(&mut core, 1_000_000, PieceInput::Tick),
            [PieceOutput::Locate]
        );
        let asked = step(&mut core, 1_000_001, PieceInput::Located { replicas: 1 });
        assert_eq!(
            asked,
            [PieceOutput::Ask {
                request: 1,
                replica: 0,
                hedge: false
            }]
        );
        let ended = step(&mut core, 1_000_002, answer(1, Err(Code::NotFound)));
        assert_eq!(ended.last(), Some(&PieceOutput::Failed(Code::Corrupt)));
    }

    #[test]
    fn replicas_that_do_not_answer_are_tried_until_the_deadline() {
        for seed in 0..500 {
            let mut rng = SeededRng::new(seed);
            let (mut core, mut now, mut out) = (PieceRead::new(3, None, END), 0, Vec::new());
            core.on(Monotonic(0), PieceInput::Tick, &mut out);
            let mut asked = 0;
            while !matches!(out.last(), Some(PieceOutput::Failed(_))) {
                now += 1 + rng.below(400_000);
                let inputs: Vec<PieceInput> = out
                    .drain(..)
                    .filter_map(|output| match output {
                        PieceOutput::Ask { request, .. } => Some(answer(request, Err(Code::Unavailable))),
                        PieceOutput::Locate => Some(PieceInput::Located {
                            replicas: rng.below(4) as usize,
                        }),
                        _ => None,
                    })
                    .collect();
                asked += inputs.len();
                core.on(Monotonic(now), PieceInput::Tick, &mut out);
                for input in inputs {
                    core.on(Monotonic(now), input, &mut out);
                }
            }
            assert!(
                now >= END.0 && asked > 10,
                "seed {seed}: {asked} requests, failed at {now}"
            );
            assert_eq!(
                out.last(),
                Some(&PieceOutput::Failed(Code::Unavailable)),
                "seed {seed}"
            );
        }
    }
}
