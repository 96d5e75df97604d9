//! Opening: recovery, then a log that is ready to write.

use super::{Current, Full, TURN_BLOCKS, Tail, Wal};
use crate::batch::OpenBatch;
use crate::format::{BLOCK_BYTES, Header};
use crate::recovery::{self, Image};
use crate::segment::{SegmentFile, io_error, name};
use crate::{Lsn, Recovered, Visitor, WalConfig, WalError};
use drystone_env::{BufferPool, Disk, Monotonic, OpenOptions, io};
use std::collections::VecDeque;
use std::sync::Arc;

impl Wal {
    /// Opens or creates the log, blocking, and hands every record that is not released to `visit`, in order, one
    /// batch in memory at a time. What is visited is durable when this returns.
    ///
    /// # Errors
    /// See [`WalError`]; nothing was written to a log that is damaged.
    ///
    /// # Panics
    /// If the sizes in `config` are not as documented there.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: WalConfig,
        pool: BufferPool,
        visit: Visitor<'_>,
    ) -> Result<(Wal, Recovered), WalError> {
        config.check();
        let directory = &config.directory;
        disk.create_dir(directory)
            .map_err(io_error(format!("make {directory}")))?;
        // A process that was killed may have left names that are not durable yet.
        disk.sync_dir("")
            .map_err(io_error("sync the data directory".into()))?;
        disk.sync_dir(directory)
            .map_err(io_error(format!("sync {directory}")))?;
        let image = recovery::read(&*disk, &config, &pool, visit)?;
        make_durable(&config, &pool, &image)?;
        let Image {
            mut chain,
            turn: _,
            spare,
            last,
            recovered,
        } = image;
        let files = chain.iter().map(|link| &link.segment).chain(&spare);
        let mut next_file = files.map(|file| file.number + 1).max().unwrap_or(1);
        // Only now: until here the durable headers might have called one of them needed.
        let mut spare = VecDeque::from(recovery::tidy(&*disk, &config, spare)?);
        // Earlier versions left one block to marks and none to the turn: in a segment that is full but for it, on a full
        // disk, nothing could be released any more if that block were the turn's.
        let has_records = last.as_ref().is_some_and(|last| last.header.records > 0);
        let current = match chain.pop() {
            Some(link) => Current {
                turn_blocks: match link.next_block() + TURN_BLOCKS == link.segment.blocks() && has_records {
                    true => 0,
                    false => TURN_BLOCKS,
                },
                next_block: link.next_block(),
                generation: link.generation,
                segment: link.segment,
            },
            None => {
                if spare.is_empty() {
                    spare.push_back(create(&*disk, &config, next_file, &pool)?);
                    next_file += 1;
                }
                let segment = spare.pop_front().expect("there is one now");
                Current {
                    segment,
                    generation: 1,
                    next_block: 0,
                    turn_blocks: TURN_BLOCKS,
                }
            }
        };
        let full = chain.into_iter().map(|link| Full {
            next_block: link.next_block(),
            segment: link.segment,
            generation: link.generation,
            next_lsn: Lsn(link.next_lsn),
        });
        let before = Header {
            first: 1,
            released: 1,
            oldest: 1,
            ..Header::default()
        };
        let (header, crc) = last.map_or((before, 0), |last| (last.header, last.crc));
        let next_lsn = Lsn(header.next_lsn());
        let mut wal = Wal {
            open: OpenBatch::new(pool.clone(), config.batch_bytes as usize),
            full: full.collect(),
            current,
            oldest: header.oldest,
            turning: None,
            spare,
            next_file,
            creating: None,
            create_at: Monotonic(0),
            create_fault: None,
            in_flight: None,
            flush_wanted: false,
            tail: Tail {
                number: header.number,
                synced: header.number,
                crc,
            },
            next_lsn,
            durable: Lsn(next_lsn.0 - 1),
            released: Lsn(header.released),
            unmarked_since: None,
            failed: None,
            again: None,
            next_token: 0,
            disk,
            config,
        };
        let mut out = Vec::new();
        wal.first_mark(&mut out);
        crate::tools::run(&mut wal, Monotonic(0), out, &pool)?;
        Ok((wal, recovered))
    }
}

/// Writes the last batch again and syncs it: the sync of the process before may have failed, and what was read
/// may have come from a page cache that will never write it. Then the turn.
fn make_durable(config: &WalConfig, pool: &BufferPool, image: &Image) -> Result<(), WalError> {
    let (Some(last), Some(link)) = (&image.last, image.chain.last()) else {
        return Ok(());
    };
    write(config, &link.segment, &last.header, &last.bytes)?;
    let Some((segment, header)) = &image.turn else {
        return Ok(());
    };
    // One block.
    let (parts, _) = OpenBatch::new(pool.clone(), config.batch_bytes as usize).finish(header.clone());
    write(config, segment, header, &parts[0])
}

fn write(config: &WalConfig, segment: &SegmentFile, header: &Header, bytes: &[u8]) -> Result<(), WalError> {
    let name = name(&config.directory, segment.number);
    let offset = u64::from(header.place_blocks) * BLOCK_BYTES as u64;
    let written = segment.file.write_at(bytes, offset);
    written.map_err(io_error(format!("write {name}")))?;
    segment.file.sync_data().map_err(io_error(format!("sync {name}")))
}

fn create(
    disk: &dyn Disk,
    config: &WalConfig,
    number: u64,
    pool: &BufferPool,
) -> Result<SegmentFile, WalError> {
    let name = name(&config.directory, number);
    let options = OpenOptions {
        direct: config.direct,
        ..OpenOptions::default()
    };
    let file = io::create(disk, &name, (config.segment_bytes, 0), options, true, pool)
        .map_err(io_error(format!("create {name}")))?;
    Ok(SegmentFile {
        number,
        file,
        bytes: config.segment_bytes,
    })
}
