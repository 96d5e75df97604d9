//! What the doors share: identity, limits, error kind to status and code.
