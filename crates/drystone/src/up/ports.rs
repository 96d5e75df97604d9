//! Ports that are taken are found before anything is started, and told of with the port that the user chose.

use super::plan::{Place, Plan};
use anyhow::bail;
use drystone_env::Env;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// A process that was killed a moment ago still has its ports.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(50);

/// Checks that the nodes of the plan can listen, but for those that run already.
///
/// # Errors
/// Every port that cannot be had, what it is for, and from which one it follows.
pub async fn check(env: &Env, plan: &Plan, runs: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let deadline = env.clock.now().plus(PATIENCE);
    loop {
        let faults = taken(plan, &runs);
        if faults.is_empty() {
            return Ok(());
        }
        if env.clock.now() >= deadline {
            bail!(
                "{}; end what listens there, or choose a base port whose followers are free (--listen; a \
                 cluster that was started once keeps its ports)",
                faults.join("; ")
            );
        }
        env.clock.sleep(STEP).await;
    }
}

fn taken(plan: &Plan, runs: &impl Fn(&str) -> bool) -> Vec<String> {
    let base = plan.gateway.wire;
    let nodes = plan.metadata.iter().chain(&plan.chunk).chain([&plan.gateway]);
    let addresses = nodes
        .filter(|place| !runs(&place.name))
        .flat_map(|place| [(place, place.wire, ""), (place, place.admin, "admin port of ")]);
    addresses
        .filter_map(|(place, address, role)| describe(base, place, address, role))
        .collect()
}

fn describe(base: SocketAddr, place: &Place, address: SocketAddr, role: &str) -> Option<String> {
    let error = TcpListener::bind(address).err()?;
    let why = match error.kind() {
        ErrorKind::AddrInUse => "it is in use".to_owned(),
        _ => error.to_string(),
    };
    if address == base {
        return Some(format!(
            "cannot listen on {address} (REST, the address of --listen): {why}"
        ));
    }
    Some(format!(
        "cannot listen on {address} ({role}{}, which follows from --listen {base}): {why}",
        place.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::UpOptions;

    #[tokio::test]
    async fn both_the_chosen_and_the_derived_port_are_named() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = UpOptions {
            data: "d".into(),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            metadata: Some(1),
            chunk_servers: Some(1),
            racks: 1,
            processes: false,
            replace_lost: false,
            insecure: false,
            host: Vec::new(),
        };
        let mut plan = Plan::make(1, 1, &options).unwrap();
        let env = Env::os();
        check(&env, &plan, |_| false).await.unwrap();
        plan.metadata[0].wire = held.local_addr().unwrap();
        let fault = check(&env, &plan, |_| false).await.unwrap_err().to_string();
        let expected = format!(
            "cannot listen on {} (metadata-1, which follows from --listen {}): it is in use",
            held.local_addr().unwrap(),
            plan.gateway.wire
        );
        assert!(fault.starts_with(&expected), "{fault}");
        check(&env, &plan, |name| name == "metadata-1").await.unwrap();
    }
}
