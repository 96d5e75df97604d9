//! A user of a door: hyper's client, whose bodies come in pieces and may do something in the middle.

use crate::seams::Host;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use turmoil::net::TcpStream;

pub(crate) const DOOR: &str = "door:9700";
/// Bodies are sent and counted in pieces of this size.
pub(crate) const PIECE: usize = 32 << 10;

/// What hyper gathers for one write.
const BUFFER: usize = 64 << 10;
/// What lies in the socket and in hyper when the door does not read: 64 segments.
pub(crate) const USER_HOLDS: u64 = 65 * (BUFFER + PIECE) as u64;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What a user got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    /// What came of the body.
    pub(crate) body: Vec<u8>,
    /// hyper says that all of it came.
    pub(crate) whole: bool,
}

impl Got {
    /// The problem's stable name.
    pub(crate) fn code(&self) -> String {
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        value["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A body that is there already.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// `content` in pieces, one each `pace_ms`; before the piece with the byte `at` goes out, `act` is done, and if it
/// says so the body breaks off.
pub(crate) fn pieces(
    host: &Host,
    content: Bytes,
    pace_ms: u64,
    at: usize,
    act: impl Fn() -> bool + Send + Sync + 'static,
) -> Body {
    let clock = Arc::clone(&host.env.clock);
    let act = Arc::new(act);
    let starts = (0..content.len()).step_by(PIECE);
    let frames = stream::iter(starts).then(move |start| {
        let end = (start + PIECE).min(content.len());
        let (piece, clock, act) = (content.slice(start..end), Arc::clone(&clock), Arc::clone(&act));
        async move {
            clock.sleep(Duration::from_millis(pace_ms)).await;
            if (start..end).contains(&at) && act() {
                return Err(io::Error::other("the user gave up"));
            }
            Ok(Frame::data(piece))
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// A body that tells of each of its pieces as it is taken.
pub(crate) fn counted(body: Body, tell: impl Fn() + Send + 'static) -> Body {
    let tell = move |frame| {
        tell();
        frame
    };
    body.map_frame(tell).boxed_unsync()
}

/// A connection to a door.
pub(crate) struct User {
    sender: SendRequest<Body>,
    host: Host,
}

impl User {
    pub(crate) async fn connect(host: &Host) -> io::Result<Self> {
        let stream = TcpStream::connect(DOOR).await?;
        // turmoil counts what lies in a socket in segments, however large they are.
        let handshake = Builder::new()
            .writev(false)
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        let task = async move { drop(connection.await) };
        host.env.spawn.spawn("user", Box::pin(task));
        Ok(Self {
            sender,
            host: host.clone(),
        })
    }

    /// One request over the connection; the answer's body is not read yet.
    pub(crate) async fn begin(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Body,
    ) -> io::Result<http::Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path).header("host", DOOR);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(body).map_err(io::Error::other)?;
        self.sender.send_request(request).await.map_err(io::Error::other)
    }

    /// One request and all of its answer, waiting at most `ms`. `Err` if there was no answer.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Body,
        ms: u64,
    ) -> io::Result<Got> {
        let clock = Arc::clone(&self.host.env.clock);
        let deadline = clock.now().plus(Duration::from_millis(ms));
        let answer = clock
            .until(deadline, self.begin(method, path, headers, body))
            .await;
        let answer = answer.ok_or(io::ErrorKind::TimedOut)??;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut got = Got {
            status,
            headers,
            body: Vec::new(),
            whole: false,
        };
        read(&self.host, answer.into_body(), &mut got, ms).await;
        Ok(got)
    }
}

/// Reads a body to its end, or until nothing comes for `ms`.
pub(crate) async fn read(host: &Host, mut body: Incoming, got: &mut Got, ms: u64) {
    loop {
        let deadline = host.env.clock.now().plus(Duration::from_millis(ms));
        match host.env.clock.until(deadline, body.frame()).await {
            Some(Some(Ok(frame))) => got
                .body
                .extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Some(None) => {
                got.whole = true;
                return;
            }
            Some(Some(Err(_))) | None => return,
        }
    }
}

/// One request over a connection of its own.
pub(crate) async fn ask(
    host: &Host,
    method: Method,
    path: &str,
    headers: &[(&str, String)],
    body: Body,
    ms: u64,
) -> io::Result<Got> {
    User::connect(host)
        .await?
        .ask(method, path, headers, body, ms)
        .await
}
