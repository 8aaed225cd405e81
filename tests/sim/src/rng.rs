//! Chance. A seed is a run, so everything random comes from here.

use kube_lite::model::Draws;

/// What a seed has in store.
#[derive(Clone, Debug)]
pub struct Rng(Draws);

impl Rng {
    /// The chance of this seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Self(Draws::new(seed ^ 0x6b75_6265_2d6c_6974));
        rng.draw();
        rng
    }

    /// An independent source: how often one is asked does not change the other.
    pub fn fork(&mut self) -> Self {
        Self(Draws::new(self.draw()))
    }

    /// The next draw.
    pub fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// A draw below `n`; 0 when there is nothing below it.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    /// A draw from `from` to `to`, both included.
    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// A duration from `from` to `to`: short ones as likely as ten times longer ones.
    pub fn spell(&mut self, from: u64, to: u64) -> u64 {
        let mut top = from.max(1);
        while top < to && self.below(3) != 0 {
            top = (top * 3).min(to);
        }
        self.range(from, top)
    }

    /// True `permille` times out of a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of these; they must not be empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// One of these, as likely as its weight says.
    pub fn weighted<T: Copy>(&mut self, from: &[(u64, T)]) -> T {
        let total: u64 = from.iter().map(|(weight, _)| weight).sum();
        let mut left = self.below(total);
        for (weight, item) in from {
            if left < *weight {
                return *item;
            }
            left -= weight;
        }
        from[0].1
    }
}
