//! Opening: finds the log in its files, tells a torn tail from damage, and makes what it read durable.
//!
//! First every file is asked for the intact batch at its start: that names its generation. The newest such
//! segment is the tail; its last batch says which generation is the oldest one needed. All of them must be there,
//! and their batches must follow one another by number and by the CRC of the header before. Then everything that
//! is not part of this chain (the rest of the tail, files without an intact start, released ones) is searched for
//! a header that could only have been written after a batch that the chain lacks: that is damage. Nothing is
//! written before all this is known. That proof of a newest segment which is gone altogether is the turn in the last
//! block of the one before, needed or not.

use crate::format::{BLOCK_BYTES, Header, HeaderError, VERSION};
use crate::segment::{Batch, Block, Reader, SegmentFile, io_error, list, name};
use crate::{Found, Lsn, Recovered, Torn, Visitor, WalConfig, WalError};
use bytes::Bytes;
use drystone_env::planted::{Bug, planted};
use drystone_env::{BufferPool, Disk};
use std::collections::BTreeMap;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What is known of the log after reading it.
pub(crate) struct Image {
    /// In order of generation, the tail last; empty if the log is fresh.
    pub(crate) chain: Vec<Link>,
    /// The turn that is to be written, and the segment that it belongs into.
    pub(crate) turn: Option<(SegmentFile, Header)>,
    /// Files that are not needed.
    pub(crate) spare: Vec<SegmentFile>,
    /// The last batch, with its bytes and header CRC.
    pub(crate) last: Option<Last>,
    pub(crate) recovered: Recovered,
}

/// A segment of the chain.
pub(crate) struct Link {
    pub(crate) segment: SegmentFile,
    pub(crate) generation: u64,
    /// The number of the record after the segment's last one.
    pub(crate) next_lsn: u64,
    /// Bytes in batches.
    pub(crate) used: u64,
}

impl Link {
    /// The first block behind its batches.
    pub(crate) fn next_block(&self) -> u32 {
        (self.used / BLOCK) as u32
    }
}

/// The last batch of the log.
pub(crate) struct Last {
    pub(crate) header: Header,
    pub(crate) crc: u32,
    pub(crate) bytes: Bytes,
}

struct Recovery<'a> {
    config: &'a WalConfig,
    pool: &'a BufferPool,
}

/// Reads the log. Writes nothing.
pub(crate) fn read(
    disk: &dyn Disk,
    config: &WalConfig,
    pool: &BufferPool,
    visit: Visitor<'_>,
) -> Result<Image, WalError> {
    let recovery = Recovery { config, pool };
    let mut started: BTreeMap<u64, SegmentFile> = BTreeMap::new();
    let mut others = Vec::new();
    for segment in list(disk, &config.directory, config.direct)? {
        match recovery.generation(&segment)? {
            Some(generation) => {
                if let Some(other) = started.get(&generation) {
                    return Err(recovery.two_of_a_generation(other, &segment, generation));
                }
                started.insert(generation, segment);
            }
            None => others.push(segment),
        }
    }
    let Some((tail_generation, tail)) = started.last_key_value() else {
        recovery.search(others.iter().map(|segment| (segment, 0)), None)?;
        let recovered = Recovered {
            fresh: true,
            first: Lsn(1),
            ..Recovered::default()
        };
        return Ok(Image {
            chain: Vec::new(),
            turn: None,
            spare: others,
            last: None,
            recovered,
        });
    };
    let end = recovery.end_of_tail(tail, *tail_generation)?;
    let needed = end.oldest..=*tail_generation;
    let before = started.get(&(tail_generation - 1)).cloned();
    if let Some(missing) = needed
        .clone()
        .find(|generation| !started.contains_key(generation))
    {
        return Err(recovery.missing(missing, &others));
    }
    let (chain, released): (Vec<_>, Vec<_>) = started
        .into_iter()
        .partition(|(generation, _)| needed.contains(generation));
    let mut walk = Walk {
        recovery: &recovery,
        visit,
        last: None,
        start: None,
        end: None,
        released: end.released,
        found: Recovered::default(),
    };
    let mut links = Vec::with_capacity(chain.len());
    for (generation, segment) in chain {
        links.push(walk.segment(generation, segment)?);
    }
    let Walk {
        last,
        start,
        mut found,
        ..
    } = walk;
    let turn = match before.zip(start) {
        Some((segment, start)) => recovery.turn(segment, &start)?,
        None => None,
    };
    others.extend(released.into_iter().map(|(_, segment)| segment));
    let rest = links.last().map(|link| (&link.segment, link.used));
    found.torn = recovery.search(
        rest.into_iter().chain(others.iter().map(|file| (file, 0))),
        last.as_ref(),
    )?;
    if let Some(last) = &last {
        found.last = Lsn(last.header.next_lsn() - 1);
    }
    if found.records == 0 {
        found.first = found.last.next();
    }
    found.segments = links.len() as u32;
    Ok(Image {
        chain: links,
        turn,
        spare: others,
        last,
        recovered: found,
    })
}

impl Recovery<'_> {
    fn reader<'b>(&'b self, segment: &'b SegmentFile) -> Reader<'b> {
        Reader::new(segment, &self.config.directory, self.pool)
    }

    /// The generation that the batch at the start of the file names; `None` without an intact one.
    fn generation(&self, segment: &SegmentFile) -> Result<Option<u64>, WalError> {
        let mut reader = self.reader(segment);
        match reader.block(0)? {
            Block::Batch(batch) if batch.header.place_blocks == 0 && !batch.header.is_turn => {
                self.check_identity(reader.name(), &batch.header)?;
                Ok(Some(batch.header.generation))
            }
            Block::Torn(header) => self.check_identity(reader.name(), &header).map(|()| None),
            Block::None(HeaderError::Version(found)) => Err(WalError::Version {
                file: reader.name().to_owned(),
                found,
                known: VERSION,
            }),
            Block::Batch(_) | Block::None(_) | Block::End => Ok(None),
        }
    }

    fn check_identity(&self, file: &str, header: &Header) -> Result<(), WalError> {
        let (expected, found) = (self.config.identity, header.identity);
        if expected == found {
            Ok(())
        } else {
            Err(WalError::OtherLog {
                file: file.to_owned(),
                expected,
                found,
            })
        }
    }

    /// The last header of the segment's unbroken batches. The first one is intact.
    fn end_of_tail(&self, segment: &SegmentFile, generation: u64) -> Result<Header, WalError> {
        let mut reader = self.reader(segment);
        let mut last: Option<(Header, u32)> = None;
        let mut offset = 0;
        while let Block::Batch(batch) = reader.block(offset)?
            && self.belongs(&batch.header, generation, offset)
            && last
                .as_ref()
                .is_none_or(|(header, crc)| follows(&batch, header, *crc))
        {
            offset += batch.header.batch_bytes();
            last = Some((batch.header, batch.crc));
        }
        last.map(|(header, _)| header).ok_or_else(|| {
            self.damaged(
                reader.name(),
                0,
                format!("segment {generation}"),
                "a batch that was intact before",
                None,
            )
        })
    }

    /// The turn for the tail's first batch, and the segment before, which it belongs into. It is written again even if it
    /// is there: its sync may have failed, and what was read may have come from a page cache.
    fn turn(&self, segment: SegmentFile, start: &Header) -> Result<Option<(SegmentFile, Header)>, WalError> {
        let turn = start.turn(segment.blocks());
        let offset = u64::from(turn.place_blocks) * BLOCK;
        // An earlier version has put a mark in its place.
        let taken = match self.reader(&segment).block(offset)? {
            Block::Batch(batch) => self.belongs(&batch.header, turn.generation, offset),
            _ => false,
        };
        Ok((!taken).then_some((segment, turn)))
    }

    fn belongs(&self, header: &Header, generation: u64, offset: u64) -> bool {
        header.identity == self.config.identity
            && !header.is_turn
            && header.generation == generation
            && u64::from(header.place_blocks) * BLOCK == offset
    }

    /// Searches what is not part of the chain for proof that a batch after `last` was once durable. Finds the
    /// traces of a torn one on the way.
    fn search<'b>(
        &self,
        places: impl Iterator<Item = (&'b SegmentFile, u64)>,
        last: Option<&Last>,
    ) -> Result<Option<Torn>, WalError> {
        let number = last.map_or(0, |last| last.header.number);
        let mut tail_end: Option<(String, u64)> = None;
        let mut torn = None;
        for (segment, start) in places {
            let mut reader = self.reader(segment);
            let tail = last.is_some() && tail_end.is_none();
            if tail {
                tail_end = Some((reader.name().to_owned(), start));
            }
            let mut offset = start;
            loop {
                let mut step = BLOCK;
                match reader.block(offset)? {
                    Block::End => break,
                    Block::None(HeaderError::Damaged) if tail && offset == start => {
                        let reason = HeaderError::Damaged.to_string();
                        torn = Some(Torn {
                            file: reader.name().to_owned(),
                            offset,
                            reason,
                        });
                    }
                    Block::None(_) => (),
                    Block::Batch(batch) => {
                        self.check_proof(&reader, offset, &batch.header, true, number, &tail_end)?;
                        // Only a batch of ours is known to hold no other one.
                        if batch.header.identity == self.config.identity {
                            step = batch.header.batch_bytes();
                        }
                    }
                    Block::Torn(header) => {
                        self.check_proof(&reader, offset, &header, false, number, &tail_end)?;
                        if header.identity == self.config.identity && header.number == number + 1 {
                            let reason = "a batch that was not written completely".to_owned();
                            torn = Some(Torn {
                                file: reader.name().to_owned(),
                                offset,
                                reason,
                            });
                        }
                    }
                }
                offset += step;
            }
        }
        Ok(torn)
    }

    /// Fails if a header found at `offset` could only be there if batch `number + 1` had once been durable.
    fn check_proof(
        &self,
        reader: &Reader<'_>,
        offset: u64,
        header: &Header,
        intact: bool,
        number: u64,
        tail_end: &Option<(String, u64)>,
    ) -> Result<(), WalError> {
        let later = header.synced > number || (header.number > number && intact);
        if header.identity != self.config.identity || !later || planted(Bug::LogCutAtDamage) {
            return Ok(());
        }
        // The missing batch stood at the end of the tail or, if the roll-over came first, at the start of this file.
        let (file, at) = match tail_end {
            Some((file, at)) if file == reader.name() || offset == 0 => (file.clone(), *at),
            _ => (reader.name().to_owned(), 0),
        };
        let proof = Some((reader.name().to_owned(), offset, header.number));
        let expected = format!("batch {}", number + 1);
        Err(self.damaged(&file, at, expected, "no intact batch of that number", proof))
    }

    fn damaged(
        &self,
        file: &str,
        offset: u64,
        expected: String,
        block: &str,
        proof: Option<(String, u64, u64)>,
    ) -> WalError {
        WalError::Damaged {
            file: file.to_owned(),
            offset,
            expected,
            found: Found {
                block: block.to_owned(),
                proof,
            },
        }
    }

    fn missing(&self, generation: u64, others: &[SegmentFile]) -> WalError {
        let expected = format!("the first batch of segment {generation}");
        // If only one file has no intact start it must be that one.
        match others {
            [one] => self.damaged(
                &name(&self.config.directory, one.number),
                0,
                expected,
                "no intact batch",
                None,
            ),
            _ => self.damaged(
                &self.config.directory,
                0,
                expected,
                "no file that begins with it",
                None,
            ),
        }
    }

    fn two_of_a_generation(&self, one: &SegmentFile, other: &SegmentFile, generation: u64) -> WalError {
        let (one, other) = (
            name(&self.config.directory, one.number),
            name(&self.config.directory, other.number),
        );
        self.damaged(
            &other,
            0,
            format!("no second segment {generation} beside {one}"),
            "one",
            None,
        )
    }
}

fn follows(batch: &Batch, header: &Header, crc: u32) -> bool {
    let next = &batch.header;
    next.number == header.number + 1 && next.previous_crc == crc && next.first == header.next_lsn()
}

/// The second reading: along the chain, with the visitor.
struct Walk<'a, 'v> {
    recovery: &'a Recovery<'a>,
    visit: Visitor<'v>,
    last: Option<Last>,
    // The first batch of the last segment.
    start: Option<Header>,
    // Where the last batch ends.
    end: Option<(String, u64)>,
    released: u64,
    found: Recovered,
}

impl Walk<'_, '_> {
    fn segment(&mut self, generation: u64, segment: SegmentFile) -> Result<Link, WalError> {
        let recovery = self.recovery;
        let mut reader = recovery.reader(&segment);
        let mut offset = 0;
        while let Block::Batch(batch) = reader.block(offset)?
            && recovery.belongs(&batch.header, generation, offset)
            && self
                .last
                .as_ref()
                .is_none_or(|last| follows(&batch, &last.header, last.crc))
        {
            self.check_start(&reader, &batch.header, segment.bytes)?;
            self.visit(&batch, reader.name(), offset)?;
            if offset == 0 {
                self.start = Some(batch.header.clone());
            }
            offset += batch.header.batch_bytes();
            self.last = Some(Last {
                header: batch.header,
                crc: batch.crc,
                bytes: batch.bytes,
            });
        }
        if offset == 0 {
            return Err(self.gap(&reader, generation));
        }
        self.end = Some((reader.name().to_owned(), offset));
        let next_lsn = self.last.as_ref().map_or(1, |last| last.header.next_lsn());
        Ok(Link {
            segment,
            generation,
            next_lsn,
            used: offset,
        })
    }

    /// The segment's first batch is intact (or it would have no generation) and yet does not follow the last one
    /// of the segment before: what is between them is gone.
    fn gap(&self, reader: &Reader<'_>, generation: u64) -> WalError {
        let number = self.last.as_ref().map_or(0, |last| last.header.number + 1);
        let (file, offset) = self.end.clone().unwrap_or_else(|| (reader.name().to_owned(), 0));
        let proof = Some((reader.name().to_owned(), 0, number + 1));
        let expected = format!("batch {number} before segment {generation}");
        self.recovery
            .damaged(&file, offset, expected, "no intact batch of that number", proof)
    }

    fn check_start(&self, reader: &Reader<'_>, header: &Header, bytes: u64) -> Result<(), WalError> {
        let length = u64::from(header.segment_blocks) * BLOCK;
        if bytes < length {
            let found = format!("a file of {bytes} bytes");
            let expected = format!("a segment of {length} bytes");
            return Err(self
                .recovery
                .damaged(reader.name(), bytes, expected, &found, None));
        }
        if self.last.is_none() && header.first > self.released {
            let expected = format!("record {}", self.released);
            let found = format!("a log that begins with record {}", header.first);
            return Err(self.recovery.damaged(reader.name(), 0, expected, &found, None));
        }
        Ok(())
    }

    fn visit(&mut self, batch: &Batch, file: &str, offset: u64) -> Result<(), WalError> {
        for (index, range) in batch.records.iter().enumerate() {
            let lsn = Lsn(batch.header.first + index as u64);
            if lsn.0 < self.released {
                continue;
            }
            if self.found.records == 0 {
                self.found.first = lsn;
            }
            self.found.records += 1;
            (self.visit)(lsn, batch.bytes.slice(range.clone())).map_err(|reason| WalError::Refused {
                lsn,
                file: file.to_owned(),
                offset,
                reason,
            })?;
        }
        Ok(())
    }
}

/// Removes spare files that cannot be used again and gives the others.
pub(crate) fn tidy(
    disk: &dyn Disk,
    config: &WalConfig,
    spare: Vec<SegmentFile>,
) -> Result<Vec<SegmentFile>, WalError> {
    let (kept, useless): (Vec<_>, Vec<_>) = spare
        .into_iter()
        .partition(|segment| segment.bytes == config.segment_bytes);
    for segment in &useless {
        let name = name(&config.directory, segment.number);
        disk.unlink(&name).map_err(io_error(format!("remove {name}")))?;
    }
    if !useless.is_empty() {
        disk.sync_dir(&config.directory)
            .map_err(io_error(format!("sync {}", config.directory)))?;
    }
    Ok(kept)
}
