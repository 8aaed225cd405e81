//! The same binary on a terminal: `script` (a part of every Debian) gives it a
//! pseudo-terminal and hands us what would be on the screen.

mod ctl_support;

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ctl_support::{Server, error, ok};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the command on a terminal of 80 by 24; once `type_after` says so, types
/// Ctrl-C. Returns its end and all that went to the screen.
async fn on_terminal(
    server: &Server,
    args: &str,
    no_color: bool,
    type_after: Option<usize>,
) -> (ExitStatus, String) {
    let binary = env!("CARGO_BIN_EXE_kube-lite");
    let command = format!("stty rows 24 cols 80; exec {binary} ctl {args}");
    let mut child = Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .env("KUBE_LITE_SERVER", server.url())
        .env("TERM", "xterm")
        .env("NO_COLOR", if no_color { "1" } else { "" })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut keyboard = child.stdin.take().expect("piped");
    let mut screen = child.stdout.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = screen.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let began = Instant::now();
    let mut typed = false;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if !typed && type_after.is_some_and(|requests| server.seen().len() >= requests) {
            keyboard.write_all(b"\x03").expect("the keyboard works");
            typed = true;
        }
        if began.elapsed() > PATIENCE {
            drop(keyboard);
            let _ = child.kill();
            panic!("still running; on the screen: {:?}", reader.join());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    drop(keyboard);
    (status, reader.join().expect("the reader of the screen"))
}

/// A scheduler with one workload that is ready when asked for the third time.
async fn scheduler() -> Server {
    let asked = AtomicUsize::new(0);
    Server::start(move |seen| {
        let is_ready = asked.load(Relaxed) > 1;
        let (phase, ready) = if is_ready { ("running", 1) } else { ("pulling", 0) };
        let view = json!({
            "spec": {"name": "web", "image": "hello:1"}, "revision": 1, "desired": 1,
            "running": ready, "ready": ready, "pending": 1 - ready, "waiting": 0, "done": 0,
            "reasons": [], "rollout": null,
        });
        let instance = json!({
            "id": "web-r1-0", "workloadId": "web", "replica": 0, "revision": 1,
            "nodeId": "node-1", "image": "hello:1", "phase": phase, "ready": is_ready,
        });
        match seen.line.as_str() {
            "POST /deploy" => ok(r#"{"id": "web", "revision": 1}"#),
            "GET /workloads/web" => ok(&view.to_string()),
            "GET /workloads" => ok(&json!([view]).to_string()),
            "GET /instances?workload=web" => {
                asked.fetch_add(1, Relaxed);
                ok(&json!([instance]).to_string())
            }
            _ => error("404 Not Found", r#"{"error": "nothing here"}"#),
        }
    })
    .await
}

fn spec() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(br#"{"name": "web", "image": "hello:1"}"#).expect("written");
    file
}

#[tokio::test]
async fn a_deploy_is_waited_for_and_redrawn() {
    let file = spec();
    let args = format!("deploy -f {}", file.path().display());
    for no_color in [false, true] {
        let (status, screen) = on_terminal(&scheduler().await, &args, no_color, None).await;
        assert_eq!(status.code(), Some(0), "{screen:?}");
        assert!(screen.contains("web: 0/1 ready, 1 pulling"), "{screen:?}");
        let result = screen.lines().last().expect("a last line");
        assert!(result.contains("web: 1/1 ready"), "{result:?}");
        let colored = screen.contains("\x1b[32m") || screen.contains("\x1b[36m");
        assert_eq!(colored, !no_color, "{screen:?}");
    }
}

#[tokio::test]
async fn a_rollout_is_redrawn_with_the_revision_of_each_instance() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| {
        let state = if asked.load(Relaxed) > 2 { "done" } else { "rolling" };
        let view = json!({
            "spec": {"name": "web", "image": "hello:2"}, "revision": 2, "desired": 1, "running": 1,
            "ready": 1, "pending": 0, "waiting": 0, "done": 0, "reasons": [],
            "rollout": {"from": 1, "to": 2, "state": state, "updated": 0, "total": 1},
        });
        let one = |revision: u64, phase: &str| {
            json!({"id": format!("web-r{revision}-0"), "workloadId": "web", "replica": 0,
                   "revision": revision, "nodeId": "node-1", "image": "hello:2", "phase": phase,
                   "ready": phase == "running"})
        };
        match seen.line.as_str() {
            "POST /workloads/web/rollout" => ok(r#"{"id": "web", "revision": 2}"#),
            "GET /workloads/web" => ok(&view.to_string()),
            "GET /instances?workload=web" => match asked.fetch_add(1, Relaxed) {
                0..3 => ok(&json!([one(1, "running"), one(2, "pulling")]).to_string()),
                _ => ok(&json!([one(2, "running")]).to_string()),
            },
            _ => error("404 Not Found", r#"{"error": "nothing here"}"#),
        }
    })
    .await;
    let args = "rollout start web --image hello:2";
    let (status, screen) = on_terminal(&server, args, true, None).await;
    assert_eq!(status.code(), Some(0), "{screen:?}");
    assert!(screen.contains("web: revision 2, 0/1 updated, 1/1 ready, 1 pulling"), "{screen:?}");
    assert!(screen.contains("web-r1-0  node-1  revision 1  ready"), "{screen:?}");
    assert!(screen.contains("web-r2-0  node-1  revision 2  pulling"), "{screen:?}");
    let result = screen.lines().last().expect("a last line");
    assert!(result.contains("web: 1/1 ready (revision 2, "), "{result:?}");
}

#[tokio::test]
async fn ctrl_c_says_what_goes_on() {
    let server = Server::start(|seen| match seen.line.as_str() {
        "PUT /workloads/web/scale" => ok(""),
        _ => error("404 Not Found", r#"{"error": "not yet"}"#),
    })
    .await;
    let (status, screen) = on_terminal(&server, "scale web 3", true, Some(4)).await;
    assert_eq!(status.code(), Some(130), "{screen:?}");
    let wanted = "stopped waiting; the scheduler goes on. See: kube-lite ctl status web --watch";
    assert!(screen.contains(wanted), "{screen:?}");
}

#[tokio::test]
async fn a_watched_page_leaves_the_screen_as_it_was() {
    let (status, screen) = on_terminal(&scheduler().await, "workloads -w", true, Some(2)).await;
    assert_eq!(status.code(), Some(0), "{screen:?}");
    let begin = screen.find("\x1b[?1049h").expect("a screen of its own");
    let page = screen.find("WORKLOAD  READY").expect("the page");
    let end = screen.find("\x1b[?1049l").expect("the screen from before");
    assert!(begin < page && page < end, "{screen:?}");
}

#[tokio::test]
async fn long_reasons_are_wrapped_below_each_other() {
    let view = json!([{
        "spec": {"name": "web", "image": "hello:1"}, "revision": 1, "desired": 1, "running": 0,
        "ready": 0, "pending": 0, "waiting": 1, "done": 0, "rollout": null,
        "reasons": [{"reason": "NoRoom", "message": "3 of 3 nodes refuse: 2 are cordoned, 1 is dead"}],
    }]);
    let server = Server::start(move |_| ok(&view.to_string())).await;
    let (status, screen) = on_terminal(&server, "workloads", true, None).await;
    assert_eq!(status.code(), Some(0), "{screen:?}");
    assert_eq!(
        screen.replace('\r', ""),
        "\
WORKLOAD  READY  STATUS   RESTARTS  IMAGE    WHY
web       0/1    waiting         0  hello:1  NoRoom: 3 of 3 nodes refuse: 2 are
                                             cordoned, 1 is dead
"
    );
}
