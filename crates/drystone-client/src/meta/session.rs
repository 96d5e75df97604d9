//! The idempotency session: which sequence number a command gets, and which answers may be forgotten. A synchronous
//! core.

use drystone_types::ClientId;
use std::collections::BTreeSet;

/// Numbers between the oldest outstanding command and the newest: a little less than the namespace keeps answers for.
const MAX_WINDOW: u64 = 1000;

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

/// A command's place in a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ticket {
    pub(crate) client: ClientId,
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    pub(crate) acknowledged_below: u64,
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

    /// The next command's place; `None` while the oldest one outstanding is too far behind.
    pub(crate) fn begin(&mut self) -> Option<Ticket> {
        let sequence = self.next;
        if self
            .outstanding
            .first()
            .is_some_and(|&oldest| sequence - oldest >= MAX_WINDOW)
        {
            return None;
        }
        self.next += 1;
        self.outstanding.insert(sequence);
        let acknowledged_below = self.outstanding.first().copied().unwrap_or(sequence);
        Some(Ticket {
            client: self.client,
            generation: self.generation,
            sequence,
            acknowledged_below,
        })
    }

    /// Nobody waits for this command any more. Not `known`: it may still be on its way.
    pub(crate) fn end(&mut self, ticket: Ticket, known: bool) {
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
        session.end(two, true);
        assert_eq!(session.begin().unwrap().acknowledged_below, 1);
        session.end(one, true);
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
        session.end(old, true);
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
        session.end(one, true);
        assert_eq!(
            session.close(ClientId([2; 16])).unwrap().client,
            ClientId([1; 16])
        );
        assert_eq!(session.close(ClientId([9; 16])), None, "once");
        assert_eq!(session.to_open(), Some((ClientId([2; 16]), 1)));
        session.opened(1);
        let lost = session.begin().unwrap();
        session.end(lost, false);
        let next = session.begin().unwrap();
        session.end(next, true);
        assert_eq!(session.close(ClientId([9; 16])), None, "one may still come");
    }

    #[test]
    fn one_stuck_command_stops_the_numbers_before_the_cluster_does() {
        let mut session = CommandSession::new(ClientId([1; 16]));
        let stuck = session.begin().unwrap();
        (0..999).for_each(|_| {
            let ticket = session.begin().unwrap();
            session.end(ticket, true);
        });
        assert_eq!(session.begin(), None);
        session.end(stuck, true);
        assert!(session.begin().is_some());
    }
}
