//! The configuration of a node's doors.

use drystone_gateway::{HttpOptions, Pace};
use drystone_types::{ByteCount, parse_duration};
use serde::{Deserialize, Deserializer};
use std::net::SocketAddr;
use std::time::Duration;

/// Doors of a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GatewayConfig {
    /// Where REST listens; default `127.0.0.1:9700`.
    #[serde(default = "default_rest")]
    pub rest: SocketAddr,
    /// `host:port` of metadata servers, any of them.
    pub metadata: Vec<String>,
    /// Host names under which clients reach the doors, as `files.example.org`; default none: doors answer for loopback
    /// names and addresses only, so that no web page can reach them by a name of its own.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Connections of a door at one time, 1 or more, and fewer where the system's limit of open files is low: beyond it
    /// the one that has been idle for longest is closed, or a new one waits; default 4096.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// How long the head of a request may take, and a connection may be idle; default `"30s"`.
    #[serde(default = "default_window", deserialize_with = "duration")]
    pub head_timeout: Duration,
    /// Bytes of a request's head, from 8 KiB to 256 KiB; default `"32KiB"`. A larger one is answered 431.
    #[serde(default = "default_head", deserialize_with = "bytes")]
    pub head_bytes: ByteCount,
    /// Bytes that a client must at least send of a body, or take of an answer, in each second that it is waited for;
    /// default `"1KiB"`. A slower one is answered 408, or cut off.
    #[serde(default = "default_slowest", deserialize_with = "bytes")]
    pub slowest: ByteCount,
    /// How long a client may be silent in the middle of a body or an answer, beyond what it has paid for: what it moved
    /// faster than `slowest` counts for later, up to 1 MiB; default `"30s"`.
    #[serde(default = "default_window", deserialize_with = "duration")]
    pub slowest_window: Duration,
}

impl GatewayConfig {
    /// REST at `rest` for the cluster of these metadata servers, with the defaults.
    pub fn new(rest: SocketAddr, metadata: Vec<String>) -> Self {
        Self {
            rest,
            metadata,
            hosts: Vec::new(),
            connections: default_connections(),
            head_timeout: default_window(),
            head_bytes: default_head(),
            slowest: default_slowest(),
            slowest_window: default_window(),
        }
    }

    /// Gives a door's server the limits.
    pub fn limit(&self, options: &mut HttpOptions) {
        options.hosts.clone_from(&self.hosts);
        options.connections = self.connections;
        options.head_timeout = self.head_timeout;
        options.head_bytes = self.head_bytes.0 as usize;
        options.pace = Pace {
            bytes_per_second: self.slowest.0,
            window: self.slowest_window,
            ..Pace::default()
        };
    }

    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.metadata.is_empty() {
            faults.push("metadata is empty, at least one address is needed".to_owned());
        }
        if self.connections == 0 {
            faults.push("connections is 0, must be 1 or more".to_owned());
        }
        if !(8 << 10..=256 << 10).contains(&self.head_bytes.0) {
            faults.push(format!(
                "head-bytes is {}, must be 8KiB to 256KiB",
                self.head_bytes
            ));
        }
        if self.head_timeout.is_zero() || self.slowest_window.is_zero() {
            faults.push("head-timeout and slowest-window must not be zero".to_owned());
        }
        faults
    }
}

fn default_connections() -> usize {
    4096
}

fn default_window() -> Duration {
    Duration::from_secs(30)
}

fn default_head() -> ByteCount {
    ByteCount(32 << 10)
}

fn default_slowest() -> ByteCount {
    ByteCount(1 << 10)
}

fn default_rest() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9700))
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<ByteCount, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_servers_and_every_fault_is_reported() {
        let config: GatewayConfig = toml::from_str("metadata = [\"127.0.0.1:9710\"]").unwrap();
        let rest = SocketAddr::from(([127, 0, 0, 1], 9700));
        assert_eq!(config, GatewayConfig::new(rest, config.metadata.clone()));
        assert!(config.faults().is_empty());
        let usual = HttpOptions::new("rest", drystone_gateway::Metrics::default());
        let mut limited = usual.clone();
        config.limit(&mut limited);
        assert_eq!(limited.connections, usual.connections);
        assert_eq!(
            (limited.head_timeout, limited.head_bytes),
            (usual.head_timeout, usual.head_bytes)
        );
        assert_eq!((limited.pace, limited.hosts), (usual.pace, usual.hosts));
        let bad = "metadata = []\nconnections = 0\nhead-bytes = \"1MiB\"\nslowest-window = \"0s\"";
        assert_eq!(toml::from_str::<GatewayConfig>(bad).unwrap().faults().len(), 4);
        assert!(toml::from_str::<GatewayConfig>("metadata = []\ncolour = 1").is_err());
    }
}
