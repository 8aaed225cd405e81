//! What becomes of a simulated container: how long everything takes, whether it
//! starts at all, when it ends. A function of the seed, the node and the replica's
//! life, so that the same cluster with the same seed has the same bad luck.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use crate::model::wire::labels;
use crate::model::{Draws, NodeId};
use crate::roles::agent::message::Launch;

/// How simulated Dockers behave. Times are means: each actual one is drawn from
/// half to one and a half of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Getting an image that is not on the node yet, milliseconds.
    pub pull_ms: u64,
    /// Making and starting a container, milliseconds.
    pub start_ms: u64,
    /// From its start until a container passes its health probe, milliseconds.
    pub warm_up_ms: u64,
    /// From SIGTERM to the end of a container, milliseconds.
    pub stop_ms: u64,
    /// The share of starts that fail, 0 to 1.
    pub fail: f64,
    /// Crashes of one container per minute.
    pub crashes_per_minute: f64,
    /// Power cuts of one node per minute.
    pub outages_per_minute: f64,
    /// How long a node that has lost its power is gone, milliseconds.
    pub outage_ms: u64,
    /// Where all chance comes from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pull_ms: 1_000,
            start_ms: 200,
            warm_up_ms: 300,
            stop_ms: 100,
            fail: 0.0,
            crashes_per_minute: 0.0,
            outages_per_minute: 0.0,
            outage_ms: 30_000,
            seed: 0,
        }
    }
}

/// What the tag of an image asks for, so that a bad deploy can be played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temper {
    /// Runs and is well.
    #[default]
    Good,
    /// `:crash` ends with code 1 soon after its start.
    Crash,
    /// `:sick` never passes its health probe.
    Sick,
    /// `:missing` is in no registry.
    Missing,
}

impl Temper {
    /// By the tag of `image`.
    pub fn of(image: &str) -> Self {
        match image.rsplit_once(':').map_or("", |(_, tag)| tag) {
            "crash" => Temper::Crash,
            "sick" => Temper::Sick,
            "missing" => Temper::Missing,
            _ => Temper::Good,
        }
    }
}

/// What becomes of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Until it runs, or has failed to.
    pub start_ms: u64,
    /// It cannot be started.
    pub fails: bool,
    /// From its start until its probe passes; `None`: never.
    pub warm_up_ms: Option<u64>,
    /// From SIGTERM to its end.
    pub stop_ms: u64,
    /// From its start until it ends by itself, and with which code.
    pub crash: Option<(u64, i64)>,
    /// Between two lines of its log.
    pub line_ms: u64,
}

impl Fate {
    /// The fate of this container on `node`.
    pub fn of(settings: &Settings, node: &NodeId, launch: &Launch) -> Self {
        let label = |name: &str| launch.labels.get(name).map_or("", String::as_str);
        let mut chance = Chance::of(
            settings.seed,
            &[
                node.as_str(),
                launch.workload.as_str(),
                label(labels::REVISION),
                label(labels::REPLICA),
                label(labels::RESTARTS),
            ],
        );
        let temper = Temper::of(&launch.image);
        let start_ms = chance.around(settings.start_ms);
        let fails = chance.share() < settings.fail;
        let warm_up_ms = chance.around(settings.warm_up_ms);
        let stop_ms = chance.around(settings.stop_ms);
        let line_ms = chance.around(2_000);
        let after_ms = chance.until_next(settings.crashes_per_minute);
        // Out of memory, a segmentation fault, or what programs end with.
        let exit_code = [1, 1, 1, 2, 137, 139][(chance.next() % 6) as usize];
        Self {
            start_ms,
            fails,
            warm_up_ms: (temper != Temper::Sick).then_some(warm_up_ms),
            stop_ms,
            crash: match temper {
                Temper::Crash => Some((warm_up_ms, 1)),
                _ => after_ms.map(|after_ms| (after_ms, exit_code)),
            },
            line_ms,
        }
    }
}

/// A row of draws.
#[derive(Clone, Debug)]
pub struct Chance(Draws);

impl Chance {
    /// The row that belongs to these words.
    pub fn of(seed: u64, words: &[&str]) -> Self {
        let mut hash = seed ^ 0xcbf2_9ce4_8422_2325; // FNV-1a
        for word in words {
            for byte in word.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        Self(Draws::new(hash))
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// At least 0 and less than 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From half of it to one and a half.
    pub fn around(&mut self, mean_ms: u64) -> u64 {
        mean_ms / 2 + (self.share() * mean_ms as f64) as u64
    }

    /// Milliseconds until what happens so often happens next; `None`: never.
    pub fn until_next(&mut self, per_minute: f64) -> Option<u64> {
        let share = self.share();
        (per_minute > 0.0).then(|| (-(1.0 - share).ln() * 60_000.0 / per_minute) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::agent::message::Limits;

    fn launch(image: &str, replica: u32) -> Launch {
        Launch {
            id: format!("web-r1-{replica}").as_str().into(),
            workload: "web".into(),
            image: image.to_owned(),
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            labels: [(labels::REPLICA.to_owned(), replica.to_string())].into(),
            ports: Vec::new(),
            limits: Limits::default(),
            mounts: Vec::new(),
            env_from: Vec::new(),
            stop_grace_period_seconds: 10,
        }
    }

    fn fates(settings: &Settings) -> Vec<Fate> {
        (0..2_000).map(|n| Fate::of(settings, &"n1".into(), &launch("web:1", n))).collect()
    }

    #[test]
    fn the_same_seed_is_the_same_luck_and_another_is_not() {
        let settings = Settings { crashes_per_minute: 1.0, fail: 0.1, ..Settings::default() };
        assert_eq!(fates(&settings), fates(&settings));
        assert_ne!(fates(&settings), fates(&Settings { seed: 1, ..settings.clone() }));
    }

    #[test]
    fn rates_and_means_are_met() {
        let settings = Settings { crashes_per_minute: 2.0, fail: 0.1, ..Settings::default() };
        let fates = fates(&settings);
        let count = fates.len() as f64;
        let failing = fates.iter().filter(|fate| fate.fails).count() as f64 / count;
        assert!((0.08..0.12).contains(&failing), "{failing}");
        let lives = fates.iter().filter_map(|fate| fate.crash).map(|(after, _)| after as f64);
        let mean = lives.sum::<f64>() / count;
        assert!((27_000.0..33_000.0).contains(&mean), "{mean}");
        assert!(fates.iter().all(|fate| (100..=300).contains(&fate.start_ms)));
        let none = Settings::default();
        assert!(self::fates(&none).iter().all(|fate| !fate.fails && fate.crash.is_none()));
    }

    #[test]
    fn a_tag_decides() {
        let of = |image| Fate::of(&Settings::default(), &"n1".into(), &launch(image, 0));
        assert!(of("host:5000/web:crash").crash.is_some_and(|(_, code)| code == 1));
        assert_eq!(of("web:sick").warm_up_ms, None);
        assert_eq!(Temper::of("web:missing"), Temper::Missing);
        assert_eq!(Temper::of("crash"), Temper::Good);
    }
}
