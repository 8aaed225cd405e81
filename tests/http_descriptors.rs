//! Running out of file descriptors must not end a server. In a test binary of
//! its own, since the limit is the whole process's.

mod support;

use hyper::Method;
use kube_lite::http::{Access, Handler, Options, Reply, Request, Route};
use kube_lite::model::ApiError;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::raw::{PATIENCE, ask, connect};
use tokio::net::{TcpListener, TcpStream};

struct Hello;

impl Handler for Hello {
    type Call = ();
    const ROUTES: &'static [Route<()>] =
        &[Route::new(Method::GET, "/", (), Access::Public, "Says hello")];

    async fn handle(&self, _request: Request<()>) -> Result<Reply, ApiError> {
        Ok(Reply::text(200, "hello\n"))
    }
}

#[tokio::test]
async fn a_server_survives_having_no_descriptors_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server =
        kube_lite::http::serve(listener, Hello, Options::default(), std::future::pending());
    let server = tokio::spawn(server);
    assert_eq!(ask(addr, "GET", "/", &[], "").await.status, 200);

    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, open + 15, hard).unwrap();
    // Each connection takes one descriptor here and one there; in the end
    // several wait in the queue and the server cannot take them.
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect(addr).await {
        held.push(stream);
    }
    assert!(held.len() >= 7, "only {}", held.len());
    tokio::time::sleep(std::time::Duration::from_millis(150)).await; // let it fail a little

    drop(held);
    let answer = tokio::time::timeout(PATIENCE, async {
        let _ = connect(addr).await;
        ask(addr, "GET", "/", &[], "").await
    })
    .await
    .expect("answers again");
    assert_eq!(answer.status, 200);
    assert!(!server.is_finished());
}
