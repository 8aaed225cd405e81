//! A registry on localhost: Debian's `docker-registry`, on a free port, with its
//! storage in a directory of its own.

use std::process::Command;

use bollard::Docker;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, PushImageOptionsBuilder, RemoveImageOptionsBuilder,
};
use futures_util::StreamExt;
use tempfile::TempDir;

use crate::http;
use crate::process::Process;
use crate::sandbox::IMAGE;
use crate::wait::{SHORT, until};

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    /// `127.0.0.1:PORT`.
    pub address: String,
    docker: Docker,
    /// Tags made on the Docker daemon, removed again at the end.
    tags: Vec<String>,
    _process: Process,
    _storage: TempDir,
}

impl Registry {
    /// Starts a registry; with `password`, user `tester` has to log in.
    ///
    /// # Panics
    /// When it does not come up. `make test` installs it.
    pub async fn start(with_login: bool) -> Self {
        let storage = TempDir::new().expect("a directory");
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {address}\n",
            storage.path().join("data").display()
        );
        if with_login {
            // tester:secret, bcrypt.
            let file = storage.path().join("htpasswd");
            let line = "tester:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
            std::fs::write(&file, line).expect("a password file");
            config.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                file.display()
            ));
        }
        let file = storage.path().join("config.yml");
        std::fs::write(&file, config).expect("a configuration");
        let process = Process::start(
            "docker-registry",
            Command::new("docker-registry").arg("serve").arg(&file),
        );
        until("the registry to answer", SHORT, || async {
            http::get(&address, "/v2/").await.map(|_| ()).map_err(|e| e.to_string())
        })
        .await;
        let docker = Docker::connect_with_defaults().expect("a Docker client");
        Self { address, docker, tags: Vec::new(), _process: process, _storage: storage }
    }

    /// Pushes an image that is the sample app and `size` bytes that are nowhere
    /// else, so that pulling it moves at least so much. Removes it locally again
    /// and returns what to pull it by. `through` is the address in that name: the
    /// registry's own, or a proxy's before it.
    ///
    /// # Panics
    /// When Docker or the registry refuse.
    pub async fn push(&mut self, name: &str, size: usize, through: &str) -> String {
        let repository = format!("{}/{name}", self.address);
        let pulled = format!("{through}/{name}:v1");
        // Before anything can fail.
        self.tags.extend([format!("{repository}:v1"), pulled.clone()]);
        self.build(&format!("{repository}:v1"), size).await;
        let options = PushImageOptionsBuilder::default().tag("v1").build();
        let login = bollard::auth::DockerCredentials {
            username: Some("tester".to_owned()),
            password: Some("secret".to_owned()),
            ..Default::default()
        };
        let mut stream = self.docker.push_image(&repository, Some(options), Some(login));
        while let Some(progress) = stream.next().await {
            progress.expect("docker push");
        }
        drop(stream);
        self.forget(&format!("{repository}:v1")).await;
        pulled
    }

    async fn build(&self, image: &str, size: usize) {
        let mut seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| since.as_nanos() as u64)
            | 1;
        let payload: Vec<u8> = (0..size)
            .map(|_| {
                // Xorshift: not to be compressed, nor found anywhere else.
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect();
        let dockerfile = format!("FROM {IMAGE}\nCOPY payload /payload\n");
        let mut context = tar::Builder::new(Vec::new());
        for (name, bytes) in [("Dockerfile", dockerfile.as_bytes()), ("payload", &payload)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            context.append_data(&mut header, name, bytes).expect("a tar archive");
        }
        let context = context.into_inner().expect("a tar archive");
        let options = BuildImageOptionsBuilder::default()
            .t(image)
            .nocache(true)
            .rm(true)
            .forcerm(true)
            .build();
        let mut stream =
            self.docker.build_image(options, None, Some(bollard::body_full(context.into())));
        while let Some(progress) = stream.next().await {
            progress.expect("docker build");
        }
    }

    /// Removes a name from the Docker daemon, if it is there.
    pub async fn forget(&self, image: &str) {
        let options = RemoveImageOptionsBuilder::default().force(true).noprune(false).build();
        let _ = self.docker.remove_image(image, Some(options), None).await;
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let (docker, tags) = (self.docker.clone(), std::mem::take(&mut self.tags));
        let cleaner = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build()
            else {
                return;
            };
            runtime.block_on(async {
                for tag in tags {
                    let options = RemoveImageOptionsBuilder::default().force(true).build();
                    let _ = docker.remove_image(&tag, Some(options), None).await;
                }
            });
        });
        let _ = cleaner.join();
    }
}

/// A port that nobody listened on a moment ago, and below those that Docker and
/// the kernel pick from by themselves, so that it is still free a moment later.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at the same time begin in different places.
    let begin = (std::process::id() % 100) as u16 * 100;
    (0..10_000)
        .map(|_| 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
