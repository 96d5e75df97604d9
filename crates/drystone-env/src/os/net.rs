#![allow(clippy::disallowed_types, reason = "this is the real network")]
use crate::BoxFuture;
use crate::net::{BoxStream, Listener, Net};
use futures_io::{AsyncRead, AsyncWrite};
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// A listener has room for so many connections however many others there are: peers of a cluster must get through.
const MIN_ROOM: usize = 8;

/// What may wait unsent in an accepted connection before it stops being writable. Without it the system tells of
/// progress only when a third of a send buffer of megabytes is free, and a slow reader looks like one that reads
/// nothing; with it, when half of this is sent.
const MAX_UNSENT: u32 = 64 << 10;

/// An accepted connection on which nothing is to be sent and nothing comes is asked after so long whether its peer is
/// still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// Between such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// So many of them unanswered end the connection: the peer has lost its power or its network.
const KEEPALIVE_RETRIES: u32 = 3;

/// TCP. Every socket has TCP_NODELAY and the named congestion control (the system's default may be bbr, which
/// costs more than half of the loopback speed).
///
/// The listeners of one `OsNet` (and its clones) share what [`super::descriptors::for_connections`] leaves them, all
/// alike.
#[derive(Clone, Debug)]
pub struct OsNet {
    congestion: Option<&'static str>,
    /// Descriptors for accepted connections.
    descriptors: usize,
    listeners: Arc<AtomicUsize>,
}

impl Default for OsNet {
    fn default() -> Self {
        Self {
            congestion: Some("cubic"),
            descriptors: super::descriptors::for_connections(super::descriptors::limit()),
            listeners: Arc::default(),
        }
    }
}

impl OsNet {
    fn tune(&self, stream: &TcpStream) {
        let socket = socket2::SockRef::from(stream);
        // Both are about speed alone: a system that refuses them still works.
        let _ = socket.set_tcp_nodelay(true);
        if let Some(name) = self.congestion {
            let _ = socket.set_tcp_congestion(name.as_bytes());
        }
    }
}

impl Net for OsNet {
    fn connect(&self, address: &str) -> BoxFuture<io::Result<BoxStream>> {
        let (net, address) = (self.clone(), address.to_owned());
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            net.tune(&stream);
            Ok(Box::new(Tcp(stream)) as BoxStream)
        })
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<io::Result<Box<dyn Listener>>> {
        let net = self.clone();
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            net.listeners.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(TcpAccept {
                net,
                listener,
                address,
            }) as Box<dyn Listener>)
        })
    }
}

struct TcpAccept {
    net: OsNet,
    listener: TcpListener,
    address: SocketAddr,
}

impl Drop for TcpAccept {
    fn drop(&mut self) {
        self.net.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listener for TcpAccept {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn room(&self) -> usize {
        (self.net.descriptors / self.net.listeners.load(Ordering::Relaxed).max(1)).max(MIN_ROOM)
    }

    fn accept(&mut self) -> Pin<Box<dyn Future<Output = io::Result<(BoxStream, SocketAddr)>> + Send + '_>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            self.net.tune(&stream);
            let socket = socket2::SockRef::from(&stream);
            // Refused, it costs slow readers their connection and nothing else.
            let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT);
            // No TCP_USER_TIMEOUT beside it: that ends connections of peers who live and read nothing for a while.
            let keepalive = socket2::TcpKeepalive::new()
                .with_time(KEEPALIVE_AFTER)
                .with_interval(KEEPALIVE_INTERVAL)
                .with_retries(KEEPALIVE_RETRIES);
            // Refused, a peer that vanished is noticed by whoever waits for it, later.
            let _ = socket.set_tcp_keepalive(&keepalive);
            Ok((Box::new(Tcp(stream)) as BoxStream, peer))
        })
    }
}

/// A tokio stream in the traits of futures-io.
struct Tcp(TcpStream);

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        Pin::new(&mut self.0)
            .poll_read(context, &mut buffer)
            .map_ok(|()| buffer.filled().len())
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the real network takes real time")]
mod tests {
    use super::*;
    use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn progress_of_a_slow_reader_is_noticed_soon() {
        let net = OsNet::default();
        let mut listener = net.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().to_string();
        let (reader, accepted) = tokio::join!(net.connect(&address), listener.accept());
        let (mut reader, mut writer) = (reader.unwrap(), accepted.unwrap().0);
        let data = vec![7; 256 << 10];
        let silence = Duration::from_millis(200);
        while tokio::time::timeout(silence, writer.write(&data)).await.is_ok() {}
        let (mut taken, mut piece) = (0, vec![0; 16 << 10]);
        while tokio::time::timeout(Duration::from_millis(20), writer.write(&data))
            .await
            .is_err()
        {
            taken += reader.read(&mut piece).await.unwrap();
            // A third of a send buffer would be more.
            assert!(taken < 640 << 10, "{taken}");
        }
    }
}
