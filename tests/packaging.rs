//! What is installed on real machines: units, and the Debian package. No systemd runs
//! here: units are read by its tools, and the package is installed into a directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use kube_lite_testkit::sandbox::{Fleet, hello};
use tempfile::TempDir;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const UNITS: [&str; 2] = ["kube-lite-scheduler.service", "kube-lite-agent.service"];

/// Runs a command to its end; what it printed on both outputs.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

fn unit(name: &str) -> PathBuf {
    Path::new(ROOT).join("packaging").join(name)
}

#[test]
fn units_are_understood_and_well_confined() {
    let directory = TempDir::new().unwrap();
    for name in UNITS {
        // It is looked whether the program is there, which it is once installed.
        let text = std::fs::read_to_string(unit(name)).unwrap();
        let here = directory.path().join(name);
        std::fs::write(&here, text.replace("/usr/bin/kube-lite", BIN)).unwrap();
        let said = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&here));
        assert!(!said.contains(name), "{said}");
    }
    // Tenths: 3.0 at most for the scheduler. Docker's socket is not among what is rated.
    for (name, threshold) in UNITS.into_iter().zip(["--threshold=30", "--threshold=20"]) {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--no-pager", threshold]);
        run(command.arg(unit(name)));
    }
}

#[test]
fn the_options_in_units_are_options_of_the_program() {
    for (name, role) in UNITS.into_iter().zip(["scheduler", "agent"]) {
        let text = std::fs::read_to_string(unit(name)).unwrap();
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = start.split_whitespace();
        assert_eq!(words.next(), Some("/usr/bin/kube-lite"));
        assert_eq!(words.next(), Some(role));
        let help = run(Command::new(BIN).args([role, "--help"]));
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{role} {option}");
        }
    }
}

/// A root directory with nothing in it, and `dpkg` for it.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let database = root.path().join("var/lib/dpkg");
        for directory in ["info", "updates"] {
            std::fs::create_dir_all(database.join(directory)).unwrap();
        }
        for file in ["status", "available"] {
            std::fs::write(database.join(file), "").unwrap();
        }
        Self(root)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn dpkg(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", self.0.path().display())).args([
            "--log=/dev/null",
            "--force-not-root",
            // There is neither a shell nor a C library in this root.
            "--force-script-chrootless",
            "--force-depends",
        ]);
        run(command.args(arguments))
    }

    /// All that there is apart from dpkg's own books.
    fn files(&self) -> Vec<String> {
        let list = run(Command::new("find").arg(self.0.path()).args(["-type", "f"]));
        list.lines().filter(|file| !file.contains("/var/lib/dpkg/")).map(str::to_owned).collect()
    }
}

/// A package of this program, under this version.
fn package(directory: &Path, version: &str) -> String {
    let mut command = Command::new(Path::new(ROOT).join("scripts/deb"));
    // Not compressed: a debug build is large.
    command.arg(BIN).arg(directory).arg("-Znone").env("DEB_VERSION", version);
    run(&mut command).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_package_is_installed_upgraded_under_running_containers_and_purged() {
    let (machine, packages) = (Machine::new(), TempDir::new().unwrap());
    machine.dpkg(&["--install", &package(packages.path(), "0.0.1-1")]);
    let program = machine.at("usr/bin/kube-lite");
    let version = run(Command::new(&program).arg("--version"));
    assert!(version.starts_with(&format!("kube-lite {}", env!("CARGO_PKG_VERSION"))), "{version}");
    for unit in UNITS {
        assert!(machine.at(&format!("usr/lib/systemd/system/{unit}")).is_file(), "{unit}");
    }

    let mut fleet = Fleet::start(program.to_str().unwrap(), 1).await;
    fleet.deploy(&hello("web", 2)).await;
    fleet.ready("web", 2).await;
    let before = fleet.runs("web", 2).await;
    let settings = machine.at("etc/kube-lite/agent.env");
    std::fs::write(&settings, "KUBE_LITE_SERVER=http://10.0.0.1:8080\n").unwrap();
    let watch = fleet.truth.watch().await;

    machine.dpkg(&["--install", "--force-confold", &package(packages.path(), "0.0.2-1")]);
    let kept = std::fs::read_to_string(&settings).unwrap();
    assert_eq!(kept, "KUBE_LITE_SERVER=http://10.0.0.1:8080\n");
    // What systemd does then: both are started again, as the new program.
    fleet.agent("n1").signal(nix::sys::signal::Signal::SIGTERM);
    fleet.agent("n1").wait(kube_lite_testkit::SHORT);
    fleet.restart_scheduler().await;
    fleet.start_agent("n1", &[]).await;
    fleet.able(1).await;
    fleet.ready("web", 2).await;
    assert_eq!(fleet.runs("web", 2).await, before);
    let happened = watch.happened_to(&before);
    assert!(happened.is_empty(), "{happened:?}");
    fleet.client.delete("web").await.unwrap();
    fleet.nothing_left().await;
    drop(fleet);

    let state = machine.at("var/lib/kube-lite/agent/node-key");
    std::fs::create_dir_all(state.parent().unwrap()).unwrap();
    std::fs::write(&state, "secret").unwrap();
    machine.dpkg(&["--remove", "kube-lite"]);
    assert!(!program.exists());
    // Settings and state are kept until they are not wanted any more either.
    assert!(settings.is_file() && state.is_file());
    machine.dpkg(&["--purge", "kube-lite"]);
    assert_eq!(machine.files(), Vec::<String>::new());
}
