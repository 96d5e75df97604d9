//! A network of our own: one namespace per node and one with the switch, joined by pairs of virtual cables. Nothing
//! in it is connected to the machine's own network, so no frame can leave it.

use crate::command::{feed, run};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Names of everything that a run makes begin so: by this the next start finds what a crash has left.
pub const PREFIX: &str = "dchaos-";
/// The namespace in which the clients, and this program, live.
pub const CLIENT: &str = "client";
const SWITCH: &str = "dchaos-switch";

/// The last number of each node's address.
const HOSTS: &[(&str, u8)] = &[
    ("metadata-1", 1),
    ("metadata-2", 2),
    ("metadata-3", 3),
    ("chunk-1", 21),
    ("chunk-2", 22),
    ("chunk-3", 23),
    ("chunk-4", 24),
    ("chunk-5", 25),
    ("gateway", 60),
    (CLIENT, 100),
];

/// A node's address.
pub fn address(node: &str) -> String {
    let host = HOSTS
        .iter()
        .find(|(name, _)| *name == node)
        .map_or(0, |(_, host)| *host);
    format!("10.88.0.{host}")
}

/// Where a node's namespace is found.
pub fn namespace(node: &str) -> PathBuf {
    PathBuf::from(format!("/run/netns/{PREFIX}{node}"))
}

/// Makes all namespaces, cables and addresses.
///
/// # Errors
/// What this machine does not allow.
pub fn make() -> anyhow::Result<()> {
    let mut spaces = format!("netns add {SWITCH}\n");
    let mut cables = String::new();
    let mut ports = String::from("link add br0 type bridge\nlink set br0 up\n");
    for (name, host) in HOSTS {
        // Writing to a String cannot fail.
        let _ = writeln!(spaces, "netns add {PREFIX}{name}");
        let _ = writeln!(
            cables,
            "link add p{host} netns {SWITCH} type veth peer name eth0 netns {PREFIX}{name}"
        );
        let _ = writeln!(ports, "link set p{host} master br0\nlink set p{host} up");
    }
    feed("ip", &["-batch", "-"], &spaces)?;
    feed("ip", &["-batch", "-"], &cables)?;
    feed("ip", &["-n", SWITCH, "-batch", "-"], &ports)?;
    for (name, host) in HOSTS {
        let setup = format!("address add 10.88.0.{host}/24 dev eth0\nlink set eth0 up\nlink set lo up\n");
        feed("ip", &["-n", &format!("{PREFIX}{name}"), "-batch", "-"], &setup)?;
        // A frame is not sent again after longer than this; a kernel without the setting waits longer after cuts.
        let _ = inside(
            name,
            "sh",
            &["-c", "echo 1000 > /proc/sys/net/ipv4/tcp_rto_max_ms"],
            "",
        );
    }
    Ok(())
}

/// Removes what a run has made, this one or one that crashed.
pub fn remove() {
    let list = run("ip", &["netns", "list"]).unwrap_or_default();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| name.starts_with(PREFIX)) {
        if let Err(error) = run("ip", &["netns", "delete", name]) {
            eprintln!("chaos: {error:#}");
        }
    }
}

/// Frames that one node shall no longer get from another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Who sends.
    pub from: String,
    /// Who does not get it.
    pub to: String,
}

/// Makes these cuts, and only these. With `percent` below 100 that share of the frames is lost, at random.
///
/// # Errors
/// If nft fails.
pub fn cut(cuts: &[Cut], percent: u32) -> anyhow::Result<()> {
    for (name, _) in HOSTS {
        let incoming: Vec<String> = cuts
            .iter()
            .filter(|cut| cut.to == *name)
            .map(|cut| address(&cut.from))
            .collect();
        if incoming.is_empty() {
            continue;
        }
        let chance = if percent >= 100 {
            String::new()
        } else {
            format!("numgen random mod 100 < {percent} ")
        };
        let rules = format!(
            "table ip chaos {{\n chain in {{\n  type filter hook input priority 0;\n  ip saddr {{ {} }} {chance}counter drop\n }}\n}}\n",
            incoming.join(", ")
        );
        inside(name, "nft", &["-f", "-"], &rules)?;
    }
    Ok(())
}

/// Heals every cut; how many frames were dropped.
///
/// # Errors
/// If nft fails.
pub fn heal() -> anyhow::Result<u64> {
    let mut dropped = 0;
    for (name, _) in HOSTS {
        let rules = inside(name, "nft", &["list", "ruleset"], "")?;
        let counts = rules.split("packets ").skip(1);
        dropped += counts
            .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok())
            .sum::<u64>();
        if !rules.trim().is_empty() {
            inside(name, "nft", &["flush", "ruleset"], "")?;
        }
    }
    Ok(dropped)
}

fn inside(node: &str, program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let space = format!("--net={}", namespace(node).display());
    let words: Vec<&str> = [space.as_str(), program]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    feed("nsenter", &words, input)
}
