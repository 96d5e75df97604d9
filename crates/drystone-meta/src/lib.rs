//! A metadata server: Raft, namespace, leader's soft state and the service in front of them.
