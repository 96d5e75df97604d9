//! How redundant new content must be.

use super::options::WriteOptions;
use super::parts::{WRITE, parent_path};
use crate::attributes::policy_record;
use crate::error::{Error, ErrorKind};
use crate::meta::Failed;
use crate::options::Consistency;
use crate::requester::Requester;
use drystone_env::Monotonic;
use drystone_proto::command::Target;
use drystone_proto::meta::LookupRequest;
use drystone_proto::record::{InodeKind, PolicyRecord};
use drystone_types::{Code, Policy};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A directory's policy is believed for this long.
const POLICY_AGE: Duration = Duration::from_secs(5);
/// Directories whose policy is remembered.
const MAX_POLICIES: usize = 4096;

/// The policies of directories that were asked for lately.
#[derive(Default)]
pub(crate) struct PolicyCache(Mutex<BTreeMap<String, (Monotonic, PolicyRecord)>>);

impl PolicyCache {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Monotonic, PolicyRecord)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    /// The policy for the next content of `path`: the file's own, or that of the directory it will be made in. The
    /// command that publishes says with which policy it was written, and nobody compares that with the file's: hence
    /// a file that may be there is looked at each time, and only directories are remembered.
    pub(crate) async fn find(
        &self,
        requester: &Requester,
        path: &str,
        options: &WriteOptions,
    ) -> Result<PolicyRecord, Error> {
        let ask = async |path: &str| -> Result<(PolicyRecord, bool), Failed> {
            let place = Target {
                base: 0,
                path: path.to_owned(),
            };
            let reply = requester
                .look_up(WRITE, place, Consistency::Linearizable, LookupRequest::default())
                .await?;
            let policy = reply.policy.filter(|policy| policy.replicas > 0);
            let directory = reply
                .inode
                .is_some_and(|inode| inode.kind == InodeKind::Directory as i32);
            Ok((
                policy.unwrap_or_else(|| policy_record(&Policy::default())),
                directory,
            ))
        };
        // One that must not be there needs no look: the publication is refused if it is.
        if !options.precondition.absent {
            match ask(path).await {
                Ok((_, true)) => return Err(Error::new(ErrorKind::IsADirectory, WRITE, path)),
                Ok((policy, false)) => return Ok(policy),
                Err(failed) if failed.code == Code::NotFound => {}
                Err(failed) => return Err(failed.error.about(path)),
            }
        }
        let mut above = path;
        loop {
            above = parent_path(above);
            let now = requester.now();
            let known = self.lock().get(above).copied();
            if let Some((at, policy)) = known
                && now.since(at) < POLICY_AGE
            {
                return Ok(policy);
            }
            match ask(above).await {
                Ok((policy, true)) => {
                    let mut policies = self.lock();
                    if policies.len() >= MAX_POLICIES {
                        policies.clear();
                    }
                    policies.insert(above.to_owned(), (now, policy));
                    return Ok(policy);
                }
                Ok((_, false)) => return Err(Error::new(ErrorKind::NotADirectory, WRITE, above)),
                Err(failed) if failed.code == Code::NotFound && options.parents && !above.is_empty() => {}
                Err(failed) => return Err(failed.error.about(above)),
            }
        }
    }
}
