//! Who is let in: requests and bytes under way in the whole server, by priority class.

use super::ServerOptions;
use crate::error::refusal;
use drystone_proto::Priority;
use drystone_proto::cluster::ErrorReply;
use drystone_types::Code;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
struct Class {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// What is under way. Each class counts alone, so a full one never keeps a higher one out.
pub(super) struct Admission {
    options: ServerOptions,
    classes: [Class; 3],
}

/// A place in a class; given back when dropped.
pub(super) struct Permit {
    admission: Arc<Admission>,
    priority: Priority,
    bytes: u64,
}

impl Admission {
    pub(super) fn new(options: &ServerOptions) -> Self {
        Self {
            options: options.clone(),
            classes: Default::default(),
        }
    }

    fn class(&self, priority: Priority) -> &Class {
        match priority {
            Priority::Control => &self.classes[0],
            Priority::Foreground => &self.classes[1],
            Priority::Repair => &self.classes[2],
        }
    }

    /// A place for a request of `bytes`.
    ///
    /// # Errors
    /// `busy`, ready to be sent. An empty class takes a request of any size.
    pub(super) fn admit(self: &Arc<Self>, priority: Priority, bytes: u64) -> Result<Permit, ErrorReply> {
        let (class, limit) = (self.class(priority), self.options.class(priority));
        let requests = class.requests.fetch_add(1, Ordering::Relaxed);
        let held = class.bytes.fetch_add(bytes, Ordering::Relaxed);
        // From here on dropping the permit undoes both.
        let permit = Permit {
            admission: Arc::clone(self),
            priority,
            bytes,
        };
        if requests > 0 && (requests >= u64::from(limit.requests) || held + bytes > limit.bytes) {
            drop(permit);
            let mut busy = refusal(
                Code::Busy,
                format!("{requests} requests with {held} bytes are under way"),
            );
            busy.retry_after_ms = self.options.retry_after_ms;
            return Err(busy);
        }
        Ok(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let class = self.admission.class(self.priority);
        class.requests.fetch_sub(1, Ordering::Relaxed);
        class.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ClassLimit;
    use drystone_env::BufferPool;

    #[test]
    fn a_full_class_keeps_no_other_out() {
        let mut options = ServerOptions::new(BufferPool::new(0));
        options.classes = [ClassLimit {
            requests: 2,
            bytes: 100,
        }; 3];
        let admission = Arc::new(Admission::new(&options));
        let one = admission
            .admit(Priority::Repair, 500)
            .expect("an empty class takes any size");
        let busy = admission
            .admit(Priority::Repair, 1)
            .err()
            .expect("the class is full");
        assert_eq!((busy.code, busy.retry_after_ms), (Code::Busy.number(), 50));
        let _foreground = admission.admit(Priority::Foreground, 50).expect("another class");
        let _control = admission.admit(Priority::Control, 50).expect("another class");
        drop(one);
        let _two = (
            admission.admit(Priority::Repair, 1).unwrap(),
            admission.admit(Priority::Repair, 1).unwrap(),
        );
        assert!(admission.admit(Priority::Repair, 1).is_err());
    }
}
