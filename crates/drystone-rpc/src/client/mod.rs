//! The client side: channels to addresses, each one pipelined connection that is made when it is needed.

mod call;
mod channel;
mod channels;
mod common;
mod driver;
mod options;
mod shared;
mod state;

pub use call::{CallFuture, Ready};
pub use channel::Channel;
pub use channels::Channels;
pub use options::ChannelOptions;
