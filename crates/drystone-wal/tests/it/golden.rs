use crate::support::{Log, small};
use drystone_env::sim::SimDisk;
use drystone_wal::format::{HEADER_BYTES, Header, HeaderError};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A disk after one opening and one batch of two records: the mark of the opening, then the batch.
#[test]
fn version_1_bytes_stay_as_they_are() {
    let disk = SimDisk::new(0);
    let mut log = Log::open(&disk, small());
    log.append(b"drystone");
    log.put(b"");
    let bytes = disk.contents("log/00000001.seg").unwrap();
    assert_eq!(hex(&bytes[..HEADER_BYTES]), GOLDEN_MARK);
    assert!(bytes[HEADER_BYTES..4096].iter().all(|byte| *byte == 0));
    assert_eq!(hex(&bytes[4096..4096 + HEADER_BYTES + 16]), GOLDEN_RECORDS);
    assert!(bytes[4096 + HEADER_BYTES + 16..].iter().all(|byte| *byte == 0));
}

const GOLDEN_MARK: &str = "4457414c01000200ab733c47740691ea8877665544332211010000000000000001000000000000000000000000000000010000000000000001000000000000000100000000000000000000000000000000000000080000000000000000000000";

const GOLDEN_RECORDS: &str = concat!(
    "4457414c010001005a834e72e84a8545887766554433221101000000000000000200000000000000010000000000000001000000000000000100000000000000010000000000000002000000100000000100000008000000ab733c4700000000",
    "0800000064727973746f6e6500000000",
);

#[test]
fn a_header_with_any_byte_changed_is_not_read() {
    let header = Header {
        generation: 3,
        oldest: 1,
        number: 9,
        synced: 8,
        first: 77,
        released: 5,
        records: 2,
        body_bytes: 100,
        place_blocks: 4,
        segment_blocks: 8,
        ..Header::default()
    };
    let (bytes, crc) = header.encode();
    assert_eq!(Header::decode(&bytes), Ok((header, crc)));
    for at in 0..HEADER_BYTES {
        for bit in 0..8 {
            let mut changed = bytes;
            changed[at] ^= 1 << bit;
            assert!(Header::decode(&changed).is_err(), "byte {at} bit {bit}");
        }
    }
    assert_eq!(Header::decode(&bytes[1..]), Err(HeaderError::NoBatch));
}

/// A fuzzer made recovery count past the last number.
#[test]
fn numbers_that_cannot_be_counted_on_from_are_refused() {
    let header = Header {
        generation: 1,
        oldest: 1,
        number: 1,
        first: 1,
        segment_blocks: 8,
        ..Header::default()
    };
    let most = u64::MAX / 2;
    type Field = fn(&mut Header) -> &mut u64;
    let cases: [(Field, &str); 3] = [
        (|header| &mut header.generation, "generations"),
        (|header| &mut header.number, "numbers"),
        (|header| &mut header.first, "record numbers"),
    ];
    for (field, what) in cases {
        for (value, fits) in [(most, true), (most + 1, false), (u64::MAX, false)] {
            let mut changed = header.clone();
            *field(&mut changed) = value;
            let found = Header::decode(&changed.encode().0);
            assert_eq!(found.is_ok(), fits, "{what} {value}");
            assert!(fits || found == Err(HeaderError::Impossible(what)));
        }
    }
}

#[test]
fn a_later_version_is_named() {
    let disk = SimDisk::new(0);
    Log::open(&disk, small());
    let mut bytes = disk.contents("log/00000001.seg").unwrap();
    bytes[4] = 2;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[12..HEADER_BYTES]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    disk.set_contents("log/00000001.seg", &bytes);
    let fault = crate::support::open(&disk, small()).err().unwrap();
    assert_eq!(
        fault.to_string(),
        "log/00000001.seg has log format 2, this program reads up to 1"
    );
}

proptest! {
    #[test]
    fn headers_come_back(number in 1u64..1 << 63, generation in 1u64..1 << 63, first in 1u64..1 << 60, records in 0u32..100, turn: bool, crc: u32, identity: u64) {
        let records = if turn { 0 } else { records };
        let header = Header {
            body_crc: crc,
            identity,
            generation,
            oldest: 1 + generation / 2,
            number,
            synced: number - 1,
            first,
            released: first / 2,
            records,
            body_bytes: records * 4,
            place_blocks: 7,
            segment_blocks: 8,
            previous_crc: !crc,
            is_turn: turn,
        };
        prop_assume!(header.oldest <= generation);
        let (bytes, crc) = header.encode();
        prop_assert_eq!(Header::decode(&bytes), Ok((header, crc)));
    }

    #[test]
    fn foreign_bytes_never_panic(bytes: Vec<u8>, count: u32) {
        let _ = Header::decode(&bytes);
        let _ = drystone_wal::format::records(&bytes, count);
    }
}
