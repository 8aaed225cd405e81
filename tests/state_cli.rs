//! Durable state as people handle it, with the real binary: where it is, what
//! `--check` says of it, backups and putting them back.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use kube_lite::client::Client;
use kube_lite_testkit::http::{self, Answer};
use kube_lite_testkit::{Process, SHORT, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// A scheduler over this data directory, and its address.
async fn scheduler(directory: &Path) -> (Process, String) {
    let mut command = Command::new(BIN);
    command.args(["scheduler", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory);
    listening(Process::start("the scheduler", &mut command)).await
}

async fn listening(process: Process) -> (Process, String) {
    let address = until("it to listen", SHORT, || async {
        let output = process.output();
        let found = ["listens on http://", "API at http://"].into_iter().find_map(|words| {
            let (_, rest) = output.split_once(words)?;
            rest.split_whitespace().next().map(|address| address.trim_end_matches(',').to_owned())
        });
        found.ok_or(output)
    })
    .await;
    (process, address)
}

fn run(arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(BIN);
    command.arg("scheduler").args(arguments).arg("--data-dir").arg(directory);
    command.output().expect("a run")
}

fn succeeds(arguments: &[&str], directory: &Path) -> String {
    let output = run(arguments, directory);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Exit code 1, nothing on standard output, and a sentence that says all this.
fn fails(arguments: &[&str], directory: &Path, words: &[&str]) {
    let output = run(arguments, directory);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    for word in words {
        assert!(said.contains(word), "{word:?}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

async fn call(address: &str, method: &str, path: &str, body: &Value) -> Answer {
    let body = (!body.is_null()).then(|| body.to_string());
    let answer = http::send(address, method, path, body.as_deref()).await.expect("an answer");
    assert!((200..300).contains(&answer.status), "{path}: {}", answer.body);
    answer
}

async fn deploy(address: &str, name: &str, image: &str, replicas: u32) -> u64 {
    let spec = json!({"name": name, "image": image, "replicas": replicas, "env": {"P": "secret"}});
    let answer = call(address, "POST", "/deploy", &spec).await;
    answer.json()["revision"].as_u64().expect("a revision")
}

/// Introduces a made-up agent; returns the epoch it is told.
async fn register(address: &str, node: &str) -> u64 {
    let hello = json!({"nodeId": node, "key": node, "incarnation": 7, "port": 1,
        "docker": {"state": "ok", "daemon": node}});
    call(address, "POST", "/register", &hello).await.json()["epoch"].as_u64().expect("an epoch")
}

/// Reports what a made-up agent has.
async fn beat(address: &str, node: &str, epoch: u64, seq: u64, containers: &Value) -> Answer {
    let beat = json!({"nodeId": node, "incarnation": 7, "epoch": epoch, "seq": seq,
        "synced": true, "docker": {"state": "ok", "daemon": node}, "containers": containers});
    let body = beat.to_string();
    http::send(address, "POST", "/heartbeat", Some(&body)).await.expect("an answer")
}

fn container(workload: &str, revision: u64, node: &str) -> Value {
    json!({"id": format!("{workload}-r{revision}-abcde"), "containerId": "c0ffee",
        "workloadId": workload, "replica": 0, "revision": revision, "nodeId": node,
        "image": "app", "phase": "running", "health": "healthy", "ready": true, "ports": [],
        "restarts": 0, "runningForMs": 60_000, "healthyForMs": 60_000})
}

async fn epoch(address: &str) -> u64 {
    let health = http::get(address, "/health").await.expect("an answer").json();
    health["epoch"].as_u64().expect("an epoch")
}

async fn revision(address: &str, name: &str) -> u64 {
    let path = format!("/workloads/{name}");
    call(address, "GET", &path, &Value::Null).await.json()["revision"].as_u64().expect("a revision")
}

async fn backup(address: &str, file: &str, directory: &Path) -> Output {
    let mut command = Command::new(BIN);
    command.args(["ctl", "--server", &format!("http://{address}"), "backup", file]);
    let command = command.current_dir(directory).output();
    command.expect("a run")
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_there_and_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    fails(&["--check"], &state, &["there is no state in", "--data-dir"]);
    assert!(!state.exists(), "a check makes nothing");
    let (process, address) = scheduler(&state).await;
    deploy(&address, "web", "app:1", 3).await;
    deploy(&address, "web", "app:2", 3).await;
    deploy(&address, "gone", "app:1", 1).await;
    call(&address, "DELETE", "/workloads/gone", &Value::Null).await;
    register(&address, "n1").await;
    call(&address, "POST", "/nodes/n1/cordon", &Value::Null).await;
    let holder = format!("process {}, listening on {address}", process.id());
    fails(&["--check"], &state, &["another scheduler", &holder, "stop it first"]);
    fails(&["--listen", "127.0.0.1:0"], &state, &["another scheduler", &holder, "--data-dir"]);
    drop(process); // kill -9
    let file = state.join("scheduler.redb");
    let before = std::fs::read(&file).unwrap();
    let said = succeeds(&["--check"], &state);
    for wanted in [
        "is whole",
        "format      1\n",
        "epoch       1\n",
        "workloads   1: web (revision 2, 3 wanted)\n",
        "rollouts    1: web (rolling 1 to 2)\n",
        "nodes       1: n1 (cordoned)\n",
        "deleted     1: gone\n",
    ] {
        assert!(said.contains(wanted), "{wanted:?}: {said}");
    }
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), before, "a check changes nothing");
    let mut damaged = before.clone();
    damaged[100..300].fill(0x11); // both of its beginnings
    std::fs::write(&file, &damaged).unwrap();
    fails(&["--check"], &state, &["is damaged", "left as it is", "--restore"]);
    fails(&["--listen", "127.0.0.1:0"], &state, &["is damaged", "left as it is", "--restore"]);
    assert_eq!(std::fs::read(&file).unwrap(), damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_taken_and_put_back() {
    let directory = TempDir::new().unwrap();
    let (state, other) = (directory.path().join("state"), directory.path().join("other"));
    let (mut process, address) = scheduler(&state).await;
    deploy(&address, "web", "app:1", 2).await;
    assert_eq!(deploy(&address, "web", "app:2", 2).await, 2);
    assert_eq!(register(&address, "n1").await, 1);

    let taken = backup(&address, "one.backup", directory.path()).await;
    assert!(taken.status.success(), "{taken:?}");
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(said.contains("with 1 workload(s)") && said.contains("passwords"), "{said}");
    let file = directory.path().join("one.backup");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    let piped = backup(&address, "-", directory.path()).await;
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        text.lines().filter(|line| line.contains("\"key\"")).map(str::to_owned).collect()
    };
    assert_eq!(lines(&piped.stdout), lines(&bytes));
    let unwritable = backup(&address, "nowhere/one.backup", directory.path()).await;
    assert_eq!(unwritable.status.code(), Some(1), "{unwritable:?}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left over");

    // Time goes by that the backup does not know: starts, revisions, a name.
    process.signal(Signal::SIGTERM);
    assert!(process.wait(SHORT).success());
    let (process, address) = scheduler(&state).await;
    assert_eq!(deploy(&address, "web", "app:3", 5).await, 3);
    deploy(&address, "new", "app:1", 1).await;
    let lost_epoch = register(&address, "n1").await;
    assert_eq!(lost_epoch, 2);

    let name = file.to_str().unwrap();
    fails(&["--restore", name, "--force"], &state, &["another scheduler"]);
    drop(process);
    fails(&["--restore", name], &state, &["there is state in", "--force"]);
    let said = succeeds(&["--restore", name, "--check"], &state);
    assert!(said.contains("is whole") && said.contains("web (revision 2, 2 wanted)"), "{said}");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    let broken = directory.path().join("broken");
    std::fs::write(&broken, &damaged).unwrap();
    let before = std::fs::read(state.join("scheduler.redb")).unwrap();
    fails(&["--restore", broken.to_str().unwrap(), "--force"], &state, &["the backup is damaged"]);
    std::fs::write(&broken, &bytes[..bytes.len() - 10]).unwrap();
    fails(&["--restore", broken.to_str().unwrap()], &other, &["cut short"]);
    assert!(!other.exists());
    assert_eq!(std::fs::read(state.join("scheduler.redb")).unwrap(), before);

    let said = succeeds(&["--restore", name, "--force"], &state);
    assert!(said.contains("restored the backup") && said.contains("web (revision 2"), "{said}");
    let replaced = state.join("scheduler.redb.replaced");
    assert_eq!(std::fs::read(replaced).unwrap(), before, "what was there is kept");
    let (_process, address) = scheduler(&state).await;
    assert_eq!(revision(&address, "web").await, 2);
    let workloads = call(&address, "GET", "/workloads", &Value::Null).await.json();
    assert_eq!(workloads.as_array().unwrap().len(), 1);
    assert!(epoch(&address).await > lost_epoch + 100, "{}", epoch(&address).await);
    assert!(deploy(&address, "web", "app:4", 2).await > 100, "no number of the lost time");
    assert!(deploy(&address, "new", "app:9", 1).await > 100, "nor of a name it had");
}

/// What the agents and containers of the forgotten time show is gone past, even
/// beyond the gaps.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_seen_of_a_forgotten_time_is_not_used_again() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    let (process, address) = scheduler(&state).await;
    deploy(&address, "web", "app:1", 1).await;
    let own = register(&address, "n1").await;
    // The agent is registered with another scheduler of this cluster, far ahead.
    assert_eq!(beat(&address, "n1", 5_000, 1, &json!([])).await.status, 422);
    assert_eq!(epoch(&address).await, 5_001);
    assert_eq!(beat(&address, "n1", own, 1, &json!([])).await.status, 422, "all register again");
    assert_eq!(register(&address, "n1").await, 5_001);
    // Nobody is moved by an epoch that is past.
    assert_eq!(beat(&address, "n9", 17, 1, &json!([])).await.status, 422);
    let found = json!([container("web", 9_000, "n1"), container("ghost", 70, "n1")]);
    assert_eq!(beat(&address, "n1", 5_001, 1, &found).await.status, 200);
    let instances = call(&address, "GET", "/instances", &Value::Null).await.json();
    assert!(instances.to_string().contains("ghost-r70-abcde"), "{instances}");
    assert_eq!(deploy(&address, "web", "app:2", 1).await, 9_001);
    drop(process); // kill -9: it was durable
    let (_process, address) = scheduler(&state).await;
    assert_eq!(epoch(&address).await, 5_002);
    assert_eq!(deploy(&address, "ghost", "app:1", 1).await, 71);
    assert_eq!(deploy(&address, "web", "app:3", 1).await, 9_002);
    // The same epoch, and yet not from here: two schedulers have counted alike.
    assert_eq!(beat(&address, "n1", 5_002, 9, &json!([])).await.status, 422);
    assert_eq!(epoch(&address).await, 5_003);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_state_there_is_no_backup_and_nothing_is_kept() {
    let home = TempDir::new().unwrap();
    let mut command = Command::new(BIN);
    command.args(["scheduler", "--listen", "127.0.0.1:0", "--in-memory"]);
    command.env("HOME", home.path()).env_remove("XDG_STATE_HOME");
    let (process, address) = listening(Process::start("the scheduler", &mut command)).await;
    assert!(process.output().contains("no state is kept"), "{}", process.output());
    deploy(&address, "web", "app:1", 1).await;
    let taken = backup(&address, "one.backup", home.path()).await;
    assert_eq!(taken.status.code(), Some(1));
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(said.contains("keeps no state (--in-memory)"), "{said}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing is written");
    drop(process);
    let (_process, address) = listening(Process::start("the scheduler", &mut command)).await;
    let workloads = Client::new(&format!("http://{address}")).unwrap().workloads().await.unwrap();
    assert!(workloads.is_empty(), "forgotten: {workloads:?}");
}

/// Where state is when nobody says: `$XDG_STATE_HOME`, else `~/.local/state`; a
/// sandbox has a directory of its own for each port.
#[tokio::test(flavor = "multi_thread")]
async fn state_has_its_place() {
    let home = TempDir::new().unwrap();
    let xdg = home.path().join("xdg");
    let no_docker = format!("unix://{}/none.sock", home.path().display());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let scheduler = ["scheduler", "--listen", "127.0.0.1:0"];
    let sandbox = ["dev", "--nodes", "1", "--listen", &listen];
    let dev = format!("dev-{port}");
    for (role, name) in [(&scheduler[..], "scheduler"), (&sandbox[..], dev.as_str())] {
        for variable in [None, Some(&xdg)] {
            let mut command = Command::new(BIN);
            command.args(role).env("HOME", home.path()).env("DOCKER_HOST", &no_docker);
            let base = match variable {
                None => home.path().join(".local/state"),
                Some(xdg) => xdg.clone(),
            };
            command.env_remove("XDG_STATE_HOME");
            if let Some(xdg) = variable {
                command.env("XDG_STATE_HOME", xdg);
            }
            let file = base.join("kube-lite").join(name).join("scheduler.redb");
            assert!(!file.exists());
            let (mut process, _) = listening(Process::start(name, &mut command)).await;
            assert!(file.exists(), "{}: {}", file.display(), process.output());
            assert!(process.output().contains("state is kept in"), "{}", process.output());
            process.signal(Signal::SIGINT);
            assert!(process.wait(SHORT).success(), "{}", process.output());
        }
    }
    let mut command = Command::new(BIN);
    command.args(scheduler).env_remove("HOME").env_remove("XDG_STATE_HOME");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--data-dir DIR"), "{output:?}");
    // Not silently somewhere else.
    command.env("HOME", home.path()).env("XDG_STATE_HOME", "state").current_dir(home.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("XDG_STATE_HOME is \"state\", which is no absolute path"), "{said}");
    assert!(said.contains("--data-dir DIR"), "{said}");
}

/// `--fresh` forgets what was deployed, keeps the cluster's id, and is the way out
/// of a damaged file; a sandbox does not take the state of another cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_sandbox_is_the_same_cluster() {
    let directory = TempDir::new().unwrap();
    let state = directory.path().join("state");
    let no_docker = format!("unix://{}/none.sock", directory.path().display());
    let sandbox = |more: &[&str]| {
        let mut command = Command::new(BIN);
        command.args(["dev", "--nodes", "1", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&state);
        command.args(more).env("DOCKER_HOST", &no_docker);
        Process::start("kube-lite dev", &mut command)
    };
    let cluster = || std::fs::read_to_string(state.join("cluster-id")).expect("a cluster id");
    let (mut process, address) = listening(sandbox(&[])).await;
    deploy(&address, "web", "app:1", 1).await;
    let first = cluster();
    process.signal(Signal::SIGINT);
    assert!(process.wait(SHORT).success(), "{}", process.output());
    let file = state.join("scheduler.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100..300].fill(0xee);
    std::fs::write(&file, bytes).unwrap();
    let mut refused = sandbox(&[]);
    assert_eq!(refused.wait(SHORT).code(), Some(1));
    assert!(refused.output().contains("is damaged"), "{}", refused.output());
    let (mut process, address) = listening(sandbox(&["--fresh"])).await;
    let workloads = call(&address, "GET", "/workloads", &Value::Null).await.json();
    assert_eq!((workloads, cluster()), (json!([]), first));
    let mut second = sandbox(&["--fresh"]);
    assert_eq!(second.wait(SHORT).code(), Some(1));
    assert!(second.output().contains("another scheduler (process"), "{}", second.output());
    process.signal(Signal::SIGINT);
    assert!(process.wait(SHORT).success());
    std::fs::write(state.join("cluster-id"), "another\n").unwrap();
    let before = std::fs::read(&file).unwrap();
    for more in [&[][..], &["--fresh"]] {
        let mut refused = sandbox(more);
        assert_eq!(refused.wait(SHORT).code(), Some(1));
        assert!(refused.output().contains("this is cluster another"), "{}", refused.output());
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
}

/// A directory that a sandbox has not made its own is none of its business: not
/// even `--fresh` touches what a real scheduler keeps there.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_leaves_the_state_of_a_scheduler_alone() {
    let directory = TempDir::new().unwrap();
    let (process, address) = scheduler(directory.path()).await;
    deploy(&address, "web", "app:1", 1).await;
    drop(process); // kill -9
    let files = || {
        let read = |name: &str| std::fs::read(directory.path().join(name)).ok();
        ["scheduler.redb", "scheduler.commits", "cluster-id"].map(read)
    };
    let refuses = |words: &str| {
        for more in [&["--fresh"][..], &[]] {
            let before = files();
            let mut command = Command::new(BIN);
            command.args(["dev", "--nodes", "1", "--listen", "127.0.0.1:0", "--data-dir"]);
            command.arg(directory.path()).args(more);
            let no_docker = directory.path().join("none.sock");
            command.env("DOCKER_HOST", format!("unix://{}", no_docker.display()));
            let mut refused = Process::start("kube-lite dev", &mut command);
            assert_eq!(refused.wait(SHORT).code(), Some(1), "{}", refused.output());
            let said = refused.output();
            assert!(said.contains(words) && said.contains("--data-dir"), "{said}");
            assert_eq!(files(), before, "{more:?}");
        }
    };
    refuses("the state of a scheduler that is no sandbox");
    // The file alone is gone: that is a loss to be told, and no first start.
    std::fs::remove_file(directory.path().join("scheduler.redb")).unwrap();
    let words = ["scheduler.redb is missing", "--restore FILE", "to begin anew"];
    fails(&["--listen", "127.0.0.1:0"], directory.path(), &words);
    fails(&["--check"], directory.path(), &words);
    refuses("the state of a scheduler that is no sandbox");
}
