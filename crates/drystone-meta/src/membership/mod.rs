//! Who the metadata servers are, where they are, and how they come and go.

pub(crate) mod domains;
pub(crate) mod introduce;
pub(crate) mod join;
pub(crate) mod members;
pub(crate) mod peers;
pub(crate) mod ping;
pub(crate) mod processes;
pub(crate) mod replace;
