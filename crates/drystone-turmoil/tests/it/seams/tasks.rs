use drystone_env::{BoxFuture, Spawn};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Tasks on the host's runtime, counted by name. A thread is a task here: it may block on a disk alone, and those of
/// these worlds answer at once.
#[derive(Default)]
pub(crate) struct Tasks {
    live: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Tasks {
    /// How many of this name run.
    pub(crate) fn live(&self, name: &str) -> usize {
        self.live.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    /// All that run.
    pub(crate) fn all(&self) -> BTreeMap<String, usize> {
        self.live.lock().unwrap().clone()
    }
}

struct Live {
    live: Arc<Mutex<BTreeMap<String, usize>>>,
    name: String,
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut live = self.live.lock().unwrap();
        let count = live.remove(&self.name).unwrap_or_default();
        if count > 1 {
            live.insert(self.name.clone(), count - 1);
        }
    }
}

impl Spawn for Tasks {
    #[allow(clippy::disallowed_methods, reason = "this is the seam")]
    fn spawn(&self, name: &str, task: BoxFuture<()>) {
        let live = Live {
            live: Arc::clone(&self.live),
            name: name.to_owned(),
        };
        *self.live.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        tokio::spawn(async move {
            let _live = live;
            task.await;
        });
    }

    fn thread(&self, name: &str, body: BoxFuture<()>) {
        self.spawn(name, body);
    }
}
