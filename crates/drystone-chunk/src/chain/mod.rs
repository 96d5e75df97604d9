//! The chain that carries a stream chunk from hop to hop: the protocol core of one chunk at one hop ([`core`]) and
//! the shell around it ([`append`]).

pub(crate) mod append;
pub mod core;
