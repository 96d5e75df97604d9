//! Runs one piece: its outputs become calls, their answers its inputs.

use super::locate::{ExtentPage, Preference, ReadPiece, ReplicaPlace};
use super::open_file::OpenFile;
use super::piece::{PieceInput, PieceOutput, PieceRead};
use super::shared::ReadContext;
use crate::error::{Error, ErrorKind};
use crate::meta::{Failed, Repeat};
use crate::metrics::Metrics;
use crate::waits::{Tried, Wait, Waiting, Waits, outcome};
use bytes::Bytes;
use drystone_env::{BoxFuture, Monotonic};
use drystone_proto::Kind;
use drystone_proto::cluster::Empty;
use drystone_proto::data::{Read, ReadReply};
use drystone_proto::meta::DamageReport;
use drystone_proto::record::HOLE;
use drystone_rpc::CallOptions;
use drystone_types::{Code, MAX_PAYLOAD_BYTES};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Reads have a connection of their own beside small calls and bulk writes.
const READ_LANE: u8 = 2;
/// One replica may take this long before the next is asked: far beyond a busy disk, well within a deadline.
const PATIENCE: Duration = Duration::from_secs(2);
/// A piece for which nothing has come after this long, and a replica failed, is waited for. Sooner only a piece of which all
/// have failed: it may lie here, read, because nobody takes the bytes before it.
const SHOW_AFTER: Duration = Duration::from_millis(1500);
/// Hedging sooner than this would only race the network.
const HEDGE_LEAST: Duration = Duration::from_millis(2);
/// What holes are read as.
static ZEROS: [u8; MAX_PAYLOAD_BYTES] = [0; MAX_PAYLOAD_BYTES];

enum FetchEvent {
    Answered {
        request: u32,
        replica: usize,
        result: Result<Bytes, (Code, String)>,
    },
    Located(Result<Arc<ExtentPage>, Error>),
}

/// The bytes of `piece`, verified, from whichever replica gives them.
pub(crate) async fn fetch(
    opened: Arc<OpenFile>,
    page: Arc<ExtentPage>,
    piece: ReadPiece,
) -> Result<Bytes, Error> {
    if piece.chunk == HOLE {
        // At most what one frame carries.
        let zeros = ZEROS.get(..piece.length as usize);
        return zeros
            .map(Bytes::from_static)
            .ok_or_else(|| opened.error(ErrorKind::Corrupt, "a piece longer than a frame"));
    }
    let requester = &opened.context.requester;
    let clock = requester.clock().clone();
    let reads = &opened.context.shared;
    reads.hedges.earn();
    let hedge = (requester.options().hedge && !opened.options.no_hedge)
        .then(|| reads.latency.p95())
        .flatten();
    let mut places = places(&opened, &page, piece, clock.now());
    let mut core = PieceRead::new(
        places.len(),
        hedge.map(|p95| p95.max(HEDGE_LEAST)),
        requester.deadline(),
    );
    let mut wait = ReplicaWait::new(clock.now(), requester.deadline());
    wait.located(piece, &places);
    let mut events: FuturesUnordered<BoxFuture<FetchEvent>> = FuturesUnordered::new();
    let mut answers: BTreeMap<u32, Bytes> = BTreeMap::new();
    let (mut out, mut input) = (Vec::new(), PieceInput::Tick);
    loop {
        core.on(clock.now(), input, &mut out);
        let mut wake = requester.deadline();
        for output in out.drain(..) {
            match output {
                PieceOutput::Ask {
                    request,
                    replica,
                    hedge,
                } => {
                    let Some(place) = places.get(replica) else {
                        continue;
                    };
                    if !hedge {
                        events.push(ask(&opened, piece, request, replica, place));
                    } else if reads.hedges.spend() {
                        Metrics::add(&requester.metrics().hedges, 1);
                        events.push(ask(&opened, piece, request, replica, place));
                    } else {
                        // As if it had failed at once; it is asked again in the next round if need be.
                        let result = Err((Code::Busy, "was not asked".to_owned()));
                        events.push(Box::pin(std::future::ready(FetchEvent::Answered {
                            request,
                            replica,
                            result,
                        })));
                    }
                }
                PieceOutput::Report { replica, code } => {
                    if let Some(place) = places.get(replica) {
                        report(&opened, piece, place, code, clock.now());
                    }
                }
                PieceOutput::Locate => {
                    // None of the replicas could be read.
                    wait.show(&requester.options().waits);
                    let opened = Arc::clone(&opened);
                    events.push(Box::pin(async move {
                        FetchEvent::Located(opened.page(piece.offset).await)
                    }));
                }
                PieceOutput::Wake(at) => wake = wake.min(at),
                PieceOutput::Done { request, hedged } => {
                    if hedged {
                        Metrics::add(&requester.metrics().hedges_won, 1);
                    }
                    let missing = || opened.error(ErrorKind::Unavailable, "an answer was lost");
                    let bytes = answers.remove(&request).ok_or_else(missing)?;
                    assert_eq!(bytes.len() as u64, piece.length, "the bytes of one piece");
                    return Ok(bytes);
                }
                PieceOutput::Failed(code) => {
                    let what = wait.over(piece, clock.now());
                    return Err(opened.error(ErrorKind::from_code(code), what));
                }
            }
        }
        let event = tokio::select! {
            biased;
            Some(event) = events.next(), if !events.is_empty() => Some(event),
            () = clock.sleep_until(wake) => None,
        };
        input = match event {
            None => PieceInput::Tick,
            Some(FetchEvent::Answered {
                request,
                replica,
                result,
            }) => {
                let result = match result {
                    Ok(bytes) => {
                        answers.insert(request, bytes);
                        Ok(())
                    }
                    Err((code, outcome)) => {
                        let place = places.get(replica);
                        failed(&opened, place, code, clock.now());
                        wait.failed(place, code, outcome);
                        if clock.now().since(wait.began) >= SHOW_AFTER {
                            wait.show(&requester.options().waits);
                        }
                        Err(code)
                    }
                };
                PieceInput::Answered { request, result }
            }
            Some(FetchEvent::Located(page)) => match page {
                Ok(page) => {
                    let moved = page.piece(piece.offset, piece.offset + piece.length);
                    // Compaction may have moved the bytes to another chunk: the piece is read from there.
                    if let Some(moved) = moved.filter(|moved| moved.chunk != piece.chunk) {
                        return Box::pin(moved_piece(opened, page, piece, moved)).await;
                    }
                    places = self::places(&opened, &page, piece, clock.now());
                    wait.located(piece, &places);
                    PieceInput::Located {
                        replicas: places.len(),
                    }
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => PieceInput::Located { replicas: 0 },
                Err(error) => return Err(error),
            },
        };
    }
}

/// A piece that has not been read yet, for those who wait and for the error in the end.
struct ReplicaWait {
    began: Monotonic,
    until: Monotonic,
    tried: Tried,
    waiting: Option<Waiting>,
}

impl ReplicaWait {
    fn new(began: Monotonic, until: Monotonic) -> Self {
        Self {
            began,
            until,
            tried: Tried::default(),
            waiting: None,
        }
    }

    /// The replicas of `piece` are at `places`.
    fn located(&mut self, piece: ReadPiece, places: &[ReplicaPlace]) {
        if places.is_empty() {
            let outcome = "has no replica on a server that the leader can name";
            self.tried.note(&format!("chunk {}", piece.chunk), outcome);
        }
    }

    /// The replica at `place` did not give the bytes.
    fn failed(&mut self, place: Option<&ReplicaPlace>, code: Code, outcome: String) {
        // A second read for which there was no budget says nothing of its server.
        if let Some(place) = place.filter(|_| code != Code::Busy) {
            self.tried.note(&place.address, outcome);
        }
    }

    /// It goes on.
    fn show(&mut self, waits: &Waits) {
        match &self.waiting {
            Some(waiting) => waiting.tried(&self.tried),
            None => {
                self.waiting = Some(waits.begin(Wait {
                    what: "a replica that can be read",
                    began: self.began,
                    until: self.until,
                    tried: self.tried.clone(),
                }));
            }
        }
    }

    /// It is given up `now`.
    fn over(&self, piece: ReadPiece, now: Monotonic) -> String {
        let seconds = now.since(self.began).as_secs_f64().round();
        let (chunk, offset) = (piece.chunk, piece.chunk_offset);
        let what = format!("no replica of chunk {chunk} gave its bytes at {offset} in {seconds} s");
        match self.tried.is_empty() {
            true => what,
            false => format!("{what}: {}", self.tried),
        }
    }
}

/// Reads a piece whose bytes lie in another chunk now, maybe in several pieces.
async fn moved_piece(
    opened: Arc<OpenFile>,
    page: Arc<ExtentPage>,
    piece: ReadPiece,
    first: ReadPiece,
) -> Result<Bytes, Error> {
    let (mut all, end) = (
        bytes::BytesMut::with_capacity(piece.length as usize),
        piece.offset + piece.length,
    );
    let mut next = Some(first);
    while let Some(part) = next {
        all.extend_from_slice(&fetch(Arc::clone(&opened), Arc::clone(&page), part).await?);
        let position = part.offset + part.length;
        next = if position < end {
            page.piece(position, end)
        } else {
            None
        };
    }
    match all.len() as u64 == piece.length {
        true => Ok(all.freeze()),
        false => Err(opened.error(
            ErrorKind::Corrupt,
            format_args!("no extent after {}", piece.offset),
        )),
    }
}

fn places(opened: &OpenFile, page: &ExtentPage, piece: ReadPiece, now: Monotonic) -> Vec<ReplicaPlace> {
    let suspects = opened.context.shared.suspects.now(now);
    let preference = Preference {
        disk: opened.options.prefer_disk,
        host: &opened.context.requester.options().host,
        suspects: &suspects,
        draw: opened.context.shared.draw,
    };
    page.places(piece.chunk, preference)
}

fn ask(
    opened: &OpenFile,
    piece: ReadPiece,
    request: u32,
    replica: usize,
    place: &ReplicaPlace,
) -> BoxFuture<FetchEvent> {
    let context = opened.context.clone();
    let message = Read {
        chunk: piece.chunk,
        replica: Some(place.replica),
        offset: piece.chunk_offset,
        length: piece.length as u32,
        grant: Bytes::new(),
    };
    let channel = context
        .requester
        .channels()
        .to_lane(&place.address, place.node, READ_LANE);
    let began = context.requester.now();
    let call = channel.call::<_, ReadReply>(
        Kind::Read,
        &message,
        None,
        CallOptions::until(began.plus(PATIENCE)),
    );
    Box::pin(async move {
        let result = match call.await {
            Ok(answer) if answer.payload.len() as u64 == piece.length => {
                context.shared.latency.add(context.requester.now().since(began));
                Ok(answer.payload)
            }
            Ok(_) => Err((Code::Corrupt, "gave too few bytes".to_owned())),
            Err(error) => Err((error.code(), outcome(&error))),
        };
        FetchEvent::Answered {
            request,
            replica,
            result,
        }
    })
}

/// A replica did not give the bytes: it is asked last for a while if it was silent.
fn failed(opened: &OpenFile, place: Option<&ReplicaPlace>, code: Code, now: Monotonic) {
    let ReadContext { requester, shared } = &opened.context;
    if code == Code::Busy {
        return;
    }
    Metrics::add(&requester.metrics().read_failovers, 1);
    if let Some(place) = place
        && matches!(code, Code::Unavailable | Code::Unknown)
    {
        shared.suspects.add(place.node, now);
    }
}

/// Tells the leader, beside the read.
fn report(opened: &OpenFile, piece: ReadPiece, place: &ReplicaPlace, code: Code, now: Monotonic) {
    let ReadContext { requester, shared } = &opened.context;
    if !shared.report_now(piece.chunk, place.replica.disk, now) {
        return;
    }
    Metrics::add(&requester.metrics().damage_reports, 1);
    let (asking, report) = (
        requester.clone(),
        DamageReport {
            chunk: piece.chunk,
            replica: Some(place.replica),
            offset: piece.chunk_offset,
            code: code.number(),
            detail: format!("read of {} bytes by a client", piece.length),
        },
    );
    tracing::warn!(chunk = piece.chunk, disk = place.replica.disk, code = %code, "a replica could not give its bytes");
    let task = async move {
        let told = asking.ask("report damage", Kind::ReportDamage, Repeat::Read, &report);
        let told: Result<Empty, Failed> = told.await;
        if let Err(Failed { error, .. }) = told {
            tracing::warn!(%error, "a damage report was not delivered");
        }
    };
    requester.env().spawn.spawn("damage report", Box::pin(task));
}
