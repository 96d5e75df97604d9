//! From the REST address of a cluster to a client of it.

use crate::args::Arguments;
use anyhow::{Context, bail};
use bytes::Bytes;
use drystone_client::{Caller, Client, Options, Tried, Wait, Waits};
use drystone_env::Env;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use std::time::Duration;

/// The answer of `GET /cluster` is small.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// How long a door may be silent that is asked for the cluster, which it knows by itself.
const PATIENCE: Duration = Duration::from_secs(15);

/// What `GET /cluster` says, as far as a client needs it.
#[derive(Deserialize)]
struct ClusterAnswer {
    metadata: Vec<MetadataServer>,
}

#[derive(Deserialize)]
struct MetadataServer {
    address: String,
}

/// One GET; answers status and body.
pub async fn get(url: &str) -> anyhow::Result<(u16, Bytes)> {
    let uri: hyper::Uri = url.parse().with_context(|| format!("{url} is not a URL"))?;
    let client: HttpClient<_, Empty<Bytes>> = HttpClient::builder(TokioExecutor::new()).build_http();
    let answer = client.get(uri).await?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((status, body.to_bytes()))
}

/// [`get`], given up after `patience`: a process that is stopped takes connections and says nothing.
pub async fn get_within(env: &Env, url: &str, patience: Duration) -> anyhow::Result<(u16, Bytes)> {
    tokio::select! {
        biased;
        answer = get(url) => answer,
        () = env.clock.sleep(patience) => Err(anyhow::anyhow!("no answer for {patience:?}")),
    }
}

/// The metadata servers of the cluster whose REST door is at `url` (see [`crate::address::parse_url`]). Waiting for the
/// door stands in `waits`.
pub async fn metadata_servers(env: &Env, url: &str, waits: &Waits) -> anyhow::Result<Vec<String>> {
    let (began, mut tried) = (env.clock.now(), Tried::default());
    tried.note(url, "does not answer");
    let _waiting = waits.begin(Wait {
        what: "the REST door of the cluster",
        began,
        until: began.plus(PATIENCE),
        tried,
    });
    let (status, body) = get_within(env, &format!("{url}/cluster"), PATIENCE)
        .await
        .with_context(|| format!("no cluster answers at {url} (is it up? --cluster names another)"))?;
    if status != 200 {
        bail!(
            "{url}/cluster answered {status}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    let answer: ClusterAnswer = serde_json::from_slice(&body)
        .with_context(|| format!("{url} is not the REST address of a cluster"))?;
    Ok(answer.metadata.into_iter().map(|server| server.address).collect())
}

/// A client of the cluster that the arguments name, for the user that they name.
/// What it waits for stands in `waits`.
pub async fn client(env: &Env, arguments: &Arguments, waits: &Waits) -> anyhow::Result<Client> {
    let metadata = metadata_servers(env, &arguments.cluster, waits)
        .await
        .context(Unreachable)?;
    let options = Options {
        waits: waits.clone(),
        ..Options::new(metadata)
    };
    let client = Client::connect(env.clone(), options).await?;
    Ok(client.as_caller(caller(arguments)))
}

/// Marks an error that ends the process with the code for *unavailable*.
#[derive(Debug, thiserror::Error)]
#[error("the cluster cannot be reached")]
pub struct Unreachable;

fn caller(arguments: &Arguments) -> Caller {
    let user = arguments
        .user
        .clone()
        .unwrap_or_else(drystone_gateway::caller::system_user);
    Caller {
        user,
        groups: Vec::new(),
    }
}
