//! The doors of a node: whatever lets users in by a protocol of its own.

use std::sync::Arc;

/// A door that is open.
pub enum Door {
    /// HTTP, with the API that `/openapi.json` describes.
    Rest(Arc<drystone_rest::Handle>),
}

impl Door {
    /// Takes no new request; what is under way ends.
    pub fn shutdown(&self) {
        match self {
            Self::Rest(handle) => handle.shutdown(),
        }
    }
}
