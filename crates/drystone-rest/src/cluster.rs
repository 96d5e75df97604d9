//! `/cluster` and `/status`: what a client needs to know, and the cluster at a glance.

use crate::respond::{bytes, json};
use drystone_client::Client;
use drystone_gateway::{Problem, Response, health};
use drystone_types::{ClusterId, HistoryId};
use http::StatusCode;
use serde_json::{Value, json};

/// `GET /cluster`: where the metadata servers are.
pub async fn show(client: &Client) -> Result<Response, Problem> {
    let info = client.cluster_info().await?;
    let members: Vec<Value> = info
        .members
        .iter()
        .map(|member| json!({ "node": member.node, "name": member.name, "address": member.address, "voter": member.voter }))
        .collect();
    json(
        StatusCode::OK,
        &json!({
            "cluster": ClusterId::from_slice(&info.cluster).unwrap_or_default().to_string(),
            "history": HistoryId::from_slice(&info.history).unwrap_or_default().to_string(),
            // A server that knows none says 0.
            "leader": (info.leader != 0).then_some(info.leader),
            "term": info.term,
            "metadata": members,
        }),
    )
}

/// `GET /status`: the cluster at a glance, as `drystone admin status --json` shows it.
pub async fn status(client: &Client) -> Result<Response, Problem> {
    json(StatusCode::OK, &health::status(&client.status().await?))
}

/// `GET /`: a person with a browser.
pub fn welcome() -> Result<Response, Problem> {
    let text = "This is the REST door of a Drystone cluster.\n\n\
                GET /directories/        the root directory\n\
                GET /files/PATH          a file\n\
                GET /metadata/PATH       its attributes\n\
                GET /links/PATH          what a symbolic link points to\n\
                GET /status              the cluster at a glance\n\
                GET /openapi.json        everything else\n";
    Ok(bytes(StatusCode::OK, "text/plain; charset=utf-8", text))
}
