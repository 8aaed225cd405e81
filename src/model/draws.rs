//! Chance for those who decide: they are handed a number and make of it as many as
//! they need.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

/// A row of draws that follows from its first number (SplitMix64). Not for secrets.
#[derive(Clone, Debug, Default)]
pub struct Draws(u64);

impl Draws {
    /// The row that belongs to this number.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next draw.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
