//! Network namespaces, wires between them, and what can go wrong on a wire.
//!
//! A namespace is entered with `nsenter --net`: `ip netns exec` would mount another
//! `/sys`, in which Docker does not find its control groups.

use std::process::Command;

use crate::process::Process;
use crate::wait::{SHORT, until};

/// A network of its own, with nothing but loopback at first. A process that sleeps in
/// it keeps it: when that has ended, and whatever else lives there, it is gone with
/// its wires and its firewall.
#[derive(Debug)]
pub struct Namespace {
    holder: Process,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Panics
    /// When there is none to be had.
    pub async fn new(name: &str) -> Self {
        let mut command = Command::new("unshare");
        let script = "ip link set lo up && echo up && exec sleep infinity";
        command.args(["--net", "sh", "-c", script]);
        let holder = Process::start(&format!("the network of {name}"), &mut command);
        until(&format!("the network of {name}"), SHORT, || async {
            let output = holder.output();
            if output.contains("up") { Ok(()) } else { Err(output) }
        })
        .await;
        Self { holder }
    }

    /// The process that keeps it.
    pub fn id(&self) -> u32 {
        self.holder.id()
    }

    /// A program that lives in it. It becomes the program: its process id is the same.
    pub fn command(&self, program: &str) -> Command {
        entering(self.id(), program)
    }

    /// Runs a line of words in it.
    ///
    /// # Panics
    /// When that fails, with what it said.
    pub fn run(&self, line: &str) {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().expect("a program"));
        run(command.args(words));
    }

    /// Plugs in a wire: `device` in here, `plug` at the other end, in the network of
    /// the caller.
    ///
    /// # Panics
    /// When it cannot be plugged in.
    pub fn plug_in(&self, device: &str, hardware: &str, plug: &str) {
        let id = self.id().to_string();
        let mut command = Command::new("ip");
        command.args(["link", "add", plug, "type", "veth", "peer", "name", device]);
        run(command.args(["address", hardware, "netns", &id]));
    }

    /// Lets this go wrong with what comes and goes on `device`, until it is mended.
    #[must_use]
    pub fn fault(&self, device: &str, fault: Fault) -> Vec<Rule> {
        let rules = fault.rules(device);
        for rule in &rules {
            self.run(&format!("iptables --wait --insert {}", rule.0));
        }
        rules
    }

    /// Takes away what made it go wrong.
    pub fn mend(&self, rules: Vec<Rule>) {
        for rule in rules {
            self.run(&format!("iptables --wait --delete {}", rule.0));
        }
    }
}

/// A program in the network of a process.
pub(crate) fn entering(process: u32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{process}/ns/net")).arg(program);
    command
}

/// Runs a command to its end.
///
/// # Panics
/// When it fails, with what it said.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
}

/// What can go wrong on a wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Nothing gets through.
    Cut,
    /// Nothing comes in.
    Deaf,
    /// Nothing goes out.
    Mute,
    /// So many of a hundred packets get lost, either way.
    Lossy(u32),
}

/// What makes it go wrong: a rule of the firewall.
#[derive(Clone, Debug)]
pub struct Rule(String);

impl Fault {
    fn rules(self, device: &str) -> Vec<Rule> {
        let (inwards, outwards, chance) = match self {
            Self::Cut => (true, true, String::new()),
            Self::Deaf => (true, false, String::new()),
            Self::Mute => (false, true, String::new()),
            // The kernel's own emulator of bad lines (netem) is not everywhere.
            Self::Lossy(percent) => {
                let share = f64::from(percent) / 100.0;
                (true, true, format!("-m statistic --mode random --probability {share}"))
            }
        };
        let mut rules = Vec::new();
        let directions = [(inwards, "INPUT", "-i"), (outwards, "OUTPUT", "-o")];
        for (_, chain, side) in directions.into_iter().filter(|(wanted, ..)| *wanted) {
            // What is on its way to or from a container is forwarded.
            for chain in [chain, "FORWARD"] {
                rules.push(Rule(format!("{chain} {side} {device} {chance} -j DROP")));
            }
        }
        rules
    }
}
