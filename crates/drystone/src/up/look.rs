//! What is in the directories of the nodes. One that does not answer, as on a mount whose server is away, holds up
//! neither the others nor `up`.

use super::plan::Plan;
use drystone_env::Env;
use drystone_env::os::OsDisk;
use drystone_identity::{Identity, IdentityError, Role};
use futures_util::future::join_all;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// How long a directory may take to answer: a disk that wakes up, and a mount that finds its server again.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The directories by the names of their nodes.
pub type Looks = BTreeMap<String, Look>;

/// A directory.
#[derive(Debug)]
pub struct Look {
    /// What is in it.
    pub found: Found,
    /// It is on another mount than the data directory.
    pub is_mount: bool,
}

/// What is in a directory.
#[derive(Debug)]
pub enum Found {
    /// It is formatted for its role.
    Formatted(Box<Identity>),
    /// Nothing is there.
    Blank,
    /// It must not be used, and why.
    Unusable(String),
}

/// Looks into the directories of all metadata and chunk servers, at the same time.
pub async fn look(env: &Env, plan: &Plan, data: &Path) -> Looks {
    let metadata = plan.metadata.iter().map(|place| (place, Role::Metadata));
    let chunk = plan.chunk.iter().map(|place| (place, Role::Chunk));
    let looks = metadata.chain(chunk).map(|(place, role)| async move {
        let (parent, path) = (data.to_owned(), data.join(&place.name));
        let look = patiently(env, &path.clone(), PATIENCE, move || {
            look_at(&parent, &path, role)
        })
        .await;
        let look = look.unwrap_or_else(|why| Look {
            found: Found::Unusable(why),
            is_mount: false,
        });
        (place.name.clone(), look)
    });
    join_all(looks).await.into_iter().collect()
}

/// Does `work` on a directory, on a thread of its own: one that never ends stays behind.
///
/// # Errors
/// It does not end within `patience`, or panics; in words.
pub async fn patiently<T: Send + 'static>(
    env: &Env,
    path: &Path,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    env.spawn
        .thread("look", Box::pin(async move { drop(sender.send(work())) }));
    tokio::select! {
        biased;
        done = receiver => done.map_err(|_| format!("looking into {} failed, see the log", path.display())),
        () = env.clock.sleep(patience) => Err(format!(
            "{} does not answer for {patience:?}: is its disk broken, or is it on a mount whose server is away? Nothing \
             of it was changed. Once it answers, run `drystone up` once more",
            path.display()
        )),
    }
}

/// Looks into one directory. Blocks.
pub fn look_at(data: &Path, path: &Path, role: Role) -> Look {
    let is_mount = match (mount_of(data), mount_of(path)) {
        (Ok(parent), Ok(own)) => parent != own,
        // What is not there is no mount; any other fault comes up again at once.
        _ => false,
    };
    Look {
        found: find(path, role),
        is_mount,
    }
}

/// What tells mounts apart: their ids, and devices where the kernel is too old to say (before 5.8).
fn mount_of(path: &Path) -> rustix::io::Result<(u64, u32, u32)> {
    let stat = rustix::fs::statx(
        CWD,
        path,
        AtFlags::empty(),
        StatxFlags::BASIC_STATS | StatxFlags::MNT_ID,
    )?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
        return Ok((stat.stx_mnt_id, 0, 0));
    }
    Ok((0, stat.stx_dev_major, stat.stx_dev_minor))
}

fn find(path: &Path, role: Role) -> Found {
    let empty = || std::fs::read_dir(path).map(|mut entries| entries.next().is_none());
    match empty() {
        Ok(true) => return Found::Blank,
        Err(error) if error.kind() == ErrorKind::NotFound => return Found::Blank,
        Err(error) => return Found::Unusable(format!("cannot read {}: {error}", path.display())),
        Ok(false) => {}
    }
    let identity = OsDisk::new(path)
        .map_err(|error| error.to_string())
        .and_then(|disk| match drystone_identity::load(&disk) {
            // The remains of an interrupted format are completed; anything else is somebody's data.
            Err(IdentityError::NotFormatted) => drystone_identity::check_blank(&disk)
                .map(|()| None)
                .map_err(|error| format!("it is not formatted, but {error}")),
            Err(error) => Err(error.to_string()),
            Ok(identity) => Ok(Some(identity)),
        });
    match identity {
        Ok(Some(identity)) if identity.role == role => Found::Formatted(Box::new(identity)),
        Ok(Some(_)) => Found::Unusable(format!(
            "{} was formatted for another role; it is left as it is",
            path.display()
        )),
        Ok(None) => Found::Blank,
        Err(why) => Found::Unusable(format!(
            "{} cannot be used: {why}. If what it holds is lost, move it away: the node starts anew then",
            path.display()
        )),
    }
}
