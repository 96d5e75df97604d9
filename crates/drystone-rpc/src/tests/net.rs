//! A network in memory that can be cut, can fall silent and holds few bytes.

use drystone_env::{BoxFuture, BoxStream, Listener, Net};
use futures_io::{AsyncRead, AsyncWrite};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::sync::mpsc;

/// Bytes that one direction holds.
const PIPE_BYTES: usize = 64 << 10;

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    ended: bool,
    silent: bool,
    wakers: Vec<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

type Shared = Arc<Mutex<Pipe>>;

/// One end of a connection.
pub(super) struct End {
    incoming: Shared,
    outgoing: Shared,
}

pub(super) fn pair() -> (End, End) {
    let (a, b) = (Shared::default(), Shared::default());
    (
        End {
            incoming: Arc::clone(&a),
            outgoing: Arc::clone(&b),
        },
        End {
            incoming: b,
            outgoing: a,
        },
    )
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.incoming.lock().unwrap();
        if pipe.silent || (pipe.bytes.is_empty() && !pipe.ended) {
            pipe.wakers.push(context.waker().clone());
            return Poll::Pending;
        }
        let count = pipe.bytes.len().min(out.len());
        for (to, from) in out.iter_mut().zip(pipe.bytes.drain(..count)) {
            *to = from;
        }
        pipe.wake();
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.outgoing.lock().unwrap();
        if pipe.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = data.len().min(PIPE_BYTES - pipe.bytes.len());
        if count == 0 && !data.is_empty() {
            pipe.wakers.push(context.waker().clone());
            return Poll::Pending;
        }
        pipe.bytes.extend(&data[..count]);
        pipe.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.outgoing.lock().unwrap();
        pipe.ended = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        for pipe in [&self.incoming, &self.outgoing] {
            let mut pipe = pipe.lock().unwrap();
            pipe.ended = true;
            pipe.wake();
        }
    }
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<u16, mpsc::UnboundedSender<End>>,
    pipes: Vec<Shared>,
    connects: usize,
    unanswered: bool,
}

/// The network. Clones share it.
#[derive(Clone, Default)]
pub(super) struct MemoryNet {
    state: Arc<Mutex<State>>,
}

impl MemoryNet {
    /// Connections attempted.
    pub(super) fn connects(&self) -> usize {
        self.state.lock().unwrap().connects
    }

    /// Ends every connection.
    pub(super) fn cut(&self) {
        self.each(|pipe| pipe.ended = true);
    }

    /// No byte arrives any more on the connections of now, and nobody is told.
    pub(super) fn silence(&self) {
        self.each(|pipe| pipe.silent = true);
    }

    /// Connection attempts are not answered from now on.
    pub(super) fn swallow_connects(&self) {
        self.state.lock().unwrap().unanswered = true;
    }

    /// A connection by hand.
    pub(super) fn raw(&self, address: &str) -> io::Result<End> {
        let mut state = self.state.lock().unwrap();
        state.connects += 1;
        let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
        let (ours, theirs) = pair();
        state
            .pipes
            .extend([Arc::clone(&ours.incoming), Arc::clone(&ours.outgoing)]);
        let listener = state
            .listeners
            .get(&port)
            .ok_or(io::ErrorKind::ConnectionRefused)?;
        listener
            .send(theirs)
            .map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }

    fn each(&self, change: impl Fn(&mut Pipe)) {
        for pipe in &self.state.lock().unwrap().pipes {
            let mut pipe = pipe.lock().unwrap();
            change(&mut pipe);
            pipe.wake();
        }
    }
}

impl Net for MemoryNet {
    fn connect(&self, address: &str) -> BoxFuture<io::Result<BoxStream>> {
        if self.state.lock().unwrap().unanswered {
            return Box::pin(std::future::pending());
        }
        let stream = self.raw(address).map(|end| Box::new(end) as BoxStream);
        Box::pin(std::future::ready(stream))
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<io::Result<Box<dyn Listener>>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state
            .lock()
            .unwrap()
            .listeners
            .insert(address.port(), sender);
        let listener: Box<dyn Listener> = Box::new(MemoryListener { address, receiver });
        Box::pin(std::future::ready(Ok(listener)))
    }
}

struct MemoryListener {
    address: SocketAddr,
    receiver: mpsc::UnboundedReceiver<End>,
}

impl Listener for MemoryListener {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&mut self) -> Pin<Box<dyn Future<Output = io::Result<(BoxStream, SocketAddr)>> + Send + '_>> {
        Box::pin(async {
            let end = self.receiver.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(end) as BoxStream, self.address))
        })
    }
}
