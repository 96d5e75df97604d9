//! On whose behalf a disk works.

/// Of disk work: what whoever carries it out shares a busy disk by. The store itself does everything in the order in
/// which it comes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum IoClass {
    /// What a user waits for, and what keeps the store going: journal, syncs, moving, checkpoints.
    #[default]
    Foreground,
    /// Reads and writes that restore redundancy.
    Repair,
    /// Reads that only verify, and moving chunks out of arenas that are emptied.
    Scrub,
}

impl IoClass {
    /// Every class.
    pub const ALL: [IoClass; 3] = [IoClass::Foreground, IoClass::Repair, IoClass::Scrub];

    /// Its place in [`IoClass::ALL`].
    pub const fn number(self) -> usize {
        match self {
            IoClass::Foreground => 0,
            IoClass::Repair => 1,
            IoClass::Scrub => 2,
        }
    }
}
