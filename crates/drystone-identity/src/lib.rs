//! Formatted directories: who a node or disk is, its boot counter and its lock.
//!
//! Owns the files `identity`, `boot-a` and `boot-b` of a data directory. A directory is formatted once; only a
//! formatted one starts, and it never changes who it is. Must never: guess an identity, repair a damaged one, or
//! hand out a boot counter twice. The lock on the directory is `drystone_env::os::lock_directory`.
//!
//! Read [`Identity`], then [`format`], [`load`], [`boot()`] and [`boot_at`].

mod boot;
mod envelope;
mod error;
mod identity;

pub use boot::{boot, boot_at};
pub use error::IdentityError;
pub use identity::{Identity, Role, check_blank, format, load};

#[cfg(test)]
mod tests;
