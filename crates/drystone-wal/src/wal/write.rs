//! Where batches go, and how they get there.

use super::{Current, Full, InFlight, RESERVE_BLOCKS, TOKEN_BIT, TURN_BLOCKS, Turning, Wal};
use crate::Lsn;
use crate::batch::OpenBatch;
use crate::format::{BLOCK_BYTES, Header};
use crate::segment::name;
use drystone_env::planted::{Bug, planted};
use drystone_env::{IoOp, IoRequest, IoToken, Monotonic, OpenOptions};
use std::sync::Arc;

/// Where a mark goes.
pub(super) enum Place {
    Here,
    Next,
}

impl Wal {
    /// Starts whatever can be started.
    pub(super) fn go_on(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
        if self.failed.is_some() {
            return;
        }
        if self.flush_wanted && self.in_flight.is_none() {
            if self.place_records() {
                self.flush_wanted = false;
                self.write_records(out);
            } else if self.frees() {
                // The records wait for the segments that this mark sets free.
                self.mark(out);
            }
        }
        if self.wants_segment() && self.create_at <= now {
            self.create_segment(out);
        }
    }

    pub(super) fn blocks_left(&self) -> u32 {
        self.current
            .segment
            .blocks()
            .saturating_sub(self.current.next_block + self.current.turn_blocks)
    }

    /// Makes the current segment one that the open batch fits into; false if there is none.
    fn place_records(&mut self) -> bool {
        if self.open.blocks() + RESERVE_BLOCKS <= self.blocks_left() {
            return true;
        }
        self.can_roll() && {
            self.roll();
            true
        }
    }

    /// One turn at a time.
    fn can_roll(&self) -> bool {
        !self.spare.is_empty() && self.turning.is_none()
    }

    /// True if there are segments that could be reused if the disk knew that they are released.
    fn frees(&self) -> bool {
        let needed = self.oldest_needed();
        // Those below are known to be free already, and wait for a turn.
        let mut full = self.full.iter();
        full.any(|full| (self.oldest..needed).contains(&full.generation))
    }

    /// Where a mark would go now. The reserve is given up only for segments that are gained, and only if no other
    /// is at hand.
    pub(super) fn place_mark(&self) -> Option<Place> {
        if self.blocks_left() > RESERVE_BLOCKS {
            Some(Place::Here)
        } else if !self.spare.is_empty() {
            self.can_roll().then_some(Place::Next)
        } else {
            (self.frees() && self.blocks_left() > 0).then_some(Place::Here)
        }
    }

    /// Writes a mark alone if there is a place for it.
    pub(super) fn mark(&mut self, out: &mut Vec<IoRequest>) {
        match self.place_mark() {
            Some(Place::Here) => self.write_mark(out),
            Some(Place::Next) => {
                self.roll();
                self.write_mark(out);
            }
            None => (),
        }
    }

    /// When a mark is due if nothing else is written: for the last batch, or at once for segments that wait to be
    /// reused.
    pub(super) fn mark_at(&self) -> Option<Monotonic> {
        let news = self.frees().then_some(Monotonic(0));
        news.or(self
            .unmarked_since
            .map(|since| since.plus(self.config.mark_after)))
    }

    /// The generation of the first segment that holds a record which is not released.
    fn oldest_needed(&self) -> u64 {
        let needed = self.full.iter().find(|full| full.next_lsn > self.released);
        needed.map_or(self.current.generation, |full| full.generation)
    }

    pub(super) fn wants_segment(&self) -> bool {
        (self.spare.len() as u64) < u64::from(self.config.spare_segments) && self.creating.is_none()
    }

    fn create_segment(&mut self, out: &mut Vec<IoRequest>) {
        let token = self.token();
        let number = self.next_file;
        self.next_file += 1;
        self.creating = Some((token, number));
        // With one it could not go on.
        let leave = match self.full.is_empty() && self.spare.is_empty() {
            true => 0,
            false => self.config.leave_bytes,
        };
        out.push(IoRequest {
            token,
            op: IoOp::Create {
                disk: Arc::clone(&self.disk),
                name: name(&self.config.directory, number),
                length: self.config.segment_bytes,
                options: OpenOptions {
                    direct: self.config.direct,
                    ..OpenOptions::default()
                },
                prewrite: true,
                leave,
            },
        });
    }

    /// Goes on in a spare segment; there must be one.
    fn roll(&mut self) {
        assert!(
            self.in_flight.is_none() && self.turning.is_none(),
            "a segment is left when all in it is durable, and the one before has its turn"
        );
        let segment = self
            .spare
            .pop_front()
            .expect("the caller has checked for a spare segment");
        let generation = self.current.generation + 1;
        let old = std::mem::replace(
            &mut self.current,
            Current {
                segment,
                generation,
                next_block: 0,
                turn_blocks: TURN_BLOCKS,
            },
        );
        // Every batch in it is durable, so what is durable is what it holds.
        let next_lsn = self.durable.next();
        self.full.push_back(Full {
            segment: old.segment,
            generation: old.generation,
            next_lsn,
            next_block: old.next_block,
        });
    }

    /// Writes the open batch into the current segment, where it must fit.
    fn write_records(&mut self, out: &mut Vec<IoRequest>) {
        let empty = self.open.successor();
        let batch = std::mem::replace(&mut self.open, empty);
        self.write(batch, Lsn(self.next_lsn.0 - 1), out);
    }

    /// Writes a mark into the current segment, where it must fit. The open batch stays as it is.
    fn write_mark(&mut self, out: &mut Vec<IoRequest>) {
        self.write(self.open.successor(), self.durable, out);
    }

    /// Writes `batch`, after which every record up to `last` is durable.
    fn write(&mut self, batch: OpenBatch, last: Lsn, out: &mut Vec<IoRequest>) {
        assert!(self.in_flight.is_none(), "one batch is in flight at a time");
        let blocks = batch.blocks();
        assert!(blocks <= self.blocks_left(), "the caller has found a place");
        let is_mark = batch.is_empty();
        let number = self.tail.number + 1;
        let oldest = self.oldest_needed();
        let place_blocks = self.current.next_block;
        assert!(
            self.tail.synced < number && oldest <= self.current.generation && self.oldest <= oldest,
            "batch {number} after synced {}, of segment {}, needs segment {oldest} and needed {}",
            self.tail.synced,
            self.current.generation,
            self.oldest
        );
        assert!(
            last >= self.durable && last < self.next_lsn && self.released <= self.durable.next(),
            "batch {number} makes {last} durable after {}, {} is next, {} released",
            self.durable,
            self.next_lsn,
            self.released
        );
        let header = Header {
            identity: self.config.identity,
            generation: self.current.generation,
            number,
            synced: self.tail.synced,
            first: self.durable.next().0,
            released: self.released.0,
            oldest,
            place_blocks,
            segment_blocks: self.current.segment.blocks(),
            previous_crc: self.tail.crc,
            ..Header::default()
        };
        let begins = (place_blocks == 0 && header.generation > 1).then(|| header.clone());
        let (parts, crc) = batch.finish(header);
        (self.tail.number, self.tail.crc) = (number, crc);
        self.current.next_block += blocks;
        let token = self.token();
        let offset = u64::from(place_blocks) * BLOCK_BYTES as u64;
        let file = Arc::clone(&self.current.segment.file);
        let write = IoRequest {
            token,
            op: IoOp::Write { file, offset, parts },
        };
        self.in_flight = Some(InFlight {
            token,
            syncing: false,
            write: Some(write.clone()),
            number,
            oldest,
            last,
            is_mark,
            begins,
        });
        out.push(write);
    }

    /// Writes the turn for `first`, a batch that is durable, into the segment before.
    pub(super) fn turn(&mut self, first: &Header, out: &mut Vec<IoRequest>) {
        let before = self.full.back();
        let has_place = |full: &&Full| full.next_block < full.segment.blocks() && !planted(Bug::TurnLeftOut);
        let Some(before) = before.filter(has_place) else {
            return;
        };
        let file = Arc::clone(&before.segment.file);
        let header = first.turn(before.segment.blocks());
        let offset = u64::from(header.place_blocks) * BLOCK_BYTES as u64;
        let (parts, _) = self.open.successor().finish(header);
        let token = self.token();
        let write = IoRequest {
            token,
            op: IoOp::Write {
                file: Arc::clone(&file),
                offset,
                parts,
            },
        };
        self.turning = Some(Turning {
            token,
            syncing: false,
            write: Some(write.clone()),
            file,
        });
        out.push(write);
    }

    pub(super) fn token(&mut self) -> IoToken {
        self.next_token += 1;
        IoToken(TOKEN_BIT | self.next_token)
    }

    /// The mark that ends an opening, if it need not touch the reserve.
    pub(super) fn first_mark(&mut self, out: &mut Vec<IoRequest>) {
        if self.blocks_left() > RESERVE_BLOCKS {
            self.write_mark(out);
        }
    }
}
