//! The batch chain: opening finds out whether a batch is missing between others.
//!
//! Every batch holds the state record and a link: its number, its applied index, the digest of the link before
//! and its own digest over all that it changes. A store that recovers each part on its own could lose a batch and
//! keep later ones; then a link is missing or does not fit.

use crate::key::{chain, local, number_at};
use crate::limits::CHAIN_KEPT;
use crate::namespace::OpenError;
use crate::records::{ChainRecord, StateRecord, decode_slice, encode};
use crate::store::{Batch, Order, OrderedStore, StoreError};
use std::ops::ControlFlow;

/// Local record: the state.
pub(crate) const STATE: u8 = 1;
/// Local record: a snapshot is being installed.
pub(crate) const INSTALLING: u8 = 3;

/// FNV-1a over length-prefixed parts. It tells states apart, it does not resist an attacker.
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn new(seed: u64) -> Self {
        Self(0xcbf2_9ce4_8422_2325 ^ seed)
    }

    pub(crate) fn add(&mut self, part: &[u8]) {
        self.word(part.len() as u64);
        let mut words = part.chunks_exact(8);
        for word in &mut words {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            self.word(u64::from_le_bytes(bytes));
        }
        for &byte in words.remainder() {
            self.word(u64::from(byte));
        }
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 ^= self.0 >> 29;
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0
    }
}

/// Adds state, link and the forgetting of an old link to a batch.
pub(crate) fn finish(batch: &mut Batch, state: &StateRecord, previous: &ChainRecord) -> ChainRecord {
    batch.push(local(STATE).as_slice(), Some(encode(state)));
    let mut digest = Digest::new(previous.digest);
    for (key, value) in batch.iter() {
        digest.add(key);
        digest.add(value.map_or(&[], |value| value));
    }
    let link = ChainRecord {
        number: state.batch,
        applied: state.applied,
        previous: previous.digest,
        digest: digest.finish(),
    };
    batch.push(chain(link.number).as_slice(), Some(encode(&link)));
    if let Some(old) = link.number.checked_sub(CHAIN_KEPT) {
        batch.push(chain(old).as_slice(), None);
    }
    link
}

/// Checks the chain of a store whose state record is `state`, and returns the last link.
pub(crate) fn check<S: OrderedStore>(store: &S, state: &StateRecord) -> Result<ChainRecord, OpenError> {
    let hole = |batch: u64, detail: String| OpenError::Hole { batch, detail };
    let mut last: Option<ChainRecord> = None;
    let mut fault: Option<OpenError> = None;
    let mut step = |key: &[u8], value: &[u8]| -> Result<(), OpenError> {
        let number = number_at(key, 2).ok_or_else(|| hole(0, "a link has no number".to_owned()))?;
        let link: ChainRecord = decode_slice(key, value).map_err(OpenError::Store)?;
        if link.number != number {
            return Err(hole(number, format!("its link says {}", link.number)));
        }
        let first_kept = state.batch.saturating_sub(CHAIN_KEPT - 1).max(1);
        match last {
            None if number > first_kept => {
                return Err(hole(first_kept, format!("the first link is {number}")));
            }
            Some(before) if before.number + 1 != number => {
                return Err(hole(
                    before.number + 1,
                    format!("after {} comes {number}", before.number),
                ));
            }
            Some(before) if before.digest != link.previous || before.applied > link.applied => {
                return Err(hole(number, "it does not follow from the one before".to_owned()));
            }
            _ => {}
        }
        last = Some(link);
        Ok(())
    };
    store
        .scan(
            chain(0).as_slice(),
            local(INSTALLING).as_slice(),
            Order::Up,
            &mut |key, value| match step(key, value) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    fault = Some(error);
                    ControlFlow::Break(())
                }
            },
        )
        .map_err(|error: StoreError| OpenError::Store(error))?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let last = last.unwrap_or_default();
    if (last.number, last.applied) != (state.batch, state.applied) {
        let detail = format!("the state is of batch {} at index {}", state.batch, state.applied);
        return Err(hole(last.number, detail));
    }
    Ok(last)
}
