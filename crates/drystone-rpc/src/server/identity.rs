//! Who a server is, and which hellos it accepts.

use crate::error::refusal;
use bytes::Bytes;
use drystone_proto::cluster::{ErrorReply, Hello, HelloReply};
use drystone_types::{ClusterId, Code, HistoryId, Incarnation, NodeId};

/// Who a server is. A service's `hello` usually is [`ServerIdentity::answer`] and perhaps a check of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerIdentity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its history.
    pub history: HistoryId,
    /// Its node.
    pub node: NodeId,
    /// Its formatting.
    pub incarnation: Incarnation,
    /// Version, for people.
    pub software: String,
}

impl ServerIdentity {
    /// Accepts whoever names this cluster and history (or, for clients that do not know them yet, none) and
    /// means this node (or none).
    ///
    /// # Errors
    /// `stranger`, with both sides named; `invalid` for ids of a wrong length.
    pub fn answer(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        if !hello.cluster.is_empty() {
            let theirs = ClusterId::from_slice(&hello.cluster)
                .ok_or_else(|| refusal(Code::Invalid, "a cluster id has 16 bytes"))?;
            if theirs != self.cluster {
                let message = format!(
                    "this node belongs to cluster {}, the sender to {theirs}",
                    self.cluster
                );
                return Err(refusal(Code::Stranger, message));
            }
        }
        if !hello.history.is_empty() {
            let theirs = HistoryId::from_slice(&hello.history)
                .ok_or_else(|| refusal(Code::Invalid, "a history id has 16 bytes"))?;
            if theirs != self.history {
                let message = format!(
                    "this node lives in history {}, the sender in {theirs}",
                    self.history
                );
                return Err(refusal(Code::Stranger, message));
            }
        } else if hello.node != 0 {
            return Err(refusal(Code::Stranger, "a node must name its history"));
        }
        if hello.to_node != 0 && hello.to_node != self.node.0 {
            let message = format!(
                "this is node {}, the sender looks for node {}",
                self.node, hello.to_node
            );
            return Err(refusal(Code::Stranger, message));
        }
        Ok(HelloReply {
            cluster: Bytes::copy_from_slice(&self.cluster.0),
            history: Bytes::copy_from_slice(&self.history.0),
            node: self.node.0,
            incarnation: self.incarnation.0,
            software: self.software.clone(),
            window: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hello: Hello, expected: Option<Code>) {
        let identity = ServerIdentity {
            cluster: ClusterId([1; 16]),
            history: HistoryId([2; 16]),
            node: NodeId(3),
            incarnation: Incarnation(4),
            software: String::new(),
        };
        assert_eq!(
            identity.answer(&hello).err().map(|error| error.code),
            expected.map(Code::number)
        );
    }

    #[test]
    fn only_those_of_the_same_cluster_and_history_are_let_in() {
        let id = |byte: u8| Bytes::from(vec![byte; 16]);
        check(Hello::default(), None);
        check(
            Hello {
                cluster: id(1),
                history: id(2),
                node: 9,
                to_node: 3,
                ..Hello::default()
            },
            None,
        );
        check(
            Hello {
                cluster: id(7),
                ..Hello::default()
            },
            Some(Code::Stranger),
        );
        check(
            Hello {
                history: id(7),
                ..Hello::default()
            },
            Some(Code::Stranger),
        );
        check(
            Hello {
                to_node: 4,
                ..Hello::default()
            },
            Some(Code::Stranger),
        );
        check(
            Hello {
                node: 9,
                ..Hello::default()
            },
            Some(Code::Stranger),
        );
        check(
            Hello {
                history: Bytes::from_static(b"short"),
                ..Hello::default()
            },
            Some(Code::Invalid),
        );
    }
}
