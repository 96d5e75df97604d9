//! Tests of the asynchronous shell as it really runs on tokio: connections and frames, the REST door over hyper, the
//! servers around them, over a network that turmoil cuts, holds and slows.
//!
//! Nothing is here: the seams, the worlds and the scenarios are in `tests/it`, and everything that they need is a
//! dependency of tests alone, because turmoil turns on features of tokio that no product build shall have.
//!
//! How it differs from `drystone-sim`: that one simulates whole clusters on an executor and a network of our own, and
//! stops where tokio and hyper begin. Here both run as in production, but for time, which tokio pauses, and sockets.
//! turmoil never sends anything twice: after a partition a stream stays open and silent, as half-open TCP does.
