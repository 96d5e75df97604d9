//! The chain that carries a stream chunk from hop to hop: the protocol core of one chunk at one hop ([`core`]), the
//! chunks that are being written ([`chains`]), and the shell that takes a frame through both ([`append`]).

pub(crate) mod append;
pub(crate) mod chains;
pub mod core;
