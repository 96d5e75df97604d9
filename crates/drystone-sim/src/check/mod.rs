//! Checkers: each says what it found wrong, in words, and has a test in which it does.

pub mod linear;
pub mod replicas;
pub mod state;
pub mod witness;
