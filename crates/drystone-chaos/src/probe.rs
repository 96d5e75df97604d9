//! What this machine can do, tried out before anything depends on it.

use crate::command::{exists, run};
use crate::network::{self, CLIENT, Cut};
use crate::volume::Volume;
use anyhow::bail;
use std::collections::BTreeMap;
use std::path::Path;

const PROBE_BYTES: u64 = 32 << 20;

/// Programs that are not there or cannot do their work here, with the reason.
#[derive(Debug)]
pub struct Lacks(BTreeMap<&'static str, String>);

impl Lacks {
    /// Tries out what the scenarios need.
    pub fn probe(programs: &[&'static str], work: &Path) -> Self {
        let mut lacks = BTreeMap::new();
        for program in programs.iter().copied() {
            let outcome = if !exists(program) {
                Err(anyhow::anyhow!("{program} is not installed"))
            } else {
                match program {
                    "losetup" => disk(work),
                    "nft" => filter(),
                    "strace" => trace(),
                    _ => Ok(()),
                }
            };
            if let Err(error) = outcome {
                lacks.insert(program, format!("{error:#}"));
            }
        }
        Self(lacks)
    }

    /// Why something that needs these programs cannot be done; `None`: it can.
    pub fn reason(&self, programs: &[&str]) -> Option<String> {
        let reasons: Vec<&str> = programs
            .iter()
            .filter_map(|program| self.0.get(program))
            .map(String::as_str)
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// A loop device, a file system, and its shutdown.
fn disk(work: &Path) -> anyhow::Result<()> {
    let mut volume = Volume::make(work, "probe", PROBE_BYTES)?;
    let mut cut = || {
        volume.arm()?;
        volume.cut();
        volume.wait_cut()?;
        volume.restore()
    };
    let outcome = cut();
    volume.remove();
    if !outcome? {
        bail!("a power cut takes nothing away that was not synced");
    }
    Ok(())
}

/// A rule that drops.
fn filter() -> anyhow::Result<()> {
    let cut = Cut {
        from: "gateway".to_owned(),
        to: CLIENT.to_owned(),
    };
    let cut_and_heal = network::cut(&[cut], 50).and_then(|()| network::heal());
    cut_and_heal.map(|_| ())
}

/// A call that fails because strace says so.
fn trace() -> anyhow::Result<()> {
    let words = [
        "-f",
        "-qq",
        "-e",
        "trace=sync",
        "-e",
        "inject=sync:retval=0",
        "sync",
    ];
    run("strace", &words).map(|_| ())
}
