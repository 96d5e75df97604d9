//! Cuts a stream into stretches of a chunk each, keeps several under way, publishes.

use super::buffer::StretchFrame;
use super::holes::{self, HoleCount};
use super::options::{Published, WriteMode, WriteOptions};
use super::parts::WRITE;
use super::run::{Stretch, StretchJob, run};
use super::sealed::{SealedParts, Staged, keep};
use super::shared::WriteContext;
use crate::error::{Error, ErrorKind};
use crate::metrics::Metrics;
use crate::target::Target;
use bytes::Bytes;
use drystone_env::BufferMut;
use drystone_proto::record::PolicyRecord;
use drystone_types::{Code, MAX_CHUNK_BYTES, MAX_PAYLOAD_BYTES};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// A stream of unknown length begins with a chunk of this size, so that a file that turns out small does not hold
/// much space until it is sealed.
const FIRST_UNKNOWN: u64 = 8 << 20;
/// A file being written. Dropping it before [`Writer::finish`] leaves nothing visible; the space is given
/// back in the background.
pub struct Writer {
    pub(super) context: WriteContext,
    pub(super) target: Target,
    pub(super) options: WriteOptions,
    policy: Option<PolicyRecord>,
    gather: Option<(BufferMut, usize)>,
    pending: Option<Bytes>,
    taken: u64,
    open: Option<OpenStretch>,
    started: Option<Started>,
    // The unlinked inode that holds everything, if the parts did not wait for the publication.
    pub(super) staged: Option<Staged>,
    error: Option<Error>,
    /// Times that it was written again.
    pub(super) rewritten: u32,
    holes: HoleCount,
    hole_bytes: u64,
}

/// What there is once a stretch has begun.
struct Started {
    sealed: Arc<SealedParts>,
    // Its end is the end of the task that stages.
    _alive: oneshot::Sender<()>,
}

/// The stretch that takes the next bytes.
struct OpenStretch {
    jobs: mpsc::UnboundedSender<StretchJob>,
    room: u64,
    taken: u64,
}

impl Writer {
    pub(crate) fn new(context: WriteContext, target: Target, options: WriteOptions) -> Self {
        Self {
            context,
            target,
            options,
            policy: None,
            gather: None,
            pending: None,
            taken: 0,
            open: None,
            started: None,
            staged: None,
            error: None,
            rewritten: 0,
            holes: HoleCount::default(),
            hole_bytes: 0,
        }
    }

    /// Bytes taken so far.
    pub fn position(&self) -> u64 {
        self.data_position() + self.hole_bytes
    }

    /// Of these, bytes that are stored.
    fn data_position(&self) -> u64 {
        let pending = self.pending.as_ref().map_or(0, Bytes::len);
        let gathered = self.gather.as_ref().map_or(0, |(_, filled)| *filled);
        self.taken + (pending + gathered) as u64
    }

    /// Takes the next bytes. Returns when they are buffered or on their way, waiting while the budget of
    /// unacknowledged bytes is used up. Failures of chunk servers are dealt with behind it. Not cancel safe: a writer
    /// whose `write` was dropped must be dropped too.
    ///
    /// # Errors
    /// What makes the whole write impossible: `not_found`, `denied`, `not_enough_domains`, `no_space`,
    /// `unavailable`... Every later call returns the same.
    pub async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let result = match self.options.sparse && self.options.mode == WriteMode::Replace {
            true => self.take_sparse(data).await,
            false => self.take(data).await,
        };
        if let Err(error) = &result {
            self.error = Some(error.clone());
            self.open = None;
        }
        result
    }

    async fn take_sparse(&mut self, data: Bytes) -> Result<(), Error> {
        for piece in holes::pieces(data) {
            match piece.is_zero && self.holes.takes(self.data_position()) {
                true => self.add_hole(piece.data.len() as u64).await,
                false => self.take(piece.data).await?,
            }
        }
        Ok(())
    }

    /// A hole of what is written again: zeros, where there are too many holes for the chunks as they are cut now.
    pub(super) async fn take_hole(&mut self, mut length: u64) -> Result<(), Error> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        if self.holes.takes(self.data_position()) {
            self.add_hole(length).await;
            return Ok(());
        }
        while length > 0 {
            let here = length.min(ZEROS.len() as u64);
            self.take(Bytes::from_static(&ZEROS).slice(..here as usize))
                .await?;
            length -= here;
        }
        Ok(())
    }

    /// There is a hole behind what was taken.
    async fn add_hole(&mut self, length: u64) {
        let at = self.data_position();
        self.hole_bytes += length;
        let sealed = self.started().sealed.clone();
        sealed.hole(at, length).await;
    }

    pub(super) async fn take(&mut self, mut data: Bytes) -> Result<(), Error> {
        while !data.is_empty() {
            if let Some(full) = self.pending.take() {
                self.push(full, false).await?;
            }
            let frame = self.frame_bytes();
            match self.gather.take() {
                None if data.len() >= frame => self.pending = Some(data.split_to(frame)),
                gather => {
                    let (mut buffer, filled) =
                        gather.unwrap_or_else(|| (self.context.requester.pool().take(frame), 0));
                    let room = frame.min(buffer.len()).saturating_sub(filled);
                    let piece = data.split_to(room.min(data.len()));
                    buffer[filled..filled + piece.len()].copy_from_slice(&piece);
                    let filled = filled + piece.len();
                    if filled == buffer.len() {
                        self.pending = Some(buffer.freeze());
                    } else {
                        self.gather = Some((buffer, filled));
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes of the next frame: up to 1 MiB, and no more than the stretch has room for.
    fn frame_bytes(&self) -> usize {
        let room = self
            .open
            .as_ref()
            .map(|open| open.room - open.taken)
            .filter(|&room| room > 0);
        let first = self
            .options
            .chunk_bytes
            .or(self.context.requester.options().chunk_bytes);
        let policy = self.policy.map(|policy| policy.chunk_bytes);
        let room = room
            .or(policy)
            .or(first.map(|bytes| bytes.0))
            .unwrap_or(MAX_CHUNK_BYTES);
        room.clamp(1, MAX_PAYLOAD_BYTES as u64) as usize
    }

    pub(super) async fn policy(&mut self) -> Result<PolicyRecord, Error> {
        if let Some(policy) = self.policy {
            return Ok(policy);
        }
        self.target.message(WRITE)?;
        let policy = self
            .context
            .shared
            .policies
            .find(&self.context.requester, &self.target, &self.options)
            .await?;
        let policy = self.with_chunk_bytes(policy)?;
        self.policy = Some(policy);
        Ok(policy)
    }

    /// The policy with the chunk size that the caller asks for.
    pub(super) fn with_chunk_bytes(&self, mut policy: PolicyRecord) -> Result<PolicyRecord, Error> {
        if let Some(bytes) = self
            .options
            .chunk_bytes
            .or(self.context.requester.options().chunk_bytes)
        {
            policy.chunk_bytes = bytes.0;
        }
        let faults = policy.as_told().faults();
        if !faults.is_empty() {
            return Err(Error::new(
                ErrorKind::Invalid,
                WRITE,
                format!("{}: {}", self.target, faults.join("; ")),
            ));
        }
        Ok(policy)
    }

    /// Most bytes of the stretch that begins now.
    fn stretch_bytes(&self, policy: &PolicyRecord, exact: Option<u64>) -> u64 {
        let left = self
            .options
            .size_hint
            .and_then(|hint| hint.checked_sub(self.taken))
            .filter(|&left| left > 0);
        let guess = if self.taken == 0 {
            FIRST_UNKNOWN
        } else {
            policy.chunk_bytes
        };
        exact.or(left).unwrap_or(guess).min(policy.chunk_bytes)
    }

    /// Hands one frame to the open stretch, opening it if need be.
    async fn push(&mut self, data: Bytes, end: bool) -> Result<(), Error> {
        let policy = self.policy().await?;
        if let Some(error) = self.started.as_ref().and_then(|started| started.sealed.fault()) {
            return Err(error);
        }
        let mut data = data;
        while !data.is_empty() {
            if self.open.is_none() {
                let exact = end.then_some(data.len() as u64);
                self.start(policy, self.stretch_bytes(&policy, exact)).await?;
            }
            let Some(open) = &self.open else { continue };
            let now = data.split_to(((open.room - open.taken).min(data.len() as u64)) as usize);
            let length = now.len() as u64;
            let permit = self.permit(now.len()).await?;
            let frame = StretchFrame::new(now);
            self.taken += length;
            Metrics::add(&self.context.requester.metrics().bytes_written, length);
            let Some(open) = &mut self.open else { continue };
            open.taken += length;
            let sent = open.jobs.send(StretchJob::Frame(frame, permit)).is_ok();
            if !sent || open.taken == open.room || end && data.is_empty() {
                let _ = open.jobs.send(StretchJob::End);
                self.open = None;
            }
            if !sent {
                self.started().sealed.collect(0).await?;
                return Err(Error::new(ErrorKind::Unavailable, WRITE, self.target.to_string()));
            }
        }
        Ok(())
    }

    async fn start(&mut self, policy: PolicyRecord, max_bytes: u64) -> Result<(), Error> {
        let WriteContext {
            requester, shared, ..
        } = self.context.clone();
        let now = requester.now();
        let sealed = self.started().sealed.clone();
        // Beside a stretch that is slow no other is begun: its parts would wait for those of the slow one.
        let slow = shared.grants.life() / 6;
        let alone = sealed.oldest().await.is_some_and(|began| now.since(began) > slow);
        sealed
            .collect(if alone {
                0
            } else {
                requester.options().streams.saturating_sub(1)
            })
            .await?;
        sealed.stage_if_due().await?;
        self.holes.chunk_begins();
        let (jobs, inbox) = mpsc::unbounded_channel();
        let stretch = Stretch {
            policy,
            max_bytes,
            fresh: false,
            granted: None,
        };
        let (context, reporter) = (self.context.clone(), sealed.begin(now).await);
        let task = async move {
            let result = run(context, stretch, inbox, |part| reporter.sealed(part)).await;
            reporter.over(result);
        };
        requester.env().spawn.spawn("chunk writer", Box::pin(task));
        self.open = Some(OpenStretch {
            jobs,
            room: max_bytes,
            taken: 0,
        });
        Ok(())
    }

    /// From the first stretch on somebody looks after what is sealed.
    fn started(&mut self) -> &Started {
        let (context, options) = (&self.context, &self.options);
        self.started.get_or_insert_with(|| {
            let sealed = SealedParts::new(
                context.clone(),
                self.target.clone(),
                options.mode,
                options.parents,
            );
            let (alive, gone) = oneshot::channel();
            let task = keep(sealed.clone(), gone);
            let spawn = &context.requester.env().spawn;
            spawn.spawn("stager", Box::pin(task));
            Started {
                sealed,
                _alive: alive,
            }
        })
    }

    /// A part of the process's budget. When it is used up, what this writer has sent is made durable first, so that
    /// writers never wait for each other in a circle.
    pub(super) async fn permit(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let budget = &self.context.shared.budget;
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Ok(permit) = budget.clone().try_acquire_many_owned(wanted) {
            return Ok(permit);
        }
        if let Some(open) = &self.open {
            let _ = open.jobs.send(StretchJob::Flush);
        }
        let wait = budget.clone().acquire_many_owned(wanted);
        let deadline = self.context.requester.deadline();
        match self.context.requester.clock().until(deadline, wait).await {
            Some(Ok(permit)) => Ok(permit),
            _ => Err(Error::new(
                ErrorKind::Busy,
                WRITE,
                "the budget of unacknowledged bytes stayed used up",
            )),
        }
    }

    /// Waits until everything is durable on the replicas that the policy names, then publishes it with one command.
    ///
    /// # Errors
    /// `unknown` if the answer to that command did not come in time: then it may have happened. All others mean that
    /// nothing was published.
    pub async fn finish(mut self) -> Result<Published, Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let rest = match (self.pending.take(), self.gather.take()) {
            (Some(full), _) => full,
            (None, Some((mut buffer, filled))) => {
                buffer.set_len(filled);
                buffer.freeze()
            }
            (None, None) => Bytes::new(),
        };
        if self.started.is_none()
            && let Some(published) = self.finish_small(&rest).await?
        {
            return Ok(published);
        }
        self.push(rest, true).await?;
        if let Some(open) = self.open.take() {
            let _ = open.jobs.send(StretchJob::End);
        }
        let sealed = self.started().sealed.clone();
        sealed.collect(0).await?;
        let (content, staged) = sealed.take().await?;
        self.staged = staged;
        let failed = match self.publish_in_chunks(&content).await {
            Ok(outcome) => {
                sealed.published();
                return Ok(self.published(&outcome));
            }
            Err(failed) => failed,
        };
        match failed.code {
            Code::PolicyDiffers => {
                self.context.shared.policies.forget(&self.target);
                let (written, holes) = sealed.written().await;
                self.write_again(written, &holes, failed.error).await
            }
            Code::GrantExpired => {
                self.context.shared.grants.forget();
                Err(failed.error.about("the write took longer than its grants live"))
            }
            _ => Err(failed.error),
        }
    }

    /// Gives it up. The same as dropping it.
    pub fn abort(self) {}
}
