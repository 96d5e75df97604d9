//! Tests across the crate's boundary.
#![allow(missing_docs)]

mod damage_store;
