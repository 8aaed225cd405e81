//! A second Docker daemon: everything of its own, its network included, so that
//! neither daemon knows of the other and both may publish the same host port.

use std::future::Future;
use std::path::PathBuf;
use std::process::Command;

use bollard::query_parameters::ImportImageOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::docker::Truth;
use crate::process::Process;
use crate::wait::{LONG, SHORT, until};

/// Why this machine or user cannot have a second daemon, if so.
pub fn impossible() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("a network namespace takes root".to_owned());
    }
    let has = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    };
    ["ip", "dockerd", "iptables"]
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
}

impl SecondDocker {
    /// Starts a daemon in the network of the caller, which must not be the
    /// machine's (see [`apart`]), and gives it these images.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(images: &[&str]) -> Self {
        let directory = TempDir::new().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("config.json"), "{}").expect("a configuration");
        let unique = format!("second-{}", std::process::id());
        let mut command = Command::new("dockerd");
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
            .args(["--containerd-namespace", &unique])
            .args(["--containerd-plugins-namespace", &format!("{unique}-plugins")])
            .env_remove("DOCKER_HOST");
        let process = Process::start("the second dockerd", &mut command);
        let second = Self { process, directory };
        let docker = until("the second Docker daemon to answer", SHORT, || async {
            let docker = second.docker().map_err(|e| e.to_string())?;
            docker.ping().await.map_err(|e| e.to_string())?;
            Ok::<_, String>(docker)
        })
        .await;
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

impl Drop for SecondDocker {
    fn drop(&mut self) {
        // Asked nicely it ends its containers and unmounts what it mounted.
        self.process.signal(Signal::SIGTERM);
        let began = std::time::Instant::now();
        while self.process.ended().is_none() && began.elapsed() < LONG {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
