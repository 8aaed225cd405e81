//! The typed client against real sockets, whole and broken.

mod ctl_support;

use std::time::Duration;

use ctl_support::{Act, CHUNKED, Server, answer, chunk, closed_port, error, ok};
use kube_lite::client::{AgentClient, Client, ClientError};
use kube_lite::model::wire::{Fence, StopRequest};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

async fn client_of(act: Act) -> (Server, Client) {
    let server = Server::start(move |_| act.clone()).await;
    let client = Client::new(&server.url()).expect("a good address");
    (server, client)
}

#[tokio::test]
async fn what_is_sent_and_read() {
    let server = Server::start(|seen| match seen.line.as_str() {
        "POST /deploy" => ok(r#"{"id":"web","revision":3,"futureField":{"a":1}}"#),
        "PUT /workloads/web/scale" => ok(""),
        "DELETE /nodes/n-1" => ok("{}"),
        _ => ok("[]"),
    })
    .await;
    let client = Client::new(&server.url()).expect("a good address");
    let made = client.deploy("{\"name\": \"web\"}".into()).await.expect("deployed");
    assert_eq!((made.id.as_str(), made.revision, made.warnings.len()), ("web", 3, 0));
    client.scale("web", 5).await.expect("an empty body is fine");
    client.remove_node("n-1").await.expect("so is any JSON");
    assert!(client.instances(Some("web")).await.expect("a list").is_empty());

    let seen = server.seen();
    let lines: Vec<&str> = seen.iter().map(|request| request.line.as_str()).collect();
    let wanted = [
        "POST /deploy",
        "PUT /workloads/web/scale",
        "DELETE /nodes/n-1",
        "GET /instances?workload=web",
    ];
    assert_eq!(lines, wanted);
    assert_eq!(seen[0].body, "{\"name\": \"web\"}", "word for word, for positions in errors");
    assert_eq!(seen[1].body, r#"{"replicas":5}"#);
    assert!(seen[0].head.contains("content-type: application/json"));
    assert!(seen[0].head.contains("user-agent: kube-lite/"));
    assert!(seen.iter().all(|request| request.connection == 0), "one connection is enough");
}

#[tokio::test]
async fn nobody_there() {
    let address = closed_port().await;
    let client = Client::new(&address.to_string()).expect("a good address");
    let error = client.workloads().await.expect_err("nobody there");
    assert_eq!(
        error.to_string(),
        format!("cannot reach http://{address}/workloads (connection refused)")
    );
    assert!(matches!(error, ClientError::Unreachable { .. }) && error.is_transient());
}

#[tokio::test]
async fn no_answer_in_time() {
    for said in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n[1,2"] {
        let (_server, client) = client_of(Act::SayAndHang(said.into())).await;
        let client = client.with_timeout(Duration::from_millis(100));
        let error = client.workloads().await.expect_err("hangs");
        assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
        assert!(error.to_string().ends_with("/workloads within 0.1 s"), "{error}");
    }
}

#[tokio::test]
async fn errors_of_ours_keep_everything() {
    let body = r#"{"error":"ports[0].hostPort: 70000 is too large","reason":"InvalidField","field":"ports[0].hostPort"}"#;
    let (_server, client) = client_of(error("400 Bad Request", body)).await;
    let ClientError::Api(error) = client.deploy("{}".into()).await.expect_err("refused") else {
        panic!("not an answer of ours")
    };
    assert_eq!(error.status, 400);
    assert_eq!(error.reason, "InvalidField");
    assert_eq!(error.field.as_deref(), Some("ports[0].hostPort"));
    assert_eq!(error.to_string(), "ports[0].hostPort: 70000 is too large");
}

#[tokio::test]
async fn retry_after_comes_from_the_header_too() {
    let reply = answer("503 Service Unavailable", "retry-after: 7\r\n", r#"{"error":"busy"}"#);
    let (_server, client) = client_of(Act::Say(reply)).await;
    let error = client.workloads().await.expect_err("busy");
    assert!(error.is_transient());
    let ClientError::Api(error) = error else { panic!("not an answer of ours") };
    assert_eq!((error.status, error.retry_after_seconds), (503, Some(7)));
}

#[tokio::test]
async fn answers_that_no_kube_lite_gives() {
    let page = "<html>\n  <h1>502 Bad Gateway</h1>\n</html>";
    let cases = [
        (
            Act::Say(answer("502 Bad Gateway", "", page)),
            r#"answered 502 Bad Gateway and "<html> <h1>502 Bad Gateway</h1> </html>"; is it kube-lite?"#,
        ),
        (
            Act::Say(answer("404 Not Found", "", "")),
            "answered 404 Not Found and nothing more; is it kube-lite?",
        ),
        (Act::Say(answer("200 OK", "", page)), "answered something unexpected"),
        (ok(r#"{"not":"a list"}"#), "answered something unexpected"),
        (Act::SayAndClose(Vec::new()), "closed the connection early"),
        (Act::SayAndClose(b"SSH-2.0-OpenSSH\r\n".to_vec()), "closed the connection early"),
    ];
    for (act, wanted) in cases {
        let (_server, client) = client_of(act.clone()).await;
        let error = client.workloads().await.expect_err("no good answer");
        assert!(matches!(error, ClientError::BadReply { .. }), "{act:?}: {error:?}");
        assert!(error.to_string().contains(wanted), "{act:?}: {error}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_not_an_error() {
    let server = Server::start(|_| Act::SayAndClose(answer("200 OK", "", "[]"))).await;
    let client = Client::new(&server.url()).expect("a good address");
    for _ in 0..20 {
        client.workloads().await.expect("asked again over a new connection");
    }
}

/// Killed after it has done what was asked and before it said so: nobody is there
/// to be asked again, but that does not mean that nothing was done.
#[tokio::test]
async fn what_may_have_been_done_is_not_said_to_be_undone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let client = Client::new(&listener.local_addr().expect("an address").to_string());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        drop(listener);
        // All of it: what is closed with something unread is reset.
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.expect("the request");
        }
    });
    let error = client.expect("a good address").delete("web").await.expect_err("no answer");
    assert!(matches!(error, ClientError::BadReply { .. }), "{error:?}");
    assert!(error.is_transient());
}

/// Undone twice is done again: such a call is not repeated.
#[tokio::test]
async fn steps_of_a_rollout_are_asked_for_once() {
    let (server, client) = client_of(Act::SayAndClose(Vec::new())).await;
    for steer in [
        client.undo_rollout("web", None).await,
        client.abort_rollout("web").await,
        client.pause_rollout("web").await,
        client.resume_rollout("web").await,
    ] {
        assert!(matches!(steer, Err(ClientError::BadReply { .. })), "{steer:?}");
    }
    assert_eq!(server.seen().len(), 4, "{:?}", server.seen());
}

#[tokio::test]
async fn a_stream_is_handed_out_as_it_arrives_and_ends() {
    let head = format!("{CHUNKED}{}", chunk("one\ntw"));
    let end = format!("{}0\r\n\r\n", chunk("o\r\n\nlast"));
    let pieces = vec![head.into_bytes(), end.into_bytes()];
    let (_server, client) = client_of(Act::Dribble(Duration::from_millis(20), pieces)).await;
    let mut lines = client.logs("web-r1-x", Some(10), true).await.expect("a stream").lines();
    let mut got = Vec::new();
    while let Some(line) = lines.next_line().await.expect("a proper end") {
        got.push(String::from_utf8(line.to_vec()).expect("text"));
    }
    assert_eq!(got, ["one", "two", "", "last"]);
    assert_eq!(lines.next_line().await, Ok(None), "and stays at its end");
}

#[tokio::test]
async fn a_stream_that_breaks_says_so_after_what_came() {
    let said = format!("{CHUNKED}{}", chunk("one\ntw"));
    let (_server, client) = client_of(Act::SayAndClose(said.into_bytes())).await;
    let mut lines = client.events(None, None, true).await.expect("a stream");
    assert_eq!(lines.next_line().await, Ok(Some("one".into())));
    let error = lines.next_line().await.expect_err("cut off");
    assert!(error.to_string().contains("closed the connection early"), "{error}");
}

#[tokio::test]
async fn a_stream_may_be_silent_for_longer_than_an_answer_may_take() {
    let head = CHUNKED.as_bytes().to_vec();
    let end = format!("{}0\r\n\r\n", chunk("late\n")).into_bytes();
    let (_server, client) =
        client_of(Act::Dribble(Duration::from_millis(150), vec![head, end])).await;
    let client = client.with_timeout(Duration::from_millis(290));
    let mut lines = client.events(None, None, true).await.expect("a stream");
    assert_eq!(lines.next_line().await, Ok(Some("late".into())));
}

#[tokio::test]
async fn a_refused_stream_is_an_error() {
    let (_server, client) =
        client_of(error("410 Gone", r#"{"error":"too old","reason":"Gone"}"#)).await;
    let error = client.events(Some(1), None, true).await.expect_err("gone");
    assert_eq!(error.status(), Some(410));
}

#[tokio::test]
async fn orders_go_to_the_agent_named() {
    let server = Server::start(|_| {
        let body = r#"{"incarnation":7,"seq":3,"id":"web-r1-x"}"#;
        Act::Say(answer("202 Accepted", "", body))
    })
    .await;
    let agents = AgentClient::new(Duration::from_secs(5));
    let fence = Fence { cluster: "c".into(), node: "n".into(), incarnation: 7, epoch: 1 };
    let order = StopRequest { fence, drain_ms: 0, why: "scaled down".to_owned() };
    let address = server.address.to_string();
    let noted = agents.stop(&address, &"web-r1-x".into(), &order).await.expect("noted");
    assert_eq!((noted.incarnation, noted.seq), (7, 3));
    assert_eq!(server.seen()[0].line, "POST /stop/web-r1-x");
    let gone = agents.stop(&closed_port().await.to_string(), &"x".into(), &order).await;
    assert!(matches!(gone, Err(ClientError::Unreachable { .. })), "{gone:?}");
}
