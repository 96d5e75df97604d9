//! What a disk may be used for, by the state that the leader sees it in.
//!
//! | state | read | append | place | counts |
//! |---|---|---|---|---|
//! | unheard | last | no | no | unknown |
//! | active | yes | yes | yes | yes |
//! | full | yes | no | no | yes |
//! | draining | yes | yes | no | yes |
//! | suspect | last | yes | no | no |
//! | read-only | last | no | no | no |
//! | dead | last | no | no | no |
//! | fenced | no | no | no | no |
//!
//! *Read*: clients are sent there, at once or when no other replica is left. *Append*: chunks that were granted on it go
//! on. *Place*: new replicas are put on it. *Counts*: its verified replicas are redundancy. Maintenance, joining and
//! drained disks get states of their own with the work that needs them.

use std::fmt;

/// A disk's state. Of several that fit, the one that allows the least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DiskState {
    /// Its server has not told this leader of it.
    Unheard,
    /// In use.
    Active,
    /// It takes no more bytes.
    Full,
    /// An operator wants it empty.
    Draining,
    /// Its server missed some heartbeats.
    Suspect,
    /// A sync failed: what it holds is read as a last resort.
    ReadOnly,
    /// Its server has been silent for so long that it is not expected back.
    Dead,
    /// A clone or a duplicate of its server was seen: nothing of it counts until an operator decides.
    Fenced,
}

/// When clients read from a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MayRead {
    /// As from any other.
    Yes,
    /// When no other replica is left.
    Last,
    /// Never.
    No,
}

/// What a state of a disk is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskFacts {
    /// Its server told this leader of it.
    pub heard: bool,
    /// Its server missed some heartbeats.
    pub suspect: bool,
    /// Its server is not expected back.
    pub dead: bool,
    /// It takes no writes.
    pub read_only: bool,
    /// It has no byte left. A full disk takes no writes, and that is no damage.
    pub full: bool,
    /// An operator wants it empty.
    pub draining: bool,
    /// Its server is fenced.
    pub fenced: bool,
}

impl DiskState {
    /// The state that the facts amount to.
    pub fn of(facts: DiskFacts) -> Self {
        match facts {
            DiskFacts { fenced: true, .. } => DiskState::Fenced,
            DiskFacts { dead: true, .. } => DiskState::Dead,
            DiskFacts { heard: false, .. } => DiskState::Unheard,
            DiskFacts {
                read_only: true,
                full: false,
                ..
            } => DiskState::ReadOnly,
            DiskFacts { suspect: true, .. } => DiskState::Suspect,
            DiskFacts { draining: true, .. } => DiskState::Draining,
            DiskFacts { full: true, .. } => DiskState::Full,
            _ => DiskState::Active,
        }
    }

    /// See the module.
    pub const fn may_read(self) -> MayRead {
        match self {
            DiskState::Active | DiskState::Full | DiskState::Draining => MayRead::Yes,
            DiskState::Unheard | DiskState::Suspect | DiskState::ReadOnly | DiskState::Dead => MayRead::Last,
            DiskState::Fenced => MayRead::No,
        }
    }

    /// See the module.
    pub const fn may_append(self) -> bool {
        matches!(self, DiskState::Active | DiskState::Draining | DiskState::Suspect)
    }

    /// See the module.
    pub const fn may_place(self) -> bool {
        matches!(self, DiskState::Active)
    }

    /// See the module; `None`: not known.
    pub const fn counts(self) -> Option<bool> {
        match self {
            DiskState::Unheard => None,
            DiskState::Active | DiskState::Full | DiskState::Draining => Some(true),
            DiskState::Suspect | DiskState::ReadOnly | DiskState::Dead | DiskState::Fenced => Some(false),
        }
    }

    /// The state in words, lower kebab-case.
    pub const fn name(self) -> &'static str {
        match self {
            DiskState::Unheard => "unheard",
            DiskState::Active => "active",
            DiskState::Full => "full",
            DiskState::Draining => "draining",
            DiskState::Suspect => "suspect",
            DiskState::ReadOnly => "read-only",
            DiskState::Dead => "dead",
            DiskState::Fenced => "fenced",
        }
    }
}

impl fmt::Display for DiskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DiskState; 8] = [
        DiskState::Unheard,
        DiskState::Active,
        DiskState::Full,
        DiskState::Draining,
        DiskState::Suspect,
        DiskState::ReadOnly,
        DiskState::Dead,
        DiskState::Fenced,
    ];

    #[test]
    fn the_table_of_the_module_is_what_the_states_say() {
        let row = |state: DiskState| {
            let yes = |yes| if yes { "yes" } else { "no" };
            let read = match state.may_read() {
                MayRead::Yes => "yes",
                MayRead::Last => "last",
                MayRead::No => "no",
            };
            let (append, place) = (yes(state.may_append()), yes(state.may_place()));
            let counts = state.counts().map_or("unknown", yes);
            format!("//! | {state} | {read} | {append} | {place} | {counts} |")
        };
        for state in ALL {
            let row = row(state);
            assert!(include_str!("state.rs").lines().any(|line| line == row), "{row}");
        }
    }

    #[test]
    fn of_several_states_the_one_counts_that_allows_the_least() {
        let heard = DiskFacts {
            heard: true,
            ..DiskFacts::default()
        };
        assert_eq!(DiskState::of(heard), DiskState::Active);
        assert_eq!(DiskState::of(DiskFacts::default()), DiskState::Unheard);
        let full = DiskFacts {
            read_only: true,
            full: true,
            ..heard
        };
        assert_eq!(DiskState::of(full), DiskState::Full);
        let (draining, suspect) = (true, true);
        let both = DiskFacts {
            draining,
            suspect,
            ..heard
        };
        assert_eq!(DiskState::of(both), DiskState::Suspect);
        let fenced = DiskFacts { fenced: true, ..both };
        assert_eq!(DiskState::of(fenced), DiskState::Fenced);
        for state in ALL {
            let usable = state.may_read() == MayRead::Yes;
            assert!(!state.may_place() || state.may_append());
            assert!(
                state.counts() != Some(true) || usable,
                "{state} counts and is not read"
            );
        }
    }
}
