//! Known bugs, planted in product code behind `if planted(Bug::..)`, to show that the simulator finds them.
//!
//! Without the feature `planted` (which only `drystone-sim` asks for) [`planted`] is the constant `false` and the
//! bugs are not compiled. With it one bug at most is switched on, per thread.

/// A bug that this field has shipped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Bug {
    /// The chunk store acknowledges before its journal is synced.
    AcknowledgeBeforeSync,
}

impl Bug {
    /// Every bug, with its name on the command line.
    pub const ALL: &'static [(&'static str, Bug)] =
        &[("acknowledge-before-sync", Bug::AcknowledgeBeforeSync)];
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Switches `bug` on, and any other off, for this thread.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// True if `bug` is switched on here.
#[cfg(feature = "planted")]
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// True if `bug` is switched on here: never.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}
