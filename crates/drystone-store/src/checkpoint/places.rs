//! Places for leaves in the files of the index, which are equal: what one lacks the other has.
//!
//! A place is never written while a checkpoint to which recovery may go back names it.

use crate::index::LEAF_BYTES;

/// Places that the files have beyond those that are needed.
const MORE_PLACES: u32 = 4;

/// See the module.
#[derive(Default)]
pub(crate) struct Places {
    /// Named by a checkpoint that is durable.
    named: PlaceSet,
    /// To be named by the one that is made.
    next: PlaceSet,
    /// Every place below is in one of both.
    taken_below: u32,
    /// Of the files, which do not become shorter.
    length: u32,
}

impl Places {
    /// With these named by what is on the disk, in files of at most `length` places.
    pub(crate) fn new(named: impl IntoIterator<Item = u32>, length: u32) -> Self {
        let mut places = Self {
            length,
            ..Self::default()
        };
        named.into_iter().for_each(|place| places.named.insert(place));
        places
    }

    /// A place for a leaf that has changed: the lowest one.
    pub(crate) fn take(&mut self) -> u32 {
        let mut place = self.taken_below;
        while self.named.contains(place) || self.next.contains(place) {
            place += 1;
        }
        self.taken_below = place + 1;
        self.length = self.length.max(place + 1);
        self.next.insert(place);
        place
    }

    /// The leaf in this place has not changed.
    pub(crate) fn keep(&mut self, place: u32) {
        assert!(
            self.named.contains(place),
            "place {place} is kept, which no checkpoint names"
        );
        self.next.insert(place);
    }

    /// The checkpoint is durable: what it does not name is free.
    pub(crate) fn made(&mut self) {
        self.named = std::mem::take(&mut self.next);
        self.taken_below = 0;
    }

    /// Bytes of both files.
    pub(crate) fn file_bytes(&self) -> u64 {
        2 * Self::offset(self.length)
    }

    /// So many places the files must have so that every leaf can be written again, and a few more.
    pub(crate) fn wanted(&self) -> u32 {
        self.named.count() * 2 + MORE_PLACES
    }

    /// The files are at least so many places long.
    pub(crate) fn grown(&mut self, length: u32) {
        self.length = self.length.max(length);
    }

    /// Where a place begins in the files.
    pub(crate) fn offset(place: u32) -> u64 {
        u64::from(place) * LEAF_BYTES as u64
    }
}

#[derive(Default)]
struct PlaceSet(Vec<u64>);

impl PlaceSet {
    fn insert(&mut self, place: u32) {
        let at = (place / u64::BITS) as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (place % u64::BITS);
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn contains(&self, place: u32) -> bool {
        let word = self.0.get((place / u64::BITS) as usize);
        word.is_some_and(|word| word >> (place % u64::BITS) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_a_checkpoint_names_is_not_taken() {
        let mut places = Places::new([0, 2], 3);
        assert_eq!((places.take(), places.take()), (1, 3));
        places.keep(2);
        places.made();
        assert_eq!((places.take(), places.take()), (0, 4));
        // Changed again before it was named: it stays until the next one is durable.
        assert_eq!(places.take(), 5);
        places.made();
        assert_eq!((places.take(), places.take(), places.take()), (1, 2, 3));
    }

    #[test]
    #[should_panic(expected = "which no checkpoint names")]
    fn what_is_free_is_not_kept() {
        Places::new([1], 2).keep(0);
    }
}
