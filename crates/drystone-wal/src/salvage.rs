//! Reads what is left of a damaged log. Writes nothing.
//!
//! Opening refuses a damaged log as a whole; this is for the tool that rescues what an operator decides to keep.
//! Nothing is believed that a checksum does not confirm: a record comes from an intact batch, and two batches
//! that follow one another by number follow by the CRC of the header before too, or the first one is left out.
//! What is missing between them is told with its place and the number of its records, which the next intact
//! header knows. Memory: a hundred bytes per batch.

use crate::format::{BLOCK_BYTES, Header, HeaderError};
use crate::recovery;
use crate::segment::{Block, Reader, SegmentFile, list};
use crate::{Lsn, Torn, WalConfig, WalError};
use bytes::Bytes;
use drystone_env::{BufferPool, Disk};
use std::collections::BTreeMap;

/// Records that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    /// `directory/name` of the segment in which they should begin, or of the one before.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// The first of them.
    pub first: Lsn,
    /// How many.
    pub records: u64,
}

/// What [`salvage`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Salvaged {
    /// Why the log does not open; `None` if it does.
    pub fault: Option<String>,
    /// Records visited.
    pub records: u64,
    /// Bytes of the batches that they were in.
    pub bytes: u64,
    /// What is missing before the last record visited, in order.
    pub gaps: Vec<Gap>,
    /// The log went on with this record in a segment that is gone. How many there were nothing tells.
    pub gone_from: Option<Lsn>,
    /// A batch behind the last record that is not intact: an incomplete write, or damage; nothing tells which.
    pub tail: Option<Torn>,
    /// Blocks that the disk refused to read.
    pub unreadable_blocks: u64,
}

struct Place {
    segment: usize,
    offset: u64,
    header: Header,
    crc: u32,
}

/// Visits every intact record that is not released, in the order of their numbers, whatever is missing between.
///
/// # Errors
/// [`WalError::Io`] if the directory cannot be listed or a file not opened.
pub fn salvage(
    disk: &dyn Disk,
    config: &WalConfig,
    pool: &BufferPool,
    visit: &mut dyn FnMut(Lsn, Bytes),
) -> Result<Salvaged, WalError> {
    let segments = list(disk, &config.directory, config.direct)?;
    let fault = recovery::read(disk, config, pool, &mut |_, _| Ok(())).err();
    let mut found = Salvaged {
        fault: fault.map(|fault| fault.to_string()),
        ..Salvaged::default()
    };
    let mut places: BTreeMap<u64, Place> = BTreeMap::new();
    let mut latest = (0, 0);
    for (index, segment) in segments.iter().enumerate() {
        collect(
            config,
            pool,
            (index, segment),
            &mut places,
            &mut found,
            &mut latest,
        );
    }
    drop_what_is_not_followed(&mut places);
    let Some(last) = places.last_key_value().map(|(_, place)| place) else {
        return Ok(found);
    };
    let released = last.header.released;
    found.gone_from = (latest.0 > last.header.number).then_some(Lsn(latest.1));
    let end = (last.segment, last.offset + last.header.batch_bytes());
    let mut next = (released, config.directory.clone(), 0);
    let mut number = None;
    for place in places.values().filter(|place| place.header.next_lsn() > released) {
        let Some(segment) = segments.get(place.segment) else {
            continue;
        };
        let mut reader = Reader::new(segment, &config.directory, pool);
        let batch_missing = number.is_some_and(|number| place.header.number > number);
        number = Some(place.header.number + 1);
        if place.header.first > next.0 || batch_missing {
            found.gaps.push(Gap {
                file: next.1,
                offset: next.2,
                first: Lsn(next.0),
                records: place.header.first.saturating_sub(next.0),
            });
        }
        next = (
            place.header.next_lsn(),
            reader.name().to_owned(),
            place.offset + place.header.batch_bytes(),
        );
        // It was intact a moment ago: what is not any more is missing to the caller all the same.
        let Ok(Block::Batch(batch)) = reader.careful().block(place.offset) else {
            found.gaps.push(Gap {
                file: reader.name().to_owned(),
                offset: place.offset,
                first: Lsn(place.header.first),
                records: u64::from(place.header.records),
            });
            continue;
        };
        found.bytes += batch.header.batch_bytes();
        for (index, range) in batch.records.iter().enumerate() {
            let lsn = Lsn(batch.header.first + index as u64);
            if lsn.0 >= released {
                found.records += 1;
                visit(lsn, batch.bytes.slice(range.clone()));
            }
        }
    }
    found.tail = segments
        .get(end.0)
        .and_then(|segment| tail(config, pool, segment, end.1));
    Ok(found)
}

/// The intact batches of one segment, and the `latest` turn: the number of its batch and of the first record in that.
fn collect(
    config: &WalConfig,
    pool: &BufferPool,
    (index, segment): (usize, &SegmentFile),
    places: &mut BTreeMap<u64, Place>,
    found: &mut Salvaged,
    latest: &mut (u64, u64),
) {
    let mut reader = Reader::new(segment, &config.directory, pool);
    let mut offset = 0;
    loop {
        let mut step = BLOCK_BYTES as u64;
        match reader.block(offset) {
            Ok(Block::End) => return,
            Ok(Block::Batch(batch)) if batch.header.identity == config.identity && batch.header.is_turn => {
                let turn = (batch.header.number, batch.header.first);
                *latest = turn.max(*latest);
            }
            Ok(Block::Batch(batch)) if batch.header.identity == config.identity => {
                step = batch.header.batch_bytes();
                let place = Place {
                    segment: index,
                    offset,
                    header: batch.header,
                    crc: batch.crc,
                };
                // What an earlier use of a file left behind has a lower generation.
                let newer = |present: &Place| present.header.generation >= place.header.generation;
                if !places.get(&place.header.number).is_some_and(newer) {
                    places.insert(place.header.number, place);
                }
            }
            Ok(_) => {}
            Err(_) if !reader.is_careful() => {
                // Once more, block by block: a window of many fails with one of them.
                reader = Reader::new(segment, &config.directory, pool);
                reader.careful();
                continue;
            }
            Err(_) => found.unreadable_blocks += 1,
        }
        offset += step;
    }
}

fn drop_what_is_not_followed(places: &mut BTreeMap<u64, Place>) {
    let pairs = places.iter().zip(places.iter().skip(1));
    let strangers: Vec<u64> = pairs
        .filter(|((number, place), (next_number, next))| {
            **next_number == **number + 1
                && (next.header.previous_crc != place.crc || next.header.first != place.header.next_lsn())
        })
        .map(|((number, _), _)| *number)
        .collect();
    for number in strangers {
        places.remove(&number);
    }
}

fn tail(config: &WalConfig, pool: &BufferPool, segment: &SegmentFile, offset: u64) -> Option<Torn> {
    let mut reader = Reader::new(segment, &config.directory, pool);
    let reason = match reader.careful().block(offset) {
        Ok(Block::Torn(header)) if header.identity == config.identity => {
            format!("{} records that are not intact", header.records)
        }
        Ok(Block::None(HeaderError::Damaged)) => HeaderError::Damaged.to_string(),
        Err(error) => error.to_string(),
        Ok(_) => return None,
    };
    Some(Torn {
        file: reader.name().to_owned(),
        offset,
        reason,
    })
}

#[cfg(test)]
mod tests;
