//! Randomness: one root seed, split per component by name.

/// The randomness seam.
pub trait Rng: Send {
    /// 64 uniformly distributed bits.
    fn next_u64(&mut self) -> u64;

    /// A number below `bound`, which must not be zero. The bias is below 2^-32 for bounds below 2^32.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True with probability `numerator / denominator`.
    fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, every seed is good. Not for secrets: keys come from
/// [`crate::os::random_bytes`].
#[derive(Clone, Debug)]
pub struct SeededRng {
    seed: u64,
    state: u64,
}

impl SeededRng {
    /// A generator whose numbers depend on `seed` alone.
    pub const fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// A generator of its own for the component `name`; it does not depend on how many numbers were drawn here.
    pub fn split(&self, name: &str) -> Self {
        // FNV-1a over the name, stirred with the seed.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut stirred = Self::new(self.seed ^ hash.rotate_left(17));
        Self::new(stirred.next_u64())
    }
}

impl Rng for SeededRng {
    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_depends_on_seed_and_name_only() {
        let mut root = SeededRng::new(7);
        let mut before = root.split("disk");
        root.next_u64();
        let mut after = root.split("disk");
        assert_eq!(before.next_u64(), after.next_u64());
        assert_ne!(root.split("disk").next_u64(), root.split("net").next_u64());
    }

    #[test]
    fn below_stays_below() {
        let mut rng = SeededRng::new(1);
        assert!((0..1000).all(|_| rng.below(7) < 7));
    }
}
