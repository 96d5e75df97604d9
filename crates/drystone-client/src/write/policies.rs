//! How redundant new content must be.

use super::options::WriteOptions;
use super::parts::WRITE;
use crate::error::{Error, ErrorKind};
use crate::locks;
use crate::meta::Failed;
use crate::options::Consistency;
use crate::requester::Requester;
use crate::target::Target;
use drystone_env::Monotonic;
use drystone_env::sync::{Mutex, MutexGuard};
use drystone_proto::meta::LookupRequest;
use drystone_proto::record::{InodeKind, PolicyRecord};
use drystone_types::{Code, Policy};
use std::collections::BTreeMap;
use std::time::Duration;

/// A directory's policy is believed for this long.
const POLICY_AGE: Duration = Duration::from_secs(5);
/// Directories whose policy is remembered.
const MAX_POLICIES: usize = 4096;

/// The policies of directories that were asked for lately.
pub(crate) struct PolicyCache(Mutex<BTreeMap<Target, (Monotonic, PolicyRecord)>>);

impl Default for PolicyCache {
    fn default() -> Self {
        Self(Mutex::new(locks::POLICIES, BTreeMap::new()))
    }
}

impl PolicyCache {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Target, (Monotonic, PolicyRecord)>> {
        self.0.lock()
    }

    /// Another policy is in force at `target` than was remembered: of the directories above it. A file may have one of
    /// its own; what is known of other places stays.
    pub(crate) fn forget(&self, target: &Target) {
        let mut policies = self.lock();
        let mut above = target.parent();
        while let Some(directory) = above {
            policies.remove(&directory);
            above = directory.parent();
        }
    }

    /// Any directory may have another policy now.
    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    /// The policy of new files in a directory, if it was learned lately.
    pub(crate) fn recent(&self, directory: &Target, now: Monotonic) -> Option<PolicyRecord> {
        let known = self.lock().get(directory).copied();
        known
            .filter(|(at, _)| now.since(*at) < POLICY_AGE)
            .map(|(_, policy)| policy)
    }

    /// The policy of new files in a directory was this one at `at`.
    pub(crate) fn learned(&self, directory: Target, policy: PolicyRecord, at: Monotonic) {
        let mut policies = self.lock();
        if policies.len() >= MAX_POLICIES {
            policies.clear();
        }
        policies.insert(directory, (at, policy));
    }

    /// The policy for the next content of `path`: the file's own, or that of the directory it will be made in. The
    /// command that publishes is judged by the policy in force then: with an older one it may be refused. Hence
    /// a file that may be there is looked at each time, and only directories are remembered.
    pub(crate) async fn find(
        &self,
        requester: &Requester,
        target: &Target,
        options: &WriteOptions,
    ) -> Result<PolicyRecord, Error> {
        let ask = async |target: &Target| -> Result<(PolicyRecord, bool), Failed> {
            let place = target.message(WRITE)?;
            let reply = requester
                .look_up(WRITE, place, Consistency::Linearizable, LookupRequest::default())
                .await?;
            let policy = reply.policy.filter(|policy| policy.replicas > 0);
            let directory = reply
                .inode
                .is_some_and(|inode| inode.kind == InodeKind::Directory as i32);
            Ok((
                policy.unwrap_or_else(|| PolicyRecord::from(&Policy::default())),
                directory,
            ))
        };
        // One that must not be there needs no look: the publication is refused if it is.
        if !options.precondition.absent {
            match ask(target).await {
                Ok((_, true)) => return Err(Error::new(ErrorKind::IsADirectory, WRITE, target.to_string())),
                Ok((policy, false)) => return Ok(policy),
                Err(failed) if failed.code == Code::NotFound => {}
                Err(failed) => return Err(failed.error.about(target)),
            }
        }
        let mut above = target.clone();
        loop {
            let Some(parent) = above.parent() else {
                return Err(Error::new(ErrorKind::NotFound, WRITE, above.to_string()));
            };
            above = parent;
            let now = requester.now();
            if let Some(policy) = self.recent(&above, now) {
                return Ok(policy);
            }
            match ask(&above).await {
                Ok((policy, true)) => {
                    self.learned(above, policy, now);
                    return Ok(policy);
                }
                Ok((_, false)) => return Err(Error::new(ErrorKind::NotADirectory, WRITE, above.to_string())),
                Err(failed) if failed.code == Code::NotFound && options.parents => {}
                Err(failed) => return Err(failed.error.about(above)),
            }
        }
    }
}
