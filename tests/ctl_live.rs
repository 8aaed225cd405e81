//! The real binary and the real scheduler: what one says, the other takes.

mod support;

use std::io::Write;
use std::process::Command;

use kube_lite::model::Timing;
use kube_lite_testkit::{Process, SHORT, until};
use serde_json::Value;
use support::scheduler::Scheduler;

struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs one command to its end.
async fn ctl(scheduler: &Scheduler, args: &str) -> Outcome {
    let url = format!("http://{}", scheduler.addr);
    let words: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kube-lite"));
        command.arg("ctl").args(words).env("KUBE_LITE_SERVER", url).output()
    });
    let output = output.await.expect("no panic").expect("the binary runs");
    let outcome = Outcome {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    eprintln!("$ kube-lite ctl {args}\n{}{}", outcome.out, outcome.err);
    outcome
}

fn spec(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_understood() {
    // On a busy machine, too, the node that never reports again is to be alive.
    let timing = Timing { dead_after_ms: 600_000, ..Timing::default() };
    let scheduler = Scheduler::with(timing).await;
    let file = spec(
        r#"{"name": "web", "image": "hello:1", "replicas": 3,
            "ports": [{"containerPort": 8080, "hostPort": 80}]}"#,
    );
    let deploy = format!("deploy -f {} --timeout 1s", file.path().display());
    for (args, code, wanted) in [
        ("workloads", 0, "no workloads yet"),
        ("nodes", 0, "no nodes yet"),
        ("instances", 0, "no instances yet"),
        ("status web", 1, r#"there is no workload "web"; there are none"#),
        (&deploy, 3, "NoNodes: 3 replicas: no node is registered"),
        ("workloads", 0, "web       0/3    waiting"),
        ("status web", 0, "web  0/3 ready, waiting"),
        ("explain web", 0, "WorkloadCreated"),
        ("discover web", 0, "web is reached nowhere"),
        ("instances web", 0, "web has no instances"),
        ("instances wbe", 1, "Did you mean web?"),
        ("logs web", 1, "web has no instances, hence no logs"),
        ("logs web-r1-bcdfg", 1, "no workload or instance \"web-r1-bcdfg\""),
        ("rollout history web", 0, "kube-lite-ctl from 127.0.0.1"),
        ("scale web 2 --no-wait", 0, "web: 2 replicas wanted now"),
        ("scale web 999999999", 2, "expected a whole number from 0 to 100000"),
        ("events", 0, "WorkloadScaled"),
        ("events --workload nobody", 0, "no events about nobody yet"),
        ("cordon node-1", 1, "node-1"),
    ] {
        let outcome = ctl(&scheduler, args).await;
        assert_eq!(outcome.code, Some(code), "{args}: {}", outcome.err);
        let said = format!("{}{}", outcome.out, outcome.err);
        assert!(said.contains(wanted), "{args}: {said}");
    }
    // An agent that is registered and never answers an order.
    scheduler.register("node-1", 1).await;
    let one = scheduler.get("/instances").await.json()[0]["id"].as_str().expect("an id").to_owned();
    let outcome = ctl(&scheduler, &format!("explain {one}")).await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    for words in ["of        web, replica ", "on        node-1", "pending", "InstanceOrdered"] {
        assert!(outcome.out.contains(words), "{words}: {}", outcome.out);
    }
    for (args, code, wanted) in [
        ("nodes", 0, "node-1  alive           2"),
        ("instances web", 0, "pending"),
        ("logs web", 0, "no log yet"),
        ("cordon node-1", 0, "node-1: gets no new instances"),
        ("nodes", 0, "alive, cordoned"),
        ("uncordon node-1", 0, "node-1: may get new instances again"),
        ("node remove node-1", 1, "is alive"),
        ("cordon node-2", 1, "Did you mean node-1?"),
        ("explain node-1", 0, "node-1  alive\n"),
        ("explain node-1", 0, "NodeUncordoned"),
        ("explain nobody", 1, "there is no workload, instance or node \"nobody\". See: "),
        ("explain node-2", 1, "Did you mean node-1?"),
        ("discover wbe", 1, "there is no workload \"wbe\"; known are: web. Did you mean web?"),
        ("rollout history wbe", 1, "there is no workload \"wbe\"; known are: web."),
        ("rollout undo wbe", 1, "there is no workload \"wbe\"; known are: web."),
        ("scale wbe 1", 1, "there is no workload \"wbe\"; known are: web."),
        ("instances wbe", 1, "there is no workload \"wbe\"; known are: web."),
        ("delete web --no-wait", 0, "web: deleted"),
        ("delete web", 1, r#"workload "web" was deleted"#),
    ] {
        let outcome = ctl(&scheduler, args).await;
        assert_eq!(outcome.code, Some(code), "{args}: {}", outcome.err);
        let said = format!("{}{}", outcome.out, outcome.err);
        assert!(said.contains(wanted), "{args}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_says_what_the_scheduler_says() {
    let scheduler = Scheduler::start().await;
    let file = spec(r#"{"name": "web", "image": "hello:1"}"#);
    let args = format!("deploy -f {} --no-wait -o json", file.path().display());
    let deployed: Value = serde_json::from_str(&ctl(&scheduler, &args).await.out).expect("JSON");
    assert_eq!((&deployed["id"], &deployed["revision"]), (&"web".into(), &1.into()));
    for (command, path) in [
        ("workloads", "/workloads"),
        ("status web", "/workloads/web"),
        ("discover web", "/discover/web"),
        ("rollout history web", "/workloads/web/history"),
    ] {
        let shown = ctl(&scheduler, &format!("{command} -o json")).await.out;
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown, scheduler.get(path).await.json(), "{command}");
    }
    // A change that is not waited for, and one that has nothing to wait for.
    scheduler.register("node-1", 1).await;
    for (command, id) in [
        ("scale web 2 --no-wait", "web"),
        ("cordon node-1", "node-1"),
        ("uncordon node-1", "node-1"),
        ("drain node-1 --no-wait", "node-1"),
        ("delete web --no-wait", "web"),
    ] {
        let outcome = ctl(&scheduler, &format!("{command} -o json")).await;
        let said: Value = serde_json::from_str(&outcome.out).expect("JSON");
        assert_eq!(said["id"], id, "{command}");
        assert!(said["message"].is_string(), "{command}: {said}");
    }
    let events = ctl(&scheduler, "events -o json").await.out;
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON on each line");
        assert!(event["seq"].is_u64(), "{event}");
    }
    assert!(events.lines().count() > 0);
}

/// The address of an agent is an easy mistake; and whose word an agent goes by is said.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_not_taken_for_the_scheduler() {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-lite"));
    command.args(["agent", "--listen", "127.0.0.1:0", "--node-id", "n1", "--data-dir"]);
    command.arg(home.path()).env("KUBE_LITE_SERVER", "http://127.0.0.1:9");
    command.env("DOCKER_HOST", format!("unix://{}/none.sock", home.path().display()));
    let agent = Process::start("the agent", &mut command);
    let address = until("it to listen", SHORT, || async {
        let said = agent.output();
        let found = said.split_once("listens on ").and_then(|(_, rest)| rest.split(',').next());
        found.map(str::to_owned).ok_or(said)
    })
    .await;
    let said = agent.output();
    assert!(said.contains("reports to http://127.0.0.1:9 (from KUBE_LITE_SERVER)"), "{said}");
    for args in ["nodes", "workloads", "explain web", "drain n1", "delete web", "events"] {
        let url = address.clone();
        let output = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_kube-lite"));
            command.args(["ctl", "--server", &url]).args(args.split_whitespace());
            command.output().expect("the binary runs")
        });
        let output = output.await.expect("no panic");
        assert_eq!(output.status.code(), Some(1), "{args}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("this is an agent of kube-lite and not the scheduler"), "{said}");
    }
    command = Command::new(env!("CARGO_BIN_EXE_kube-lite"));
    let output = command.args(["agent"]).env("KUBE_LITE_SERVER", "").output().expect("a run");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no scheduler to report to"), "{said}");
}
