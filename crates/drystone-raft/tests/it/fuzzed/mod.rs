//! What holds for every log on disk and for every message of another member: the bodies of the fuzz targets
//! `raft-log`, `raft-records` and `raft-messages`.

mod image;
mod log;
mod member;
mod messages;
mod records;

pub use log::log;
pub use messages::messages;
pub use records::records;
