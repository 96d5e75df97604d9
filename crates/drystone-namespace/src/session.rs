//! Sessions: each command of a client is applied at most once.
//!
//! A session is (client id); its commands are numbered from 1. The answer to each is kept until the client says
//! that it has it ([`Acknowledged`]), so a repeated number gets the first answer. A command of a session that
//! is not open is refused, not applied: its answer may have been forgotten. For the same reason the id of a
//! closed session can never be opened again, however late a frame comes: a client whose session is gone takes a new
//! id. Ids of closed sessions are kept for a day, and at most a million of them. What is forgotten then raises the
//! *session floor* to the log index that opened it; to open a session a client says which index was applied when it
//! drew its id, and below the floor it is refused, as a late frame of any forgotten session is.

use crate::key;
use crate::limits::{
    CLOSED_SESSION_KEPT, MAX_CLOSED_SESSIONS, MAX_GROUPS, MAX_LABEL_BYTES, MAX_OVERTAKEN, MAX_SESSION_TTL,
    MAX_SESSIONS, MAX_UNACKNOWLEDGED,
};
use crate::namespace::{Context, Namespace};
use crate::records::{AnswerRecord, MarkRecord, SessionRecord, corrupt};
use crate::refusal::{ReadError, refuse};
use crate::store::{Order, OrderedStore, StoreError};
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::{OpenSession, Origin, Outcome};
use drystone_types::Code;

/// What a command's number says about it.
pub(crate) enum Entered {
    /// It was applied before; this was the answer.
    Repeated(Outcome),
    /// It is new.
    Fresh(SessionRecord),
}

/// Which answers of a session have arrived: those to all numbers below `below`, but for some.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Acknowledged {
    below: u64,
    // Ascending, all lower than `below`.
    outstanding: Vec<u64>,
}

impl Acknowledged {
    /// What a command says. It never says that its own answer has arrived.
    fn said_by(origin: &Origin) -> Result<Self, ReadError> {
        let ascending = origin.outstanding.is_sorted_by(|one, next| one < next);
        let lower = origin
            .outstanding
            .last()
            .is_none_or(|&last| last < origin.acknowledged_below);
        if !ascending || !lower || origin.outstanding.len() > MAX_OVERTAKEN {
            return refuse(
                Code::Invalid,
                format!("outstanding commands are at most {MAX_OVERTAKEN}, ascending, of lower numbers"),
            );
        }
        let below = origin.acknowledged_below.min(origin.sequence);
        let outstanding = origin.outstanding.iter().copied();
        Ok(Self {
            below,
            outstanding: outstanding.filter(|&sequence| sequence < below).collect(),
        })
    }

    fn known(session: &SessionRecord) -> Self {
        Self {
            below: session.acknowledged_below,
            outstanding: session.outstanding.clone(),
        }
    }

    fn has(&self, sequence: u64) -> bool {
        sequence < self.below && self.outstanding.binary_search(&sequence).is_err()
    }

    /// What has arrived by either of them.
    fn or(&self, other: &Self) -> Self {
        let (more, less) = if self.below >= other.below {
            (self, other)
        } else {
            (other, self)
        };
        let outstanding = more.outstanding.iter().copied();
        Self {
            below: more.below,
            outstanding: outstanding.filter(|&sequence| !less.has(sequence)).collect(),
        }
    }

    /// Numbers up to `sequence` whose answers have not arrived, itself not counted.
    fn missing_before(&self, sequence: u64) -> u64 {
        self.outstanding.len() as u64 + sequence.saturating_sub(self.below)
    }
}

/// Nothing was done, and asking again may well be answered otherwise: such an answer is not kept.
fn is_transient(outcome: &Outcome) -> bool {
    [Code::Busy, Code::SessionUnknown]
        .iter()
        .any(|code| code.number() == outcome.code)
}

fn client(origin: &Origin) -> Result<[u8; 16], ReadError> {
    match <[u8; 16]>::try_from(&origin.client[..]) {
        Ok(client) => Ok(client),
        Err(_) => refuse(Code::Invalid, "a client id has 16 bytes"),
    }
}

fn check_origin(origin: &Origin) -> Result<[u8; 16], ReadError> {
    let longest = origin
        .groups
        .iter()
        .map(String::len)
        .max()
        .unwrap_or(0)
        .max(origin.user.len());
    if longest > MAX_LABEL_BYTES || origin.groups.len() > MAX_GROUPS {
        return refuse(
            Code::TooLarge,
            format!("names have at most {MAX_LABEL_BYTES} bytes, groups {MAX_GROUPS}"),
        );
    }
    client(origin)
}

impl<S: OrderedStore> Namespace<S> {
    /// True if the answer to this command of a client is kept: the command again would change nothing and get it.
    ///
    /// # Errors
    /// The store failed.
    pub fn has_answer(&self, client: &[u8; 16], sequence: u64) -> Result<bool, StoreError> {
        let key = key::answer(client, sequence);
        Ok(self.tables.get(&key)?.is_some())
    }

    /// Checks the origin's session and number. Changes nothing.
    pub(crate) fn enter_session(&mut self, cx: &Context, origin: &Origin) -> Result<Entered, ReadError> {
        let client = check_origin(origin)?;
        if origin.sequence == 0 {
            return refuse(Code::Invalid, "commands of a session are numbered from 1");
        }
        let session = self.tables.load_record::<SessionRecord>(&key::session(&client))?;
        let Some(session) = session.filter(|session| session.is_open(cx.now)) else {
            return refuse(
                Code::SessionUnknown,
                "the session is not open: the command was not applied",
            );
        };
        let known = Acknowledged::known(&session);
        if known.has(origin.sequence) {
            return refuse(
                Code::Unknown,
                format!(
                    "the answer to {} was acknowledged and is forgotten",
                    origin.sequence
                ),
            );
        }
        let said = Acknowledged::said_by(origin)?;
        if let Some(answer) = self
            .tables
            .load_record::<AnswerRecord>(&key::answer(&client, origin.sequence))?
        {
            let outcome = answer.outcome;
            return match outcome {
                Some(outcome) => Ok(Entered::Repeated(outcome)),
                None => {
                    let key = key::answer(&client, origin.sequence);
                    Err(corrupt(key.as_slice(), "an answer", "a record without it").into())
                }
            };
        }
        if known.or(&said).missing_before(origin.sequence) >= MAX_UNACKNOWLEDGED {
            return refuse(
                Code::Busy,
                format!("{MAX_UNACKNOWLEDGED} answers are not acknowledged yet"),
            );
        }
        Ok(Entered::Fresh(session))
    }

    /// Keeps the answer, forgets those that the client has.
    pub(crate) fn leave_session(
        &mut self,
        cx: &Context,
        origin: &Origin,
        before: SessionRecord,
        outcome: &Outcome,
    ) {
        let Ok(client) = client(origin) else { return };
        let known = Acknowledged::known(&before);
        // Whoever entered said something sound.
        let now = Acknowledged::said_by(origin).map_or_else(|_| known.clone(), |said| known.or(&said));
        assert!(
            !now.has(origin.sequence),
            "the answer to a command is kept before it arrives"
        );
        // Answers are kept for numbers of the window only.
        let window = known.below..now.below.min(known.below + MAX_UNACKNOWLEDGED);
        for sequence in known.outstanding.iter().copied().chain(window) {
            if now.has(sequence) {
                self.tables.delete(key::answer(&client, sequence));
            }
        }
        let session = SessionRecord {
            used: cx.now,
            acknowledged_below: now.below,
            outstanding: now.outstanding,
            since: cx.since,
            ..before
        };
        self.tables.put(key::session(&client), &session);
        if !is_transient(outcome) && !planted(Bug::AnswersNotKept) {
            let answer = AnswerRecord {
                outcome: Some(outcome.clone()),
                since: cx.since,
            };
            self.tables
                .put_new(key::answer(&client, origin.sequence), &answer);
        }
        self.tables.commit();
    }

    /// Opens a session or keeps it open.
    pub(crate) fn open_session(
        &mut self,
        cx: &Context,
        origin: &Origin,
        command: &OpenSession,
    ) -> Result<Outcome, ReadError> {
        let client = check_origin(origin)?;
        if command.ttl == 0 {
            return refuse(Code::Invalid, "a session lives for some time");
        }
        let ttl = command.ttl.min(MAX_SESSION_TTL);
        let key = key::session(&client);
        match self.tables.load_record::<SessionRecord>(&key)? {
            Some(session) if session.is_open(cx.now) => {
                self.tables.put(
                    key,
                    &SessionRecord {
                        ttl,
                        used: cx.now,
                        since: cx.since,
                        // Above what any frame can say that opened it before.
                        opened: cx.index,
                        ..session
                    },
                );
                Ok(Outcome::default())
            }
            Some(_) => refuse(Code::SessionUnknown, "this session is over: take a new client id"),
            None => {
                if command.seen < self.state.session_floor {
                    let floor = self.state.session_floor;
                    return refuse(
                        Code::SessionUnknown,
                        format!(
                            "an id drawn at {}, before {floor}, may be a forgotten one",
                            command.seen
                        ),
                    );
                }
                if self.state.sessions >= MAX_SESSIONS {
                    return refuse(Code::Busy, format!("{MAX_SESSIONS} sessions are open"));
                }
                self.state.sessions += 1;
                let session = SessionRecord {
                    ttl,
                    used: cx.now,
                    acknowledged_below: 1,
                    closed: 0,
                    since: cx.since,
                    outstanding: Vec::new(),
                    opened: cx.index,
                };
                self.tables.put_new(key, &session);
                let check = key::session_check(cx.now.saturating_add(ttl), &client);
                self.tables.put_new(check, &MarkRecord { since: cx.since });
                Ok(Outcome {
                    created: true,
                    ..Outcome::default()
                })
            }
        }
    }

    /// Closes the origin's session. Closing one that is not open is done already.
    pub(crate) fn close_session(&mut self, cx: &Context, origin: &Origin) -> Result<Outcome, ReadError> {
        let client = check_origin(origin)?;
        if let Some(session) = self.tables.load_record::<SessionRecord>(&key::session(&client))?
            && session.closed == 0
        {
            self.end_session(cx, &client, session)?;
        }
        Ok(Outcome::default())
    }

    /// Closes an open session: answers go, the id stays for a while.
    fn end_session(
        &mut self,
        cx: &Context,
        client: &[u8; 16],
        session: SessionRecord,
    ) -> Result<usize, StoreError> {
        let first = key::answer(client, 0);
        let answers = self.tables.page(
            first.as_slice(),
            &key::above(&first.as_slice()[..17]),
            3 * MAX_UNACKNOWLEDGED as usize,
        )?;
        for (key, _) in &answers {
            self.tables.delete(key::Key::from_slice(key));
        }
        assert!(
            session.closed == 0 && self.state.sessions > 0,
            "an open session ends once"
        );
        self.state.sessions -= 1;
        self.state.closed_sessions += 1;
        let closed = SessionRecord {
            closed: cx.now.max(1),
            since: cx.since,
            ..session
        };
        self.tables.put(key::session(client), &closed);
        let until = closed.closed.saturating_add(CLOSED_SESSION_KEPT);
        let mark = key::closed_session(until, client);
        self.tables.put_new(mark, &MarkRecord { since: cx.since });
        if self.state.closed_sessions > MAX_CLOSED_SESSIONS
            && let Some((mark, _)) = self.tables.first(
                &[key::table::CLOSED_SESSION],
                &[key::table::CLOSED_SESSION + 1],
                Order::Up,
            )?
        {
            self.forget_session(&mark)?;
        }
        Ok(answers.len())
    }

    /// Looks at one session whose check is due; returns how many records it touched.
    pub(crate) fn check_session(&mut self, cx: &Context, mark: &[u8]) -> Result<usize, StoreError> {
        let client = client_of(mark)?;
        self.tables.delete(key::Key::from_slice(mark));
        let key = key::session(&client);
        let Some(session) = self.tables.load_record::<SessionRecord>(&key)? else {
            return Ok(1);
        };
        let mut touched = 2;
        if session.is_open(cx.now) {
            let next = session.used.saturating_add(session.ttl);
            self.tables
                .put(key::session_check(next, &client), &MarkRecord { since: cx.since });
        } else if session.closed == 0 {
            touched += self.end_session(cx, &client, session)?;
        }
        Ok(touched)
    }

    /// Forgets a closed session; its id stays below the session floor. Returns how many records it touched.
    pub(crate) fn forget_session(&mut self, mark: &[u8]) -> Result<usize, StoreError> {
        let client = client_of(mark)?;
        self.tables.delete(key::Key::from_slice(mark));
        let key = key::session(&client);
        let session = self.tables.load_record::<SessionRecord>(&key)?;
        let Some(session) = session.filter(|session| session.closed != 0) else {
            return Err(corrupt(mark, "the closed session of a mark", "none"));
        };
        self.tables.delete(key);
        self.state.closed_sessions -= 1;
        self.state.session_floor = self.state.session_floor.max(session.opened);
        Ok(2)
    }
}

/// The client in a mark's key, behind the time.
fn client_of(mark: &[u8]) -> Result<[u8; 16], StoreError> {
    let client = mark.get(9..).and_then(|client| client.try_into().ok());
    client.ok_or_else(|| corrupt(mark, "a client id", "a shorter key"))
}

impl SessionRecord {
    fn is_open(&self, now: u64) -> bool {
        self.closed == 0 && self.used.saturating_add(self.ttl) >= now
    }
}
