//! The network seam: byte streams between addresses.

use crate::BoxFuture;
use futures_io::{AsyncRead, AsyncWrite};
use std::io;
use std::net::SocketAddr;

/// A connection: both directions, ordered bytes, may be cut or fall silent at any moment.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A connection of whatever kind.
pub type BoxStream = Box<dyn Stream>;

/// The network seam.
pub trait Net: Send + Sync + 'static {
    /// Connects to `address` (`host:port`).
    fn connect(&self, address: &str) -> BoxFuture<io::Result<BoxStream>>;
    /// Listens on `address`; port 0 takes any free port.
    fn bind(&self, address: SocketAddr) -> BoxFuture<io::Result<Box<dyn Listener>>>;
}

/// A listening socket.
pub trait Listener: Send + 'static {
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// Connections that a server should hold here at most, now: with as many at every listener of this process,
    /// descriptors are left for storage.
    fn room(&self) -> usize {
        usize::MAX
    }
    /// The next connection and its peer.
    #[allow(
        clippy::type_complexity,
        reason = "a boxed future that borrows; a name for it would say less"
    )]
    fn accept(
        &mut self,
    ) -> std::pin::Pin<Box<dyn Future<Output = io::Result<(BoxStream, SocketAddr)>> + Send + '_>>;
}
