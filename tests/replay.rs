//! Recording and replaying, with the real binary and real files: an incident is
//! lived through again, and what is wrong with a recording is told.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/eventful.rs"]
mod eventful;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use cluster::tape::relive;
use kube_lite::client::Client;
use kube_lite::model::ApiError;
use kube_lite::model::view::EventView;
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::message::{Input, Moment, OrderAnswer, OrderKind, UserCall};
use kube_lite::roles::scheduler::recorder::{self, Ring};
use kube_lite::roles::scheduler::recording::{self, Checkpoint, Digest, Entry, line};
use kube_lite::roles::scheduler::replay::{Outcome, Replay};
use kube_lite::roles::scheduler::{SchedulerConfig, start};
use kube_lite_testkit::sandbox::hello;
use kube_lite_testkit::{LONG, Process, SHORT, Sandbox, SmallDisk, http, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

// ---- what is replayed ----

fn replay(path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BIN);
    command.args(["scheduler", "--replay"]).arg(path).args(arguments).env("TZ", "UTC");
    command.output().expect("a run")
}

/// Exit code 0; standard output, and what was remarked.
fn succeeds(path: &Path, arguments: &[&str]) -> (String, String) {
    let Output { status, stdout, stderr } = replay(path, arguments);
    let (said, remarks) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{remarks}");
    assert!(remarks.contains("all decided as recorded"), "{remarks}");
    (said, remarks)
}

/// Exit code 1, and a sentence that says all this.
fn fails(path: &Path, words: &[&str]) -> String {
    let output = replay(path, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// All events of a replay, as objects.
fn events_of(path: &Path, arguments: &[&str]) -> Vec<EventView> {
    let (said, _) = succeeds(path, &[arguments, &["-o", "json"]].concat());
    let steps = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    steps
        .flat_map(|step| step["events"].as_array().expect("events").clone())
        .map(|event| serde_json::from_value(event).expect("an event"))
        .collect()
}

/// An eventful quarter of an hour, as a recording of two segments, and its events.
fn recorded() -> (TempDir, Vec<EventView>) {
    let mut world = eventful::eventful_from(|world| world.record());
    world.next_segment(true);
    world.disk_refuses = true;
    world.user(UserCall::Scale { id: "web".into(), replicas: 9 }).expect_err("refused");
    world.disk_refuses = false;
    world.scale("web", 6);
    world.run_for(5_000);
    let directory = TempDir::new().unwrap();
    for (bytes, number) in world.tape.as_ref().expect("a tape").segments.iter().zip(1..) {
        std::fs::write(directory.path().join(recorder::name_of(number)), bytes).unwrap();
    }
    let events = world.core.state.ring.iter().map(|event| event.as_ref().clone()).collect();
    (directory, events)
}

#[test]
fn everything_is_told_again() {
    let (directory, events) = recorded();
    let again = events_of(directory.path(), &[]);
    // What was taken back had numbers, which were given out again.
    let happened: Vec<&EventView> = again.iter().filter(|e| events.contains(e)).collect();
    assert_eq!(happened, events.iter().collect::<Vec<_>>());
    let (said, remarks) = succeeds(directory.path(), &[]);
    for wanted in [
        "asked                 web                 deploy web of app, 4 replica(s), by test",
        "stored                -                   workload/web, no tombstone/web any more",
        "order                 web-r1-",
        "  run on n1 (10.0.0.1:8081): app, revision 1, replica ",
        "InstanceReady         web-r1-",
        "asked                 -                   cordon n3, by test",
        "asked                 web                 scale web to 9, by test",
        "has not happened: no room",
    ] {
        assert!(said.contains(wanted), "{wanted:?}: {said}");
    }
    assert!(!said.contains("green"), "no environment for people");
    assert!(remarks.contains("2 segment(s)"), "{remarks}");

    let (of_job, _) = succeeds(directory.path(), &["--workload", "job"]);
    assert!(of_job.contains("deploy job of exit:0:200"), "{of_job}");
    assert!(of_job.contains("run on n"), "{of_job}");
    assert!(!of_job.contains("web-r1-"), "{of_job}");
    let (nothing, remarks) = succeeds(directory.path(), &["--workload", "jib"]);
    assert_eq!(nothing, "");
    assert!(remarks.contains("nothing about jib was decided"), "{remarks}");

    let middle = &events[events.len() / 2];
    let until = events_of(directory.path(), &["--until", &middle.at]);
    assert!(until.iter().all(|event| event.at <= middle.at), "{until:?}");
    assert!(until.contains(middle) && until.len() < again.len());
}

/// Also one segment of many can be replayed.
#[test]
fn a_segment_is_enough() {
    let (directory, events) = recorded();
    let file = directory.path().join(recorder::name_of(2));
    let again = events_of(&file, &[]);
    assert!(!again.is_empty() && again.len() < events.len());
    assert_eq!(again.last(), events.last());
    let (_, remarks) = succeeds(&file, &[]);
    assert!(remarks.contains("what was before is not kept"), "{remarks}");
    std::fs::remove_file(directory.path().join(recorder::name_of(1))).unwrap();
    assert_eq!(events_of(directory.path(), &[]), again, "the ring has dropped the oldest");
}

/// A batch of several steps that the disk refuses is taken back as a whole, with
/// its heartbeats heard all the same.
#[test]
fn a_batch_stands_or_falls_as_one() {
    let (directory, _) = recorded();
    let bytes = std::fs::read(directory.path().join(recorder::name_of(2))).unwrap();
    let (_, mut core) = relive(&bytes);
    let mut entries = Vec::new();
    let node = core.state.nodes.get_min().expect("a node").1.as_ref().clone();
    let beat = json!({"nodeId": node.id, "incarnation": node.incarnation, "epoch": core.state.epoch,
        "seq": node.seq + 1, "synced": true, "docker": {"state": "ok", "daemon": "d1"},
        "containers": []});
    let scale = |replicas| UserCall::Scale { id: "web".into(), replicas };
    let asked = |ticket, call| Input::User { ticket, by: "test".to_owned(), call };
    let inputs = [
        asked(1, scale(7)),
        Input::Heartbeat { ticket: 2, request: serde_json::from_value(beat).unwrap() },
        asked(3, scale(8)),
    ];
    let begin = Checkpoint::Running(Box::new(core.clone()));
    let before = core.state.clone();
    let moment = |ms| Moment { now: before.now + ms, wall: before.wall + ms, draw: ms };
    let mut step = |core: &mut Core, number, first, input| {
        let moment = moment(number);
        let step = core.step(moment, Input::clone(&input));
        entries.push(Entry::Step { number, first, moment, input });
        entries.push(Entry::Decided(Digest::of(&step)));
        step
    };
    for (input, number) in inputs.into_iter().zip(1..) {
        step(&mut core, number, number == 1, input);
    }
    let now = before.now + 5;
    core.roll_back(before.clone(), &[(node.id.clone(), node.incarnation)], now);
    assert_eq!(core.state.nodes[&node.id].heard_at, now);
    step(&mut core, 10, true, Input::Tick);
    entries.insert(6, Entry::RolledBack { now, why: "full".to_owned() });

    let mut replay = Replay::begin(begin).unwrap();
    let mut batches = Vec::new();
    for entry in entries {
        batches.extend(replay.take(entry).unwrap());
    }
    batches.extend(replay.finish());
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].steps.len(), 3);
    assert_eq!(batches[0].outcome, Outcome::RolledBack("full".to_owned()));
    assert!(batches.iter().flat_map(|b| &b.steps).all(|step| step.differs.is_none()));
    assert_eq!(cluster::tape::image(replay.core()), cluster::tape::image(&core));
}

/// What an agent's refusal says over HTTP apart from its text decides, too.
#[test]
fn the_status_of_a_refusal_is_kept() {
    let answer = OrderAnswer::Refused(ApiError::unprocessable("BadPort", "no such port"));
    let (node, id) = ("n1".into(), "web-r1-abcde".into());
    let input = Input::Answered { node, id, kind: OrderKind::Run, incarnation: 7, answer };
    let moment = Moment { now: 1, wall: 2, draw: u64::MAX };
    let entry = Entry::Step { number: 1, first: true, moment, input };
    let (directory, _) = recorded();
    let file = directory.path().join(recorder::name_of(1));
    let bytes = [std::fs::read(file).unwrap(), line(&entry)].concat();
    let last = recording::read(&bytes).unwrap().entries.pop().expect("an entry");
    assert_eq!(format!("{last:?}"), format!("{entry:?}"));
}

// ---- what is wrong with it ----

/// A recording whose inputs are others than those on which was decided.
#[test]
fn another_decision_is_noticed_and_told() {
    let (directory, _) = recorded();
    let file = directory.path().join(recorder::name_of(1));
    let text = std::fs::read_to_string(&file).unwrap();
    let mut changed = None;
    let lines: Vec<Vec<u8>> = text
        .lines()
        .map(|text| {
            let mut value: Value = serde_json::from_str(text).unwrap();
            value.as_object_mut().unwrap().remove("sum");
            let number = value["step"]["number"].as_u64();
            let replicas = value.pointer_mut("/step/input/User/call/Deploy/replicas");
            if let Some(replicas) = replicas.filter(|count| changed.is_none() && **count == 4) {
                *replicas = json!(5);
                changed = number;
            }
            match serde_json::from_value::<Entry>(value.clone()) {
                Ok(entry) if changed.is_some() => [line(&entry)].concat(),
                _ => format!("{text}\n").into_bytes(),
            }
        })
        .collect();
    std::fs::write(&file, lines.concat()).unwrap();
    let number = changed.expect("web was deployed");
    let said = fails(
        directory.path(),
        &["decides otherwise than what is recorded", &format!("the first: step {number}, 20")],
    );
    assert!(said.contains("orders: 5 instead of 4"), "{said}");
    let output = String::from_utf8(replay(directory.path(), &[]).stdout).unwrap();
    assert!(output.contains("DIFFERS"), "{output}");
}

/// A core that does not survive an input is what one most wants to look into.
#[test]
fn a_core_that_panics_is_told_with_its_step() {
    let (directory, _) = recorded();
    let file = directory.path().join(recorder::name_of(2));
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut checkpoint: Value = serde_json::from_str(&lines[1]).unwrap();
    checkpoint.as_object_mut().unwrap().remove("sum");
    // Sums that are too small: taking something out of them is more than they are.
    let nodes = checkpoint.pointer_mut("/running/state/nodes").expect("nodes");
    for node in nodes.as_object_mut().unwrap().values_mut() {
        assert_ne!(node["placed"].take(), json!(null));
        node["placed"] = json!(0);
    }
    lines[1] = String::from_utf8(line(&checkpoint)).unwrap().trim_end().to_owned();
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let output = replay(&file, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let told = said.lines().last().expect("a sentence");
    assert!(told.contains("decides otherwise than what is recorded"), "{said}");
    assert!(told.contains("the core of this build panics: attempt to subtract"), "{said}");
}

#[test]
fn what_was_cut_short_by_a_crash_is_left_out() {
    let (directory, events) = recorded();
    let file = directory.path().join(recorder::name_of(2));
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 30]).unwrap();
    let (_, remarks) = succeeds(directory.path(), &[]);
    let cut: Vec<&str> = remarks.lines().filter(|line| line.contains("left out")).collect();
    assert_eq!(cut.len(), 1, "{remarks}");
    assert!(!events_of(directory.path(), &[]).is_empty());
    // Cut anywhere, it is never taken for damaged, and nothing panics.
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let third = second + whole[second..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in [0, 5, second - 1, second, second + 100, third - 1] {
        let said = recording::read(&whole[..length]).unwrap_err();
        assert_eq!(said, recording::Flaw::Unborn, "{length} of {}", whole.len());
    }
    for length in (third..whole.len()).step_by(997) {
        let segment = recording::read(&whole[..length]).unwrap();
        let left = whole[..length].iter().rev().take_while(|byte| **byte != b'\n').count();
        assert_eq!(segment.cut_short, left);
    }
    std::fs::write(&file, &whole[..second + 100]).unwrap();
    fails(&file, &["cut short before its first step"]);
    let (_, remarks) = succeeds(directory.path(), &[]);
    assert!(remarks.contains("cut short before its first step"), "{remarks}");
    assert!(!events.is_empty());
    // What the next one goes on from cannot be missing for a crash's sake.
    std::fs::write(&file, &whole).unwrap();
    let first = directory.path().join(recorder::name_of(1));
    let bytes = std::fs::read(&first).unwrap();
    std::fs::write(&first, &bytes[..bytes.len() - 30]).unwrap();
    fails(directory.path(), &["is damaged", "its end is missing"]);
}

#[test]
fn damage_and_what_is_no_recording_are_told() {
    let (directory, _) = recorded();
    let file = directory.path().join(recorder::name_of(1));
    let whole = std::fs::read(&file).unwrap();
    let lines = whole.iter().filter(|byte| **byte == b'\n').count();
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x04;
        let flaw = recording::read(&damaged);
        assert!(flaw.is_err(), "byte {at} of {}", whole.len());
    }
    let mut damaged = whole.clone();
    let middle = whole.len() / 2;
    damaged[middle] ^= 0x01;
    std::fs::write(&file, &damaged).unwrap();
    let said = fails(directory.path(), &["cannot replay", "is damaged: line ", "checksum"]);
    assert!(said.contains(&recorder::name_of(1)), "{said}");
    assert!(lines > 100, "{lines}");

    let foreign = directory.path().join("foreign");
    for contents in [b"once upon a time\n".to_vec(), b"\0\0\0\0".to_vec(), vec![b'{'; 1 << 20]] {
        std::fs::write(&foreign, contents).unwrap();
        fails(&foreign, &["is no recording of a kube-lite scheduler"]);
    }
    let head = json!({"kubeLiteRecording": recording::FORMAT + 1, "later": "more"});
    std::fs::write(&foreign, line(&head)).unwrap();
    fails(
        &foreign,
        &["it was recorded in format 2, this build reads up to 1; use a newer kube-lite"],
    );
    let empty = TempDir::new().unwrap();
    fails(empty.path(), &["there is no recording in", "--record"]);
    fails(&empty.path().join("nowhere"), &["cannot read", "No such file"]);
    let output = replay(directory.path(), &["--until", "soon"]);
    assert_eq!(output.status.code(), Some(1));
}

/// Two of these would be two answers to one question.
#[test]
fn what_does_not_go_together_is_refused() {
    for arguments in [
        &["--record", "--in-memory"][..],
        &["--replay", "x", "--data-dir", "y"],
        &["--replay", "x", "--record"],
        &["--workload", "web"],
        &["--until", "12:00"],
    ] {
        let output = Command::new(BIN).arg("scheduler").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}

// ---- real schedulers ----

fn command(directory: &Path) -> Command {
    let mut command = Command::new(BIN);
    command.args(["scheduler", "--record", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory);
    command
}

async fn listening(process: &Process) -> String {
    until("it to listen", SHORT, || async {
        let output = process.output();
        let address = output.split_once("listens on http://").and_then(|(_, rest)| {
            rest.split_once('\n').map(|(address, _)| address.trim().to_owned())
        });
        address.ok_or(output)
    })
    .await
}

async fn deploy(address: &str, name: &str, filler: usize) -> u16 {
    let spec = json!({"name": name, "image": "none", "replicas": 2,
        "env": {"SECRET": "x".repeat(filler)}})
    .to_string();
    http::send(address, "POST", "/deploy", Some(&spec)).await.expect("an answer").status
}

async fn events_at(address: &str) -> Vec<EventView> {
    let answer = http::get(address, "/events").await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lines = answer.body.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).expect("an event")).collect()
}

/// Waits until a recording has this event, too.
async fn has(directory: &Path, event: &EventView) {
    until("the recording to have it", SHORT, || async {
        let output = replay(directory, &["-o", "json"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = said.contains(&serde_json::to_string(&event.message).unwrap());
        if found { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .await;
}

/// kill -9 and again: each life is a segment of its own, and both are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_scheduler_is_lived_through_again() {
    let directory = TempDir::new().unwrap();
    let mut said = Vec::new();
    for life in 0..3 {
        let process = Process::start("the scheduler", &mut command(directory.path()));
        let address = listening(&process).await;
        assert_eq!(deploy(&address, &format!("web{life}"), 10).await, 200);
        let told = http::send(&address, "DELETE", "/workloads/nothing", None).await.unwrap();
        assert_eq!(told.status, 404);
        let last = until("it to be said why nothing runs", SHORT, || async {
            let events = events_at(&address).await;
            let sought = format!("web{life}");
            let waiting = events
                .iter()
                .any(|event| event.workload.as_ref().is_some_and(|name| name.as_str() == sought));
            if waiting { Ok(events) } else { Err(format!("{events:?}")) }
        })
        .await;
        has(directory.path(), last.last().unwrap()).await;
        said.extend(last);
        drop(process); // kill -9
    }
    let again = events_of(directory.path(), &[]);
    let of_these: Vec<&EventView> = again.iter().filter(|event| said.contains(event)).collect();
    assert_eq!(of_these, said.iter().collect::<Vec<_>>());
    let (text, remarks) = succeeds(directory.path(), &[]);
    assert!(remarks.contains("3 segment(s)") && remarks.contains("epoch 3"), "{remarks}");
    assert!(text.contains("404 "), "{text}");
    assert!(!text.contains("xxxxxxxxxx"), "{text}");

    let recording = directory.path().join(recorder::DIRECTORY);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&recording), 0o700);
    for number in 1..=3 {
        assert_eq!(mode(&recording.join(recorder::name_of(number))), 0o600);
    }
}

/// Told to stop, it writes all of it, and the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_scheduler_leaves_a_whole_recording() {
    let directory = TempDir::new().unwrap();
    let mut process = Process::start("the scheduler", &mut command(directory.path()));
    let address = listening(&process).await;
    for number in 0..20 {
        assert_eq!(deploy(&address, &format!("w{number}"), 1000).await, 200);
    }
    process.signal(Signal::SIGTERM);
    assert!(process.wait(SHORT).success());
    let (said, remarks) = succeeds(directory.path(), &[]);
    assert_eq!(said.matches("  asked  ").count(), 20, "{said}");
    for odd in ["left out", "not told", "ends while"] {
        assert!(!remarks.contains(odd), "{remarks}");
    }
}

fn ring(total_bytes: u64, segment_bytes: u64, directory: &Path) -> SchedulerConfig {
    SchedulerConfig {
        data_dir: Some(directory.to_owned()),
        record: Some(Ring { total_bytes, segment_bytes }),
        ..SchedulerConfig::default()
    }
}

/// The segments there are at one moment.
fn segments_in(directory: &Path) -> Vec<(u64, u64)> {
    let look = || recorder::found(&directory.join(recorder::DIRECTORY)).unwrap_or_default();
    let numbers = |of: &[(u64, u64)]| of.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    loop {
        // Sizes are read one after the other; none may have gone meanwhile.
        let segments = look();
        if numbers(&segments) == numbers(&look()) {
            return segments;
        }
    }
}

/// The oldest goes, and what is left can be replayed from its beginning, with each
/// segment leading to where the next one begins.
#[tokio::test(flavor = "multi_thread")]
async fn the_ring_keeps_its_bound_and_can_be_replayed() {
    const TOTAL: u64 = 400_000;
    let directory = TempDir::new().unwrap();
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let running = start(ring(TOTAL, 40_000, directory.path())).await.unwrap();
        let address = running.local_addr().to_string();
        let first = segments_in(directory.path()).last().map_or(0, |(number, _)| *number);
        let mut turn = 0;
        // Until the ring has been round.
        until("the ring to have dropped segments", LONG, || {
            turn += 1;
            let (address, directory) = (address.clone(), directory.path());
            async move {
                assert_eq!(deploy(&address, "web", 1000 + turn % 7).await, 200);
                let segments = segments_in(directory);
                let total: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
                assert!(total <= TOTAL, "{segments:?}");
                let oldest = segments.first().map_or(0, |(number, _)| *number);
                if oldest > first + 2 { Ok(()) } else { Err(format!("{segments:?}")) }
            }
        })
        .await;
        running.shutdown().await;
        let (said, remarks) = succeeds(directory.path(), &[]);
        assert!(said.contains("deploy web of none"), "{said}");
        let segments = segments_in(directory.path());
        assert!(segments.len() > 2, "{segments:?}");
        assert!(remarks.contains(&format!("{} segment(s)", segments.len())), "{remarks}");
        numbers.push(segments[0].0);
    }
    assert!(numbers[0] < numbers[1], "{numbers:?}");
}

/// Where there is room for nothing, the scheduler works all the same, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_stops_nobody() {
    let directory = TempDir::new().unwrap();
    let running = start(ring(100, 100, directory.path())).await.unwrap();
    let address = running.local_addr().to_string();
    for number in 0..5 {
        assert_eq!(deploy(&address, &format!("w{number}"), 10).await, 200);
    }
    running.shutdown().await;
    assert_eq!(segments_in(directory.path()), []);
    // A file where the directory is to be.
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join(recorder::DIRECTORY), "in the way").unwrap();
    let process = Process::start("the scheduler", &mut command(directory.path()));
    let address = listening(&process).await;
    assert_eq!(deploy(&address, "web", 10).await, 200);
    until("it to say so", SHORT, || async {
        let said = process.output();
        let told = said.contains("the recording has a gap here: cannot write to")
            && said.contains("the scheduler goes on");
        if told { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(deploy(&address, "api", 10).await, 200);
}

/// A full disk: the recording has a gap and says so, the scheduler is as it is
/// without one, and what was refused is told in the replay.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_a_gap() {
    let Some(disk) = SmallDisk::or_skip(2048).await else { return };
    let mut inside: Command = disk.command(BIN);
    inside.args(["scheduler", "--record", "--listen", "127.0.0.1:0", "--data-dir"]);
    let mut process = Process::start("the scheduler", inside.arg(disk.path()));
    let address = listening(&process).await;
    assert_eq!(deploy(&address, "web", 20_000).await, 200);
    let directory = disk.from_outside();
    has(&directory, events_at(&address).await.last().expect("an event")).await;
    disk.fill();
    until("the recording to have a gap", SHORT, || async {
        deploy(&address, "web", 20_000).await;
        let said = process.output();
        if said.contains("the recording has a gap here") { Ok(()) } else { Err(said) }
    })
    .await;
    disk.free();
    assert_eq!(deploy(&address, "api", 10).await, 200, "without a restart");
    until("the recording to go on", LONG, || async {
        let segments = segments_in(&directory);
        match segments.as_slice() {
            [_, (_, bytes), ..] if *bytes > 0 => Ok(()),
            _ => Err(format!("{segments:?}")),
        }
    })
    .await;
    assert_eq!(deploy(&address, "later", 10).await, 200);
    process.signal(Signal::SIGTERM);
    assert!(process.wait(SHORT).success());
    let (said, remarks) = succeeds(&directory, &[]);
    assert!(said.contains("deploy web of none") && said.contains("deploy later of none"), "{said}");
    assert!(remarks.contains("what was before is not kept"), "{remarks}");
}

/// `kube-lite dev` on real Docker records by itself; lived through again, it is
/// what its events showed. `--fresh` forgets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_lived_through_again() {
    let mut sandbox = Sandbox::start(BIN).await;
    sandbox.deploy(&hello("web", 2)).await;
    sandbox.ready("web", 2).await;
    let killed = sandbox.runs("web", 2).await[0].id.clone();
    sandbox.truth.kill(&killed).await;
    until("the loss to be seen", SHORT, || async {
        let events = sandbox.events("web").await;
        let seen = events.iter().any(|event| event.kind == "ReplicaRestarting");
        if seen { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    sandbox.ready("web", 2).await;
    Client::new(&sandbox.url).unwrap().scale("web", 3).await.expect("scaled");
    sandbox.ready("web", 3).await;
    let said = events_at(sandbox.address()).await;
    assert!(sandbox.interrupt().success());
    let again = events_of(sandbox.directory.path(), &[]);
    assert_eq!(again.get(..said.len()), Some(&said[..]));
    let (text, _) = succeeds(sandbox.directory.path(), &["--workload", "web"]);
    for wanted in ["scale web to 3", "ReplicaRestarting", "run on node-"] {
        assert!(text.contains(wanted), "{wanted:?}: {text}");
    }
    let Sandbox { directory, .. } = sandbox;
    let mut fresh = Sandbox::start_in(BIN, directory, &["--nodes", "1", "--fresh"], &[]).await;
    assert!(fresh.interrupt().success());
    assert_eq!(segments_in(fresh.directory.path()).len(), 1);
    let (text, _) = succeeds(fresh.directory.path(), &[]);
    assert!(!text.contains("web"), "{text}");
}
