//! A second Docker daemon: everything of its own, its network included, so that
//! neither daemon knows of the other and both may publish the same host port.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bollard::query_parameters::ImportImageOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::docker::Truth;
use crate::network::{Namespace, entering};
use crate::process::Process;
use crate::wait::{LONG, SHORT, until};

/// Where these tests cannot be run, one has to say so.
pub const SKIP: &str = "KUBE_LITE_SKIP_TWO_DAEMONS";

/// Whether somebody has said so. Panics where they cannot be run and nobody has.
pub fn is_skipped() -> bool {
    if std::env::var_os(SKIP).is_some() {
        eprintln!("skipped, as {SKIP} says");
        return true;
    }
    if let Some(why) = impossible() {
        panic!("{why}; to do without this test, set {SKIP}=1");
    }
    false
}

/// Why this machine or user cannot have a second daemon, if it cannot.
pub fn impossible() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("a network namespace takes root".to_owned());
    }
    let has = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    };
    ["ip", "nsenter", "unshare", "dockerd", "iptables"]
        .into_iter()
        .find(|program| !has(program))
        .map(|program| format!("there is no {program}"))
}

/// Runs `body` in a network of its own, where there is nothing but loopback.
/// Processes started there live there, too.
///
/// # Panics
/// When `body` does, or when there is no such network to be had.
pub fn apart<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip").success(), "no loopback");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("a runtime").block_on(body());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A running daemon; ended with its containers when dropped.
#[derive(Debug)]
pub struct SecondDocker {
    process: Process,
    directory: TempDir,
    options: Vec<String>,
    /// A process in whose network it lives; none: in its starter's.
    network: Option<u32>,
    /// The containers it had whenever it was killed.
    orphans: BTreeSet<OsString>,
}

impl SecondDocker {
    /// Starts a daemon in the network of the caller, which must not be the
    /// machine's (see [`apart`]), and gives it these images.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(images: &[&str]) -> Self {
        Self::start_with(images, &[]).await
    }

    /// The same with more options for `dockerd`.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_with(images: &[&str], options: &[&str]) -> Self {
        Self::start_in(None, images, options).await
    }

    /// The same, in this network.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_in(network: Option<&Namespace>, images: &[&str], options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = TempDir::new().expect("a directory");
        std::fs::write(directory.path().join("config.json"), "{}").expect("a configuration");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("second-{}-{number}", std::process::id());
        let mut all: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        all.extend(["--containerd-namespace".to_owned(), unique.clone()]);
        all.extend(["--containerd-plugins-namespace".to_owned(), format!("{unique}-plugins")]);
        let network = network.map(Namespace::id);
        let process = dockerd(network, directory.path(), &all);
        let second = Self { process, directory, options: all, network, orphans: BTreeSet::new() };
        let docker = second.answers().await;
        for image in images {
            let first = Docker::connect_with_defaults().expect("a Docker client");
            let mut archive = Vec::new();
            let mut export = first.export_image(image);
            while let Some(part) = export.next().await {
                archive.extend_from_slice(&part.expect("docker save"));
            }
            let options = ImportImageOptionsBuilder::default().build();
            let body = bollard::body_full(archive.into());
            let mut import = docker.import_image(options, body, None);
            while let Some(progress) = import.next().await {
                progress.expect("docker load");
            }
        }
        second
    }

    /// `kill -9`. The containerd that it had started ends with it.
    ///
    /// # Panics
    /// When that does not end.
    pub async fn kill(&mut self) {
        self.process.kill();
        self.orphans.extend(containers_of(self.directory.path()));
        let at = self.directory.path().join("exec/containerd/containerd.pid");
        let Ok(text) = std::fs::read_to_string(&at) else { return };
        until("its containerd to end", SHORT, || async {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", text.trim()));
            let ended = stat.as_ref().map_or(true, |stat| stat.contains(") Z "));
            if ended { Ok(()) } else { Err(stat.unwrap_or_default()) }
        })
        .await;
        // Where nobody reaps orphans (in a container without an init, for example)
        // the next daemon would take it for alive for ever.
        let _ = std::fs::remove_file(&at);
    }

    /// Starts the daemon, which must have ended, again over the same data.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_again(&mut self) {
        self.process = dockerd(self.network, self.directory.path(), &self.options);
        self.answers().await;
    }

    /// What a power cut does: the daemon and all containers end at once, and of
    /// what it has written only its data is left.
    pub async fn power_off(&mut self) {
        self.kill().await;
        end_leftovers(self.directory.path());
        remove_control_groups(&self.orphans);
        for volatile in ["exec", "pid", "sock"] {
            let path = self.directory.path().join(volatile);
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
    }

    /// Starts the daemon after a power cut, in what is its network now.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn power_on(&mut self, network: &Namespace) {
        self.network = Some(network.id());
        self.start_again().await;
    }

    /// The control groups of its containers.
    pub fn control_groups(&self) -> Vec<PathBuf> {
        control_groups(&containers_of(self.directory.path()))
    }

    async fn answers(&self) -> Docker {
        until("the second Docker daemon to answer", SHORT, || async {
            let docker = self.docker().map_err(|e| e.to_string())?;
            docker.ping().await.map_err(|e| format!("{e}; it said: {}", self.process.output()))?;
            Ok::<_, String>(docker)
        })
        .await
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    /// The value for `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its view of a cluster.
    pub fn truth(&self, cluster: &str) -> Truth {
        Truth::at(Some(self.socket().to_string_lossy().into_owned()), cluster)
    }

    fn docker(&self) -> Result<Docker, bollard::errors::Error> {
        Docker::connect_with_unix(&self.socket().to_string_lossy(), 60, API_DEFAULT_VERSION)
    }
}

fn dockerd(network: Option<u32>, directory: &Path, options: &[String]) -> Process {
    let at = |name: &str| directory.join(name);
    let mut command = match network {
        Some(process) => entering(process, "dockerd"),
        None => Command::new("dockerd"),
    };
    command
        .arg("--data-root")
        .arg(at("root"))
        .arg("--exec-root")
        .arg(at("exec"))
        .arg("--pidfile")
        .arg(at("pid"))
        .arg("--host")
        .arg(format!("unix://{}", at("sock").display()))
        .arg("--config-file")
        .arg(at("config.json"))
        .args(options)
        .env_remove("DOCKER_HOST");
    Process::start("the second dockerd", &mut command)
}

impl Drop for SecondDocker {
    fn drop(&mut self) {
        // Asked nicely it ends its containers and unmounts what it mounted.
        self.process.signal(Signal::SIGTERM);
        let began = std::time::Instant::now();
        while self.process.ended().is_none() && began.elapsed() < LONG {
            std::thread::sleep(Duration::from_millis(20));
        }
        end_leftovers(self.directory.path());
        self.orphans.extend(containers_of(self.directory.path()));
        remove_control_groups(&self.orphans);
    }
}

/// The ids of the containers that a daemon has in its books.
fn containers_of(directory: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(directory.join("root/containers")).into_iter().flatten();
    entries.flatten().map(|entry| entry.file_name()).collect()
}

/// The control groups of these containers that are still there.
fn control_groups(containers: &BTreeSet<OsString>) -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let entries = std::fs::read_dir(&root).into_iter().flatten().flatten();
    // One hierarchy, or one for each controller.
    let tops: Vec<PathBuf> = entries.map(|entry| entry.path()).chain([root]).collect();
    let groups =
        tops.iter().flat_map(|top| containers.iter().map(|id| top.join("docker").join(id)));
    groups.filter(|group| group.is_dir()).collect()
}

/// Removes the control groups of these containers, which must have ended: nobody else
/// does, once the daemon that has made them was killed. The kernel refuses to remove one
/// that somebody lives in.
fn remove_control_groups(containers: &BTreeSet<OsString>) {
    for _ in 0..50 {
        let left = control_groups(containers);
        if left.is_empty() {
            return;
        }
        for group in left {
            let _ = std::fs::remove_dir(group);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends what a daemon that was killed, or that lets its containers live on, has
/// left running and mounted: whatever names its directory is its own.
fn end_leftovers(directory: &Path) {
    let name = directory.to_string_lossy().into_owned();
    for _ in 0..50 {
        let shims = shims_of(&name);
        if shims.is_empty() {
            break;
        }
        for process in children_of(&shims).into_iter().chain(shims) {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut ours: Vec<&str> = points.filter(|point| point.starts_with(&name)).collect();
    ours.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in ours {
        let _ = Command::new("umount").args(["--lazy", point]).status();
    }
}

/// The shims of a daemon's containers: their command line names its directory.
fn shims_of(name: &str) -> Vec<i32> {
    let names_it = |id: &i32| {
        let line = of_process(*id, "cmdline");
        line.is_some_and(|line| line.contains(name) && line.contains("containerd-shim"))
    };
    all_processes().into_iter().filter(names_it).collect()
}

fn children_of(parents: &[i32]) -> Vec<i32> {
    let parent = |id: i32| -> Option<i32> {
        // `pid (name) state parent …`, where the name may contain anything.
        let stat = of_process(id, "stat")?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let is_child = |id: &i32| parent(*id).is_some_and(|parent| parents.contains(&parent));
    all_processes().into_iter().filter(is_child).collect()
}

fn all_processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn of_process(id: i32, file: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{id}/{file}")).ok()
}
