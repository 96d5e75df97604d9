//! As much of a metadata server as it takes to connect a client.
#![allow(clippy::unwrap_used, reason = "a test double: a panic is the test's failure")]

use bytes::Bytes;
use drystone_client::{Client, Options};
use drystone_env::{BoxFuture, BufferPool, Env};
use drystone_proto::Kind;
use drystone_proto::cluster::{ClusterInfo, ErrorReply, Hello, HelloReply};
use drystone_rpc::{Reply, Request, ServerHandle, ServerIdentity, ServerOptions, Service, serve};
use drystone_types::{ClusterId, Code, HistoryId, Incarnation, NodeId};
use std::sync::Arc;

struct Metadata;

impl Service for Metadata {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        let identity = ServerIdentity {
            cluster: ClusterId([1; 16]),
            history: HistoryId([2; 16]),
            node: NodeId(1),
            incarnation: Incarnation(1),
            software: String::new(),
        };
        identity.answer(hello)
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        let reply = match request.kind {
            Kind::ClusterInfo => Reply::ok(&ClusterInfo {
                cluster: Bytes::from_static(&[1; 16]),
                history: Bytes::from_static(&[2; 16]),
                leader: 1,
                ..ClusterInfo::default()
            }),
            kind => Reply::refuse(Code::NotSupported, format!("{kind:?}")),
        };
        Box::pin(async move { reply })
    }
}

/// A client that is connected, and what it is connected to.
pub async fn client(env: &Env) -> (Client, ServerHandle) {
    let listener = env.net.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let options = ServerOptions::new(BufferPool::new(1 << 20));
    let server = serve(env.clone(), listener, Arc::new(Metadata), options);
    let options = Options::new([server.address().to_string()]);
    (Client::connect(env.clone(), options).await.unwrap(), server)
}
