//! A real scheduler on a disk that is full, and then is not: what was acknowledged
//! stays, what cannot be stored is refused, and it goes on without a restart.

use std::process::Command;

use kube_lite_testkit::http::{self, Answer};
use kube_lite_testkit::{Process, SHORT, SmallDisk, until};
use serde_json::{Value, json};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

fn scheduler(disk: &SmallDisk) -> Process {
    let mut command: Command = disk.command(BIN);
    command.args(["scheduler", "--listen", "127.0.0.1:0", "--data-dir"]).arg(disk.path());
    Process::start("the scheduler on a small disk", &mut command)
}

async fn address(process: &Process) -> String {
    until("the scheduler to listen", SHORT, || async {
        let output = process.output();
        let address = output.split_once("listens on http://").and_then(|(_, rest)| {
            rest.split_once('\n').map(|(address, _)| address.trim().to_owned())
        });
        address.ok_or(output)
    })
    .await
}

/// A workload that takes up some room.
fn large(name: &str) -> String {
    json!({"name": name, "image": "none", "replicas": 2, "env": {"A": "x".repeat(30_000)}})
        .to_string()
}

async fn deploy(address: &str, name: &str) -> Answer {
    http::send(address, "POST", "/deploy", Some(&large(name))).await.expect("an answer")
}

async fn names(address: &str) -> Vec<String> {
    let answer = http::get(address, "/workloads").await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let views = answer.json();
    let views = views.as_array().expect("a list");
    views.iter().map(|view| view["spec"]["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_stays_and_it_goes_on_by_itself() {
    let Some(disk) = SmallDisk::or_skip(1024).await else { return };
    let process = scheduler(&disk);
    let address_now = address(&process).await;
    for name in ["a", "b"] {
        assert_eq!(deploy(&address_now, name).await.status, 200);
    }
    for round in 0..3 {
        disk.fill();
        let mut stored = names(&address_now).await;
        // What there is room for inside the file may still go well.
        let refused = loop {
            let name = format!("w{round}-{}", stored.len());
            let answer = deploy(&address_now, &name).await;
            if answer.status != 200 {
                break answer;
            }
            stored.push(name);
            assert!(stored.len() < 60, "it takes everything: {stored:?}");
        };
        assert_eq!(refused.status, 503, "{}", refused.body);
        let said = refused.json();
        assert_eq!(said["reason"], json!("StorageFailed"));
        assert_eq!(said["retryAfterSeconds"], json!(5));
        let text = said["error"].as_str().expect("a sentence");
        assert!(text.contains("No space left on device"), "{text}");
        assert!(text.contains("nothing was changed"), "{text}");
        stored.sort();
        assert_eq!(names(&address_now).await, stored, "reads show what holds");
        let health = http::get(&address_now, "/health").await.expect("an answer");
        assert_eq!(health.status, 200, "{}", health.body);
        let scaled =
            http::send(&address_now, "PUT", "/workloads/a/scale", Some(r#"{"replicas": 9}"#));
        assert_eq!(scaled.await.expect("an answer").status, 503, "nothing can be stored");
        let backup = http::get(&address_now, "/backup").await.expect("an answer");
        assert_eq!(backup.status, 503, "{}", backup.body);

        disk.free();
        let again = deploy(&address_now, &format!("again{round}")).await;
        assert_eq!(again.status, 200, "without a restart: {}", again.body);
        stored.push(format!("again{round}"));
        // Room for the next round.
        for name in stored.drain(..).filter(|name| name.starts_with('w')) {
            let path = format!("/workloads/{name}");
            let deleted = http::send(&address_now, "DELETE", &path, None).await.expect("an answer");
            assert_eq!(deleted.status, 202, "{}", deleted.body);
        }
    }
    let wanted = ["a", "again0", "again1", "again2", "b"];
    assert_eq!(names(&address_now).await, wanted);
    drop(process); // kill -9
    let process = scheduler(&disk);
    let address_now = address(&process).await;
    assert_eq!(names(&address_now).await, wanted, "after a restart");
    let a: Value = http::get(&address_now, "/workloads/a").await.expect("an answer").json();
    assert_eq!(a["desired"], json!(2), "what was refused has not happened");
}

/// The disk is mended although nobody asks for anything.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_mended_when_there_is_room_though_nobody_asks() {
    let Some(disk) = SmallDisk::or_skip(512).await else { return };
    let process = scheduler(&disk);
    let address_now = address(&process).await;
    disk.fill();
    let mut number = 0;
    while deploy(&address_now, &format!("w{number}")).await.status == 200 {
        number += 1;
    }
    until("the attempt to mend it", SHORT, || async {
        let output = process.output();
        if output.contains("the disk still refuses") { Ok(()) } else { Err(output) }
    })
    .await;
    disk.free();
    until("the disk to take records again", SHORT, || async {
        let output = process.output();
        if output.contains("the disk takes records again") { Ok(()) } else { Err(output) }
    })
    .await;
    assert_eq!(names(&address_now).await.len(), number);
}

/// A full disk and a read-only one at the start: what is wrong, and no file.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_disk_says_what_is_wrong() {
    let Some(disk) = SmallDisk::or_skip(512).await else { return };
    let ends_saying = |words: &[&str]| {
        let mut process = scheduler(&disk);
        let status = process.wait(SHORT);
        let output = process.output();
        assert_eq!(status.code(), Some(1), "{output}");
        for word in words.iter().chain(&[disk.path().to_str().expect("plain")]) {
            assert!(output.contains(word), "{word:?}: {output}");
        }
        assert!(!output.contains("panicked"), "{output}");
    };
    disk.fill();
    ends_saying(&["cannot", "No space left on device"]);
    disk.free();
    let process = scheduler(&disk);
    let address_now = address(&process).await;
    assert_eq!(deploy(&address_now, "a").await.status, 200);
    drop(process);
    let file = disk.from_outside().join("scheduler.redb");
    let before = std::fs::read(&file).expect("the file");
    disk.fill();
    ends_saying(&["cannot write the state", "No space left on device"]);
    assert_eq!(std::fs::read(&file).expect("the file").len(), before.len());
    disk.free();
    disk.make_read_only();
    ends_saying(&["Read-only file system", "--data-dir"]);
    let mut check = disk.command(BIN);
    let check = check.args(["scheduler", "--check", "--data-dir"]).arg(disk.path()).output();
    let check = check.expect("a run");
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success(), "{check:?}");
    assert!(said.contains("workloads   1: a (revision 1, 2 wanted)"), "{said}");
}
