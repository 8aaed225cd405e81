//! A disk that is quickly full: a tmpfs of some hundred kilobytes, in a mount
//! namespace of its own, which ends with the test.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Process;
use crate::wait::{SHORT, until};

/// The file system, for as long as this lives.
#[derive(Debug)]
pub struct SmallDisk {
    /// Holds the namespace.
    holder: Process,
    point: TempDir,
}

impl SmallDisk {
    /// Mounts one of this size. `None` where that is impossible and somebody has said
    /// that the test may be left out; panics where nobody has.
    pub async fn or_skip(kilobytes: u32) -> Option<Self> {
        const SKIP: &str = "KUBE_LITE_SKIP_SMALL_DISK";
        match Self::new(kilobytes).await {
            Ok(disk) => Some(disk),
            Err(why) if std::env::var_os(SKIP).is_some() => {
                eprintln!("skipped, as {SKIP} says: {why}");
                None
            }
            Err(why) => panic!("{why}; to do without this test, set {SKIP}=1"),
        }
    }

    async fn new(kilobytes: u32) -> Result<Self, String> {
        let point = TempDir::new().expect("a directory");
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let script = format!(
            "mount -t tmpfs -o size={kilobytes}k,mode=700 none \"$1\" && echo mounted && exec sleep 600"
        );
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(point.path());
        let mut holder = Process::start("the small disk", &mut command);
        let mounted = until("the small disk to be mounted", SHORT, || {
            let (output, ended) = (holder.output(), holder.ended());
            async move {
                match (output.contains("mounted"), ended) {
                    (true, _) => Ok(true),
                    (false, Some(_)) => Ok(false),
                    (false, None) => Err(output),
                }
            }
        })
        .await;
        match mounted {
            true => Ok(Self { holder, point }),
            false => Err(format!("no file system can be mounted here: {}", holder.output())),
        }
    }

    /// Where programs started by [`SmallDisk::command`] find it.
    pub fn path(&self) -> &Path {
        self.point.path()
    }

    /// Where the test itself finds it.
    pub fn from_outside(&self) -> PathBuf {
        let inside = self.path().strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside)
    }

    /// A program that sees it. It becomes the program: its process id is the same.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string()]);
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(program);
        command
    }

    /// Takes all room there is.
    pub fn fill(&self) {
        let path = self.from_outside().join("filler");
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .expect("a file to fill it with");
        for size in [4096, 1] {
            loop {
                match file.write_all(&vec![b'x'; size]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("cannot fill it: {error}"),
                }
            }
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        std::fs::remove_file(self.from_outside().join("filler")).expect("removed");
    }

    /// Lets nobody write to it any more. Nobody may have a file open to write.
    pub fn make_read_only(&self) {
        let mut command = self.command("mount");
        let output = command.args(["-o", "remount,ro"]).arg(self.path()).output().expect("mount");
        assert!(output.status.success(), "{output:?}");
    }
}
