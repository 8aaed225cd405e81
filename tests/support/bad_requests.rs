//! Bad requests as data, for any running scheduler: what is sent, and what the
//! answer must say. After each, nothing has changed; after all, the next good
//! request works.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::raw::{Answer, PATIENCE, ask, connect, exchange, read_to_end, request};

/// One bad request.
pub struct Case {
    /// What is wrong with it.
    pub name: &'static str,
    /// What is sent.
    pub sent: Sent,
    /// The status of the answer.
    pub status: u16,
    /// Words of the sentence in the answer. Without any, the body may be empty:
    /// what is not HTTP at all is answered by the HTTP library itself.
    pub words: &'static [&'static str],
}

/// How something is sent.
pub enum Sent {
    /// These bytes, then the answer is awaited.
    Bytes(Vec<u8>),
    /// These bytes, then the sending side is closed and the answer awaited.
    HalfClosed(Vec<u8>),
    /// These bytes, then these again and again until there is an answer.
    Endless(Vec<u8>, Vec<u8>),
}

const JSON: &str = "Content-Type: application/json";

/// The workload that must survive everything.
const TARGET: &str = "bad-input-target";

fn plain(method: &str, path: &str) -> Sent {
    Sent::Bytes(request(method, path, &[], ""))
}

fn deploy(body: &str) -> Sent {
    Sent::Bytes(request("POST", "/deploy", &[JSON], body))
}

/// A spec that is right but for these fields.
fn spec(patch: Value) -> Sent {
    let mut whole = json!({"name": TARGET, "image": "nginx", "replicas": 0});
    for (key, value) in patch.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    deploy(&whole.to_string())
}

fn scale(body: &str) -> Sent {
    Sent::Bytes(request("PUT", &format!("/workloads/{TARGET}/scale"), &[JSON], body))
}

fn case(name: &'static str, sent: Sent, status: u16, words: &'static [&'static str]) -> Case {
    Case { name, sent, status, words }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let head = |extra: &str| {
        format!("POST /deploy HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n{extra}\r\n\r\n")
            .into_bytes()
    };
    let chunk = [b"400\r\n".to_vec(), vec![b' '; 1024], b"\r\n".to_vec()].concat();
    let deep = format!("{{\"args\": {}", "[".repeat(100_000));
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(4 << 20));
    let ports = |ports: Value| spec(json!({ "ports": ports }));
    let mut all = json_cases(&deep);
    all.extend(spec_cases(&ports));
    all.extend(path_cases());
    all.extend([
        // Bodies.
        case("oversized body", deploy(&huge), 413, &["too large", "1 MiB"]),
        case(
            "body announced as oversized",
            Sent::Bytes(head("Content-Length: 99999999999")),
            413,
            &["99999999999", "1 MiB"],
        ),
        case(
            "oversized body that asks first",
            Sent::Bytes(head("Content-Length: 2000000\r\nExpect: 100-continue")),
            413,
            &["2000000"],
        ),
        case(
            "body that never ends",
            Sent::Endless(head("Transfer-Encoding: chunked"), chunk),
            413,
            &["at most 1 MiB"],
        ),
        case(
            "body that stops coming",
            Sent::Bytes([head("Content-Length: 100"), b"{\"name\":".to_vec()].concat()),
            408,
            &["did not arrive within"],
        ),
        case(
            "body broken off, still listening",
            Sent::HalfClosed([head("Content-Length: 100"), b"{\"name\":".to_vec()].concat()),
            400,
            &["broke off after 8 bytes"],
        ),
        case(
            "headers broken off, still listening",
            Sent::HalfClosed(b"POST /deploy HTTP/1.1\r\nHost: localhost\r\n".to_vec()),
            400,
            &["broke off before the end of its headers"],
        ),
        case(
            "half-closed, empty body",
            Sent::HalfClosed(request("POST", "/deploy", &[JSON], "")),
            400,
            &["empty"],
        ),
        case(
            "no content type",
            Sent::Bytes(request("POST", "/deploy", &[], "{}")),
            415,
            &["missing", "application/json"],
        ),
        case(
            "a form",
            Sent::Bytes(request(
                "POST",
                "/deploy",
                &["Content-Type: application/x-www-form-urlencoded"],
                "{}",
            )),
            415,
            &["x-www-form-urlencoded", "application/json"],
        ),
        case(
            "compressed",
            Sent::Bytes(request("POST", "/deploy", &[JSON, "Content-Encoding: gzip"], "\x1f")),
            415,
            &["gzip"],
        ),
        case(
            "body where none is taken",
            Sent::Bytes(request("DELETE", &format!("/workloads/{TARGET}"), &[JSON], "{}")),
            400,
            &["takes no body"],
        ),
        // From a web page.
        case(
            "foreign page",
            Sent::Bytes(request(
                "DELETE",
                &format!("/workloads/{TARGET}"),
                &["Origin: http://x"],
                "",
            )),
            403,
            &["\"http://x\"", "--cors-origin"],
        ),
        // Not HTTP.
        case(
            "garbage",
            Sent::Bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n".to_vec()),
            400,
            &[],
        ),
        case("no version", Sent::Bytes(b"GET /workloads\r\n\r\n".to_vec()), 400, &[]),
        case("two lengths", Sent::Bytes(head("Content-Length: 1\r\nContent-Length: 2")), 400, &[]),
        case("length that is none", Sent::Bytes(head("Content-Length: -1")), 400, &[]),
        case(
            "headers too large",
            Sent::Bytes(request("GET", "/nodes", &[&format!("X: {}", "x".repeat(100_000))], "")),
            431,
            &[],
        ),
    ]);
    all
}

/// What is no JSON, or no object.
fn json_cases(deep: &str) -> Vec<Case> {
    vec![
        case("empty body", deploy(""), 400, &["body is empty"]),
        case("blank body", deploy("  \n"), 400, &["body is empty"]),
        case("broken JSON", deploy("{\n  \"name\" \"web\"\n}"), 400, &["line 2, column 10"]),
        case("trailing comma", deploy("{\"name\": \"web\",}"), 400, &["comma", "column 16"]),
        case("unfinished JSON", deploy("{\"name\": \"web\""), 400, &["middle of an object"]),
        case("trailing garbage", deploy("{} x"), 400, &["after the end", "column 4"]),
        case("YAML", deploy("name: web\nimage: nginx\n"), 400, &["line 1", "no JSON"]),
        case("an array", deploy("[]"), 400, &["an array", "JSON object"]),
        case("a string", deploy("\"web\""), 400, &["the string", "JSON object"]),
        case("null", deploy("null"), 400, &["null", "JSON object"]),
        case("nested too deeply", deploy(deep), 400, &["nested too deeply"]),
        case(
            "not UTF-8",
            Sent::Bytes(
                [
                    request("POST", "/deploy", &[JSON, "Content-Length: 4"], ""),
                    b"{\"\xff\"".to_vec(),
                ]
                .concat(),
            ),
            400,
            &["not UTF-8", "0xff"],
        ),
        case("a number too large for JSON", deploy("{\"replicas\": 1e999}"), 400, &["too large"]),
    ]
}

/// Good JSON that is no good workload.
fn spec_cases(ports: &dyn Fn(Value) -> Sent) -> Vec<Case> {
    let health = |check: Value| spec(json!({ "healthCheck": check }));
    vec![
        case("no name", deploy("{\"image\": \"nginx\"}"), 400, &["`name` is missing"]),
        case("no image", deploy("{\"name\": \"web\"}"), 400, &["`image` is missing"]),
        case("number for a name", spec(json!({"name": 5})), 400, &["`name` is 5", "in quotes"]),
        case("text for a number", spec(json!({"replicas": "3"})), 400, &["without quotes"]),
        case("negative replicas", spec(json!({"replicas": -1})), 400, &["is -1", "from 0"]),
        case("half a replica", spec(json!({"replicas": 0.5})), 400, &["is 0.5", "whole number"]),
        case("absurdly many", spec(json!({"replicas": 1_000_000})), 400, &["1000000", "100000"]),
        case("beyond 32 bits", spec(json!({"replicas": 1u64 << 40})), 400, &["whole number"]),
        case(
            "port beyond 16 bits",
            ports(json!([{"containerPort": 70_000}])),
            400,
            &["0 to 65535"],
        ),
        case(
            "memory in thousandths",
            spec(json!({"resources": {"memory": "256m"}})),
            400,
            &["`resources.memory`", "\"256m\"", "256Mi"],
        ),
        case(
            "less memory than Docker gives",
            spec(json!({"resources": {"memory": 4096}})),
            400,
            &["`resources.memory` is 4Ki", "from 6Mi"],
        ),
        case(
            "mount from a parent",
            spec(json!({"mounts": [{"source": "/srv/../etc", "target": "/x"}]})),
            400,
            &["`mounts[0].source`", "'..'"],
        ),
        case(
            "variables from elsewhere",
            spec(json!({"envFrom": [{"file": "../../etc/shadow"}]})),
            400,
            &["`envFrom[0].file`", "without a directory"],
        ),
        case("port 0", ports(json!([{"containerPort": 0}])), 400, &["is 0", "1 to 65535"]),
        case(
            "port twice",
            ports(json!([{"containerPort": 80}, {"containerPort": 80}])),
            400,
            &["`ports[1].containerPort`", "second time"],
        ),
        case(
            "fixed without a port",
            ports(json!([{"containerPort": 80, "fixed": true}])),
            400,
            &["`ports[0].fixed`", "`hostPort`"],
        ),
        case(
            "unknown protocol",
            ports(json!([{"containerPort": 80, "protocol": "sctp"}])),
            400,
            &["\"tcp\" or \"udp\""],
        ),
        case("array for an object", ports(json!([[80]])), 400, &["`ports[0]` is an array"]),
        case("object for an array", ports(json!({})), 400, &["`ports` is an object"]),
        case("unknown field", spec(json!({"replica": 3})), 400, &["`replica`", "`replicas`?"]),
        case(
            "unknown field inside",
            ports(json!([{"containerPort": 80, "hotPort": 1}])),
            400,
            &["`ports[0].hotPort`", "`hostPort`?"],
        ),
        case("a Kubernetes manifest", deploy(MANIFEST), 400, &["Unknown field", "`image`"]),
        case(
            "field twice",
            deploy("{\"name\": \"web\", \"image\": \"a\", \"name\": \"x\"}"),
            400,
            &["`name` is given twice"],
        ),
        case(
            "variable twice",
            deploy("{\"name\": \"web\", \"image\": \"a\", \"env\": {\"A\": \"1\", \"A\": \"2\"}}"),
            400,
            &["`env.A` is given twice"],
        ),
        case("upper-case name", spec(json!({"name": "Web"})), 400, &["\"Web\"", "lower-case"]),
        case("path for a name", spec(json!({"name": "../../etc"})), 400, &["lower-case"]),
        case("long name", spec(json!({"name": "a".repeat(64)})), 400, &["at most 63"]),
        case("other id", spec(json!({"id": "other"})), 400, &["the same as `name`"]),
        case("no image reference", spec(json!({"image": "a b"})), 400, &["no image reference"]),
        case("bad digest", spec(json!({"image": "a@sha256:1"})), 400, &["digest"]),
        case("NUL in an argument", spec(json!({"args": ["a\0b"]})), 400, &["`args[0]`", "NUL"]),
        case("'=' in a variable", spec(json!({"env": {"A=B": "c"}})), 400, &["'='"]),
        case("reserved variable", spec(json!({"env": {"KUBE_LITE_X": ""}})), 400, &["KUBE_LITE_"]),
        case("number in env", spec(json!({"env": {"PORT": 80}})), 400, &["write \"80\""]),
        case("wrong word", spec(json!({"restartPolicy": "Always"})), 400, &["mean \"always\"?"]),
        case("probe without a port", health(json!({})), 400, &["`healthCheck.port` is missing"]),
        case(
            "relative probe path",
            health(json!({"port": 80, "path": "healthz"})),
            400,
            &["starts with '/'"],
        ),
        case(
            "probe without a pause",
            health(json!({"port": 80, "intervalSeconds": 0})),
            400,
            &["`healthCheck.intervalSeconds` is 0"],
        ),
        case(
            "endless grace",
            spec(json!({"stopGracePeriodSeconds": 999_999})),
            400,
            &["0 to 3600"],
        ),
        case(
            "update that cannot begin",
            spec(json!({"strategy": {"maxSurge": 0, "maxUnavailable": 0}})),
            400,
            &["never begin"],
        ),
        case("scale to text", scale("{\"replicas\": \"many\"}"), 400, &["whole number"]),
        case("scale to nothing", scale("{}"), 400, &["`replicas` is missing"]),
        case("scale to -1", scale("{\"replicas\": -1}"), 400, &["is -1"]),
        case("scale too far", scale("{\"replicas\": 100001}"), 400, &["0 to 100000"]),
        case("scale something else", scale("{\"replicas\": 1, \"x\": 2}"), 400, &["`x`"]),
    ]
}

const MANIFEST: &str = r#"{"apiVersion": "apps/v1", "kind": "Deployment",
    "metadata": {"name": "web"}, "spec": {"replicas": 3}}"#;

/// Paths, methods, ids and queries.
fn path_cases() -> Vec<Case> {
    vec![
        case("unknown path", plain("GET", "/workload"), 404, &["GET /workloads"]),
        case("unknown workload", plain("GET", "/workloads/nope"), 404, &["\"nope\""]),
        case("unknown workload's end", plain("DELETE", "/workloads/nope"), 404, &["nope"]),
        case("unknown node", plain("POST", "/nodes/nope/cordon"), 404, &["nope"]),
        case("unknown service", plain("GET", "/discover/nope"), 404, &["\"nope\""]),
        case("unknown instance", plain("GET", "/logs/nope-r1-xxxxx"), 404, &["nope"]),
        case("wrong method", plain("PATCH", "/workloads"), 405, &["\"PATCH\"", "GET"]),
        case("reading what is written to", plain("GET", "/deploy"), 405, &["POST"]),
        case("invented method", plain("BREW", "/workloads"), 405, &["\"BREW\""]),
        case("way up", plain("DELETE", "/workloads/.."), 400, &["lower-case"]),
        case("encoded way up", plain("DELETE", "/workloads/%2e%2e"), 400, &["lower-case"]),
        case("encoded slash", plain("DELETE", "/workloads/a%2fb"), 400, &["lower-case"]),
        case("encoded NUL", plain("DELETE", "/workloads/a%00"), 400, &["lower-case"]),
        case("encoded line end", plain("GET", "/logs/a%0d%0aX"), 400, &["lower-case"]),
        case("encoded non-text", plain("GET", "/workloads/%ff"), 400, &["not UTF-8"]),
        case("empty id", plain("DELETE", "/workloads/"), 400, &["is empty"]),
        case(
            "endless id",
            plain("GET", &format!("/workloads/{}", "a".repeat(5_000))),
            400,
            &["too long"],
        ),
        case("way out of the path", plain("GET", "/workloads/../nodes"), 404, &["nothing at"]),
        case(
            "unknown parameter",
            plain("GET", "/instances?worklod=a"),
            400,
            &["worklod", "`workload`"],
        ),
        case("parameter where none is", plain("GET", "/nodes?x=1"), 400, &["takes none"]),
        case("parameter twice", plain("GET", "/events?since=1&since=2"), 400, &["twice"]),
        case("negative number", plain("GET", "/events?since=-1"), 400, &["\"-1\"", "from 0"]),
        case("neither true nor false", plain("GET", "/events?follow=yes"), 400, &["true or false"]),
        case("tail that is no number", plain("GET", "/logs/a?tail=all"), 400, &["\"all\""]),
    ]
}

/// Sends them all to the scheduler at `addr`, and panics with every answer that
/// is not as it should be.
pub async fn run_all(addr: SocketAddr) {
    let target = json!({"name": TARGET, "image": "nginx", "replicas": 0}).to_string();
    let answer = ask(addr, "POST", "/deploy", &[JSON], &target).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let before = state(addr).await;

    let cases = cases();
    assert!(cases.len() >= 40);
    // One that is made to wait must not make the others wait.
    let mut waiting = tokio::task::JoinSet::new();
    let mut failed = Vec::new();
    for case in cases {
        if case.status == 408 {
            waiting.spawn(async move { check(addr, &case).await });
            continue;
        }
        failed.extend(check(addr, &case).await);
        let after = state(addr).await;
        assert_eq!(after, before, "changed by: {}", case.name);
    }
    failed.extend(waiting.join_all().await.into_iter().flatten());
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));

    assert_eq!(state(addr).await, before);
    let path = format!("/workloads/{TARGET}");
    let answer = ask(addr, "DELETE", &path, &[], "").await;
    assert_eq!(answer.status, 202, "the next good request: {answer:?}");
}

/// Sends one; says what is wrong with the answer, if anything is.
async fn check(addr: SocketAddr, case: &Case) -> Option<String> {
    let answer = send(addr, &case.sent).await;
    let body = answer.json();
    let sentence = body["error"].as_str().unwrap_or_default();
    let shaped =
        body["reason"].is_string() && answer.header("content-type") == Some("application/json");
    let fits = answer.status == case.status
        && (case.words.is_empty() || shaped)
        && case.words.iter().all(|word| sentence.contains(word))
        && sentence.len() < 600;
    let (name, status, words) = (case.name, case.status, case.words);
    (!fits).then(|| format!("{name}: wanted {status} {words:?}, got {answer:?}"))
}

async fn send(addr: SocketAddr, sent: &Sent) -> Answer {
    match sent {
        Sent::Bytes(bytes) => exchange(addr, bytes).await,
        Sent::HalfClosed(bytes) => {
            let mut stream = connect(addr).await;
            stream.write_all(bytes).await.expect("sent");
            stream.shutdown().await.expect("half closed");
            Answer::parse(&read_to_end(&mut stream).await)
        }
        Sent::Endless(head, again) => {
            let mut stream = connect(addr).await;
            let (mut answers, mut sending) = stream.split();
            let send = async {
                let mut sent = sending.write_all(head).await;
                while sent.is_ok() {
                    sent = sending.write_all(again).await;
                    tokio::task::yield_now().await;
                }
                std::future::pending::<()>().await;
            };
            let mut raw = Vec::new();
            let read = tokio::io::AsyncReadExt::read_to_end(&mut answers, &mut raw);
            tokio::select! {
                _ = timeout(PATIENCE + Duration::from_secs(10), read) => {}
                () = send => {}
            }
            Answer::parse(&raw)
        }
    }
}

/// What is wanted, and which nodes there are: all that a request could change.
async fn state(addr: SocketAddr) -> Value {
    let workloads = ask(addr, "GET", "/workloads", &[], "").await.json();
    let nodes = ask(addr, "GET", "/nodes", &[], "").await.json();
    let pick = |list: &Value, keys: &[&str]| -> Vec<Value> {
        let list = list.as_array().expect("a list");
        list.iter().map(|item| keys.iter().map(|key| item[*key].clone()).collect()).collect()
    };
    json!([
        pick(&workloads, &["spec", "revision", "desired"]),
        pick(&nodes, &["id", "schedulable"])
    ])
}
