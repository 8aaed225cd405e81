//! What Docker says, and what containers say through it: listings, frames of logs,
//! lines on their way to a reader; and files of variables.
//!
//! Docker's own client has a part in reading the first two. So these go all the way:
//! over a socket, from a Docker that says what it is told to.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use kube_lite::model::Timing;
use kube_lite::model::wire::labels;
use kube_lite::roles::agent::docker::{DockerHandle, DockerRuntime, Endpoint, variables};
use kube_lite::roles::agent::launch::{launch, order_of};
use kube_lite::roles::agent::message::{DockerAction, Input};
use kube_lite::roles::agent::runtime::{LogQuery, NodeRuntime};
use kube_lite::roles::scheduler::server::with_instance;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::{is_a_sentence, survives_writing};

/// A Docker, and an agent's way to it.
struct Played {
    said: Arc<Mutex<Said>>,
    runtime: Runtime,
    node: NodeRuntime,
}

/// The bodies of its answers.
#[derive(Default)]
struct Said {
    list: Vec<u8>,
    inspect: Vec<u8>,
    log: Vec<u8>,
}

static DOCKER: LazyLock<Mutex<Played>> = LazyLock::new(|| Mutex::new(Played::new()));

impl Played {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("kube-lite-fuzz-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        let said: Arc<Mutex<Said>> = Arc::default();
        let told = said.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let said = told.clone();
                std::thread::spawn(move || serve(stream, &said));
            }
        });
        let endpoint = Endpoint::Unix(path.to_string_lossy().into_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let node: DockerRuntime =
            DockerHandle::new(endpoint, Timing::default()).for_node("n1".into());
        let played = Self { said, runtime, node: NodeRuntime::Docker(node) };
        // Once it is connected, the name is not needed.
        played.list();
        played
    }

    /// What the agent makes of it.
    fn list(&self) -> Input {
        let (report, mut reported) = mpsc::channel(1);
        let action = DockerAction::List { number: 1, cluster: "c1".into(), node: "n1".into() };
        self.runtime.block_on(async {
            self.node.carry_out(action, &report).await;
            reported.recv().await.expect("every action has an outcome")
        })
    }

    /// A log to its end, and whether that was the proper one.
    fn log(&self, lines: bool) -> (Vec<u8>, bool) {
        let query = LogQuery { tail: None, follow: false, stdout: true, stderr: true, lines };
        self.runtime.block_on(async {
            let mut all = Vec::new();
            let mut log = match self.node.logs("c1", query).await {
                Ok(log) => log,
                Err(error) => {
                    is_a_sentence(&error.error);
                    return (all, false);
                }
            };
            while let Some(piece) = log.next().await {
                match piece {
                    Ok(bytes) => all.extend_from_slice(&bytes),
                    Err(_) => return (all, false),
                }
            }
            (all, true)
        })
    }
}

/// Answers requests without bodies, one after the other.
fn serve(mut stream: UnixStream, said: &Mutex<Said>) {
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = heard.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let path = path.split('?').next().unwrap_or_default();
            let said = said.lock().unwrap_or_else(PoisonError::into_inner);
            let body = match path.rsplit('/').next() {
                Some("version") => br#"{"ApiVersion":"1.41"}"#,
                Some("logs") => said.log.as_slice(),
                _ if path.ends_with("/containers/json") => said.list.as_slice(),
                _ => said.inspect.as_slice(),
            };
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            answer.insert_str(17, "Content-Type: application/json\r\n");
            if stream.write_all(&[answer.as_bytes(), body].concat()).is_err() {
                return;
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(count) => heard.extend_from_slice(&piece[..count]),
        }
    }
}

/// A listing, and in the line after it what an inspection says: the containers in it, with
/// the orders in their labels.
pub fn docker_list(bytes: &[u8]) {
    let docker = DOCKER.lock().unwrap_or_else(PoisonError::into_inner);
    let split = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (list, inspect) = bytes.split_at(split);
    {
        let mut said = docker.said.lock().unwrap_or_else(PoisonError::into_inner);
        (said.list, said.inspect) = (list.to_vec(), inspect.to_vec());
    }
    let Input::Listed { outcome, .. } = docker.list() else { panic!("no listing") };
    let found = match outcome {
        Ok(found) => found,
        Err(said) => return is_a_sentence(&said),
    };
    survives_writing(&found);
    for container in found {
        assert!(container.labels.keys().all(|label| label.starts_with("kube-lite.")));
        let Some(order) = order_of(&container.labels, &container.image) else { continue };
        assert_eq!(Some(order.id.as_str()), container.labels.get(labels::INSTANCE).map(|l| &**l));
        survives_writing(&order);
        // What this agent would make of the order is found again as the same.
        let bind_ip = "127.0.0.1".parse().expect("an address");
        let made = launch(&order, &"c1".into(), &"n1".into(), bind_ip);
        assert_eq!(order_of(&made.labels, &made.image), Some(order));
        assert!(made.ports.iter().all(|port| port.host_ip == bind_ip));
    }
}

/// The frames of a log: what is in them comes out, whole, and as lines with their times
/// and streams.
pub fn docker_logs(bytes: &[u8]) {
    let docker = DOCKER.lock().unwrap_or_else(PoisonError::into_inner);
    docker.said.lock().unwrap_or_else(PoisonError::into_inner).log = bytes.to_vec();
    let whole = frames(bytes);
    let (plain, _) = docker.log(false);
    if let Some(frames) = &whole {
        let text: Vec<u8> = frames.iter().flat_map(|(_, text)| text.iter().copied()).collect();
        assert!(plain == text, "what comes out is not what was in it");
    }
    let (lines, _) = docker.log(true);
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_slice(line).expect("a line of JSON");
        let text = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("no {name}: {line}"));
        assert!(["stdout", "stderr"].contains(&text("stream")), "{line}");
        told.entry(text("stream").to_owned()).or_default().push_str(text("line"));
        text("at");
    }
    // Nothing of it is lost. With a time before each, as Docker is asked for it.
    for (number, name) in [(1, "stdout"), (2, "stderr")] {
        let Some(frames) = &whole else { break };
        let of_it = frames.iter().filter(|(stream, _)| *stream == number);
        let text = of_it.filter_map(|(_, text)| text.splitn(2, |byte| *byte == b' ').last());
        let text: Vec<u8> = text.flat_map(|text| text.iter().copied()).collect();
        let plain = |text: &str| text.replace(['\r', '\n', '\u{FFFD}'], "");
        let (wanted, told) = (String::from_utf8_lossy(&text), told.remove(name));
        assert_eq!(plain(&told.unwrap_or_default()), plain(&wanted), "of {name}");
    }
}

/// The frames, if it is nothing but whole ones.
fn frames(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let ([stream, _, _, _, a, b, c, d], rest) = bytes.split_first_chunk::<8>()?;
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (text, rest) = rest.split_at_checked(length)?;
        if !(1..=2).contains(stream) {
            return None;
        }
        all.push((*stream, text));
        bytes = rest;
    }
    Some(all)
}

/// A line that an agent sends of a log: whatever it is, it is handed on as one line of
/// that instance and of no other.
pub fn log_line(bytes: &[u8]) {
    let line: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\n').collect();
    let told = with_instance(&"web-r1-x".into(), &line.into());
    let (end, text) = told.split_last().expect("something");
    assert!(*end == b'\n' && !text.contains(&b'\n'), "not one line");
    let shown = String::from_utf8_lossy(text);
    let told: BTreeMap<String, Value> = match serde_json::from_slice(text) {
        Ok(told) => told,
        Err(error) => panic!("{error}: {shown}"),
    };
    assert_eq!(told["instance"], "web-r1-x", "{shown}");
    assert!(told["line"].is_string() && !told.contains_key("ended"), "{shown}");
}

/// A file of variables (`envFrom`): what is taken can be given to a process, and what is
/// wrong is told without telling what is in it.
pub fn env_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match variables(&text) {
        Ok(found) => {
            for (name, value) in &found {
                assert!(!name.is_empty() && !name.contains(['=', '\0', ' ']), "{name:?}");
                assert!(!name.starts_with("KUBE_LITE_"), "{name:?}");
                assert!(!value.contains(['\0', '\n']), "{value:?}");
            }
            let again: String =
                found.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
            let without = |value: &str| value.strip_suffix('\r').unwrap_or(value).to_owned();
            let found: Vec<_> = found.iter().map(|(n, v)| (n.clone(), without(v))).collect();
            assert_eq!(variables(&again), Ok(found), "{again:?}");
        }
        Err(said) => {
            is_a_sentence(&said);
            let words = text.split(|c: char| !c.is_alphanumeric());
            let mut long = words.filter(|word| word.len() > 10);
            assert!(long.all(|word| !said.contains(word)), "it tells: {said}");
        }
    }
}
