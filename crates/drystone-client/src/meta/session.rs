//! The idempotency session: which sequence number a command gets, and which answers may be forgotten. A synchronous
//! core.

use drystone_types::ClientId;
use std::collections::BTreeSet;

/// Numbers between the oldest outstanding command and the newest, those that were overtaken aside: less than the
/// namespace keeps answers for.
const MAX_WINDOW: u64 = 900;
/// A command that so many later ones have overtaken is slow: it is named, and no longer holds the window.
const OVERTAKEN_BY: u64 = 256;
/// Slow commands that can be named: what the namespace takes.
const MAX_OVERTAKEN: usize = 64;

/// One session of this process. When the cluster has forgotten it, another begins under another id.
#[derive(Debug)]
pub(crate) struct CommandSession {
    client: ClientId,
    generation: u64,
    open: bool,
    next: u64,
    outstanding: BTreeSet<u64>,
    // A command was given up whose fate is unknown.
    unsure: bool,
}

/// A command's place in a session, and which answers had arrived when it began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ticket {
    pub(crate) client: ClientId,
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    pub(crate) acknowledged_below: u64,
    /// Lower numbers than that whose answers had not arrived.
    pub(crate) outstanding: Vec<u64>,
}

impl CommandSession {
    /// A session that must be opened before it is used.
    pub(crate) fn new(client: ClientId) -> Self {
        Self {
            client,
            generation: 0,
            open: false,
            next: 1,
            outstanding: BTreeSet::new(),
            unsure: false,
        }
    }

    /// The id to open, with its generation, unless it is open.
    pub(crate) fn to_open(&self) -> Option<(ClientId, u64)> {
        (!self.open).then_some((self.client, self.generation))
    }

    /// The cluster knows the session of `generation` now.
    pub(crate) fn opened(&mut self, generation: u64) {
        self.open |= generation == self.generation;
    }

    /// The cluster does not know the session of `generation`: go on as `client`.
    pub(crate) fn forgotten(&mut self, generation: u64, client: ClientId) {
        if generation == self.generation {
            *self = Self {
                generation: generation + 1,
                ..Self::new(client)
            };
        }
    }

    /// The next command's place; `None` while too many are under way that are not slow, or too many slow ones.
    pub(crate) fn begin(&mut self) -> Option<Ticket> {
        let sequence = self.next;
        let slow = |&&outstanding: &&u64| sequence - outstanding > OVERTAKEN_BY;
        let overtaken: Vec<u64> = self
            .outstanding
            .iter()
            .take_while(slow)
            .copied()
            .take(MAX_OVERTAKEN)
            .collect();
        let oldest = self.outstanding.iter().nth(overtaken.len());
        let acknowledged_below = oldest.copied().unwrap_or(sequence);
        if sequence - acknowledged_below >= MAX_WINDOW {
            return None;
        }
        assert!(
            overtaken.last().is_none_or(|&last| last < acknowledged_below) && acknowledged_below <= sequence,
            "a command says nothing of its own answer"
        );
        self.next += 1;
        self.outstanding.insert(sequence);
        Some(Ticket {
            client: self.client,
            generation: self.generation,
            sequence,
            acknowledged_below,
            outstanding: overtaken,
        })
    }

    /// Nobody waits for this command any more. Not `known`: it may still be on its way.
    pub(crate) fn end(&mut self, ticket: &Ticket, known: bool) {
        if ticket.generation == self.generation {
            self.outstanding.remove(&ticket.sequence);
            self.unsure |= !known;
        }
    }

    /// The place of the command that closes the session: if it is open, and nothing of it is or may be on its way.
    /// What comes later goes on as `client`.
    pub(crate) fn close(&mut self, client: ClientId) -> Option<Ticket> {
        let ticket = Ticket {
            client: self.client,
            generation: self.generation,
            sequence: 0,
            acknowledged_below: 0,
            outstanding: Vec::new(),
        };
        let idle = self.open && self.outstanding.is_empty() && !self.unsure;
        idle.then(|| {
            self.forgotten(ticket.generation, client);
            ticket
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_the_oldest_outstanding_command() {
        let mut session = CommandSession::new(ClientId([1; 16]));
        let (one, two) = (session.begin().unwrap(), session.begin().unwrap());
        assert_eq!((one.sequence, one.acknowledged_below), (1, 1));
        session.end(&two, true);
        assert_eq!(session.begin().unwrap().acknowledged_below, 1);
        session.end(&one, true);
        assert_eq!(session.begin().unwrap().acknowledged_below, 3);
    }

    #[test]
    fn a_forgotten_session_goes_on_under_another_id_once() {
        let mut session = CommandSession::new(ClientId([1; 16]));
        session.opened(0);
        assert_eq!(session.to_open(), None);
        let old = session.begin().unwrap();
        session.forgotten(0, ClientId([2; 16]));
        session.forgotten(0, ClientId([3; 16]));
        assert_eq!(session.to_open(), Some((ClientId([2; 16]), 1)));
        session.opened(0);
        assert!(session.to_open().is_some());
        let new = session.begin().unwrap();
        session.end(&old, true);
        assert_eq!(
            (new.sequence, session.begin().unwrap().acknowledged_below),
            (1, 1)
        );
    }

    #[test]
    fn a_session_is_closed_only_when_nothing_is_on_its_way() {
        let mut session = CommandSession::new(ClientId([1; 16]));
        assert_eq!(session.close(ClientId([9; 16])), None, "it was never opened");
        session.opened(0);
        let one = session.begin().unwrap();
        assert_eq!(session.close(ClientId([9; 16])), None);
        session.end(&one, true);
        assert_eq!(
            session.close(ClientId([2; 16])).unwrap().client,
            ClientId([1; 16])
        );
        assert_eq!(session.close(ClientId([9; 16])), None, "once");
        assert_eq!(session.to_open(), Some((ClientId([2; 16]), 1)));
        session.opened(1);
        let lost = session.begin().unwrap();
        session.end(&lost, false);
        let next = session.begin().unwrap();
        session.end(&next, true);
        assert_eq!(session.close(ClientId([9; 16])), None, "one may still come");
    }

    /// One stuck command once stopped all others after 1,000 numbers.
    #[test]
    fn a_slow_command_stops_no_other() {
        let mut session = CommandSession::new(ClientId([1; 16]));
        let stuck = session.begin().unwrap();
        for _ in 0..5_000 {
            let ticket = session.begin().unwrap();
            session.end(&ticket, true);
        }
        let ticket = session.begin().unwrap();
        assert_eq!(
            (ticket.acknowledged_below, &ticket.outstanding[..]),
            (ticket.sequence, &[1][..])
        );
        session.end(&stuck, true);
        assert_eq!(session.begin().unwrap().outstanding, []);
    }

    #[test]
    fn too_many_slow_commands_stop_the_numbers_before_the_cluster_does() {
        let mut session = CommandSession::new(ClientId([1; 16]));
        let stuck: Vec<Ticket> = (0..=MAX_OVERTAKEN).map(|_| session.begin().unwrap()).collect();
        while let Some(ticket) = session.begin() {
            assert!(ticket.outstanding.len() <= MAX_OVERTAKEN);
            assert!(ticket.sequence - ticket.acknowledged_below + (ticket.outstanding.len() as u64) < 1_024);
            assert!(ticket.sequence < 2_000, "it ends");
            session.end(&ticket, true);
        }
        session.end(&stuck[0], true);
        assert!(session.begin().is_some());
    }
}
