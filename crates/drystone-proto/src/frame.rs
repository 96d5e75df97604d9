//! The frame: a fixed header, a prost body, and for bulk data its checksums and the raw payload.
//!
//! ```text
//!  0  u32  magic "DRY1"
//!  4  u16  wire version (1)
//!  6  u16  kind
//!  8  u8   flags: bit 0 reply, bit 1 one-way (no reply comes), bit 2 reply is an error (body is an ErrorReply)
//!  9  u8   priority class: 0 control, 1 foreground, 2 repair
//! 10  u16  reserved, zero
//! 12  u32  deadline: milliseconds that the sender still waits when it sends; 0 = none (one-way frames)
//! 16  u64  request id, unique per connection and direction; a reply repeats it
//! 24  [16] history id; zero in `hello` alone
//! 40  [16] client id: of the process that the work is for, also when forwarded
//! 56  u32  body length
//! 60  u32  payload length
//! 64  u32  CRC32C of body and checksums
//! 68  u32  CRC32C of bytes 0..68
//! 72  body, then ceil(payload / 4096) u32 checksums, then payload
//! ```
//! Little endian. The header's own CRC is checked before its lengths are believed; the body's covers body and
//! checksums; the checksums cover the payload, which is so summed once.

use crate::kind::Kind;
use drystone_types::{CHECKSUM_BLOCK, ClientId, HistoryId, MAX_PAYLOAD_BYTES};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 72;
/// The largest body: a listing page, a batch of Raft entries or an inline file fits with room.
pub const MAX_BODY_BYTES: usize = 8 << 20;
/// The wire version that this build writes.
pub const WIRE_VERSION: u16 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"DRY1");

const FLAG_REPLY: u8 = 1;
const FLAG_ONE_WAY: u8 = 2;
const FLAG_ERROR: u8 = 4;

/// What goes first when there is too much to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Priority {
    /// Consensus, heartbeats, fences.
    Control,
    /// What a user waits for.
    #[default]
    Foreground,
    /// Repair, scrub, rebalance.
    Repair,
}

/// A decoded header. Lengths have been checked against their limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// What the body is.
    pub kind: Kind,
    /// It answers the request with the same id.
    pub reply: bool,
    /// No answer is expected.
    pub one_way: bool,
    /// The body of this reply is an [`crate::cluster::ErrorReply`].
    pub error: bool,
    /// See [`Priority`].
    pub priority: Priority,
    /// Milliseconds that the sender still waits; 0 = none.
    pub deadline_ms: u32,
    /// See the module's layout.
    pub request_id: u64,
    /// The history that sender and receiver must share.
    pub history: HistoryId,
    /// On whose behalf.
    pub client: ClientId,
    /// Bytes of the prost body.
    pub body_len: u32,
    /// Bytes of the raw payload.
    pub payload_len: u32,
    /// CRC32C of body and checksums.
    pub body_crc: u32,
}

/// Why bytes are not a frame of ours. The connection that sent them is closed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The first bytes are not the magic.
    #[error("not a Drystone frame: magic {0:#010x}")]
    Magic(u32),
    /// The header's checksum is wrong.
    #[error("damaged header: checksum {found:#010x}, computed {computed:#010x}")]
    HeaderChecksum {
        /// In the header.
        found: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// A version that this build does not speak.
    #[error("wire version {0}, this build speaks {WIRE_VERSION}")]
    Version(u16),
    /// An unknown kind.
    #[error("unknown message kind {0}")]
    Kind(u16),
    /// An unknown priority class, flag or reserved bit.
    #[error("unknown flags {0:#04x} or priority {1}")]
    Flags(u8, u8),
    /// Over the limit.
    #[error("frame too large: body {body}, payload {payload}")]
    TooLarge {
        /// Announced bytes of body.
        body: u32,
        /// Announced bytes of payload.
        payload: u32,
    },
    /// The body's or the checksums' CRC is wrong.
    #[error("damaged body of kind {0:?}")]
    BodyChecksum(Kind),
    /// The payload does not match its checksums.
    #[error("damaged payload of kind {kind:?}: block {block}")]
    PayloadChecksum {
        /// Of the frame.
        kind: Kind,
        /// The first damaged 4 KiB block.
        block: usize,
    },
    /// The body is not a message of its kind.
    #[error("malformed body of kind {0:?}: {1}")]
    Body(Kind, String),
}

impl FrameHeader {
    /// The bytes that follow body: 4 for each 4 KiB block of payload.
    pub fn checksums_len(&self) -> usize {
        (self.payload_len as usize).div_ceil(CHECKSUM_BLOCK) * 4
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let flags = u8::from(self.reply) * FLAG_REPLY
            + u8::from(self.one_way) * FLAG_ONE_WAY
            + u8::from(self.error) * FLAG_ERROR;
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&WIRE_VERSION.to_le_bytes());
        out[6..8].copy_from_slice(&self.kind.number().to_le_bytes());
        out[8] = flags;
        out[9] = self.priority as u8;
        out[12..16].copy_from_slice(&self.deadline_ms.to_le_bytes());
        out[16..24].copy_from_slice(&self.request_id.to_le_bytes());
        out[24..40].copy_from_slice(&self.history.0);
        out[40..56].copy_from_slice(&self.client.0);
        out[56..60].copy_from_slice(&self.body_len.to_le_bytes());
        out[60..64].copy_from_slice(&self.payload_len.to_le_bytes());
        out[64..68].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..68]);
        out[68..72].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header and checks everything that it says about itself.
    ///
    /// # Errors
    /// [`FrameError`]; nothing after such a header can be trusted.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if u32_at(0) != MAGIC {
            return Err(FrameError::Magic(u32_at(0)));
        }
        let computed = crc32c::crc32c(&bytes[..68]);
        if u32_at(68) != computed {
            return Err(FrameError::HeaderChecksum {
                found: u32_at(68),
                computed,
            });
        }
        if u16_at(4) != WIRE_VERSION {
            return Err(FrameError::Version(u16_at(4)));
        }
        let kind = Kind::from_number(u16_at(6)).ok_or(FrameError::Kind(u16_at(6)))?;
        let flags = bytes[8];
        let priority = match bytes[9] {
            0 => Priority::Control,
            1 => Priority::Foreground,
            2 => Priority::Repair,
            other => return Err(FrameError::Flags(flags, other)),
        };
        if flags & !(FLAG_REPLY | FLAG_ONE_WAY | FLAG_ERROR) != 0 || u16_at(10) != 0 {
            return Err(FrameError::Flags(flags, bytes[9]));
        }
        let (body_len, payload_len) = (u32_at(56), u32_at(60));
        if body_len as usize > MAX_BODY_BYTES || payload_len as usize > MAX_PAYLOAD_BYTES {
            return Err(FrameError::TooLarge {
                body: body_len,
                payload: payload_len,
            });
        }
        let id = |at: usize| {
            let mut id = [0; 16];
            id.copy_from_slice(&bytes[at..at + 16]);
            id
        };
        Ok(Self {
            kind,
            reply: flags & FLAG_REPLY != 0,
            one_way: flags & FLAG_ONE_WAY != 0,
            error: flags & FLAG_ERROR != 0,
            priority,
            deadline_ms: u32_at(12),
            request_id: u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32,
            history: HistoryId(id(24)),
            client: ClientId(id(40)),
            body_len,
            payload_len,
            body_crc: u32_at(64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            kind: Kind::Append,
            reply: true,
            one_way: false,
            error: false,
            priority: Priority::Foreground,
            deadline_ms: 1500,
            request_id: 0x0102_0304_0506_0708,
            history: HistoryId([7; 16]),
            client: ClientId([9; 16]),
            body_len: 33,
            payload_len: 1 << 20,
            body_crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_header_round_trips_and_every_damaged_byte_is_refused() {
        let bytes = header().encode();
        assert_eq!(FrameHeader::decode(&bytes), Ok(header()));
        for at in 0..HEADER_BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert!(FrameHeader::decode(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn golden_bytes() {
        let hex: String = header()
            .encode()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex.get(..48),
            Some(
                "4452593101002100010100 00dc05000008070605040302 01"
                    .replace(' ', "")
                    .as_str()
            )
        );
    }

    #[test]
    fn an_oversized_frame_is_refused_before_a_byte_is_allocated() {
        let large = FrameHeader {
            payload_len: MAX_PAYLOAD_BYTES as u32 + 1,
            ..header()
        };
        assert!(matches!(
            FrameHeader::decode(&large.encode()),
            Err(FrameError::TooLarge { .. })
        ));
    }
}
