//! Known bugs, planted in product code behind `if planted(Bug::..)`, to show that the simulator finds them.
//!
//! Without the feature `planted` (which only `drystone-sim` asks for) [`planted`] is the constant `false` and the
//! bugs are not compiled. With it one bug at most is switched on, per thread. S1 to S10 are the promises of
//! `docs/design/0001-promises.md`.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A bug that this field has shipped.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// Every bug.
            pub const ALL: &'static [Bug] = &[$(Bug::$name,)*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str { match self { $(Bug::$name => $text,)* } }
        }
    };
}

bugs! {
    /// A chunk store's journal counts records as durable when they are written; the sync comes with the next mark,
    /// 10 ms later, or never if a new segment was begun. Breaks S3: a power cut takes acknowledged replicas.
    JournalBeforeSync = "journal-before-sync";
    /// The same in the log of a metadata server: entries, terms and votes. Breaks S3 and S10.
    LogBeforeSync = "log-before-sync";
    /// A chunk store writes the record of a chunk's end before the bytes in its arena are synced. Breaks S3.
    RecordBeforeSync = "record-before-sync";
    /// A chunk store gives the units of a chunk to others when its deletion is asked for, not when it is durable. Breaks S3: a
    /// power cut brings the chunk back with other bytes.
    UnitsBeforeDurable = "units-before-durable";
    /// A chunk store gives units to others while a write of the chunk that had them is under way. Breaks S8.
    UnitsWhileWritten = "units-while-written";
    /// A chunk store gives back the last unit of a chunk that it seals. Breaks S8.
    LastUnitGivenBack = "last-unit-given-back";
    /// A chunk store gives a chunk the last unit of the chunk before it, too. Breaks S8.
    UnitsGivenTwice = "units-given-twice";
    /// A chunk server gives its receipt for a last frame when it has the bytes, not when they are durable. Breaks S3.
    ReceiptBeforeDurable = "receipt-before-durable";
    /// Writer and apply are content with one receipt whatever the policy says. Planted on both sides, because each
    /// masks the other. Breaks S3.
    FewerReceipts = "fewer-receipts";
    /// A chunk store does not verify what it reads from its arenas and computes checksums for it anew. Breaks S8 (and
    /// S9: copies come from such reads).
    UnverifiedRead = "unverified-read";
    /// Opening a log cuts it at a damaged batch although intact ones follow. Breaks S3 and S4; seen with one voter,
    /// because others would give the lost entries back.
    LogCutAtDamage = "log-cut-at-damage";
    /// Nothing outside of the newest segment of a log tells that it was there. Breaks S3 and S10; seen as the one above.
    TurnLeftOut = "turn-left-out";
    /// Checkpoints of the state are not synced, and the log is purged below them. Breaks S3.
    CheckpointNotSynced = "checkpoint-not-synced";
    /// A batch's records and its applied index are two writes to the state store. Breaks S10 and S7: after a crash
    /// between them entries are applied twice.
    AppliedApart = "applied-apart";
    /// Apply uses what differs between voters: how much waits to be flushed. Breaks S10.
    ApplyLooksAround = "apply-looks-around";
    /// Sessions keep no answers: a command that comes again is applied again. Breaks S7.
    AnswersNotKept = "answers-not-kept";
    /// Snapshots leave the sessions out. Breaks S7 and S10.
    SnapshotWithoutSessions = "snapshot-without-sessions";
    /// A client sends a command whose answer was lost again under a new number. Breaks S7.
    RepeatedAnew = "repeated-anew";
    /// A client says `unavailable` (nothing was done) where it does not know. Breaks the meaning of errors, and with
    /// it S5 for whoever believes it.
    UnknownAsUnavailable = "unknown-as-unavailable";
    /// The leader answers reads without asking a majority whether it still leads. Breaks linearizability (promise 2).
    ReadsNotConfirmed = "reads-not-confirmed";
    /// Replicas without a record are deleted although their chunk can still be committed. Breaks S6.
    OrphanAboveFloor = "orphan-above-floor";
    /// Apply takes chunks below the grant floor (and remembers their ranges), whose replicas may be deleted as
    /// orphans. Breaks S6.
    FloorNotChecked = "floor-not-checked";
    /// A new leader hands out the last range of chunk ids of its predecessor again, and apply takes a chunk that is
    /// recorded already. Planted on both sides, because each masks the other. Breaks S4 and S6.
    ChunkIdsAgain = "chunk-ids-again";
    /// A chunk is doomed when one reference to it goes, whatever others there are. Breaks S6.
    DoomedByOneReference = "doomed-by-one-reference";
    /// What is left of an extent behind an overwritten range begins at the wrong byte. Breaks S5.
    RangeShifted = "range-shifted";
    /// A page of a listing after the first one leaves out its first name. Breaks promise 2.
    ListSkips = "list-skips";
    /// A directory may be renamed to a place below itself. Breaks promise 2: the tree falls apart.
    RenameBelowItself = "rename-below-itself";
    /// Raft's messages count whichever process of a member sends them. Breaks S10, and with it the rest.
    EveryProcessHeard = "every-process-heard";
    /// A voter that comes back at another address, perhaps as an older copy, keeps its vote. Breaks S10.
    MovedVoterVotes = "moved-voter-votes";
    /// Apply does not check the precondition of a publication. Breaks promise 2.
    PreconditionNotChecked = "precondition-not-checked";
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
