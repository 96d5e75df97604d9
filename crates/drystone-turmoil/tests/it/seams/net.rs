use drystone_env::{BoxFuture, BoxStream, Listener, Net, Rng, SeededRng};
use futures_io::{AsyncRead, AsyncWrite};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// What one write or read of a healthy connection takes at most, as a socket's buffers do.
const SEGMENT: usize = 64 << 10;

/// What goes wrong with a host's connections beyond what turmoil does to links. Clones are the same.
#[derive(Clone)]
pub(crate) struct Faults(Arc<Mutex<State>>);

struct State {
    rng: SeededRng,
    segment: usize,
    cut: Option<u64>,
    /// Connections made before the last [`Faults::cut_all`] are of an older age.
    age: u64,
    connects: usize,
    open: usize,
    lost: usize,
    written: u64,
}

impl Faults {
    pub(super) fn new(rng: SeededRng) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: rng.split("segments"),
            segment: SEGMENT,
            cut: None,
            age: 0,
            connects: 0,
            open: 0,
            lost: 0,
            written: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on every write and read takes between one byte and so many.
    pub(crate) fn segments(&self, most: usize) {
        self.lock().segment = most;
    }

    /// The next connection is lost when this side has written so many bytes to it.
    pub(crate) fn cut_next_after(&self, bytes: u64) {
        self.lock().cut = Some(bytes);
    }

    /// Every connection of now is lost when this side next uses it.
    pub(crate) fn cut_all(&self) {
        self.lock().age += 1;
    }

    /// Connections that this host has asked for.
    pub(crate) fn connects(&self) -> usize {
        self.lock().connects
    }

    /// Connections that this host holds, whoever asked for them.
    pub(crate) fn open(&self) -> usize {
        self.lock().open
    }

    /// Connections that were lost as [`Faults::cut_next_after`] says.
    pub(crate) fn lost(&self) -> usize {
        self.lock().lost
    }

    /// Bytes that this host has handed to its sockets.
    pub(crate) fn written(&self) -> u64 {
        self.lock().written
    }

    /// How much of `wanted` one operation takes.
    fn part(&self, wanted: usize) -> usize {
        let mut state = self.lock();
        if state.segment < SEGMENT {
            let most = state.segment as u64;
            (state.rng.below(most) as usize + 1).min(wanted)
        } else {
            wanted.min(SEGMENT)
        }
    }

    fn open_stream(&self, stream: TcpStream) -> BoxStream {
        let mut state = self.lock();
        state.open += 1;
        Box::new(Stream {
            stream: Some(stream),
            left: state.cut.take(),
            age: state.age,
            faults: self.clone(),
        })
    }
}

/// turmoil's TCP.
pub(crate) struct TurmoilNet {
    ip: IpAddr,
    faults: Faults,
}

impl TurmoilNet {
    pub(super) fn new(ip: IpAddr, faults: Faults) -> Self {
        Self { ip, faults }
    }
}

impl Net for TurmoilNet {
    fn connect(&self, address: &str) -> BoxFuture<io::Result<BoxStream>> {
        let (faults, address) = (self.faults.clone(), address.to_owned());
        Box::pin(async move {
            faults.lock().connects += 1;
            let stream = TcpStream::connect(address).await?;
            Ok(faults.open_stream(stream))
        })
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<io::Result<Box<dyn Listener>>> {
        let (faults, ip) = (self.faults.clone(), self.ip);
        Box::pin(async move {
            // turmoil knows no other address of a host.
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?;
            let address = SocketAddr::new(ip, listener.local_addr()?.port());
            Ok(Box::new(Accept {
                listener,
                address,
                faults,
            }) as Box<dyn Listener>)
        })
    }
}

struct Accept {
    listener: TcpListener,
    address: SocketAddr,
    faults: Faults,
}

impl Listener for Accept {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn accept(&mut self) -> Pin<Box<dyn Future<Output = io::Result<(BoxStream, SocketAddr)>> + Send + '_>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            Ok((self.faults.open_stream(stream), peer))
        })
    }
}

/// A connection; without a stream it was cut.
struct Stream {
    stream: Option<TcpStream>,
    left: Option<u64>,
    age: u64,
    faults: Faults,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.faults.lock().open -= 1;
    }
}

impl Stream {
    /// What is left to use.
    fn stream(&mut self) -> Option<&mut TcpStream> {
        if self.age != self.faults.lock().age {
            self.stream = None;
        }
        self.stream.as_mut()
    }
}

fn cut<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let part = self.faults.part(buffer.len());
        let Some(stream) = self.stream() else {
            return cut();
        };
        let mut buffer = ReadBuf::new(&mut buffer[..part]);
        Pin::new(stream)
            .poll_read(context, &mut buffer)
            .map_ok(|()| buffer.filled().len())
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let left = self.left.unwrap_or(u64::MAX);
        let part = self
            .faults
            .part(data.len())
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(stream) = self.stream() else {
            return cut();
        };
        let count = std::task::ready!(Pin::new(stream).poll_write(context, &data[..part]))?;
        self.faults.lock().written += count as u64;
        self.left = self.left.map(|left| left - count as u64);
        if self.left == Some(0) {
            self.stream = None;
            self.faults.lock().lost += 1;
            // Whoever reads has been waiting for the stream that is gone.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream() {
            Some(stream) => Pin::new(stream).poll_shutdown(context),
            None => cut(),
        }
    }
}
