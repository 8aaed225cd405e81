//! Several hosts on one machine: each has a network of its own, wired to the others
//! by a bridge, its own Docker daemon and its own agent; the first one also has the
//! scheduler. It is a cluster as `docs/operations.md` has it installed: with TLS, nodes
//! that have joined with a token, and an admin with a file of credentials.
//!
//! There is no default route: a daemon that looked for a registry would wait long.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use futures_util::future::join_all;
use kube_lite::client::Client;
use kube_lite::identity::credentials::Credentials;
use kube_lite::identity::keeper::ADMIN_FILE;
use kube_lite::identity::membership::Membership;
use serde_json::Value;
use tempfile::TempDir;

use crate::docker::{Container, Truth};
use crate::network::{Fault, Namespace, Rule, entering, run};
use crate::process::Process;
use crate::sandbox::{Api, IMAGE};
use crate::second::SecondDocker;
use crate::wait::{SHORT, until};

/// The network of the hosts, one that nobody uses (RFC 2544): host 1 is `.1`.
const NETWORK: &str = "198.18.0";
/// Where the one who made the hosts is on that network.
const OURS: u8 = 254;
/// Where the machine itself is on it, once it has joined.
const MACHINE: u8 = 253;
/// What the sample is rolled to.
const NEXT_IMAGE: &str = "kube-lite/hello:v2";
/// How a host calls its network card.
const CARD: &str = "eth0";
/// The bridge.
const SWITCH: &str = "switch";

/// One host.
#[derive(Debug)]
pub struct Host {
    // Dropped in this order: first what would replace a container that goes.
    agent: Option<Process>,
    /// Docker's view of the cluster on this host.
    pub truth: Truth,
    /// Its daemon.
    pub docker: SecondDocker,
    network: Option<Namespace>,
    number: u8,
    faults: Vec<Rule>,
}

impl Host {
    /// Its name, which is its node's: `h1`.
    pub fn name(&self) -> String {
        format!("h{}", self.number)
    }

    /// Its IP address.
    pub fn address(&self) -> String {
        address(self.number)
    }

    /// What `nsenter --net=` takes to become it.
    ///
    /// # Panics
    /// When it is switched off.
    pub fn network_file(&self) -> String {
        let network = self.network.as_ref().expect("a host that is on");
        format!("/proc/{}/ns/net", network.id())
    }

    /// A program that runs on it.
    ///
    /// # Panics
    /// When it is switched off.
    pub fn command(&self, program: &str) -> Command {
        self.network.as_ref().expect("a host that is on").command(program)
    }

    /// Lets this go wrong with its network, until [`Host::heal`].
    pub fn fault(&mut self, fault: Fault) {
        let network = self.network.as_ref().expect("a host that is on");
        self.faults.extend(network.fault(CARD, fault));
    }

    /// Its network is good again.
    pub fn heal(&mut self) {
        let network = self.network.as_ref().expect("a host that is on");
        network.mend(std::mem::take(&mut self.faults));
    }

    /// Its containers of the cluster that run, with the time at which each was started.
    ///
    /// # Panics
    /// When its Docker does not answer.
    pub async fn started(&self) -> BTreeMap<String, String> {
        let mut started = BTreeMap::new();
        for container in self.truth.running().await {
            // It may be gone by now; then it does not run.
            if let Ok(said) = self.truth.docker.inspect_container(&container.id, None).await {
                let at = said.state.and_then(|state| state.started_at);
                started.insert(container.name, at.map_or_else(String::new, |at| at.to_string()));
            }
        }
        started
    }
}

/// The hosts, and the way to their scheduler.
#[derive(Debug)]
pub struct Hosts {
    // Dropped in this order.
    scheduler: Option<Process>,
    /// The hosts; the first one has the scheduler.
    pub hosts: Vec<Host>,
    /// The way to the scheduler.
    pub api: Api,
    directory: TempDir,
    binary: String,
    /// What `--join` of the agents takes.
    invitation: String,
    /// More options of the scheduler.
    options: Vec<String>,
}

impl std::ops::Deref for Hosts {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Hosts {
    /// Starts so many hosts and waits until all of them are able. The network of the
    /// caller, which must not be the machine's (see [`crate::second::apart`]), becomes
    /// the one between them.
    ///
    /// # Panics
    /// When one of them does not come up.
    pub async fn start(binary: &str, count: u8) -> Self {
        Self::start_with(binary, count, &[]).await
    }

    /// The same with more options for the scheduler.
    ///
    /// # Panics
    /// When one of them does not come up.
    pub async fn start_with(binary: &str, count: u8, options: &[&str]) -> Self {
        let directory = TempDir::new().expect("a directory");
        ip(&format!("link add {SWITCH} type bridge"));
        ip(&format!("address add {}/24 dev {SWITCH}", address(OURS)));
        ip(&format!("link set {SWITCH} up"));
        let machines = join_all((1..=count).map(|number| async move {
            let network = wired(number).await;
            let docker = SecondDocker::start_in(Some(&network), &[IMAGE, NEXT_IMAGE], &[]).await;
            (number, network, docker)
        }))
        .await;
        let first = machines.first().expect("one host at least");
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let invitation = founded(binary, directory.path(), &first.1);
        let scheduler = scheduler(binary, directory.path(), &first.1, &options).await;
        let admin = directory.path().join("scheduler").join(ADMIN_FILE);
        let admin = Credentials::read(&admin).expect("credentials").expect("an admin");
        let client = client_of(&admin);
        let health = client.health().await.expect("health");
        let cluster = health.cluster.expect("the cluster's id");
        let api = Api { truth: first.2.truth(&cluster), client, url: admin.server };
        let hosts = machines.into_iter().map(|(number, network, docker)| Host {
            agent: None,
            truth: docker.truth(&cluster),
            docker,
            network: Some(network),
            number,
            faults: Vec::new(),
        });
        let mut all = Self {
            scheduler: Some(scheduler),
            hosts: hosts.collect(),
            api,
            directory,
            binary: binary.to_owned(),
            invitation,
            options,
        };
        for index in 0..all.hosts.len() {
            all.start_agent(index).await;
        }
        all.able(all.hosts.len()).await;
        all
    }

    /// The host of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.iter_mut().find(|host| host.name() == name).expect("a host of this name")
    }

    /// What runs of a workload on each host, by Docker.
    pub async fn running_of(&self, workload: &str) -> BTreeMap<String, Vec<Container>> {
        let mut all = BTreeMap::new();
        for host in &self.hosts {
            all.insert(host.name(), host.truth.running_of(workload).await);
        }
        all
    }

    /// All containers that run, with the time at which each was started, by host.
    pub async fn started(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        for host in &self.hosts {
            all.insert(host.name(), host.started().await);
        }
        all
    }

    /// Takes all power from a host: its agent, its daemon, its containers and its
    /// network end at once, and so does the scheduler, if it is there.
    ///
    /// # Panics
    /// When there is no such host.
    pub async fn power_off(&mut self, name: &str) {
        if name == "h1" {
            self.scheduler = None;
        }
        let host = self.host(name);
        host.agent = None;
        host.docker.power_off().await;
        host.faults.clear();
        host.network = None;
    }

    /// Boots a host that was switched off, over the disk it had.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn power_on(&mut self, name: &str) {
        let index = self.hosts.iter().position(|host| host.name() == name).expect("a host");
        let network = wired(self.hosts[index].number).await;
        self.hosts[index].docker.power_on(&network).await;
        if index == 0 {
            let (binary, at) = (&self.binary, self.directory.path());
            self.scheduler = Some(scheduler(binary, at, &network, &self.options).await);
        }
        self.hosts[index].network = Some(network);
        self.start_agent(index).await;
    }

    /// Ends the agent of a host, its containers running on.
    ///
    /// # Panics
    /// When there is no such host.
    pub fn stop_agent(&mut self, name: &str) {
        self.host(name).agent = None;
    }

    /// Starts the agent of a host that is on, over the data it has.
    ///
    /// # Panics
    /// When there is no such host, or it does not come up.
    pub async fn start_agent_of(&mut self, name: &str) {
        let index = self.hosts.iter().position(|host| host.name() == name).expect("a host");
        self.start_agent(index).await;
    }

    /// The IP address of the host of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn address_of(&self, name: &str) -> String {
        self.hosts.iter().find(|host| host.name() == name).expect("a host").address()
    }

    /// A host takes the address of another one that is off, and everybody believes it.
    ///
    /// # Panics
    /// When it is on.
    pub fn take_address(&self, of: &str, by: &str) {
        let (taken, by) = (self.address_of(of), self.hosts.iter().find(|host| host.name() == by));
        let network = by.and_then(|host| host.network.as_ref()).expect("a host that is on");
        network.run(&format!("ip address add {taken}/24 dev {CARD}"));
        self.forget_where_it_was(&taken);
    }

    /// The host has its own address alone again.
    ///
    /// # Panics
    /// When it had not taken the other.
    pub fn give_back_address(&self, of: &str, by: &str) {
        let (taken, by) = (self.address_of(of), self.hosts.iter().find(|host| host.name() == by));
        let network = by.and_then(|host| host.network.as_ref()).expect("a host that is on");
        network.run(&format!("ip address delete {taken}/24 dev {CARD}"));
        self.forget_where_it_was(&taken);
    }

    /// What the others, the caller included, know of the card at an address.
    fn forget_where_it_was(&self, address: &str) {
        let forget = |mut command: Command| {
            let _ = command.args(["neigh", "flush", "to", address]).output();
        };
        forget(Command::new("ip"));
        for network in self.hosts.iter().filter_map(|host| host.network.as_ref()) {
            forget(network.command("ip"));
        }
    }

    /// What the agent of a host has said.
    ///
    /// # Panics
    /// When it does not run.
    pub fn said(&self, name: &str) -> String {
        let host = self.hosts.iter().find(|host| host.name() == name).expect("a host");
        host.agent.as_ref().expect("an agent").output()
    }

    /// What the scheduler has said.
    ///
    /// # Panics
    /// When it does not run.
    pub fn scheduler_said(&self) -> String {
        self.scheduler.as_ref().expect("a scheduler").output()
    }

    /// Where the agent of a host, or the `scheduler`, keeps its data.
    pub fn data_of(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The credentials of the cluster's admin.
    pub fn admin_file(&self) -> PathBuf {
        self.data_of("scheduler").join(ADMIN_FILE)
    }

    /// What a node has to prove who it is, for who plays it.
    ///
    /// # Panics
    /// When it has joined nothing.
    pub fn member(&self, name: &str) -> Arc<Membership> {
        let member = Membership::open(&self.data_of(name), &name.into());
        member.expect("an identity").expect("a node that has joined")
    }

    /// When a node's certificate was signed, and until when it is good, in seconds
    /// since 1970.
    ///
    /// # Panics
    /// When it has none.
    pub fn certificate(&self, name: &str) -> (u64, u64) {
        let text = std::fs::read_to_string(self.data_of(name).join("identity.json"));
        let kept: Value = serde_json::from_str(&text.expect("an identity")).expect("JSON");
        let number = |field: &str| kept["certificate"][field].as_u64().expect("a time");
        (number("issuedAt"), number("expiresAt"))
    }

    async fn start_agent(&mut self, index: usize) {
        let host = &self.hosts[index];
        let mut command = host.command(&self.binary);
        command
            .args(["agent", "--listen", &format!("{}:8081", host.address())])
            .args(["--node-id", &host.name(), "--data-dir"])
            .arg(self.data_of(&host.name()))
            .env("KUBE_LITE_JOIN", &self.invitation)
            .env_remove("KUBE_LITE_SERVER")
            .env("DOCKER_HOST", host.docker.docker_host());
        let process = Process::start(&format!("the agent of {}", host.name()), &mut command);
        listens(&process).await;
        self.hosts[index].agent = Some(process);
    }

    /// Gives the machine itself, from whose network the caller has parted, a place on
    /// that of the hosts, so that a browser reaches them. Returns its address.
    ///
    /// # Panics
    /// When the machine uses these addresses already.
    pub fn join_machine(&self) -> String {
        // The main thread has stayed there, and it is what a process id stands for.
        let machine = std::process::id();
        let on_it = |line: &str| {
            let mut command = entering(machine, "ip");
            command.args(line.split_whitespace());
            command
        };
        let known = on_it("-oneline address show").output().expect("ip");
        let taken = String::from_utf8_lossy(&known.stdout).contains(&format!(" {NETWORK}."));
        assert!(!taken, "this machine is on {NETWORK}.0/24 already: do such hosts run?");
        let device = "kube-lite-hosts";
        ip(&format!("link add machine type veth peer name {device} netns {machine}"));
        ip(&format!("link set machine master {SWITCH} up"));
        run(&mut on_it(&format!("address add {}/24 dev {device}", address(MACHINE))));
        run(&mut on_it(&format!("link set {device} up")));
        address(MACHINE)
    }
}

fn address(number: u8) -> String {
    format!("{NETWORK}.{number}")
}

fn ip(line: &str) {
    run(Command::new("ip").args(line.split_whitespace()));
}

/// The network of a host, wired to the others. After a reboot it is the same card.
async fn wired(number: u8) -> Namespace {
    let network = Namespace::new(&format!("h{number}")).await;
    let plug = format!("port{number}");
    // The kernel takes the card of a host that is gone out of the switch when it gets to it.
    let _ = Command::new("ip").args(["link", "delete", &plug]).output();
    network.plug_in(CARD, &format!("02:00:c6:12:00:{number:02x}"), &plug);
    ip(&format!("link set {plug} master {SWITCH} up"));
    network.run(&format!("ip address add {}/24 dev {CARD}", address(number)));
    network.run(&format!("ip link set {CARD} up"));
    network
}

/// Founds the cluster on the first host. What `--join` takes.
fn founded(binary: &str, directory: &Path, network: &Namespace) -> String {
    let mut command = network.command(binary);
    let (host, listen) = (address(1), format!("{}:8080", address(1)));
    command.args(["scheduler", "--init", "--host", &host, "--listen", &listen, "--data-dir"]);
    let output = command.arg(directory.join("scheduler")).output().expect("--init");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let join = said.split_whitespace().skip_while(|word| *word != "--join").nth(1);
    join.unwrap_or_else(|| panic!("no line to join with: {output:?}")).to_owned()
}

async fn scheduler(
    binary: &str,
    directory: &Path,
    network: &Namespace,
    options: &[String],
) -> Process {
    let mut command = network.command(binary);
    command
        .args(["scheduler", "--listen", &format!("{}:8080", address(1)), "--data-dir"])
        .arg(directory.join("scheduler"))
        .args(options);
    let process = Process::start("the scheduler", &mut command);
    listens(&process).await;
    process
}

/// A client with these credentials, as `ctl` is one.
fn client_of(admin: &Credentials) -> Client {
    let client = Client::pinned(&admin.server, &admin.fingerprint).expect("a client");
    client.with_token(&admin.token)
}

async fn listens(process: &Process) {
    until("a role to listen", SHORT, || async {
        let output = process.output();
        if output.contains("listens on ") { Ok(()) } else { Err(output) }
    })
    .await;
}
