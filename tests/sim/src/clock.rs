//! Virtual time: what happens next, and what the clocks of a machine show.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Milliseconds of the world, which no process ever sees.
pub type Time = u64;

/// What is going to happen, in order; what is due at the same time in the order
/// in which it was planned.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Planned<E>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Time,
    number: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<E> Eq for Planned<E> {}
impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> Queue<E> {
    /// Nothing is going to happen.
    pub fn new() -> Self {
        Self { heap: BinaryHeap::with_capacity(256), planned: 0 }
    }

    /// This happens then.
    pub fn plan(&mut self, at: Time, event: E) {
        self.planned += 1;
        self.heap.push(Planned { at, number: self.planned, event });
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|planned| planned.at)
    }

    /// What is going to happen, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.heap.iter().map(|planned| &planned.event)
    }

    /// Puts off what `until` gives another time.
    pub fn put_off(&mut self, until: impl Fn(&E) -> Option<Time>) {
        let mut all = std::mem::take(&mut self.heap).into_vec();
        for planned in &mut all {
            planned.at = until(&planned.event).map_or(planned.at, |at| at.max(planned.at));
        }
        self.heap = all.into();
    }

    /// The next thing that happens.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        self.heap.pop().map(|planned| (planned.at, planned.event))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// The monotonic clock of one process.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic {
    started: Time,
    /// What it shows at the start.
    zero: u64,
    /// It stood still for so long, with the machine.
    stood_still: u64,
}

impl Monotonic {
    /// A clock that shows `zero` now.
    pub fn start(now: Time, zero: u64) -> Self {
        Self { started: now, zero, stood_still: 0 }
    }

    /// What it shows.
    pub fn read(&self, now: Time) -> u64 {
        self.zero + (now - self.started).saturating_sub(self.stood_still)
    }

    /// When it will show `at`; not before `now`.
    pub fn when(&self, at: u64, now: Time) -> Time {
        (self.started + at.saturating_sub(self.zero) + self.stood_still).max(now)
    }

    /// The machine slept for so long, and its clock with it.
    pub fn stand_still(&mut self, ms: u64) {
        self.stood_still += ms;
    }
}

/// Unix milliseconds at which the world begins.
const WALL_ZERO: u64 = 1_790_000_000_000;

/// The wall clock of one machine, which people and time servers set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wall {
    /// How far it is from the right time.
    pub off_by: i64,
}

impl Wall {
    /// What it shows.
    pub fn read(&self, now: Time) -> u64 {
        (WALL_ZERO + now).saturating_add_signed(self.off_by)
    }
}
