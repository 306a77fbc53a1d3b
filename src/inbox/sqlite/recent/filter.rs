//! Which ids a run certainly does not hold.

use super::RUN;

/// A Bloom filter in blocks of one cache line: 16 bits an id, about 1 in 500 wrongly taken for one it holds.
pub(super) struct Filter(pub(super) Vec<[u64; 8]>);

impl Filter {
    pub(super) const BLOCKS: usize = RUN * 16 / 512;

    pub(super) fn new() -> Self {
        Self(vec![[0; 8]; Self::BLOCKS])
    }

    /// The block, and seven times nine bits that each choose one bit in it.
    fn place(fingerprint: u64) -> (usize, impl Iterator<Item = (usize, u64)>) {
        let block = fingerprint as usize % Self::BLOCKS;
        let bits = fingerprint.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (
            block,
            (0..7)
                .map(move |probe| bits >> (1 + 9 * probe))
                .map(|bits| (bits as usize >> 6 & 7, 1 << (bits & 63))),
        )
    }

    pub(super) fn add(&mut self, fingerprint: u64) {
        let (block, bits) = Self::place(fingerprint);
        bits.for_each(|(word, bit)| self.0[block][word] |= bit);
    }

    pub(super) fn may_hold(&self, fingerprint: u64) -> bool {
        let (block, mut bits) = Self::place(fingerprint);
        bits.all(|(word, bit)| self.0[block][word] & bit != 0)
    }
}
