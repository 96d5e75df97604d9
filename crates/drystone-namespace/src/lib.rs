//! The namespace: a deterministic state machine over an ordered store.
