//! Reading log entries: wholly, or not at all.
//!
//! A voter that passed over what it does not know would hold another state than those that do know it, and nobody
//! would see it before it leads. So what it cannot read as a whole stops it, in front of the entry.

use crate::store::StoreError;
use bytes::Bytes;
use drystone_proto::Message;
use drystone_proto::command::Entry;

/// An entry that this version cannot read as a whole: a newer one wrote it, or it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownEntry(pub(crate) String);

/// Why an entry was not applied: nothing of it was, and the state stands before it. This voter must stop.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A newer version wrote it. Once it is upgraded, this voter goes on with it.
    #[error(transparent)]
    Unknown(#[from] UnknownEntry),
}

/// Reads the data of a log entry.
///
/// # Errors
/// It holds a command or a field that this version does not know, or cannot be read at all.
pub fn read_entry(data: Bytes) -> Result<Entry, UnknownEntry> {
    let length = data.len();
    let entry = Entry::decode(data).map_err(|error| UnknownEntry(format!("it cannot be read: {error}")))?;
    if entry.command.as_ref().is_none_or(|command| command.op.is_none()) {
        return Err(UnknownEntry(
            "its command is not known to this version".to_owned(),
        ));
    }
    // Every version writes what it knows in the one shortest way, so that what is longer holds more.
    let known = entry.encoded_len();
    if known != length {
        return Err(UnknownEntry(format!(
            "of its {length} bytes this version knows {known}"
        )));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_proto::command::{Command, Delete, Op};

    fn entry() -> Vec<u8> {
        let command = Command {
            op: Some(Op::Delete(Delete::default())),
        };
        let entry = Entry {
            time: 7,
            command: Some(command),
            ..Entry::default()
        };
        entry.encode_to_vec()
    }

    /// A field of bytes in front of which its tag stands.
    fn field(tag: u32, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        prost::encoding::bytes::encode(tag, &value.to_vec(), &mut out);
        out
    }

    #[test]
    fn an_entry_is_read_wholly_or_not_at_all() {
        assert!(read_entry(entry().into()).is_ok());
        let unknown_command = field(3, &field(4_000, b"new"));
        let known = field(4, b"");
        let with_an_unknown_field = [entry(), field(4_000, b"new")].concat();
        let deep_inside = field(3, &field(4, &field(4_000, b"new")));
        assert!(read_entry(field(3, &known).into()).is_ok(), "tag 4 is a command");
        for bad in [
            Vec::new(),
            vec![0xff; 9],
            unknown_command,
            field(3, b""),
            with_an_unknown_field,
            deep_inside,
        ] {
            assert!(read_entry(bad.clone().into()).is_err(), "{bad:?}");
        }
    }
}
