//! The Debian package on a machine with systemd, as `docs/operations.md` has it
//! installed: started by its units and confined by them, watched, upgraded under running
//! containers, and purged.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kube_lite_testkit::Truth;
use kube_lite_testkit::machine::{self, ADDRESS, Machine, NAME};
use kube_lite_testkit::sandbox::{IMAGE, hello_probed};
use tempfile::TempDir;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const UNITS: [&str; 2] = ["kube-lite-scheduler", "kube-lite-agent"];

/// A package of this program, without its debug information, under this version.
fn package(directory: &Path, version: &str) {
    let binary = directory.join("kube-lite");
    if !binary.exists() {
        let mut copy = Command::new("objcopy");
        copy.args(["--strip-debug", BIN]).arg(&binary);
        assert!(copy.status().expect("objcopy").success());
    }
    let mut command = Command::new(Path::new(ROOT).join("scripts/deb"));
    command.arg(&binary).arg(directory).arg("-Znone").env("DEB_VERSION", version);
    let output = command.output().expect("scripts/deb");
    assert!(output.status.success(), "{output:?}");
}

/// Docker's ids of what runs, with when it was started.
async fn running(truth: &Truth) -> BTreeMap<String, String> {
    let mut running = BTreeMap::new();
    for container in truth.running().await {
        let said = truth.docker.inspect_container(&container.id, None).await.expect("inspect");
        let at = said.state.and_then(|state| state.started_at).expect("a time");
        running.insert(container.id, at.to_string());
    }
    running
}

/// Of a unit's main process: a line of its status.
fn status(machine: &Machine, unit: &str, field: &str) -> String {
    let process = machine.unit(unit, "MainPID");
    let line = machine.run(&format!("grep ^{field}: /proc/{process}/status"));
    line.split_once(':').map(|(_, value)| value.trim().to_owned()).expect("a value")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_package_lives_on_a_machine_with_systemd() {
    if machine::is_skipped() {
        return;
    }
    let packages = TempDir::new().unwrap();
    for version in ["0.0.1-1", "0.0.2-1"] {
        package(packages.path(), version);
    }
    let spec = hello_probed("web", 2).to_string();
    std::fs::write(packages.path().join("web.json"), spec).unwrap();
    let machine = Machine::boot(packages.path(), &[IMAGE]).await;

    // As in the documentation; --force-depends: what it needs is here, under other names.
    machine.run("dpkg --force-depends --install /media/kube-lite_0.0.1-1_*.deb");
    for unit in UNITS {
        assert_eq!(machine.unit(unit, "ActiveState"), "inactive", "nothing starts by itself");
    }
    let listen = format!("{ADDRESS}:8080");
    machine.run(&format!(
        "echo 'KUBE_LITE_OPTIONS=--listen {listen}' >> /etc/kube-lite/scheduler.env"
    ));
    let line = machine.run(&format!(
        "kube-lite scheduler --init --host {ADDRESS} --listen {listen} \
         --data-dir /var/lib/kube-lite/scheduler"
    ));
    let token = line.split_whitespace().skip_while(|word| *word != "--join").nth(1).unwrap();
    // Type=notify: it returns once the scheduler listens.
    machine.run("systemctl enable --now kube-lite-scheduler");
    machine.run(&format!(
        "echo 'KUBE_LITE_JOIN={token}' >> /etc/kube-lite/agent.env; \
         echo 'KUBE_LITE_OPTIONS=--listen {ADDRESS}:8081' >> /etc/kube-lite/agent.env"
    ));
    machine.run("systemctl enable --now kube-lite-agent");
    machine.run(
        "install -D -m 600 /var/lib/kube-lite/scheduler/admin.json \
         ~/.config/kube-lite/credentials.json",
    );
    machine.comes_to(&format!("kube-lite ctl nodes | grep '^{NAME} *alive'")).await;
    machine.run("kube-lite ctl deploy -f /media/web.json --timeout 100s");
    let health = machine.run("kube-lite ctl nodes -o json");
    assert!(health.contains(&format!("{ADDRESS}:8081")), "{health}");

    // Confined for real, and nobody sees the token who may not read the settings.
    for unit in UNITS {
        assert_eq!(machine.unit(unit, "NRestarts"), "0", "{unit}");
        assert_ne!(status(&machine, unit, "Uid").split_whitespace().next(), Some("0"), "{unit}");
        assert_eq!(status(&machine, unit, "NoNewPrivs"), "1", "{unit}");
        assert_eq!(status(&machine, unit, "Seccomp"), "2", "{unit}");
        assert_eq!(status(&machine, unit, "CapBnd"), "0000000000000000", "{unit}");
        let process = machine.unit(unit, "MainPID");
        let shown = machine.run(&format!("tr '\\0' ' ' </proc/{process}/cmdline"));
        assert!(!shown.contains("klj_"), "{shown}");
        let cannot = format!("nsenter --target {process} --mount touch /etc/kube-lite/x");
        assert!(!machine.output(&cannot).status.success(), "{unit} writes where it likes");
    }
    machine.run("test $(stat -Lc %a /var/lib/kube-lite/agent) = 700");

    // An upgrade: the new program, the old containers.
    let list = machine.run("kube-lite ctl instances -o json");
    let cluster = cluster_of(&machine);
    let truth = machine.truth(&cluster);
    let before = running(&truth).await;
    assert_eq!(before.len(), 2, "{list}");
    let processes = UNITS.map(|unit| machine.unit(unit, "MainPID"));
    machine.run("dpkg --force-depends --install /media/kube-lite_0.0.2-1_*.deb");
    for (unit, process) in UNITS.into_iter().zip(processes) {
        assert_eq!(machine.unit(unit, "ActiveState"), "active", "{unit}");
        assert_ne!(machine.unit(unit, "MainPID"), process, "{unit} is the old one");
    }
    machine.comes_to("kube-lite ctl status web | grep '2/2 ready'").await;
    assert_eq!(running(&truth).await, before);

    // One that hangs is killed and started anew.
    for unit in UNITS {
        let settings = format!("/run/systemd/system/{unit}.service.d");
        machine.run(&format!(
            "mkdir -p {settings}; printf '[Service]\\nWatchdogSec=4\\n' >{settings}/soon.conf; \
             systemctl daemon-reload; systemctl restart {unit}"
        ));
        let process = machine.unit(unit, "MainPID");
        machine.run(&format!("kill -STOP {process}"));
        machine
            .comes_to(&format!(
                "systemctl is-active {unit} && test $(systemctl show --value -p MainPID {unit}) \
                 != {process} && journalctl --no-pager -u {unit} | grep 'Watchdog timeout'"
            ))
            .await;
        machine.run(&format!("rm -r {settings}; systemctl daemon-reload"));
    }
    machine.comes_to("kube-lite ctl status web | grep '2/2 ready'").await;
    assert_eq!(running(&truth).await, before);

    // Removed, it keeps what it knows; purged, nothing is left but what Docker runs.
    let files = machine.run("dpkg --listfiles kube-lite");
    machine.run("dpkg --remove kube-lite");
    for unit in UNITS {
        assert_eq!(machine.unit(unit, "LoadState"), "not-found", "{unit}");
    }
    machine
        .run("test -e /etc/kube-lite/agent.env && test -e /var/lib/kube-lite/agent/identity.json");
    machine.run("dpkg --purge kube-lite");
    for file in files.lines().filter(|file| file.contains("kube-lite")) {
        assert!(!machine.output(&format!("test -e {file}")).status.success(), "{file} is left");
    }
    let places = "/etc /var/lib/private /var/lib/kube-lite /run/systemd /usr/lib/systemd";
    let left = machine.run(&format!("find {places} -name '*kube-lite*' 2>/dev/null; true"));
    assert_eq!(left, "");
    assert_eq!(running(&truth).await, before);
}

/// The cluster's id, as the agent remembers it.
fn cluster_of(machine: &Machine) -> String {
    let kept = machine.run("cat /var/lib/kube-lite/agent/agent.json");
    let kept: serde_json::Value = serde_json::from_str(&kept).expect("JSON");
    kept["cluster"].as_str().expect("a cluster").to_owned()
}
