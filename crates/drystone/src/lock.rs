//! Directories that a process on its way out may still hold.
//!
//! A killed process keeps its locks until the kernel has taken it apart, which lasts while a sync of it is under way.
//! Whoever starts it again at once should not be told that it runs twice.

use drystone_env::Env;
use drystone_env::os::{LockedDirectory, lock_directory};
use futures_util::future::join_all;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

/// How long a dying process is waited for. One that lives keeps its lock: more would only delay that answer.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(20);

/// Locks a directory, once the process that has it is gone.
///
/// # Errors
/// As [`lock_directory`]; `WouldBlock` after a second.
pub async fn lock_patiently(env: &Env, path: &Path) -> io::Result<LockedDirectory> {
    let deadline = env.clock.now().plus(PATIENCE);
    loop {
        match lock_directory(path) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && env.clock.now() < deadline => {
                env.clock.sleep(STEP).await;
            }
            other => return other,
        }
    }
}

/// Waits until the processes that have `directories` are gone, for a second at most. Whatever is wrong with one of them
/// is for whoever opens it to say; one that does not answer is not waited for either.
pub async fn wait_until_unlocked(env: &Env, directories: &[&Path]) {
    let waiting = directories.iter().map(|path| {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let (inner, path) = (env.clone(), path.to_path_buf());
        let wait = async move {
            drop(lock_patiently(&inner, &path).await);
            drop(sender);
        };
        env.spawn.thread("unlocked", Box::pin(wait));
        receiver
    });
    let all = join_all(waiting.collect::<Vec<_>>());
    tokio::select! {
        biased;
        _ = all => {}
        () = env.clock.sleep(2 * PATIENCE) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_that_is_let_go_is_waited_for_and_one_that_is_kept_is_not() {
        let env = Env::os();
        let directory = tempfile::tempdir().unwrap();
        let held = lock_directory(directory.path()).unwrap();
        let clock = std::sync::Arc::clone(&env.clock);
        env.spawn.spawn(
            "dying",
            Box::pin(async move {
                clock.sleep(Duration::from_millis(300)).await;
                drop(held);
            }),
        );
        let lock = lock_patiently(&env, directory.path()).await.unwrap();
        let start = env.clock.now();
        let refused = lock_patiently(&env, directory.path()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        assert!(env.clock.now().since(start) >= PATIENCE);
        drop(lock);
        assert!(
            lock_patiently(&env, &directory.path().join("none"))
                .await
                .is_err()
        );
    }
}
