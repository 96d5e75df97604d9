//! Metrics of the doors. Names are stable; labels are closed sets: a door's name, the operations that it lists, and
//! classes of statuses.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::fmt::Write as _;

/// Upper ends of the classes of latency in seconds: from a small read that is cached to a large file that streams.
const LATENCY_SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0,
];

/// Of a request that was refused before its door looked at it (another host, a foreign origin, a head that is too
/// large), or for which its door names no operation.
pub const REFUSED: &str = "refused";

/// What a request was about, as its door names it; the door puts it into the extensions of its response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation(pub &'static str);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct DoorLabel {
    door: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OperationLabel {
    door: &'static str,
    operation: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabel {
    door: &'static str,
    operation: &'static str,
    status: StatusClass,
}

/// The class of a status: `2xx`, `3xx`, `4xx`, `5xx`, or `none`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum StatusClass {
    /// Done.
    Success,
    /// Not modified.
    Redirection,
    /// The request is at fault.
    ClientError,
    /// The cluster is.
    ServerError,
    /// The peer, or this process, ended before there was an answer.
    Aborted,
}

impl EncodeLabelValue for StatusClass {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            StatusClass::Success => "2xx",
            StatusClass::Redirection => "3xx",
            StatusClass::ClientError => "4xx",
            StatusClass::ServerError => "5xx",
            StatusClass::Aborted => "none",
        })
    }
}

impl StatusClass {
    fn of(status: Option<http::StatusCode>) -> Self {
        match status.map(|status| status.as_u16()) {
            None => StatusClass::Aborted,
            Some(500..) => StatusClass::ServerError,
            Some(400..) => StatusClass::ClientError,
            Some(300..) => StatusClass::Redirection,
            Some(_) => StatusClass::Success,
        }
    }
}

/// The metrics of all doors of a process. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<RequestLabel, Counter>,
    received_bytes: Family<DoorLabel, Counter>,
    sent_bytes: Family<DoorLabel, Counter>,
    in_flight: Family<DoorLabel, Gauge>,
    connections: Family<DoorLabel, Gauge>,
    latency: Family<OperationLabel, Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            received_bytes: Family::default(),
            sent_bytes: Family::default(),
            in_flight: Family::default(),
            connections: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_SECONDS)),
        }
    }
}

impl Metrics {
    /// The metrics as text in the OpenMetrics format, with its end.
    pub fn encode(&self) -> String {
        let mut registry = Registry::with_prefix("drystone_gateway");
        registry.register(
            "requests",
            "Requests that ended, by door, operation and class of status",
            self.requests.clone(),
        );
        registry.register(
            "received_bytes",
            "Bytes of request bodies",
            self.received_bytes.clone(),
        );
        registry.register("sent_bytes", "Bytes of response bodies", self.sent_bytes.clone());
        registry.register(
            "requests_in_flight",
            "Requests whose answer has not been sent to its end",
            self.in_flight.clone(),
        );
        registry.register("connections", "Connections of clients", self.connections.clone());
        registry.register(
            "request_duration_seconds",
            "From the head of a request to the end of its answer",
            self.latency.clone(),
        );
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
            tracing::warn!(%error, "metrics could not be written");
        }
        text
    }

    pub(crate) fn connection(&self, door: &'static str) -> OpenConnection {
        let gauge = self.connections.get_or_create(&DoorLabel { door }).clone();
        gauge.inc();
        OpenConnection(gauge)
    }

    pub(crate) fn begin(&self, door: &'static str) {
        self.in_flight.get_or_create(&DoorLabel { door }).inc();
    }

    pub(crate) fn end(&self, door: &'static str, request: &Ended) {
        let label = DoorLabel { door };
        self.in_flight.get_or_create(&label).dec();
        self.received_bytes
            .get_or_create(&label)
            .inc_by(request.received_bytes);
        self.sent_bytes.get_or_create(&label).inc_by(request.sent_bytes);
        let Operation(operation) = request.operation;
        let labels = RequestLabel {
            door,
            operation,
            status: StatusClass::of(request.status),
        };
        self.requests.get_or_create(&labels).inc();
        self.latency
            .get_or_create(&OperationLabel { door, operation })
            .observe(request.seconds);
    }
}

/// A request that has ended.
pub(crate) struct Ended {
    pub(crate) operation: Operation,
    /// None if there was no answer.
    pub(crate) status: Option<http::StatusCode>,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) seconds: f64,
}

/// Counts a connection until it is dropped.
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_door_operation_and_class() {
        let metrics = Metrics::default();
        let connection = metrics.connection("rest");
        for status in [200, 404, 503, 304] {
            metrics.begin("rest");
            metrics.end(
                "rest",
                &Ended {
                    operation: Operation("read"),
                    status: http::StatusCode::from_u16(status).ok(),
                    received_bytes: 1,
                    sent_bytes: 10,
                    seconds: 0.002,
                },
            );
        }
        metrics.begin("rest");
        let text = metrics.encode();
        for line in [
            "drystone_gateway_requests_total{door=\"rest\",operation=\"read\",status=\"2xx\"} 1",
            "drystone_gateway_requests_total{door=\"rest\",operation=\"read\",status=\"4xx\"} 1",
            "drystone_gateway_requests_total{door=\"rest\",operation=\"read\",status=\"5xx\"} 1",
            "drystone_gateway_requests_total{door=\"rest\",operation=\"read\",status=\"3xx\"} 1",
            "drystone_gateway_received_bytes_total{door=\"rest\"} 4",
            "drystone_gateway_sent_bytes_total{door=\"rest\"} 40",
            "drystone_gateway_requests_in_flight{door=\"rest\"} 1",
            "drystone_gateway_connections{door=\"rest\"} 1",
            "drystone_gateway_request_duration_seconds_bucket{le=\"0.0025\",door=\"rest\",operation=\"read\"} 4",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        drop(connection);
        assert!(
            metrics
                .encode()
                .contains("drystone_gateway_connections{door=\"rest\"} 0")
        );
    }
}
