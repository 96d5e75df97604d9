//! Housekeeping: one bounded step of work that no caller waits for. It is a command, so every voter does the same.

use crate::key::{Key, above, dentry, number_at, numbers, table};
use crate::limits::{MAX_HOUSEKEEPING, RECLAIM_AT_ONCE};
use crate::namespace::{Context, Namespace, inode_key};
use crate::records::{corrupt, decode};
use crate::refusal::ReadError;
use crate::store::{Order, OrderedStore, StoreError};
use drystone_proto::command::{Housekeep, Outcome};
use drystone_proto::record::{DentryRecord, InodeKind, InodeRecord};
use std::collections::BTreeSet;

/// Queues whose keys begin with a log time.
const TIMED: [u8; 4] = [
    table::LEASE,
    table::SESSION_CHECK,
    table::CLOSED_SESSION,
    table::IDEMPOTENCY_EXPIRY,
];

impl<S: OrderedStore> Namespace<S> {
    /// One step: ends what has expired, then reclaims. Answers whether there is more.
    pub(crate) fn housekeep(&mut self, cx: &Context, command: &Housekeep) -> Result<Outcome, ReadError> {
        let limit = command.limit.clamp(1, MAX_HOUSEKEEPING) as usize;
        // Half of it is for unlinked trees, if there are any: what expires all the time would leave nothing for them.
        let reclaims = self
            .tables
            .first(&[table::RECLAIM], &[table::RECLAIM + 1], Order::Up)?;
        let kept = if reclaims.is_some() { limit / 2 } else { 0 };
        let mut left = limit - kept;
        for queue in TIMED {
            for (mark, _) in self.tables.page(&[queue], &due(queue, cx.now), left)? {
                left = left.saturating_sub(self.expire(cx, queue, &mark)?);
                if left == 0 {
                    break;
                }
            }
        }
        while left > 0
            && let Some(mark) = self.passed_mark()?
        {
            self.tables.delete(Key::from_slice(&mark));
            self.state.abandoned -= 1;
            left -= 1;
        }
        left += kept;
        while left > 0 {
            let Some((mark, _)) = self
                .tables
                .first(&[table::RECLAIM], &[table::RECLAIM + 1], Order::Up)?
            else {
                break;
            };
            let id = number_at(&mark, 1).ok_or_else(|| corrupt(&mark, "an inode", "a shorter key"))?;
            left = left.saturating_sub(self.reclaim(cx, id, left)?.max(1));
        }
        Ok(Outcome {
            more: self.housekeeping_due(cx.now)?,
            ..Outcome::default()
        })
    }

    /// True if a `Housekeep` at log time `now` would find work.
    ///
    /// # Errors
    /// The store failed.
    pub fn housekeeping_due(&self, now: u64) -> Result<bool, StoreError> {
        if self
            .tables
            .first(&[table::RECLAIM], &[table::RECLAIM + 1], Order::Up)?
            .is_some()
        {
            return Ok(true);
        }
        if self.passed_mark()?.is_some() {
            return Ok(true);
        }
        for queue in TIMED {
            if self
                .tables
                .first(&[queue], &due(queue, now), Order::Up)?
                .is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn expire(&mut self, cx: &Context, queue: u8, mark: &[u8]) -> Result<usize, StoreError> {
        match queue {
            table::SESSION_CHECK => self.check_session(cx, mark),
            table::CLOSED_SESSION => self.forget_session(mark),
            table::IDEMPOTENCY_EXPIRY => self.forget_key(cx, mark),
            _ => {
                let id = number_at(mark, 9).ok_or_else(|| corrupt(mark, "an inode", "a shorter key"))?;
                let mut inode = self.load_inode(id)?;
                let touched = 2 + 2 * inode.extents.min(RECLAIM_AT_ONCE) as usize;
                self.unstage(&mut inode);
                self.drop_file(cx, inode)?;
                Ok(touched)
            }
        }
    }

    /// Takes a detached inode apart as far as `limit` allows; returns how many records it touched.
    fn reclaim(&mut self, cx: &Context, id: u64, limit: usize) -> Result<usize, StoreError> {
        let inode = self.load_inode(id)?;
        match inode.kind() {
            InodeKind::File | InodeKind::SymbolicLink => self.reclaim_file(cx, inode, limit),
            InodeKind::Directory => self.reclaim_directory(cx, &inode, limit),
        }
    }

    fn reclaim_file(
        &mut self,
        cx: &Context,
        mut inode: InodeRecord,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let mut touched = BTreeSet::new();
        let removed = self.remove_extents(&mut inode, limit.div_ceil(2), &mut touched)?;
        self.doom_unreferenced(cx, &touched)?;
        if inode.extents == 0 {
            self.end_inode(inode.id);
        } else {
            inode.since = cx.since;
            self.tables.put(inode_key(inode.id), &inode);
        }
        Ok(2 * removed + 1)
    }

    fn reclaim_directory(
        &mut self,
        cx: &Context,
        inode: &InodeRecord,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let first = dentry(inode.id, "");
        let entries = self
            .tables
            .page(first.as_slice(), &above(first.as_slice()), limit)?;
        let all = entries.len() < limit;
        let mut touched = 0;
        for (done, (key, value)) in entries.iter().enumerate() {
            if touched >= limit && done > 0 {
                return Ok(touched);
            }
            let entry: DentryRecord = decode(key, value)?;
            let child = self.load_inode(entry.inode)?;
            self.tables.delete(Key::from_slice(key));
            self.count(&child, false);
            touched += 2;
            if child.kind() == InodeKind::Directory {
                self.queue(cx, child);
            } else {
                touched += 2 * child.extents.min(RECLAIM_AT_ONCE) as usize;
                self.drop_file(cx, child)?;
            }
        }
        if all {
            self.end_inode(inode.id);
        }
        Ok(touched + 1)
    }

    fn end_inode(&mut self, id: u64) {
        self.tables.delete(inode_key(id));
        self.tables.delete(numbers(table::RECLAIM, [id]));
    }
}

/// Above every mark of `queue` up to `now`.
fn due(queue: u8, now: u64) -> Vec<u8> {
    above(numbers(queue, [now]).as_slice())
}
