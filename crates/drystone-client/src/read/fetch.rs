//! Runs one piece: its outputs become calls, their answers its inputs.

use super::Opened;
use super::locate::{ExtentPage, Piece, Place, Preference};
use super::piece::{Input, Output, PieceRead};
use crate::admin::DamageReport;
use crate::error::{Error, ErrorKind};
use crate::latency::{HedgeBudget, Latency};
use crate::metrics::Metrics;
use crate::suspects::Suspects;
use bytes::Bytes;
use drystone_env::{BoxFuture, Monotonic};
use drystone_proto::Kind;
use drystone_proto::data::{Read, ReadReply};
use drystone_rpc::CallOptions;
use drystone_types::{Code, NodeId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Reads have a connection of their own beside small calls and bulk writes.
const READ_LANE: u8 = 2;
/// One replica may take this long before the next is asked: far beyond a busy disk, well within a deadline.
const PATIENCE: Duration = Duration::from_secs(2);
/// Hedging sooner than this would only race the network.
const HEDGE_LEAST: Duration = Duration::from_millis(2);
/// The same damage is not reported again within this time.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Damaged replicas remembered as reported.
const MAX_REPORTED: usize = 1024;

/// What all readers of a process share.
#[derive(Default)]
pub(crate) struct ReadPath {
    latency: Latency,
    hedges: HedgeBudget,
    suspects: Suspects,
    reported: Mutex<BTreeMap<(u64, u64), Monotonic>>,
    // Which of equal replicas this process reads.
    draw: u64,
}

impl ReadPath {
    /// For the process that drew `draw`.
    pub(crate) fn new(draw: u64) -> Self {
        Self {
            draw,
            ..Self::default()
        }
    }

    /// True if the damage of this replica was not reported lately; it counts as reported then.
    fn report_now(&self, chunk: u64, disk: u64, now: Monotonic) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.retain(|_, at| now.since(*at) < REPORT_EVERY);
        reported.len() < MAX_REPORTED && reported.insert((chunk, disk), now).is_none()
    }
}

enum Event {
    Answered {
        request: u32,
        replica: usize,
        result: Result<Bytes, Code>,
    },
    Located(Result<Arc<ExtentPage>, Error>),
}

/// The bytes of `piece`, verified, from whichever replica gives them.
pub(crate) async fn fetch(opened: Arc<Opened>, page: Arc<ExtentPage>, piece: Piece) -> Result<Bytes, Error> {
    let client = &opened.client;
    let clock = client.shared.env.clock.clone();
    let reads = &client.shared.reads;
    reads.hedges.earn();
    let hedge = (client.options().hedge && !opened.options.no_hedge)
        .then(|| reads.latency.p95())
        .flatten();
    let mut places = places(&opened, &page, piece, clock.now());
    let mut core = PieceRead::new(
        places.len(),
        hedge.map(|p95| p95.max(HEDGE_LEAST)),
        client.deadline(),
    );
    let mut events: FuturesUnordered<BoxFuture<Event>> = FuturesUnordered::new();
    let mut answers: BTreeMap<u32, Bytes> = BTreeMap::new();
    let (mut out, mut input) = (Vec::new(), Input::Tick);
    loop {
        core.on(clock.now(), input, &mut out);
        let mut wake = client.deadline();
        for output in out.drain(..) {
            match output {
                Output::Ask {
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
                        Metrics::add(&client.shared.metrics.hedges, 1);
                        events.push(ask(&opened, piece, request, replica, place));
                    } else {
                        // As if it had failed at once; it is asked again in the next round if need be.
                        let result = Err(Code::Busy);
                        events.push(Box::pin(std::future::ready(Event::Answered {
                            request,
                            replica,
                            result,
                        })));
                    }
                }
                Output::Report { replica, code } => {
                    if let Some(place) = places.get(replica) {
                        report(&opened, piece, place, code, clock.now());
                    }
                }
                Output::Locate => {
                    let opened = Arc::clone(&opened);
                    events.push(Box::pin(async move {
                        Event::Located(opened.page(piece.offset).await)
                    }));
                }
                Output::Wake(at) => wake = wake.min(at),
                Output::Done { request, hedged } => {
                    if hedged {
                        Metrics::add(&client.shared.metrics.hedges_won, 1);
                    }
                    let missing = || opened.error(ErrorKind::Unavailable, "an answer was lost");
                    return answers.remove(&request).ok_or_else(missing);
                }
                Output::Failed(code) => {
                    let what = format_args!("chunk {} at {}", piece.chunk, piece.chunk_offset);
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
            None => Input::Tick,
            Some(Event::Answered {
                request,
                replica,
                result,
            }) => {
                let result = match result {
                    Ok(bytes) => {
                        answers.insert(request, bytes);
                        Ok(())
                    }
                    Err(code) => {
                        failed(&opened, places.get(replica), code, clock.now());
                        Err(code)
                    }
                };
                Input::Answered { request, result }
            }
            Some(Event::Located(page)) => match page {
                Ok(page) => {
                    let moved = page.piece(piece.offset, piece.offset + piece.length);
                    // Compaction may have moved the bytes to another chunk: the piece is read from there.
                    if let Some(moved) = moved.filter(|moved| moved.chunk != piece.chunk) {
                        return Box::pin(moved_piece(opened, page, piece, moved)).await;
                    }
                    places = self::places(&opened, &page, piece, clock.now());
                    Input::Located {
                        replicas: places.len(),
                    }
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => Input::Located { replicas: 0 },
                Err(error) => return Err(error),
            },
        };
    }
}

/// Reads a piece whose bytes lie in another chunk now, maybe in several pieces.
async fn moved_piece(
    opened: Arc<Opened>,
    page: Arc<ExtentPage>,
    piece: Piece,
    first: Piece,
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

fn places(opened: &Opened, page: &ExtentPage, piece: Piece, now: Monotonic) -> Vec<Place> {
    let suspects = opened.client.shared.reads.suspects.now(now);
    let preference = Preference {
        disk: opened.options.prefer_disk,
        host: &opened.client.options().host,
        suspects: &suspects,
        draw: opened.client.shared.reads.draw,
    };
    page.places(piece.chunk, preference)
}

fn ask(opened: &Opened, piece: Piece, request: u32, replica: usize, place: &Place) -> BoxFuture<Event> {
    let client = opened.client.clone();
    let message = Read {
        chunk: piece.chunk,
        replica: Some(place.replica),
        offset: piece.chunk_offset,
        length: piece.length as u32,
        grant: Bytes::new(),
    };
    let channel = client
        .shared
        .channels
        .to_lane(&place.address, NodeId(place.node), READ_LANE);
    let began = client.shared.env.clock.now();
    let call = channel.call::<_, ReadReply>(
        Kind::Read,
        &message,
        None,
        CallOptions::until(began.plus(PATIENCE)),
    );
    Box::pin(async move {
        let result = match call.await {
            Ok(answer) if answer.payload.len() as u64 == piece.length => {
                client
                    .shared
                    .reads
                    .latency
                    .add(client.shared.env.clock.now().since(began));
                Ok(answer.payload)
            }
            Ok(_) => Err(Code::Corrupt),
            Err(error) => Err(error.code()),
        };
        Event::Answered {
            request,
            replica,
            result,
        }
    })
}

/// A replica did not give the bytes: it is asked last for a while if it was silent.
fn failed(opened: &Opened, place: Option<&Place>, code: Code, now: Monotonic) {
    let shared = &opened.client.shared;
    if code == Code::Busy {
        return;
    }
    Metrics::add(&shared.metrics.read_failovers, 1);
    if let Some(place) = place
        && matches!(code, Code::Unavailable | Code::Unknown)
    {
        shared.reads.suspects.add(place.node, now);
    }
}

/// Tells the leader, beside the read.
fn report(opened: &Opened, piece: Piece, place: &Place, code: Code, now: Monotonic) {
    let shared = &opened.client.shared;
    if !shared.reads.report_now(piece.chunk, place.replica.disk, now) {
        return;
    }
    Metrics::add(&shared.metrics.damage_reports, 1);
    let (client, report) = (
        opened.client.clone(),
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
        if let Err(error) = client.report_damage(report).await {
            tracing::warn!(%error, "a damage report was not delivered");
        }
    };
    shared.env.spawn.spawn("damage report", Box::pin(task));
}
