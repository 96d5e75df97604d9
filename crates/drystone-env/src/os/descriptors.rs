//! How many files and connections this process may have open, and how they are shared out.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// A system without a limit is taken to have this one.
const UNLIMITED: u64 = 1 << 20;

/// Raises the soft limit of open descriptors to the hard one, and says what it is now. The usual soft limit of 1,024
/// is there for programs that use `select`; a server needs what the system lets it have. Call it before anything is
/// opened.
///
/// # Errors
/// If the system refuses; the limit is what it was.
pub fn raise_limit() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )?;
    }
    Ok(limit())
}

/// Descriptors that this process may have open.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

/// Of `limit` descriptors, those for connections that peers open: half. The other half is for files, which storage must
/// always be able to open, and for connections to other servers.
pub fn for_connections(limit: u64) -> usize {
    usize::try_from(limit / 2).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise_limit().unwrap(), hard.unwrap_or(UNLIMITED));
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
        assert_eq!(for_connections(1024), 512);
    }
}
