//! What a seed decides beforehand: how large the cluster is, how long it is left
//! in peace, and which kinds of trouble it meets. Each seed meets some kinds only:
//! where everything breaks at once, nothing gets far enough to break in an
//! interesting way.

use std::net::Ipv4Addr;

use crate::agent::{Home, Machine};
use crate::clock::Time;
use crate::docker::Daemon;
use crate::faults::Kind;
use crate::network::Link;
use crate::rng::Rng;
use crate::world::{Event, World};

/// What a seed decides.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Which daemon each node uses.
    pub daemons: Vec<usize>,
    /// Everything passes through its encoding.
    pub encodes: bool,
    /// What the scheduler's disk is told is kept.
    pub tapes: bool,
    /// Trouble ends then.
    pub chaos_until: Time,
    /// Something breaks so often, on average.
    pub strikes_every_ms: u64,
    /// People do something so often, on average.
    pub users_every_ms: u64,
    /// What may break.
    pub kinds: Vec<Kind>,
    /// What people call their workloads.
    pub names: Vec<&'static str>,
}

impl Setup {
    /// What this seed decides.
    pub fn of(seed: u64, rng: &mut Rng) -> Self {
        let many = rng.chance(20);
        let nodes = if many { rng.range(10, 12) } else { rng.range(3, 6) };
        // Now and then several agents use one daemon, as in the sandbox.
        let shared = rng.chance(300);
        let mut daemons = Vec::new();
        for node in 0..nodes as usize {
            let with = if shared && node > 0 { rng.below(node as u64 + 1) as usize } else { node };
            daemons.push(if with < node { daemons[with] } else { node });
        }
        let mut kinds: Vec<Kind> = Kind::ALL.iter().copied().filter(|_| rng.chance(450)).collect();
        if rng.chance(60) {
            kinds.clear();
        }
        let mut names = vec!["web", "api", "db", "job"];
        let keep = rng.range(2, 4) as usize;
        while names.len() > keep {
            let gone = rng.below(names.len() as u64) as usize;
            names.remove(gone);
        }
        Self {
            seed,
            daemons,
            encodes: rng.chance(250),
            tapes: false,
            chaos_until: 1_000 + rng.range(40_000, 150_000),
            strikes_every_ms: *rng.pick(&[800, 2_000, 4_000, 10_000]),
            users_every_ms: *rng.pick(&[700, 2_000, 5_000]),
            kinds,
            names,
        }
    }
}

impl World {
    /// Puts everything in its place, and lets it begin.
    pub fn set_up(&mut self) {
        let layout = self.setup.daemons.clone();
        let mut places: Vec<usize> = layout.clone();
        places.sort_unstable();
        places.dedup();
        for (index, _) in places.iter().enumerate() {
            let mut daemon = Daemon::new(format!("d{}", index + 1));
            daemon.wall.off_by = self.rng.below(4_000) as i64 - 2_000;
            for image in ["good:1", "good:2", "job:1"] {
                if self.rng.chance(500) {
                    daemon.images.insert(image.to_owned());
                }
            }
            self.daemons.push(daemon);
        }
        for (index, place) in layout.iter().enumerate() {
            let daemon = places.iter().position(|known| known == place).unwrap_or(0);
            let machine = self.machine(&format!("n{}", index + 1), daemon);
            self.machines.push(machine);
            let after = self.rng.range(1, 400);
            self.plan(after, Event::AgentStarts { machine: index });
        }
        self.scheduler_starts();
        let (first_call, first_strike) = (self.rng.range(300, 2_000), self.rng.range(2_000, 9_000));
        self.plan(first_call, Event::UserActs);
        self.plan(first_strike, Event::Strikes);
    }

    /// A new machine.
    pub fn machine(&mut self, node: &str, daemon: usize) -> Machine {
        let number = self.machines.len() as u8 + 1;
        Machine {
            node: node.into(),
            ip: Ipv4Addr::new(10, 0, 0, number),
            home: Home { key: format!("key-{:x}", self.rng.draw()), remembered: None },
            daemon,
            link: Link::default(),
            powered: true,
            advertises: self.rng.chance(500),
            clone: false,
            destroyed: false,
            agent: None,
            dies_at: None,
            down_ms: 0,
            superseded: false,
        }
    }
}
