//! Which measurements a command line asks for, in which order: limits stand directly before what is held against
//! them, so that both meet the same machine.

use crate::args::{Arguments, Group};
use crate::limits::Limit;
use crate::rules::{COMMAND_BYTES, Subject};
use std::collections::BTreeSet;

/// Contents of small files.
const SMALL: [u64; 3] = [1 << 10, 4 << 10, 64 << 10];
/// A look-up takes the limit program microseconds: it does this many times as many, to last long enough.
const LOOK_UPS: usize = 25;

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A limit program.
    Limit(Limit),
    /// Of the cluster, with so many operations (0 where it has none).
    Cluster(Subject, usize),
}

/// The steps of one round. A limit that several figures need runs once in a round.
pub fn plan_round(arguments: &Arguments) -> Vec<Step> {
    let mut steps = Vec::new();
    let all = arguments.wants(Group::Limits);
    let groups = [
        (Group::Write, write(arguments)),
        (Group::Read, read(arguments)),
        (Group::Small, small(arguments)),
        (Group::Metadata, metadata(arguments)),
    ];
    for (group, of_group) in groups {
        let wanted = of_group.into_iter().filter(|step| match step {
            Step::Limit(_) => !arguments.no_limits && (all || arguments.wants(group)),
            Step::Cluster(..) => arguments.wants(group),
        });
        steps.extend(wanted);
    }
    let mut seen = BTreeSet::new();
    steps.retain(|step| match step {
        Step::Limit(limit) => seen.insert(*limit),
        Step::Cluster(..) => true,
    });
    steps
}

fn write(arguments: &Arguments) -> Vec<Step> {
    let size = arguments.size.0;
    let mut steps = vec![
        Step::Limit(Limit::DirectWrite { size }),
        Step::Limit(Limit::CopyThree { size }),
    ];
    for &streams in &arguments.streams {
        steps.push(Step::Limit(Limit::Chain { size, streams }));
        steps.push(Step::Cluster(Subject::Write { streams }, 0));
    }
    steps
}

fn read(arguments: &Arguments) -> Vec<Step> {
    let size = arguments.size.0;
    let mut steps = vec![Step::Limit(Limit::DirectRead { size })];
    for &streams in &arguments.streams {
        steps.push(Step::Cluster(Subject::FirstRead { streams }, 0));
        steps.push(Step::Limit(Limit::Sendfile { size, streams }));
        steps.push(Step::Cluster(Subject::CachedRead { streams }, 0));
    }
    steps
}

fn small(arguments: &Arguments) -> Vec<Step> {
    let mut steps = vec![Step::Limit(Limit::SyncBlock {
        operations: arguments.operations(1),
    })];
    for &clients in &arguments.clients {
        let operations = arguments.operations(clients);
        steps.push(Step::Limit(Limit::Lookup {
            clients,
            operations: operations * LOOK_UPS,
        }));
        for bytes in SMALL {
            steps.push(Step::Limit(Limit::GroupCommit {
                bytes: bytes as usize,
                clients,
                operations,
            }));
            steps.push(Step::Cluster(Subject::CreateSmall { bytes, clients }, operations));
            steps.push(Step::Cluster(Subject::ReadSmall { bytes, clients }, operations));
        }
    }
    steps
}

fn metadata(arguments: &Arguments) -> Vec<Step> {
    let mut steps = Vec::new();
    for &clients in &arguments.clients {
        let operations = arguments.operations(clients);
        steps.push(Step::Limit(Limit::GroupCommit {
            bytes: COMMAND_BYTES,
            clients,
            operations,
        }));
        steps.push(Step::Cluster(Subject::Create { clients }, operations));
        steps.push(Step::Limit(Limit::Lookup {
            clients,
            operations: operations * LOOK_UPS,
        }));
        steps.push(Step::Cluster(Subject::Stat { clients }, operations));
        steps.push(Step::Cluster(Subject::List { clients }, operations));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn plan(words: &str) -> Vec<Step> {
        plan_round(&Arguments::try_parse_from(words.split(' ')).unwrap())
    }

    fn limits(steps: &[Step]) -> usize {
        steps.iter().filter(|step| matches!(step, Step::Limit(_))).count()
    }

    #[test]
    fn limits_alone_touch_no_cluster() {
        let steps = plan("bench limits");
        assert_eq!(limits(&steps), steps.len());
        assert_eq!(limits(&steps), limits(&plan("bench")));
        assert_eq!(steps.len(), 2 + 2 + 1 + 2 + 1 + 3 * 4 + 3);
    }

    #[test]
    fn a_group_brings_its_own_limits() {
        let steps = plan("bench write --streams 1");
        assert_eq!(steps.len(), 4);
        assert_eq!(steps[3], Step::Cluster(Subject::Write { streams: 1 }, 0));
        assert_eq!(limits(&plan("bench write read --no-limits")), 0);
        let both = plan("bench write limits --streams 1");
        assert_eq!(both.len(), limits(&both) + 1);
    }

    #[test]
    fn no_limit_runs_twice_in_a_round() {
        let steps = plan("bench --clients 4,4");
        let unique: BTreeSet<Limit> = steps
            .iter()
            .filter_map(|step| {
                if let Step::Limit(limit) = step {
                    Some(*limit)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(unique.len(), limits(&steps));
    }
}
