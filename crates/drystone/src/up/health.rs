//! Whether a cluster that is up takes data: one that has too few disks, or too little space, should say so at once.

use super::plan::Plan;
use drystone_client::{Client, Error, Options};
use drystone_env::Env;
use std::time::Duration;

/// How long the chunk servers may take to tell the leader of their disks: some heartbeats.
const PATIENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(100);

/// Why new data is refused, if it is; `None` also if nobody can say.
pub async fn writes_refused(env: &Env, plan: &Plan) -> Option<String> {
    match ask(env, plan).await {
        Ok(reason) => Some(reason).filter(|reason| !reason.is_empty()),
        Err(error) => {
            tracing::warn!(%error, "the cluster does not say whether it takes data");
            None
        }
    }
}

async fn ask(env: &Env, plan: &Plan) -> Result<String, Error> {
    let servers = plan.metadata.iter().map(|place| place.wire.to_string());
    let options = Options {
        deadline: PATIENCE,
        ..Options::new(servers)
    };
    let client = Client::connect(env.clone(), options).await?;
    let deadline = env.clock.now().plus(PATIENCE);
    loop {
        let status = client.status().await?;
        let all_heard = status.servers.len() >= plan.chunk.len()
            && status.servers.iter().all(|server| !server.disks.is_empty());
        if all_heard || env.clock.now() >= deadline {
            return Ok(status.writes_refused);
        }
        env.clock.sleep(STEP).await;
    }
}
