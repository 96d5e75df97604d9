//! Configuration of a metadata server.

use drystone_types::{AckPolicy, ByteCount, Policy, parse_duration};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a metadata server is told when it starts. Everything but `data` and `listen` has a default.
///
/// In TOML the keys are in kebab-case, sizes are `"64MiB"` and durations `"10s"`; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The formatted data directory (identity, log and state). No default.
    pub data: PathBuf,
    /// Where the internal wire listens; port 0 takes any free port. No default.
    pub listen: SocketAddr,
    /// `host:port` under which others reach this server; default: the address that `listen` resolved to. Set it
    /// when the server listens on a wildcard address or behind a translation.
    #[serde(default)]
    pub advertise: Option<String>,
    /// `host:port` of the node's admin HTTP port, told to others; default: none.
    #[serde(default)]
    pub admin: Option<String>,
    /// Failure domain; default `default`.
    #[serde(default = "default_domain")]
    pub rack: String,
    /// Failure domain; default `default`.
    #[serde(default = "default_domain")]
    pub zone: String,
    /// Failure domain: nodes with equal host fail together; default `localhost`.
    #[serde(default = "default_host")]
    pub host: String,
    /// `host:port` of metadata servers to ask for admission, for a node that was formatted to join; default:
    /// the voters that its identity names.
    #[serde(default)]
    pub join: Vec<String>,
    /// The cluster's default policy, written into the state once by the first leader of a fresh history.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// Owner of the root directory, written once as the policy is; default `drystone`.
    #[serde(default = "default_owner")]
    pub owner: String,
    /// Raft's tick, 10 ms to 1 s; default `"50ms"`. Leaders send a heartbeat every 2 ticks and followers call an
    /// election after 6 to 12 without one. Lengthen it for links of more than 50 ms.
    #[serde(default = "default_tick", deserialize_with = "duration")]
    pub raft_tick: Duration,
    /// Bytes of one segment of the Raft log; default `"64MiB"`, from 64KiB (tests) to 1GiB.
    #[serde(default = "default_log_segment", deserialize_with = "bytes")]
    pub log_segment: ByteCount,
    /// Log entries kept behind the synced state for followers that lag; default 100,000. Beyond them a follower
    /// gets a snapshot.
    #[serde(default = "default_log_keep")]
    pub log_keep_entries: u64,
    /// Bytes of log that a leader, and whoever hears it, keeps beyond that for members that lag and were heard in the last
    /// minute, so that a snapshot is not outrun while it is made and installed; default `"512MiB"`, up to 64GiB. With 0 a
    /// member that lags may need one snapshot after another while much is written. Nothing is kept while free space is
    /// below `disk-reserve`.
    #[serde(default = "default_log_catch_up", deserialize_with = "bytes")]
    pub log_catch_up: ByteCount,
    /// How often the state is written to the store, 1 ms to 10 s; default `"100ms"`.
    #[serde(default = "default_flush", deserialize_with = "duration")]
    pub flush_interval: Duration,
    /// How often what was written to the store is made durable there, so that the log can be cut, 10 ms to 10 m;
    /// default `"5s"`. A restart applies again what the log holds since the last time.
    #[serde(default = "default_checkpoint", deserialize_with = "duration")]
    pub checkpoint_interval: Duration,
    /// Bytes of log after which a lone voter exports its state, so that a damaged store can be rebuilt; default
    /// `"16MiB"`, 4KiB (tests) to 256MiB. A larger state is exported after as many bytes of log as its last export
    /// had, up to 256MiB, and exports take at most a quarter of the time. Voters that are not alone make none.
    #[serde(default = "default_export", deserialize_with = "bytes")]
    pub export_after: ByteCount,
    /// Bytes of log that a lone voter keeps on its disk for its exports; default `"2GiB"`, from eight segments to 1TiB.
    /// From half of it on one export follows the other without a rest. Beyond it commands of clients are refused as
    /// busy, to be asked again, until an export lets the log go; the cluster's own go on, which are few. The default is
    /// four times what exports of a small state keep, and read in seconds at a start. Raise it if a large state is
    /// exported slowly.
    #[serde(default = "default_log_limit", deserialize_with = "bytes")]
    pub log_limit: ByteCount,
    /// Memory for changes not yet in the store; default `"256MiB"`. When it is full, apply waits for the store.
    #[serde(default = "default_overlay", deserialize_with = "bytes")]
    pub overlay: ByteCount,
    /// Memory for cached blocks of the store; default `"256MiB"`.
    #[serde(default = "default_cache", deserialize_with = "bytes")]
    pub store_cache: ByteCount,
    /// Free space of the data directory's file system below which only commands that free space are accepted; default
    /// `"512MiB"`, but no more than a fortieth of the file system. Chunk servers on the same file system leave twice as
    /// much.
    #[serde(default, deserialize_with = "optional_bytes")]
    pub disk_reserve: Option<ByteCount>,
    /// How often chunk servers send heartbeats, 100 ms to 30 s; default `"3s"`.
    #[serde(default = "default_heartbeat", deserialize_with = "duration")]
    pub heartbeat: Duration,
    /// Silence after which a chunk server is suspect (no new data, reads hedge); default `"10s"`; at least two
    /// heartbeats.
    #[serde(default = "default_suspect", deserialize_with = "duration")]
    pub suspect_after: Duration,
    /// Silence after which a chunk server counts as dead; default `"2m"`; at least `suspect-after`.
    #[serde(default = "default_dead", deserialize_with = "duration")]
    pub dead_after: Duration,
    /// Age after which a range of chunk ids falls below the grant floor, so that what writers that died left
    /// behind can be deleted; default `"15m"`, from 1 s (tests). Shorter than the longest write of one chunk it
    /// makes slow writers start again.
    #[serde(default = "default_grant_age", deserialize_with = "duration")]
    pub grant_age: Duration,
    /// How long a chunk that nothing refers to any more is kept, in log time, so that reads which began before
    /// can end; default `"2m"`, at most 30 days; `"0s"` (tests) deletes at once.
    #[serde(default = "default_doomed_grace", deserialize_with = "duration")]
    pub doomed_grace: Duration,
    /// Largest content that may go into a command; default `"4KiB"`, at most 64KiB, 0 turns it off.
    #[serde(default = "default_inline", deserialize_with = "bytes")]
    pub inline_max: ByteCount,
}

/// See [`Config::policy`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Replicas of each chunk, 1 to 8; default 3.
    pub replicas: u32,
    /// `all` (default), `quorum`, `one` or `memory`.
    #[serde(deserialize_with = "ack")]
    pub ack: AckPolicy,
    /// Least redundancy at which a write may still be acknowledged; 0 (default): `replicas`.
    pub degraded_minimum: u32,
    /// Size at which a stream is cut into chunks; default `"64MiB"`.
    #[serde(deserialize_with = "bytes")]
    pub chunk_bytes: ByteCount,
}

impl From<Policy> for PolicyConfig {
    fn from(policy: Policy) -> Self {
        Self {
            replicas: policy.replicas,
            ack: policy.ack,
            degraded_minimum: policy.degraded_minimum,
            chunk_bytes: policy.chunk_bytes,
        }
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Policy::default().into()
    }
}

impl PolicyConfig {
    /// As the rest of the workspace knows it.
    pub fn policy(&self) -> Policy {
        Policy {
            replicas: self.replicas,
            ack: self.ack,
            degraded_minimum: self.degraded_minimum,
            chunk_bytes: self.chunk_bytes,
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid metadata server configuration: {}", .0.join("; "))]
pub struct ConfigFaults(pub Vec<String>);

impl Config {
    /// A configuration with every default.
    pub fn new(data: PathBuf, listen: SocketAddr) -> Self {
        Self {
            data,
            listen,
            advertise: None,
            admin: None,
            rack: default_domain(),
            zone: default_domain(),
            host: default_host(),
            join: Vec::new(),
            policy: PolicyConfig::default(),
            owner: default_owner(),
            raft_tick: default_tick(),
            log_segment: default_log_segment(),
            log_keep_entries: default_log_keep(),
            log_catch_up: default_log_catch_up(),
            flush_interval: default_flush(),
            checkpoint_interval: default_checkpoint(),
            export_after: default_export(),
            log_limit: default_log_limit(),
            overlay: default_overlay(),
            store_cache: default_cache(),
            disk_reserve: None,
            heartbeat: default_heartbeat(),
            suspect_after: default_suspect(),
            dead_after: default_dead(),
            grant_age: default_grant_age(),
            doomed_grace: default_doomed_grace(),
            inline_max: default_inline(),
        }
    }

    /// Bytes of one batch of the log: a quarter of a segment, so that small segments of tests still hold some.
    pub(crate) fn log_batch(&self) -> u32 {
        (self.log_segment.0 / 4).clamp(8192, 4 << 20) as u32 / 4096 * 4096
    }

    /// The largest command that is taken: half a batch of the log, and far above what the namespace's own limits
    /// allow a client to need.
    pub(crate) fn command_bytes(&self) -> usize {
        (self.log_batch() as usize / 2).min(2 << 20)
    }

    /// Bytes of changes that may wait in memory beside the batch that is on its way to the store.
    pub(crate) fn overlay_limit(&self) -> usize {
        self.overlay.0 as usize / 2
    }

    /// Checks every field.
    ///
    /// # Errors
    /// All faults at once, in words.
    pub fn validate(&self) -> Result<(), ConfigFaults> {
        let mut faults: Vec<String> = self.policy.policy().faults();
        let mut within = |name: &str, value: Duration, low: Duration, high: Duration| {
            if value < low || value > high {
                faults.push(format!("{name} is {value:?}, must be {low:?} to {high:?}"));
            }
        };
        let (ms, day) = (Duration::from_millis, Duration::from_secs(86_400));
        within("raft-tick", self.raft_tick, ms(10), ms(1000));
        within("flush-interval", self.flush_interval, ms(1), ms(10_000));
        within(
            "checkpoint-interval",
            self.checkpoint_interval,
            ms(10),
            ms(600_000),
        );
        within("heartbeat", self.heartbeat, ms(100), ms(30_000));
        within("suspect-after", self.suspect_after, self.heartbeat * 2, day);
        within("dead-after", self.dead_after, self.suspect_after, day);
        within("grant-age", self.grant_age, ms(1000), day * 30);
        within("doomed-grace", self.doomed_grace, Duration::ZERO, day * 30);
        let mut sized = |name: &str, value: ByteCount, low: u64, high: u64| {
            if !(low..=high).contains(&value.0) {
                faults.push(format!(
                    "{name} is {value}, must be {} to {}",
                    ByteCount(low),
                    ByteCount(high)
                ));
            }
        };
        sized("log-segment", self.log_segment, 64 << 10, 1 << 30);
        sized("log-catch-up", self.log_catch_up, 0, 64 << 30);
        sized("export-after", self.export_after, 4 << 10, 256 << 20);
        sized(
            "log-limit",
            self.log_limit,
            self.log_segment.0.saturating_mul(8),
            1 << 40,
        );
        sized("overlay", self.overlay, 1 << 20, 64 << 30);
        sized("store-cache", self.store_cache, 1 << 20, 1 << 40);
        sized("disk-reserve", self.disk_reserve.unwrap_or_default(), 0, 1 << 40);
        sized("inline-max", self.inline_max, 0, 64 << 10);
        if !self.log_segment.0.is_multiple_of(4096) {
            faults.push(format!(
                "log-segment is {}, must be a multiple of 4KiB",
                self.log_segment
            ));
        }
        if self.data.as_os_str().is_empty() {
            faults.push("data is empty".to_owned());
        }
        for (name, text) in [
            ("rack", &self.rack),
            ("zone", &self.zone),
            ("host", &self.host),
            ("owner", &self.owner),
        ] {
            if text.is_empty() || text.len() > 255 {
                faults.push(format!("{name} has {} bytes, must have 1 to 255", text.len()));
            }
        }
        for address in self.join.iter().chain(&self.advertise).chain(&self.admin) {
            if !is_address(address) {
                faults.push(format!("{address:?} is not host:port"));
            }
        }
        if self.listen.ip().is_unspecified() && self.advertise.is_none() {
            faults.push("listen is a wildcard address: set advertise".to_owned());
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(ConfigFaults(faults))
        }
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn duration<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(source)?).map_err(serde::de::Error::custom)
}

fn bytes<'de, D: serde::Deserializer<'de>>(source: D) -> Result<ByteCount, D::Error> {
    String::deserialize(source)?
        .parse()
        .map_err(serde::de::Error::custom)
}

fn optional_bytes<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Option<ByteCount>, D::Error> {
    bytes(source).map(Some)
}

fn ack<'de, D: serde::Deserializer<'de>>(source: D) -> Result<AckPolicy, D::Error> {
    String::deserialize(source)?
        .parse()
        .map_err(serde::de::Error::custom)
}

fn default_domain() -> String {
    "default".to_owned()
}
fn default_host() -> String {
    "localhost".to_owned()
}
fn default_owner() -> String {
    "drystone".to_owned()
}
fn default_tick() -> Duration {
    Duration::from_millis(50)
}
fn default_log_segment() -> ByteCount {
    ByteCount(64 << 20)
}
fn default_log_keep() -> u64 {
    100_000
}
fn default_log_catch_up() -> ByteCount {
    ByteCount(512 << 20)
}
fn default_flush() -> Duration {
    Duration::from_millis(100)
}
fn default_checkpoint() -> Duration {
    Duration::from_secs(5)
}
fn default_export() -> ByteCount {
    ByteCount(16 << 20)
}
fn default_log_limit() -> ByteCount {
    ByteCount(2 << 30)
}
fn default_overlay() -> ByteCount {
    ByteCount(256 << 20)
}
fn default_cache() -> ByteCount {
    ByteCount(256 << 20)
}
fn default_heartbeat() -> Duration {
    Duration::from_secs(3)
}
fn default_suspect() -> Duration {
    Duration::from_secs(10)
}
fn default_dead() -> Duration {
    Duration::from_secs(120)
}
fn default_grant_age() -> Duration {
    Duration::from_secs(900)
}
fn default_doomed_grace() -> Duration {
    Duration::from_secs(120)
}
fn default_inline() -> ByteCount {
    ByteCount(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_in_kebab_case_is_read_and_unknown_keys_are_refused() {
        let text = "data = 'd'\nlisten = '127.0.0.1:9710'\nflush-interval = '50ms'\noverlay = '64MiB'\n";
        let policy = "[policy]\nreplicas = 2\nack = 'quorum'\n";
        let config: Config = toml::from_str(&format!("{text}{policy}")).unwrap();
        assert_eq!(config.flush_interval, Duration::from_millis(50));
        assert_eq!((config.overlay, config.policy.replicas), (ByteCount(64 << 20), 2));
        let defaults = Config::new("d".into(), "127.0.0.1:9710".parse().unwrap());
        assert_eq!(config.raft_tick, defaults.raft_tick);
        assert!(toml::from_str::<Config>(&format!("{text}colour = 3\n")).is_err());
        assert!(toml::from_str::<Config>(&format!("{text}raft-tick = 'soon'\n")).is_err());
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let good = Config::new("d".into(), "127.0.0.1:0".parse().unwrap());
        assert_eq!(good.validate(), Ok(()));
        let bad = Config {
            raft_tick: Duration::ZERO,
            overlay: ByteCount(1),
            rack: String::new(),
            join: vec!["nonsense".into()],
            listen: "0.0.0.0:1".parse().unwrap(),
            ..good
        };
        assert_eq!(bad.validate().unwrap_err().0.len(), 5);
    }
}
