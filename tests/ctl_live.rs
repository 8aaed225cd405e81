//! The real binary and the real scheduler: what one says, the other takes.

mod support;

use std::io::Write;
use std::process::Command;

use kube_lite::model::Timing;
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
        ("status web", 1, r#"There is no workload "web""#),
        (&deploy, 3, "NoNodes: 3 replicas: no node is registered"),
        ("workloads", 0, "web       0/3    waiting"),
        ("status web", 0, "web  0/3 ready, waiting"),
        ("explain web", 0, "WorkloadCreated"),
        ("discover web", 0, "web is reached nowhere"),
        ("instances web", 0, "web has no instances"),
        ("instances wbe", 1, "Did you mean web?"),
        ("logs web", 1, "web has no instances, hence no logs"),
        ("logs web-r1-bcdfg", 1, "neither a workload nor an instance"),
        ("rollout history web", 0, "kube-lite-ctl from 127.0.0.1"),
        ("scale web 2 --no-wait", 0, "web: 2 replicas wanted now"),
        ("scale web 999999999", 1, "999999999"),
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
    for (args, code, wanted) in [
        ("nodes", 0, "node-1  alive           2"),
        ("instances web", 0, "pending"),
        ("logs web", 0, "no log yet"),
        ("cordon node-1", 0, "node-1: gets no new instances"),
        ("nodes", 0, "alive, cordoned"),
        ("uncordon node-1", 0, "node-1: may get new instances again"),
        ("node remove node-1", 1, "is alive"),
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
    let events = ctl(&scheduler, "events -o json").await.out;
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON on each line");
        assert!(event["seq"].is_u64(), "{event}");
    }
    assert!(events.lines().count() > 0);
}
