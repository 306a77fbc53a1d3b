//! Which ids a run certainly does not hold.
//!
//! A binary fuse filter (Graf and Lemire, 2022): 9.6 bits an id, 1 in 256 wrongly taken for one it holds. It is made
//! once, of all ids of a run; a group of them at a time, so that making it takes little memory and a look-up stays within
//! 1.5 KiB. As what is stored outlives the program that wrote it, it is written out here rather than left to a crate that
//! may change how it hashes.

/// How what is stored is to be read. It changes with whatever of the below changes.
const FORMAT: u8 = 1;
/// Before the cells of each group: its seed, log2 of the length of its segments, and how many may be the first of three.
const HEADER: usize = 8 + 1 + 4;
/// Seeds that are tried. It can be made with three of four, of a group of less than a few thousand ids with one of four.
const TRIES: u64 = 100;

/// As it is stored. Each group holds an equal part of all fingerprints, by their leading bits.
pub(super) struct Filter {
    bytes: Vec<u8>,
    groups: Vec<Group>,
}

/// A fingerprint chooses a cell in each of three segments that follow one another; those three add up to its check, which is
/// how it is known.
struct Group {
    seed: u64,
    segment_bits: u8,
    /// Segments that may be the first of three.
    firsts: u32,
    /// Where its cells are.
    begin: usize,
}

impl Group {
    /// How it should be for so many ids: as the paper found, but as a seed that fails costs little a little smaller.
    fn new(ids: usize, seed: u64, begin: usize) -> Self {
        let ids = ids.max(2) as f64;
        let segment_bits = (ids.ln() / 3.33_f64.ln() + 1.25) as u8;
        let cells = ids * (0.86 + 0.25 * (1e6_f64.ln() / ids.ln()).max(1.0));
        let segments = (cells / f64::from(1 << segment_bits)).round().max(3.0);
        Self {
            seed,
            segment_bits,
            firsts: segments as u32 - 2,
            begin,
        }
    }

    fn cells(&self) -> usize {
        (self.firsts as usize + 2) << self.segment_bits
    }

    fn hash(&self, fingerprint: u64) -> u64 {
        let hash = (fingerprint ^ self.seed).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (hash ^ hash >> 32).wrapping_mul(0x94D0_49BB_1331_11EB)
    }

    fn check(hash: u64) -> u8 {
        (hash >> 8) as u8
    }

    fn places(&self, hash: u64) -> [usize; 3] {
        let length = 1 << self.segment_bits;
        let firsts = u64::from(self.firsts) << self.segment_bits;
        let first = (((hash >> 32) * firsts) >> 32) as usize;
        let within = |bits: u64| bits as usize & (length - 1);
        // The segment stays, the place within it changes.
        [
            first,
            (first + length) ^ within(hash >> 16),
            (first + 2 * length) ^ within(hash >> 28),
        ]
    }

    /// Its cells, unless these ids cannot be told apart with this seed: in each step there has to be a cell that only one of
    /// those that are left has chosen.
    fn fill(&self, fingerprints: impl Iterator<Item = u64>) -> Option<Vec<u8>> {
        let mut sums = vec![0_u64; self.cells()];
        let mut users = vec![0_u8; self.cells()];
        let mut left = 0;
        for hash in fingerprints.map(|fingerprint| self.hash(fingerprint)) {
            left += 1;
            for place in self.places(hash) {
                sums[place] ^= hash;
                users[place] = users[place].checked_add(1)?;
            }
        }
        let mut taken: Vec<u64> = Vec::with_capacity(left);
        let mut chosen: Vec<u8> = Vec::with_capacity(left);
        let mut single: Vec<u32> = (0..)
            .zip(&users)
            .filter(|(_, users)| **users == 1)
            .map(|(place, _)| place)
            .collect();
        while let Some(place) = single.pop() {
            if users[place as usize] != 1 {
                continue; // it was the last of two
            }
            let hash = sums[place as usize];
            for (which, other) in (0..).zip(self.places(hash)) {
                if other == place as usize {
                    taken.push(hash);
                    chosen.push(which);
                }
                let place = other;
                sums[place] ^= hash;
                users[place] -= 1;
                if users[place] == 1 {
                    single.push(place as u32);
                }
            }
        }
        if taken.len() < left {
            return None;
        }
        let mut cells = vec![0; self.cells()];
        for (hash, which) in taken.into_iter().zip(chosen).rev() {
            let places = self.places(hash);
            let [a, b, c] = places.map(|place| cells[place]);
            cells[places[usize::from(which)]] = Self::check(hash) ^ a ^ b ^ c;
        }
        Some(cells)
    }
}

impl Filter {
    /// Without any group.
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![FORMAT],
            groups: Vec::new(),
        }
    }

    /// Adds the next group, which holds these, in order: whether it could be made.
    #[must_use]
    pub(super) fn add(&mut self, fingerprints: impl Iterator<Item = u64> + Clone) -> bool {
        let mut before = None;
        let fingerprints = fingerprints.filter(move |next| before.replace(*next) != Some(*next));
        let ids = fingerprints.clone().count();
        let begin = self.bytes.len() + HEADER;
        for seed in 1..=TRIES {
            let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let group = Group::new(ids, seed, begin);
            if let Some(cells) = group.fill(fingerprints.clone()) {
                self.bytes.reserve_exact(HEADER + cells.len());
                self.bytes.extend_from_slice(&group.seed.to_be_bytes());
                self.bytes.push(group.segment_bits);
                self.bytes.extend_from_slice(&group.firsts.to_be_bytes());
                self.bytes.extend_from_slice(&cells);
                self.groups.push(group);
                return true;
            }
        }
        false
    }

    /// From what [`stored`](Self::stored) gave.
    pub(super) fn read(bytes: Vec<u8>) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[FORMAT])?;
        let mut groups = Vec::new();
        while let Some((header, cells)) = rest.split_first_chunk::<HEADER>() {
            let [a, b, c, d, e, f, g, h, segment_bits, i, j, k, l] = *header;
            let group = Group {
                seed: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
                segment_bits: Some(segment_bits).filter(|bits| *bits < 32)?,
                firsts: u32::from_be_bytes([i, j, k, l]),
                begin: bytes.len() - cells.len(),
            };
            rest = cells.get(group.cells()..)?;
            groups.push(group);
        }
        (rest.is_empty() && !groups.is_empty()).then_some(Self { bytes, groups })
    }

    pub(super) fn stored(&self) -> &[u8] {
        &self.bytes
    }

    /// What it takes in memory.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity() + self.groups.capacity() * size_of::<Group>()
    }

    pub(super) fn may_hold(&self, fingerprint: u64) -> bool {
        let group = ((fingerprint >> 32) * self.groups.len() as u64) >> 32;
        let group = &self.groups[group as usize];
        let hash = group.hash(fingerprint);
        let cells = &self.bytes[group.begin..];
        let [a, b, c] = group.places(hash).map(|place| cells[place]);
        a ^ b ^ c == Group::check(hash)
    }
}

#[cfg(test)]
mod tests;
