//! Metadata servers: who leads, calls repeated safely, commands exactly once.
//!
//! Every call is repeated until its deadline, over all known servers, with jittered backoff ([`calls`], [`servers`]).
//! A command keeps its place in the session over all repetitions, so that it is applied at most once whoever led when
//! it was sent ([`mutate`], [`session`]).

mod calls;
mod mutate;
mod servers;
mod session;

pub(crate) use calls::{Failed, Meta, MetaCall, Repeat};
pub(crate) use mutate::Alternative;
