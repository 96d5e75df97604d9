//! What an operator can set on a chunk server.

use drystone_types::{ByteCount, MAX_PAYLOAD_BYTES, parse_duration};
use serde::{Deserialize, Deserializer, de};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Configuration of a chunk server. In TOML the names are in kebab-case, sizes are `"64MiB"`, durations `"3s"`;
/// unknown fields are refused.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Where the wire listens; default `127.0.0.1:9720`; port 0 takes any free port.
    pub listen: SocketAddr,
    /// `host:port` under which others reach this server; default: the listening address. Set it when that is a
    /// wildcard or behind a translation of addresses.
    pub advertise: Option<String>,
    /// `host:port` of the admin HTTP port, told to the cluster for people; default empty. The port itself is
    /// served by the binary.
    pub admin: String,
    /// Data directories, one per disk, each formatted; at least one. No default.
    pub data: Vec<PathBuf>,
    /// `host:port` of metadata servers, any of them; at least one. No default.
    pub metadata: Vec<String>,
    /// Host: chunk servers with the same host fail together; default: the name in the node's identity, so that
    /// every server counts as a host of its own.
    pub host: String,
    /// Rack: the failure domain above the host; default `default`.
    pub rack: String,
    /// Zone: the failure domain above the rack; default `default`.
    pub zone: String,
    /// Most bytes that each disk may take; default: what its file system has. 64 MiB or more; for tests and for
    /// disks shared with others.
    #[serde(deserialize_with = "optional_bytes")]
    pub capacity: Option<ByteCount>,
    /// Verified blocks kept in memory for readers, all disks together; 0 switches it off, at most 1 TiB. Disks are
    /// read past the system's cache, so what is read again and is not here comes from the disk. Default: an eighth of the
    /// memory that the node may use, at least 64 MiB.
    #[serde(deserialize_with = "optional_bytes")]
    pub read_cache: Option<ByteCount>,
    /// Twice the payload in bytes that is held at one time of each kind: what clients have sent and have no answer
    /// for yet (all connections together), what a disk has not written yet (each disk for itself), what answers to
    /// reads hold (shared out over the disks, 1 MiB each at least). With n disks that is at most n + 2 halves of it,
    /// for clients; repair and scrub may each hold a quarter of what clients may. Default 64 MiB, 32 MiB to 16 GiB. Beyond it connections are not read (the sender waits); nothing fails.
    #[serde(deserialize_with = "bytes")]
    pub in_flight: ByteCount,
    /// Threads that do the blocking work of each disk; default 4, 1 to 64. Raise it for arrays and NVMe drives
    /// that gain from deep queues.
    pub io_threads: usize,
    /// Bytes of one segment of each disk's journal; default 16 MiB, 256 KiB (tests) to 1 GiB. A few are kept.
    #[serde(deserialize_with = "bytes")]
    pub journal_segment: ByteCount,
    /// Bytes of one of the files in which each disk keeps chunks, 64 KiB (tests) to 16 GiB; default by the size of the
    /// file system, at least 16 MiB. They are made and removed whole.
    #[serde(deserialize_with = "optional_bytes")]
    pub arena: Option<ByteCount>,
    /// How often the metadata leader hears from this server until it says otherwise; default 3 s, 100 ms to 30 s.
    #[serde(deserialize_with = "duration")]
    pub heartbeat: Duration,
    /// How long one heartbeat or registration waits for its answer; default 2 s, 100 ms to 30 s.
    #[serde(deserialize_with = "duration")]
    pub heartbeat_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9720)),
            advertise: None,
            admin: String::new(),
            data: Vec::new(),
            metadata: Vec::new(),
            host: String::new(),
            rack: "default".into(),
            zone: "default".into(),
            capacity: None,
            read_cache: None,
            in_flight: ByteCount(64 << 20),
            io_threads: 4,
            journal_segment: ByteCount(16 << 20),
            arena: None,
            heartbeat: Duration::from_secs(3),
            heartbeat_timeout: Duration::from_secs(2),
        }
    }
}

/// The least read cache where none is configured.
const LEAST_READ_CACHE: u64 = 64 << 20;
/// Where none is configured it is this part of the memory.
const READ_CACHE_PART: u64 = 8;

impl Config {
    /// The read cache of each of `servers` chunk servers that share `memory` bytes, where none is configured.
    pub fn share_of_memory(memory: u64, servers: u64) -> ByteCount {
        let share = memory / READ_CACHE_PART / servers.max(1);
        // Whole MiB are easier to read.
        ByteCount((share >> 20 << 20).max(LEAST_READ_CACHE))
    }

    /// Bytes of the read cache. Where nothing was configured and nobody looked at the machine: the least one.
    pub(crate) fn cache_bytes(&self) -> u64 {
        self.read_cache.map_or(LEAST_READ_CACHE, |bytes| bytes.0)
    }
}

/// Every fault of a configuration, in words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the chunk server's configuration is not valid: {}", .0.join("; "))]
pub struct ConfigFaults(pub Vec<String>);

impl Config {
    /// Checks what types alone cannot say. [`Config::data`] may be empty for those who pass open directories.
    ///
    /// # Errors
    /// All faults at once.
    pub fn validate(&self) -> Result<(), ConfigFaults> {
        let mut faults = Vec::new();
        let mut check = |good: bool, fault: String| {
            if !good {
                faults.push(fault);
            }
        };
        check(
            !self.metadata.is_empty(),
            "metadata is empty, at least one address is needed".into(),
        );
        for address in self.metadata.iter().chain(&self.advertise) {
            check(is_host_port(address), format!("{address:?} is not host:port"));
        }
        check(
            self.advertise.is_some() || !self.listen.ip().is_unspecified(),
            format!(
                "listen is {}, a wildcard: set advertise to the address that others can reach",
                self.listen
            ),
        );
        for (name, value) in [("rack", &self.rack), ("zone", &self.zone)] {
            check(
                !value.is_empty() && value.len() <= 255,
                format!("{name} must have 1 to 255 bytes"),
            );
        }
        check(self.host.len() <= 255, "host must have at most 255 bytes".into());
        if let Some(capacity) = self.capacity {
            check(
                capacity.0 >= 64 << 20,
                format!("capacity is {capacity}, must be 64MiB or more"),
            );
        }
        check(
            self.cache_bytes() <= 1 << 40,
            format!("read-cache is {} bytes, must be at most 1TiB", self.cache_bytes()),
        );
        // Half of it is for what disks have not written, of which 4 MiB may rest for a second before they are moved.
        let least = 32 * MAX_PAYLOAD_BYTES as u64;
        check(
            (least..=16 << 30).contains(&self.in_flight.0),
            format!("in-flight is {}, must be 32MiB to 16GiB", self.in_flight),
        );
        check(
            (1..=64).contains(&self.io_threads),
            format!("io-threads is {}, must be 1 to 64", self.io_threads),
        );
        check(
            (256 << 10..=1 << 30).contains(&self.journal_segment.0)
                && self.journal_segment.0.is_multiple_of(4096),
            format!(
                "journal-segment is {}, must be 256KiB to 1GiB and a multiple of 4KiB",
                self.journal_segment
            ),
        );
        if let Some(arena) = self.arena {
            check(
                (64 << 10..=16 << 30).contains(&arena.0) && arena.0.is_multiple_of(64 << 10),
                format!("arena is {arena}, must be 64KiB to 16GiB and a multiple of 64KiB"),
            );
        }
        let durations = [
            ("heartbeat", self.heartbeat),
            ("heartbeat-timeout", self.heartbeat_timeout),
        ];
        for (name, value) in durations {
            let good = (Duration::from_millis(100)..=Duration::from_secs(30)).contains(&value);
            check(good, format!("{name} is {value:?}, must be 100ms to 30s"));
        }
        for (at, path) in self.data.iter().enumerate() {
            check(
                !self.data[..at].contains(path),
                format!("data names {} twice", path.display()),
            );
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigFaults(faults))
        }
    }
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0))
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<ByteCount, D::Error> {
    String::deserialize(from)?.parse().map_err(de::Error::custom)
}

fn optional_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ByteCount>, D::Error> {
    bytes(from).map(Some)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(from)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_is_read_and_unknown_fields_are_refused() {
        let text = "listen = \"127.0.0.1:0\"\ndata = [\"/a\"]\nmetadata = [\"127.0.0.1:9710\"]\nrack = \"r1\"\n\
                    capacity = \"1GiB\"\nread-cache = \"32MiB\"\nheartbeat = \"500ms\"\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.capacity, Some(ByteCount(1 << 30)));
        assert_eq!(config.read_cache, Some(ByteCount(32 << 20)));
        assert_eq!(config.heartbeat, Duration::from_millis(500));
        assert_eq!(config.io_threads, 4);
        config.validate().unwrap();
        assert!(toml::from_str::<Config>("read_cache = \"1MiB\"").is_err());
        assert!(toml::from_str::<Config>("read-cache = \"1MB\"").is_err());
    }

    #[test]
    fn the_read_cache_is_a_part_of_the_memory() {
        assert_eq!(Config::share_of_memory(24 << 30, 3), ByteCount(1 << 30));
        assert_eq!(Config::share_of_memory((8 << 30) + 5, 1), ByteCount(1 << 30));
        assert_eq!(Config::share_of_memory(1 << 30, 5), ByteCount(64 << 20));
        let config = Config::default();
        assert_eq!(config.cache_bytes(), 64 << 20);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let bad = Config {
            listen: SocketAddr::from(([0, 0, 0, 0], 1)),
            metadata: vec!["nowhere".into()],
            rack: String::new(),
            io_threads: 0,
            in_flight: ByteCount(1),
            heartbeat: Duration::ZERO,
            capacity: Some(ByteCount(5)),
            data: vec!["/a".into(), "/a".into()],
            ..Config::default()
        };
        assert_eq!(bad.validate().unwrap_err().0.len(), 8);
    }
}
