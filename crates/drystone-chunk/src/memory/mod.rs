//! Bounds on memory: bytes under way ([`budget`]) and verified blocks kept for readers ([`cache`]).

pub(crate) mod budget;
pub(crate) mod cache;
