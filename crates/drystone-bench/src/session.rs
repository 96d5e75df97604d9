//! One run from beginning to end: prepare, measure in rounds, clean up whatever happened.

use crate::args::{Arguments, Group};
use crate::cluster::{Access, Cluster, Work};
use crate::limits::{self, REPLICAS, Scratch};
use crate::local;
use crate::meter::Stopwatch;
use crate::plan::{Step, plan_round};
use crate::report::{Report, Setting};
use crate::rules::Subject;
use crate::sample::Book;
use anyhow::{Context, bail};
use drystone_env::{Env, Rng};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Bytes of the content from which everything is made.
const CONTENT: usize = 1 << 20;

/// Runs everything that `arguments` ask for. An interrupt ends it, too, with the cleaning up.
///
/// # Errors
/// The first operation or limit program that fails.
pub async fn run(env: &Env, arguments: &Arguments, address: &str) -> anyhow::Result<Report> {
    let mut rng = env.rng("bench");
    let mut content = vec![0; CONTENT];
    rng.fill(&mut content);
    let name = format!("bench-{:016x}", rng.next_u64());
    let watch = Stopwatch::new(env, &local::pids(arguments)?);
    let directory = local::directory(arguments);
    let scratch = scratch(arguments, &directory, &name, &content)?;
    let mut setting = setting(env, arguments, &directory);
    let cluster = if arguments.measures_cluster() {
        let root = arguments.path.as_deref().unwrap_or(&name);
        let root = format!("/{}", root.trim_matches('/'));
        let access = Access {
            metadata: &arguments.metadata,
            root,
            inline: !arguments.no_inline,
        };
        Some(Cluster::open(env, &watch, access, content.into()).await?)
    } else {
        None
    };
    let session = Session {
        env,
        arguments,
        watch,
        scratch,
        cluster,
    };
    let measured = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        measured = session.measure(&mut setting, address) => measured,
    };
    if let Some(scratch) = &session.scratch {
        scratch.clear();
    }
    let cleaned = match &session.cluster {
        Some(cluster) if !arguments.keep => cluster.clean_up().await,
        _ => Ok(()),
    };
    let (book, subjects) = measured?;
    cleaned?;
    Ok(Report::of(setting, &book, &subjects))
}

fn scratch(
    arguments: &Arguments,
    directory: &Path,
    name: &str,
    content: &[u8],
) -> anyhow::Result<Option<Arc<Scratch>>> {
    if arguments.no_limits {
        return Ok(None);
    }
    let scratch = Scratch::create(directory, name, content.to_vec());
    let scratch =
        scratch.with_context(|| format!("{}: the limit programs cannot work there", directory.display()))?;
    Ok(Some(Arc::new(scratch)))
}

fn setting(env: &Env, arguments: &Arguments, directory: &Path) -> Setting {
    Setting {
        directory: directory.display().to_string(),
        size_bytes: arguments.size.0,
        repeat: arguments.repeat,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        started: env.clock.wall().0 / 1_000_000,
        ..Setting::default()
    }
}

/// Everything at hand while measuring.
struct Session<'a> {
    env: &'a Env,
    arguments: &'a Arguments,
    watch: Stopwatch,
    scratch: Option<Arc<Scratch>>,
    cluster: Option<Cluster>,
}

type Measured = (Book, BTreeMap<String, Subject>);

impl Session<'_> {
    async fn measure(&self, setting: &mut Setting, address: &str) -> anyhow::Result<Measured> {
        if let Some(cluster) = &self.cluster {
            let facts = cluster.facts().await?;
            if facts
                .replicas
                .is_some_and(|replicas| replicas as usize != REPLICAS)
            {
                eprintln!(
                    "warning: the limit programs make {REPLICAS} copies, this cluster: {}",
                    facts.policy
                );
            }
            setting.cluster = Some(address.to_owned());
            setting.policy = Some(facts.policy);
            setting.voters = Some(facts.voters);
        }
        let (mut book, mut subjects) = (Book::default(), BTreeMap::new());
        let steps = plan_round(self.arguments);
        for round in 0..self.arguments.repeat {
            for step in &steps {
                self.step(*step, round, &mut book, &mut subjects).await?;
            }
        }
        Ok((book, subjects))
    }

    async fn step(
        &self,
        step: Step,
        round: usize,
        book: &mut Book,
        subjects: &mut BTreeMap<String, Subject>,
    ) -> anyhow::Result<()> {
        let (name, sample) = match step {
            Step::Limit(limit) => {
                let Some(scratch) = &self.scratch else {
                    bail!("{} has no directory", limit.name())
                };
                (
                    limit.name(),
                    limits::run(self.env, &self.watch, scratch, limit).await?,
                )
            }
            Step::Cluster(subject, operations) => {
                let Some(cluster) = &self.cluster else {
                    bail!("{} has no cluster", subject.name())
                };
                let written = self.arguments.wants(Group::Write);
                let work = Work {
                    size: self.arguments.size.0,
                    operations,
                    round,
                    written,
                };
                let sample = cluster.measure(subject, work).await;
                subjects.insert(subject.name(), subject);
                (subject.name(), sample.with_context(|| subject.name())?)
            }
        };
        eprintln!(
            "[{}/{}] {name}: {:.2} {}",
            round + 1,
            self.arguments.repeat,
            sample.value(),
            sample.unit()
        );
        book.record(&name, sample);
        Ok(())
    }
}
