//! A machine that boots: systemd as the first process of namespaces of its own, over a
//! copy of this machine's disk that is gone with it (an overlay in memory), with a
//! network of its own and a Docker daemon beside it. Services are installed, started,
//! confined and killed there as on a real one.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::docker::Truth;
use crate::network::Namespace;
use crate::process::Process;
use crate::second::SecondDocker;
use crate::wait::{LONG, SHORT, until};

/// Where systemd cannot run, one has to say so.
pub const SKIP: &str = "KUBE_LITE_SKIP_SYSTEMD";
/// Its address, in a network that nobody uses (RFC 2544) and that nobody else is on.
pub const ADDRESS: &str = "198.18.9.1";
/// Its name.
pub const NAME: &str = "machine";
const INIT: &str = "/lib/systemd/systemd";

/// Whether somebody has said that it cannot run here.
///
/// # Panics
/// When it cannot and nobody has.
pub fn is_skipped() -> bool {
    if std::env::var_os(SKIP).is_some() {
        eprintln!("skipped, as {SKIP} says: no systemd is booted");
        return true;
    }
    let missing = crate::second::impossible()
        .or_else(|| (!Path::new(INIT).exists()).then(|| format!("there is no {INIT}")));
    if let Some(why) = missing {
        panic!("{why}; to do without this test, set {SKIP}=1");
    }
    false
}

/// What makes namespaces a machine. `$1` is an empty directory, `$2` Docker's socket,
/// `$3` a directory that it sees as `/media`, `$4` the name of its control group.
const BOOT: &str = r#"
set -e
at=$1
mount --make-rprivate /
mount -t tmpfs tmpfs "$at"
mkdir "$at/upper" "$at/work" "$at/root" "$at/groups"
root=$at/root
mount -t cgroup2 cgroup2 "$at/groups"
mkdir "$at/groups/$4"
echo 0 >"$at/groups/$4/cgroup.procs"
mount -t overlay -o "lowerdir=/,upperdir=$at/upper,workdir=$at/work" overlay "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
touch "$root/run/docker.sock"
mount --bind "$2" "$root/run/docker.sock"
mount --bind -o ro "$3" "$root/media"
# Of what is installed here, nothing is to start there; nor is it to remember anything.
rm -rf "$root/etc/systemd/system" "$root/etc/kube-lite" "$root/var/lib/kube-lite" "$root/var/lib/private"
mkdir "$root/etc/systemd/system"
for unit in timers.target sockets.target.wants docker.service docker.socket containerd.service; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
done
echo "$5" >"$root/etc/hostname"
hostname "$5"
exec unshare --cgroup --pid --fork --kill-child sh -c '
    set -e
    mount -t proc proc "$1/proc"
    mount -t sysfs -o ro sysfs "$1/sys"
    mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
    cd "$1"
    mkdir -p mnt
    pivot_root . mnt
    umount -l /mnt
    exec env -i container=kube-lite-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=basic.target --show-status=no
' boot "$root"
"#;

/// The machine. Ends with all that runs on it when dropped.
#[derive(Debug)]
pub struct Machine {
    // Dropped in this order.
    outer: Process,
    init: u32,
    group: String,
    /// Its Docker daemon.
    pub docker: SecondDocker,
    _network: Namespace,
    _directory: TempDir,
}

impl Machine {
    /// Boots it; it sees `media` as `/media`, and Docker with these images.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn boot(media: &Path, images: &[&str]) -> Self {
        let network = Namespace::new(NAME).await;
        network.run(&format!("ip address add {ADDRESS}/24 dev lo"));
        let docker = SecondDocker::start_in(Some(&network), images, &[]).await;
        let directory = TempDir::new().expect("a directory");
        let group = format!("kube-lite-{NAME}-{}", std::process::id());
        let mut command = network.command("unshare");
        command.args(["--mount", "--uts", "--ipc", "sh", "-c", BOOT, "boot"]);
        command.arg(directory.path());
        command.arg(docker.docker_host().trim_start_matches("unix://"));
        command.arg(media).args([&group, NAME]);
        let outer = Process::start("the machine", &mut command);
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let init = until("the machine's first process", SHORT, || async {
            let text = std::fs::read_to_string(&children).unwrap_or_default();
            // What prepares it has children, too.
            let is_init = |id: &&str| {
                let name = std::fs::read_to_string(format!("/proc/{id}/comm"));
                name.is_ok_and(|name| name.trim() == "systemd")
            };
            let child = text.split_whitespace().find(is_init).and_then(|id| id.parse().ok());
            child.ok_or_else(|| format!("{text}; it said: {}", outer.output()))
        })
        .await;
        let machine = Self { outer, init, group, docker, _network: network, _directory: directory };
        until("systemd to be up", LONG, || async {
            let said = machine.output("systemctl is-system-running");
            let state = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            let up = ["running", "degraded"].contains(&state.as_str());
            if up { Ok(()) } else { Err(format!("{said:?}; {}", machine.outer.output())) }
        })
        .await;
        // As a package of Docker has it.
        machine.run("getent group docker || groupadd --system docker");
        machine.run("chgrp docker /run/docker.sock && chmod 660 /run/docker.sock");
        machine
    }

    /// What a shell on it makes of this line, as root.
    pub fn output(&self, line: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "env", "-i", "HOME=/root"]);
        command.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", line]);
        command.output().expect("nsenter")
    }

    /// The same for a line that has to succeed; what it printed.
    ///
    /// # Panics
    /// When it fails, with all that it said.
    pub fn run(&self, line: &str) -> String {
        let output = self.output(line);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}{complained}");
        said
    }

    /// What is known of a unit.
    pub fn unit(&self, unit: &str, property: &str) -> String {
        self.run(&format!("systemctl show --value -p {property} {unit}")).trim().to_owned()
    }

    /// Waits until this line succeeds; what it printed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn comes_to(&self, line: &str) -> String {
        until(line, LONG, || async {
            let output = self.output(line);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            match output.status.success() {
                true => Ok(said),
                false => Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))),
            }
        })
        .await
    }

    /// Its Docker's view of a cluster.
    pub fn truth(&self, cluster: &str) -> Truth {
        self.docker.truth(cluster)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process takes all others with it.
        self.outer.kill();
        for top in ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"] {
            let group = Path::new(top).join(&self.group);
            for _ in 0..50 {
                if !group.is_dir() {
                    break;
                }
                remove_groups(&group);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}

/// Removes a control group and those in it, which must be empty.
fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}
