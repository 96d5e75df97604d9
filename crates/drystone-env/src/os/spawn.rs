use crate::BoxFuture;
use crate::spawn::Spawn;
use std::sync::{Mutex, PoisonError};
use tokio::task::JoinSet;

/// A tenth of the weight that a thread of the default niceness has: enough to end some time on a busy machine.
const BACKGROUND_NICE: i32 = 10;

/// Tasks on the tokio runtime in which it was made; they are aborted when it is dropped or stopped.
pub struct OsSpawn {
    runtime: tokio::runtime::Handle,
    tasks: Mutex<JoinSet<()>>,
}

impl OsSpawn {
    /// Spawns on the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> Self {
        Self {
            runtime: tokio::runtime::Handle::current(),
            tasks: Mutex::default(),
        }
    }

    /// Aborts every task.
    pub fn stop(&self) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }
}

impl Default for OsSpawn {
    fn default() -> Self {
        Self::new()
    }
}

impl Spawn for OsSpawn {
    fn spawn(&self, _name: &str, task: BoxFuture<()>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn_on(task, &self.runtime);
        // Finished tasks leave the set here, so that it holds no more than what runs.
        while tasks.try_join_next().is_some() {}
    }

    #[allow(clippy::disallowed_methods, reason = "this is the real thread")]
    fn thread(&self, name: &str, body: BoxFuture<()>) {
        let builder = std::thread::Builder::new().name(name.chars().take(15).collect());
        let runtime = self.runtime.clone();
        builder
            .spawn(move || runtime.block_on(body))
            .expect("the system refused a thread");
    }

    #[allow(clippy::disallowed_methods, reason = "this is the real thread")]
    fn background(&self, name: &str, body: BoxFuture<()>) {
        let builder = std::thread::Builder::new().name(name.chars().take(15).collect());
        let runtime = self.runtime.clone();
        let run = move || {
            // On Linux this is of the calling thread alone. Where it is refused the work goes on as any other.
            let _ = rustix::process::nice(BACKGROUND_NICE);
            runtime.block_on(body);
        };
        builder.spawn(run).expect("the system refused a thread");
    }
}
