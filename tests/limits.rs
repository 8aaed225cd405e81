//! What containers may use and see of their node, against real Docker: limits of
//! memory, processes and logs, no way to more privileges, mounts and variables
//! only as the agent's own command line allows.

use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::InspectContainerOptions;
use futures_util::future::join_all;
use kube_lite_testkit::sandbox::hello;
use kube_lite_testkit::{LONG, SHORT, Sandbox, http, until};
use serde_json::{Value, json};
use tempfile::TempDir;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

async fn inspect(docker: &Docker, container: &str) -> ContainerInspectResponse {
    let none = None::<InspectContainerOptions>;
    docker.inspect_container(container, none).await.expect("docker inspect")
}

/// Docker's record of the only container of a workload.
async fn only(sandbox: &Sandbox, workload: &str) -> ContainerInspectResponse {
    sandbox.ready(workload, 1).await;
    let container = sandbox.runs(workload, 1).await.remove(0);
    inspect(&sandbox.truth.docker, &container.id).await
}

async fn endpoint(sandbox: &Sandbox, workload: &str) -> String {
    sandbox.discover(workload).await.endpoints[0].address.clone()
}

/// Waits until a reason of the workload has this machine word, and all of these
/// words; the sentence.
async fn told(sandbox: &Sandbox, workload: &str, reason: &str, words: &[&str]) -> String {
    until(&format!("{workload} to say {reason}"), LONG, || async {
        let reasons = sandbox.workload(workload).await.reasons;
        let found = reasons.iter().find(|why| {
            why.reason.to_string() == reason && words.iter().all(|w| why.message.contains(w))
        });
        found.map(|why| why.message.clone()).ok_or_else(|| format!("{reasons:?}"))
    })
    .await
}

/// One node is enough here, and quicker.
async fn one_node(arguments: &[&str], env: &[(&str, &str)]) -> Sandbox {
    let all = [&["--nodes", "1"], arguments].concat();
    let sandbox = Sandbox::start_with(BIN, &all, env).await;
    sandbox.able(1).await;
    sandbox
}

/// What nobody asked for: bounds where nothing is lost by them, and one address.
#[tokio::test(flavor = "multi_thread")]
async fn what_says_nothing_is_bounded_sanely() {
    let sandbox = one_node(&[], &[]).await;
    sandbox.deploy(&hello("plain", 1)).await;
    let found = only(&sandbox, "plain").await;
    let host = found.host_config.expect("a host configuration");
    assert_eq!((host.memory, host.nano_cpus), (Some(0), Some(0)), "no limit unless given");
    assert_eq!(host.pids_limit, Some(4_096));
    let log = host.log_config.expect("a log configuration");
    let config = log.config.expect("options of it");
    assert_eq!(log.typ.as_deref(), Some("json-file"));
    assert_eq!((config["max-size"].as_str(), config["max-file"].as_str()), ("10000000", "3"));
    assert_eq!(host.privileged, Some(false));
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    let ports = found.network_settings.expect("a network").ports.expect("ports");
    for binding in ports.into_values().flatten().flatten() {
        assert_eq!(binding.host_ip.as_deref(), Some("127.0.0.1"), "the node's address alone");
    }
}

/// Killed by its memory limit: said in so many words, and restarted like a crash.
#[tokio::test(flavor = "multi_thread")]
async fn the_memory_limit_kills_and_says_so() {
    let sandbox = one_node(&[], &[]).await;
    let mut spec = hello("hungry", 1);
    spec["resources"] = json!({"memory": "32Mi", "cpus": 0.5});
    sandbox.deploy(&spec).await;
    let first = only(&sandbox, "hungry").await;
    let host = first.host_config.expect("a host configuration");
    assert_eq!((host.memory, host.nano_cpus), (Some(32 << 20), Some(500_000_000)));
    let address = endpoint(&sandbox, "hungry").await;
    // What fits is no harm.
    assert_eq!(http::get(&address, "/eat?mib=8").await.expect("an answer").status, 200);
    let _ = http::get(&address, "/eat?mib=64").await; // killed, it does not answer
    let story = until("the story to say so", SHORT, || async {
        let story = sandbox.get_json("/workloads/hungry/explain").await.to_string();
        if story.contains("killed for want of memory") { Ok(story) } else { Err(story) }
    })
    .await;
    assert!(story.contains("at most 32Mi of memory, 0.5 CPUs"), "{story}");
    sandbox.ready("hungry", 1).await;
    assert_eq!(sandbox.workload("hungry").await.restarts, 1);
    assert_ne!(sandbox.runs("hungry", 1).await[0].id, first.id.expect("an id"));
}

/// A container gets so many threads and no more; a change of limits rolls.
#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_processes_holds_and_can_be_changed() {
    const CALLS: usize = 40;
    let sandbox = one_node(&[], &[]).await;
    let mut spec = hello("forks", 1);
    spec["resources"] = json!({"pids": 16});
    spec["logs"] = json!({"maxSize": "1M", "maxFiles": 2});
    sandbox.deploy(&spec).await;
    let found = only(&sandbox, "forks").await;
    let host = found.host_config.expect("a host configuration");
    assert_eq!(host.pids_limit, Some(16));
    let config = host.log_config.and_then(|log| log.config).expect("options of the log");
    assert_eq!((config["max-size"].as_str(), config["max-file"].as_str()), ("1000000", "2"));
    // The sample app answers each call in a thread of its own.
    let address = endpoint(&sandbox, "forks").await;
    let calls = (0..CALLS).map(|_| http::get(&address, "/slow?ms=2000"));
    let answers = join_all(calls).await;
    let granted = answers.iter().filter(|a| a.as_ref().is_ok_and(|a| a.status == 200)).count();
    assert!((1..16).contains(&granted), "{granted} of {CALLS} at a time with 16 processes");

    spec["resources"]["pids"] = 200.into();
    sandbox.deploy(&spec).await;
    until("revision 2 alone", LONG, || async {
        let view = sandbox.workload("forks").await;
        let over = view.rollout.as_ref().is_none_or(|rollout| rollout.state == "done");
        let settled = view.revision == 2 && view.ready == 1 && view.stopping == 0 && over;
        if settled { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    assert_eq!(only(&sandbox, "forks").await.host_config.and_then(|h| h.pids_limit), Some(200));
    let history = sandbox.get_json("/workloads/forks/history").await.to_string();
    assert!(history.contains("changed resources"), "{history}");
}

fn mounting(name: &str, source: &str, read_only: bool) -> Value {
    let mut spec = hello(name, 1);
    spec["mounts"] = json!([{"source": source, "target": "/data", "readOnly": read_only}]);
    spec
}

/// Mounts as the node allows them; nothing is left of what was refused.
#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_what_the_node_allows() {
    let directory = TempDir::new().expect("a directory");
    let root = std::fs::canonicalize(directory.path()).expect("its path");
    for name in ["open", "readable", "closed"] {
        std::fs::create_dir(root.join(name)).expect("a directory");
    }
    std::os::unix::fs::symlink(root.join("closed"), root.join("open/link")).expect("a link");
    let path = |name: &str| format!("{}/{name}", root.display());
    let readable = format!("{}:ro", path("readable"));
    let sandbox =
        one_node(&["--allow-mount", &path("open"), "--allow-mount", &readable], &[]).await;

    for (name, source, read_only) in
        [("writes", "open", false), ("careful", "open", true), ("reads", "readable", true)]
    {
        sandbox.deploy(&mounting(name, &path(source), read_only)).await;
        let mounts = only(&sandbox, name).await.mounts.expect("mounts");
        let seen: Vec<_> =
            mounts.iter().map(|m| (m.source.as_deref(), m.destination.as_deref(), m.rw)).collect();
        let source = path(source);
        assert_eq!(seen, [(Some(source.as_str()), Some("/data"), Some(!read_only))], "{name}");
    }
    sandbox.deploy(&mounting("outside", &path("closed"), true)).await;
    sandbox.deploy(&mounting("greedy", &path("readable"), false)).await;
    sandbox.deploy(&mounting("around", &path("open/link"), true)).await;
    sandbox.deploy(&mounting("early", &path("open/missing"), true)).await;
    let flag = format!("--allow-mount {}", path("closed"));
    told(&sandbox, "outside", "NotAllowed", &["does not allow", &flag]).await;
    told(&sandbox, "greedy", "NotAllowed", &["read only", "readOnly to true"]).await;
    told(&sandbox, "around", "NotOnNode", &["leads out of what is allowed"]).await;
    told(&sandbox, "early", "NotOnNode", &["is not there"]).await;
    for refused in ["outside", "greedy", "around", "early"] {
        let all = sandbox.truth.all().await;
        let left = all.iter().find(|c| c.name.starts_with(&format!("{refused}-")));
        assert_eq!(left, None, "nothing was made of {refused}");
    }
    // Once it is there, it comes up by itself.
    std::fs::create_dir(root.join("open/missing")).expect("a directory");
    sandbox.ready("early", 1).await;
    let hints = sandbox.get_json("/workloads/outside/explain").await["hints"].to_string();
    assert!(hints.contains("--allow-mount"), "{hints}");
}

/// Variables from a file of the node reach the process, and nothing of ours shows
/// their values: not the API, nor labels, nor logs at their most talkative.
#[tokio::test(flavor = "multi_thread")]
async fn variables_of_a_file_reach_the_process_and_nobody_else() {
    const SECRET: &str = "hunter2-correct-horse";
    let directory = TempDir::new().expect("a directory");
    std::fs::write(
        directory.path().join("db"),
        format!("# the database\nDB_PASSWORD={SECRET}\nCOLOUR={SECRET}\n"),
    )
    .expect("a file");
    std::fs::write(directory.path().join("broken"), format!("A=1\n{SECRET}\n")).expect("a file");
    let env_dir = directory.path().to_str().expect("a path");
    let sandbox = one_node(&["--env-dir", env_dir], &[("RUST_LOG", "trace")]).await;

    let mut spec = hello("web", 1);
    spec["envFrom"] = json!([{"file": "db"}]);
    spec["env"] = json!({"COLOUR": "green"});
    sandbox.deploy(&spec).await;
    let found = only(&sandbox, "web").await;
    let address = endpoint(&sandbox, "web").await;
    let env = http::get(&address, "/env").await.expect("an answer").body;
    assert!(env.contains(&format!("DB_PASSWORD={SECRET}\n")), "{env}");
    assert!(env.contains("COLOUR=green\n"), "the spec's own counts before the file's: {env}");

    for (name, file) in [("torn", "broken"), ("lost", "missing")] {
        let mut spec = hello(name, 1);
        spec["envFrom"] = json!([{"file": file}]);
        sandbox.deploy(&spec).await;
    }
    told(&sandbox, "torn", "NotOnNode", &["broken", "line 2 is no NAME=value"]).await;
    told(&sandbox, "lost", "NotOnNode", &["missing", "no such file"]).await;

    let instance = sandbox.instances("web").await.remove(0);
    let agent = sandbox.nodes().await.remove(0).address;
    let mut shown = vec![
        ("labels".to_owned(), format!("{:?}", found.config.and_then(|config| config.labels))),
        ("output".to_owned(), sandbox.process.output()),
    ];
    for path in [
        "/workloads",
        "/workloads/web",
        "/workloads/web/explain",
        "/workloads/web/history",
        "/workloads/torn/explain",
        "/instances",
        "/nodes",
        "/events",
    ] {
        let answer = http::get(sandbox.address(), path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}");
        shown.push((path.to_owned(), answer.body));
    }
    let status = http::get(&agent, &format!("/status/{}", instance.id)).await.expect("an answer");
    assert_eq!(status.status, 200, "{}", status.body);
    shown.push(("status".to_owned(), status.body));
    for (place, text) in &shown {
        assert!(text.len() > 20, "{place} tells something: {text}");
        assert!(!text.contains(SECRET), "{place} shows what is secret");
    }
    for entry in std::fs::read_dir(sandbox.directory.path()).expect("the data directory") {
        let path = entry.expect("an entry").path();
        let bytes = if path.is_file() { std::fs::read(&path).expect("a file") } else { Vec::new() };
        let kept = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!kept, "{} holds what is secret", path.display());
    }
}

/// Without the flags nothing is allowed, and what is named must be there.
#[tokio::test(flavor = "multi_thread")]
async fn by_default_nothing_of_the_node_is_shown() {
    let sandbox = one_node(&[], &[]).await;
    sandbox.deploy(&mounting("outside", "/etc", true)).await;
    let mut spec = hello("web", 1);
    spec["envFrom"] = json!([{"file": "db"}]);
    sandbox.deploy(&spec).await;
    told(&sandbox, "outside", "NotAllowed", &["/etc", "allows no mounts", "--allow-mount /etc"])
        .await;
    told(&sandbox, "web", "NotAllowed", &["the file db", "--env-dir DIR"]).await;
    for arguments in [
        ["--allow-mount", "/"],
        ["--allow-mount", "/no/such/place"],
        ["--allow-mount", "here"],
        ["--env-dir", "/no/such/place"],
    ] {
        let mut command = std::process::Command::new(BIN);
        command.args(["agent", "--scheduler", &sandbox.url, "--listen", "127.0.0.1:0"]);
        command.args(["--node-id", "other", "--data-dir"]).arg(sandbox.directory.path());
        let output = command.args(arguments).output().expect("it ends by itself");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(arguments[0]) && said.contains(arguments[1]), "{said}");
    }
}
