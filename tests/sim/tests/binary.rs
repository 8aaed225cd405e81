//! The program `soak`: what it says, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

const SOAK: &str = env!("CARGO_BIN_EXE_soak");

fn soak(args: &str) -> (Output, String) {
    let output = Command::new(SOAK).args(args.split_whitespace()).output().expect("soak runs");
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    (output, text)
}

#[test]
fn a_failing_seed_prints_the_command_that_tells_its_story() {
    let (output, text) = soak("--seeds 1 --from 7 --fault AcknowledgedBeforeWritten");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("seed 7: 4 durable: "), "{text}");
    let commands: Vec<&str> =
        text.lines().filter(|line| line.trim_start().starts_with("cargo run")).collect();
    let [command] = commands.as_slice() else { panic!("not one command: {text}") };
    let (_, args) = command.split_once(" -- ").expect("arguments");

    let (output, story) = soak(args);
    assert_eq!(output.status.code(), Some(1), "{story}");
    assert!(story.contains("starts, epoch 1"), "{story}");
    assert!(story.contains("asks (") && story.contains("seed 7: 4 durable: "), "{story}");
}

#[test]
fn what_holds_ends_well() {
    let (output, text) = soak("--seed 1 --fault acknowledgedbeforewritten");
    assert_eq!(output.status.code(), Some(1), "{text}");
    // People have nothing to say in a run of no seeds, and nothing fails.
    let (output, text) = soak("--seeds 0 --jobs 1");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("0 of 0 seeds failed"), "{text}");
    let (output, _) = soak("--fault Nonsense");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("SurgeOffByOne"));
}

#[test]
fn ctrl_c_ends_it_with_a_summary() {
    let mut child = Command::new(SOAK)
        .args("--seeds 100000000 --jobs 1 --fault AcknowledgedBeforeWritten".split_whitespace())
        .stdout(Stdio::piped())
        .spawn()
        .expect("soak runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("a line");
    let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    let mut rest = String::new();
    let read = lines.read_to_string(&mut rest);
    // However this goes, nothing is left running.
    let _ = child.kill();
    let status = child.wait().expect("its end");
    assert!(signalled.expect("kill runs").success());
    assert!(read.is_ok() && rest.contains("seeds failed; "), "{first}{rest}");
    assert_eq!(status.code(), Some(1), "{rest}");
}
