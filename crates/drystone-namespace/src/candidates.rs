//! The chunks that may be lost while some disks are away: those with a replica on one of these disks, and those below
//! their policy wherever the disks are. Read from the replicas by disk ([`crate::placements`]), in order of ids, so that
//! what lies on other disks alone is not looked at.

use crate::namespace::Namespace;
use crate::store::{OrderedStore, StoreError};
use drystone_types::{ChunkId, DiskRef, PlacementIndex};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Ids read from one place at once.
const PAGE: usize = 64;

/// Where candidates are read from.
enum Place {
    Disk(DiskRef),
    BelowPolicy,
}

/// What was read of a place, and how far.
struct Source {
    place: Place,
    after: (ChunkId, PlacementIndex),
    page: VecDeque<ChunkId>,
}

/// See the module. Each chunk once, in order.
pub struct Candidates {
    sources: Vec<Source>,
    /// The next id of each source, with the source.
    next: BinaryHeap<Reverse<(ChunkId, usize)>>,
}

impl Source {
    fn next<S: OrderedStore>(&mut self, namespace: &Namespace<S>) -> Result<Option<ChunkId>, StoreError> {
        if self.page.is_empty() {
            match self.place {
                Place::Disk(disk) => {
                    let page = namespace.replicas_on(disk, self.after, PAGE)?;
                    if let Some((chunk, replica)) = page.last() {
                        self.after = (*chunk, PlacementIndex(replica.placement));
                    }
                    self.page.extend(page.into_iter().map(|(chunk, _)| chunk));
                }
                Place::BelowPolicy => {
                    self.page.extend(namespace.below_policy(self.after.0, PAGE)?);
                    self.after.0 = self.page.back().copied().unwrap_or(self.after.0);
                }
            }
        }
        Ok(self.page.pop_front())
    }
}

impl Candidates {
    /// Those with ids above `after`. Disks that hold no verified replica are not looked at.
    ///
    /// # Errors
    /// The store failed.
    pub fn begin<S: OrderedStore>(
        namespace: &Namespace<S>,
        is_live: impl Fn(DiskRef) -> bool,
        after: ChunkId,
    ) -> Result<Self, StoreError> {
        let disks = namespace.disks_in_use()?;
        let away = disks.into_iter().filter(|disk| !is_live(*disk)).map(Place::Disk);
        let source = |place| Source {
            place,
            after: (after, PlacementIndex(u64::MAX)),
            page: VecDeque::new(),
        };
        let mut candidates = Self {
            sources: away.chain([Place::BelowPolicy]).map(source).collect(),
            next: BinaryHeap::new(),
        };
        for source in 0..candidates.sources.len() {
            candidates.advance(namespace, source)?;
        }
        Ok(candidates)
    }

    /// The next one.
    ///
    /// # Errors
    /// The store failed.
    pub fn next<S: OrderedStore>(&mut self, namespace: &Namespace<S>) -> Result<Option<ChunkId>, StoreError> {
        let Some(&Reverse((chunk, _))) = self.next.peek() else {
            return Ok(None);
        };
        while let Some(&Reverse((same, source))) = self.next.peek()
            && same == chunk
        {
            self.next.pop();
            self.advance(namespace, source)?;
        }
        Ok(Some(chunk))
    }

    fn advance<S: OrderedStore>(&mut self, namespace: &Namespace<S>, at: usize) -> Result<(), StoreError> {
        if let Some(source) = self.sources.get_mut(at)
            && let Some(chunk) = source.next(namespace)?
        {
            self.next.push(Reverse((chunk, at)));
        }
        Ok(())
    }
}
