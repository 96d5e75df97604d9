//! Which file or directory is meant.

use crate::error::{Error, ErrorKind};
use drystone_proto::command::Target;
use drystone_types::path;

/// A path from the root, checked before anything is sent.
pub(crate) fn target(operation: &'static str, path: &str) -> Result<Target, Error> {
    path::split_path(path)
        .map_err(|fault| Error::new(ErrorKind::Invalid, operation, fault.to_string()).because(fault))?;
    Ok(Target {
        base: 0,
        path: path.to_owned(),
    })
}
