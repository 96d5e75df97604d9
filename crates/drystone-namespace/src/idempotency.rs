//! Idempotency keys of doors' callers: a retry through another door gets the first answer.
//!
//! Kept per (caller, key) with the hash of what it was used for. What counts as an answer is what a retry cannot
//! change: success, and refusals that say how things are. A refusal after which the client is meant to try
//! otherwise (take a new grant, write to a chunk, come back later) leaves the key free.

use crate::key;
use crate::limits::{KEY_KEPT, MAX_KEYS_PER_CALLER, MAX_LABEL_BYTES};
use crate::namespace::{Context, Namespace};
use crate::records::{KeyCountRecord, KeyRecord, MarkRecord, corrupt};
use crate::refusal::{ReadError, refuse};
use crate::store::{OrderedStore, StoreError};
use drystone_proto::command::{Origin, Outcome};
use drystone_types::Code;

/// Refusals that are kept as the answer.
const KEPT: [Code; 7] = [
    Code::NotFound,
    Code::Exists,
    Code::NotEmpty,
    Code::IsADirectory,
    Code::NotADirectory,
    Code::PreconditionFailed,
    Code::Range,
];

impl<S: OrderedStore> Namespace<S> {
    /// Runs `command` unless the origin's key has an answer already.
    pub(crate) fn with_idempotency_key(
        &mut self,
        cx: &Context,
        origin: &Origin,
        command: impl FnOnce(&mut Self) -> Result<Outcome, ReadError>,
    ) -> Result<Outcome, ReadError> {
        if origin.key.is_empty() {
            return command(self);
        }
        if origin.key.len() > MAX_LABEL_BYTES || origin.key_hash.len() != 16 {
            return refuse(
                Code::Invalid,
                format!("a key has at most {MAX_LABEL_BYTES} bytes, its hash 16"),
            );
        }
        let user = cx.caller.user.as_str();
        let at = key::idempotency(user, &origin.key);
        if let Some(known) = self
            .tables
            .load_record::<KeyRecord>(&at)?
            .filter(|known| known.expires > cx.now)
        {
            if known.hash != origin.key_hash {
                return refuse(Code::IdempotencyKeyReused, "the key was used for another request");
            }
            let outcome = known.outcome;
            return outcome.ok_or_else(|| corrupt(at.as_slice(), "an outcome", "a record without it").into());
        }
        let count_key = key::idempotency_count(user);
        let count = self
            .tables
            .load_record::<KeyCountRecord>(&count_key)?
            .map_or(0, |record| record.count);
        if count >= MAX_KEYS_PER_CALLER {
            return refuse(
                Code::Busy,
                format!("{user} has {MAX_KEYS_PER_CALLER} idempotency keys of the last day"),
            );
        }
        let before = self.state;
        let outcome = match command(self) {
            Ok(outcome) => outcome,
            Err(ReadError::Refused(refusal)) if KEPT.contains(&refusal.code) => {
                self.tables.rollback();
                self.state = before;
                refusal.outcome()
            }
            Err(error) => return Err(error),
        };
        if outcome.code != 0 && !KEPT.iter().any(|code| code.number() == outcome.code) {
            return Ok(outcome);
        }
        // An expired one that housekeeping has not met is replaced, its expiry mark with it.
        let mut count = count;
        match self.tables.load_record::<KeyRecord>(&at)? {
            Some(old) => self
                .tables
                .delete(key::idempotency_expiry(old.expires, user, &origin.key)),
            None => count += 1,
        }
        let expires = cx.now.saturating_add(KEY_KEPT);
        let record = KeyRecord {
            hash: origin.key_hash.clone(),
            outcome: Some(outcome.clone()),
            expires,
            since: cx.since,
        };
        self.tables.put(at, &record);
        self.tables.put(
            key::idempotency_expiry(expires, user, &origin.key),
            &MarkRecord { since: cx.since },
        );
        self.tables.put(
            count_key,
            &KeyCountRecord {
                count,
                since: cx.since,
            },
        );
        Ok(outcome)
    }

    /// Forgets one key whose expiry mark is due.
    pub(crate) fn forget_key(&mut self, cx: &Context, mark: &[u8]) -> Result<usize, StoreError> {
        let fault = || corrupt(mark, "a caller and a key", "a shorter key");
        let length = usize::from(*mark.get(9).ok_or_else(fault)?);
        let user = mark.get(10..10 + length).ok_or_else(fault)?;
        let user = std::str::from_utf8(user).map_err(|_| fault())?;
        self.tables.delete(key::Key::from_slice(mark));
        let mut at = vec![key::table::IDEMPOTENCY];
        at.extend_from_slice(&mark[9..]);
        self.tables.delete(key::Key::from_slice(&at));
        let count_key = key::idempotency_count(user);
        let count = self
            .tables
            .load_record::<KeyCountRecord>(&count_key)?
            .map_or(0, |record| record.count);
        if count <= 1 {
            self.tables.delete(count_key);
        } else {
            self.tables.put(
                count_key,
                &KeyCountRecord {
                    count: count - 1,
                    since: cx.since,
                },
            );
        }
        Ok(3)
    }
}
