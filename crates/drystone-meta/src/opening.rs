//! A metadata server's directory is opened: identity, then the state that counts, then the log.

use crate::config::Config;
use crate::error::StartError;
use crate::layout;
use crate::lone::{rebuild, recover};
use crate::state::ballast::Ballast;
use crate::state::catch_up::apply_opened;
use crate::state::stores::{FjallStates, OpenFailure, StateMachine, StateStore, States, settings_of};
use drystone_env::os::{OsDisk, lock_directory};
use drystone_env::{BufferPool, Disk, Env, Rng};
use drystone_identity::{Identity, Role};
use drystone_namespace::{Namespace, OpenError as NamespaceError, OrderedStore, StoreError};
use drystone_raft::{OpenError, Opened, RaftConfig, RaftNode, Start};
use drystone_types::{BootId, with_causes};
use drystone_wal::{WalConfig, WalError};
use std::path::Path;
use std::sync::Arc;

/// With less free space a start that has to write gives up the ballast: some tables, and what the store says about them.
const FULL_BYTES: u64 = 64 << 20;

/// What a metadata server lives in.
pub struct MetadataDirectory {
    /// For people.
    pub name: String,
    /// Identity, log, snapshots and exports.
    pub disk: Arc<dyn Disk>,
    /// The state.
    pub states: Arc<dyn States>,
    /// What keeps others out while the server runs, if anything; dropped when it has stopped.
    pub lock: Option<Box<dyn Send + Sync>>,
}

impl MetadataDirectory {
    /// The directory at `path` of the real file system, locked, with `cache_bytes` of memory for blocks of its store.
    ///
    /// # Errors
    /// It does not exist, is in use, or has to be recovered first.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self, StartError> {
        let refuse = |reason: String| StartError::Directory {
            directory: path.to_owned(),
            reason,
        };
        if !path.is_dir() {
            return Err(refuse("does not exist: run `drystone format`".to_owned()));
        }
        let lock = lock_directory(path).map_err(|error| refuse(with_causes(&error)))?;
        let disk = OsDisk::new(path).map_err(|error| refuse(with_causes(&error)))?;
        if recover::is_interrupted(path) {
            return Err(refuse(format!(
                "its recovery was interrupted: run `drystone admin recover --data {}` again",
                path.display()
            )));
        }
        Ok(Self {
            name: path.display().to_string(),
            disk: Arc::new(disk),
            states: Arc::new(FjallStates::new(path, cache_bytes)),
            lock: Some(Box::new(lock)),
        })
    }
}

/// A directory that is open: who it is, its state and its log.
pub(crate) struct OpenedDirectory {
    pub(crate) directory: MetadataDirectory,
    pub(crate) identity: Identity,
    pub(crate) boot: BootId,
    /// Number of its log.
    pub(crate) log: u64,
    pub(crate) state: StateMachine,
    pub(crate) node: RaftNode,
    pub(crate) opened: Opened,
}

/// Opens identity, state and log. Blocks.
///
/// # Errors
/// [`StartError`]; a second start repeats what was done.
pub(crate) fn open(
    env: &Env,
    config: &Config,
    directory: MetadataDirectory,
    pool: BufferPool,
) -> Result<OpenedDirectory, StartError> {
    let refuse = |reason: String| StartError::Directory {
        directory: config.data.clone(),
        reason,
    };
    let disk = Arc::clone(&directory.disk);
    let identity = drystone_identity::load(&*disk).map_err(|error| refuse(with_causes(&error)))?;
    if identity.role != Role::Metadata {
        return Err(refuse(format!(
            "was formatted for role {:?}, not for a metadata server",
            identity.role
        )));
    }
    let boot =
        drystone_identity::boot(&*disk, &mut env.rng("boot")).map_err(|error| refuse(with_causes(&error)))?;
    layout::prepare(&*disk).map_err(|error| refuse(with_causes(&error)))?;
    let (mut state, damage) = open_state(&directory, &identity)?;
    let begun = layout::begun(&*disk).map_err(|error| refuse(with_causes(&error)))?;
    let raft = raft_config(config, &identity, boot, begun.is_some(), &state);
    let rng = env.rng(&format!("raft {} {}", identity.node, boot.random));
    // As much of what the log holds behind the state as need not be in memory. Nothing else takes space here.
    let mut ballast = Ballast::of(&disk);
    let mut apply = |entry| {
        if state.overlay_bytes() > config.overlay_limit() / 2 && is_full(&*disk) {
            ballast.give_up();
        }
        apply_opened(&mut state, entry, config.overlay_limit())
    };
    let opened = RaftNode::open_applying(Arc::clone(&disk), raft, rng, pool, &mut apply);
    let (node, opened) = opened.map_err(|error| not_opened(error, damage.as_deref(), &config.data))?;
    assert_eq!(
        opened.applied,
        state.applied(),
        "what the log has given out is applied"
    );
    let log = begun.unwrap_or_else(|| env.rng(&format!("log {}", boot.random)).next_u64());
    layout::set_begun(&*disk, log).map_err(|error| refuse(with_causes(&error)))?;
    if let Some(torn) = &opened.torn {
        tracing::warn!(node = %identity.node, file = torn.file, offset = torn.offset, reason = torn.reason, "log: torn tail cut");
    }
    // A damaged one is kept until another holds all that it held.
    if damage.is_none() || !opened.needs_snapshot {
        (directory.states.remove_old()).map_err(|error| refuse(with_causes(&error)))?;
    }
    Ok(OpenedDirectory {
        directory,
        identity,
        boot,
        log,
        state,
        node,
        opened,
    })
}

/// Whether the store could not write what it has been given during a start.
fn is_full(disk: &dyn Disk) -> bool {
    disk.space().is_ok_and(|space| space.free < FULL_BYTES)
}

/// Why the server does not start, when its log did not open; `damage`: what is wrong with the state.
fn not_opened(error: OpenError, damage: Option<&str>, directory: &Path) -> StartError {
    let directory = directory.to_owned();
    let reason = with_causes(&error);
    match error {
        OpenError::StateBehindLog { .. } => StartError::StateDamaged {
            directory,
            reason: damage.map_or(reason, str::to_owned),
        },
        // Nothing says that its bytes are wrong: a full disk, rights, a device that fails.
        OpenError::Log(WalError::Io { .. }) => StartError::Directory { directory, reason },
        OpenError::Log(_)
        | OpenError::Record { .. }
        | OpenError::NoLog { .. }
        | OpenError::LogBehindState { .. }
        | OpenError::OfAnother { .. } => StartError::LogDamaged { directory, reason },
        _ => StartError::Raft(reason),
    }
}

/// The state that counts. If it is damaged, that of an export or an empty one, and what was wrong: the log or a
/// snapshot fills it.
fn open_state(
    directory: &MetadataDirectory,
    identity: &Identity,
) -> Result<(StateMachine, Option<String>), StartError> {
    let refused = |failure: OpenFailure| StartError::Store(failure.reason);
    let attempt = |store: Arc<dyn OrderedStore>| -> Result<StateMachine, OpenFailure> {
        Namespace::open(Arc::new(StateStore(store)), settings_of(identity)).map_err(|error| OpenFailure {
            damage: matches!(
                error,
                NamespaceError::Hole { .. }
                    | NamespaceError::Unfinished
                    | NamespaceError::Store(StoreError::Corrupt { .. })
            ),
            reason: with_causes(&error),
        })
    };
    let reason = match directory.states.open().and_then(attempt) {
        Ok(state) => return Ok((state, None)),
        Err(failure) if !failure.damage => return Err(refused(failure)),
        Err(failure) => failure.reason,
    };
    tracing::error!(node = %identity.node, reason, "the state store is damaged; it is set aside");
    let rebuilt = rebuild::from_exports(&*directory.states, &*directory.disk, identity);
    if let Some((state, export)) = rebuilt.map_err(StartError::Store)? {
        tracing::warn!(node = %identity.node, export = export.applied.0,
            "the state is rebuilt from an export; the log since is applied to it");
        return Ok((state, Some(reason)));
    }
    let state = directory.states.abandon().and_then(attempt).map_err(refused)?;
    Ok((state, Some(reason)))
}

fn raft_config(
    config: &Config,
    identity: &Identity,
    boot: BootId,
    begun: bool,
    state: &StateMachine,
) -> RaftConfig {
    let start = match (begun, identity.joining) {
        (true, _) => Start::Existing,
        (false, true) => Start::Join,
        (false, false) => Start::FirstBoot {
            voters: identity.voters.iter().map(|(node, _)| *node).collect(),
        },
    };
    let segment = config.log_segment.0;
    let wal = WalConfig {
        directory: layout::LOG.to_owned(),
        identity: layout::log_identity(identity),
        segment_bytes: segment,
        batch_bytes: config.log_batch(),
        ..WalConfig::default()
    };
    RaftConfig {
        tick: config.raft_tick / 2,
        catch_up_bytes: config.log_catch_up.0,
        ..RaftConfig::new(identity.node, boot, start, state.applied(), wal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_on_a_full_disk_is_not_called_damaged() {
        let error = OpenError::Log(WalError::Io {
            doing: "create log/00000001.seg".to_owned(),
            source: std::io::Error::from_raw_os_error(28),
        });
        let error = not_opened(error, None, Path::new("/data"));
        let words = error.to_string();
        assert!(matches!(error, StartError::Directory { .. }), "{words}");
        assert!(words.contains("00000001.seg: No space left"), "{words}");
    }
}
