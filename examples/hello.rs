//! hello: the sample app, and the app whose misbehaviour the tests control.
//!
//! A small HTTP/1.1 server that says which instance answers. The only file in its image, it runs as
//! process 1 and looks after SIGTERM itself. `examples/README.md` lists how it is told to misbehave.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[path = "hello/http.rs"]
mod http;
use http::{Reply, Request, json, linger, number, reply};

/// A connection without a request for this long is closed.
const IDLE: Duration = Duration::from_secs(75);
/// How long a stop waits for requests that are being answered.
const FINISH: Duration = Duration::from_secs(3);
const HOUR_MS: u64 = 3_600_000;
const ROUTES: &str = "routes: / /json /healthz /env /slow?ms=N /exit?code=N \
    /log?line=TEXT&stream=stdout|stderr&n=N /eat?mib=N /set/healthy /set/unhealthy /set/hang /set/blip?n=N\n";

type Text = BTreeMap<String, String>;

/// How health checks are answered.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Healthy,
    Unhealthy,
    Hang,
    /// This many failures, then healthy.
    Blip(u64),
}

/// What the environment asks for, read once at start.
struct Settings {
    port: u16,
    version: String,
    instance: String,
    node: String,
    mood: Mood,
    unhealthy_after: Option<Duration>,
    exit: Option<(u8, Duration)>,
    start_delay: Duration,
    term_delay: Duration,
    ignore_term: bool,
    log_requests: bool,
}

impl Settings {
    fn read(env: &Text) -> Result<Self, String> {
        let text = |name, default: &str| env.get(name).map_or(default, |s| s).to_owned();
        let delay = |name| Ok::<_, String>(number(env, name, HOUR_MS)?.map(Duration::from_millis));
        let switch = |name| Ok::<_, String>(number(env, name, 1)? == Some(1));
        let after = delay("HELLO_EXIT_AFTER_MS")?;
        let code = number(env, "HELLO_EXIT_CODE", 255)?;
        if after.is_some() && code.is_none() {
            return Err("HELLO_EXIT_AFTER_MS needs HELLO_EXIT_CODE".into());
        }
        let (hang, unhealthy) = (switch("HELLO_HANG")?, switch("HELLO_UNHEALTHY")?);
        Ok(Self {
            port: number(env, "PORT", u16::MAX.into())?.unwrap_or(8080) as u16,
            version: text("VERSION", "v1"),
            instance: text("KUBE_LITE_INSTANCE", "nobody"),
            node: text("KUBE_LITE_NODE", "nowhere"),
            mood: match (hang, unhealthy) {
                (true, _) => Mood::Hang,
                (_, true) => Mood::Unhealthy,
                _ => Mood::Healthy,
            },
            unhealthy_after: delay("HELLO_UNHEALTHY_AFTER_MS")?,
            exit: code.map(|code| (code as u8, after.unwrap_or_default())),
            start_delay: delay("HELLO_START_DELAY_MS")?.unwrap_or_default(),
            term_delay: delay("HELLO_TERM_DELAY_MS")?.unwrap_or_default(),
            ignore_term: switch("HELLO_IGNORE_TERM")?,
            log_requests: switch("HELLO_LOG_REQUESTS")?,
        })
    }
}

/// The server, shared by all connections.
struct App {
    settings: Settings,
    mood: Mutex<Mood>,
    /// Requests being answered; a stop lets them finish.
    busy: AtomicUsize,
    /// Clients are asked to leave.
    stopping: AtomicBool,
    /// Memory that was asked for, and is never given back.
    eaten: Mutex<Vec<Vec<u8>>>,
}

impl App {
    fn new(settings: Settings) -> Self {
        Self {
            mood: Mutex::new(settings.mood),
            settings,
            busy: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            eaten: Mutex::default(),
        }
    }

    fn set(&self, mood: Mood) -> Reply {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
        reply(200, format!("health checks: {mood:?}\n").to_lowercase())
    }

    /// The answer to one health check; `None` is never to answer.
    fn health(&self) -> Option<Reply> {
        let mut mood = self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        match *mood {
            Mood::Hang => return None,
            Mood::Healthy | Mood::Blip(0) => return Some(reply(200, "ok\n")),
            Mood::Unhealthy => {}
            Mood::Blip(left) => *mood = Mood::Blip(left - 1),
        }
        Some(reply(503, "unhealthy\n"))
    }

    /// Does what is asked and says so; `None` is never to answer.
    fn answer(&self, request: &Request) -> Option<Reply> {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/healthz") => self.health(),
            _ => Some(self.route(request).unwrap_or_else(|wrong| reply(400, wrong + "\n"))),
        }
    }

    fn route(&self, request: &Request) -> Result<Reply, String> {
        let ask = |name, max, default| {
            number(&request.query, name, max).map(|given| given.unwrap_or(default))
        };
        let (method, path) = (request.method.as_str(), request.path.as_str());
        let changes = path.starts_with("/set/") || ["/exit", "/log", "/eat"].contains(&path);
        if !matches!((method, changes), ("GET", _) | ("POST", true)) {
            return Ok(reply(405, format!("no {method} for {path}\n{ROUTES}")));
        }
        let Settings { version, instance, node, .. } = &self.settings;
        Ok(match path {
            "/" => reply(200, format!("hello from {instance} on {node}, version {version}\n")),
            "/json" => {
                let fields = [("instance", instance), ("node", node), ("version", version)];
                let fields = fields.map(|(name, value)| format!("\"{name}\":{}", json(value)));
                Reply {
                    kind: "application/json",
                    ..reply(200, format!("{{{}}}\n", fields.join(",")))
                }
            }
            "/env" => {
                let lines = environment().into_iter().map(|(k, v)| format!("{k}={v}\n"));
                reply(200, lines.collect::<String>())
            }
            "/slow" => {
                let ms = ask("ms", HOUR_MS, 1000)?;
                sleep(Duration::from_millis(ms));
                reply(200, format!("after {ms} ms\n"))
            }
            "/exit" => {
                let code = ask("code", 255, 0)?;
                Reply { exit: Some(code as u8), ..reply(200, format!("exiting with {code}\n")) }
            }
            "/log" => {
                let write: fn(&str) = match request.query.get("stream").map(String::as_str) {
                    None | Some("stdout") => log,
                    Some("stderr") => complain,
                    Some(other) => return Err(format!("no stream {other:?}: stdout or stderr")),
                };
                let line = request.query.get("line");
                let line = line.ok_or("line is missing: /log?line=TEXT")?;
                match ask("n", 1_000_000, 1)? {
                    1 => write(line),
                    n => (1..=n).for_each(|i| write(&format!("{line} {i}"))),
                }
                reply(200, "written\n")
            }
            "/eat" => {
                let mib = ask("mib", 1 << 20, 64)?;
                let memory = vec![1; (mib as usize) << 20]; // not 0: those are shared until written
                self.eaten.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
                reply(200, format!("{mib} MiB eaten\n"))
            }
            "/set/healthy" => self.set(Mood::Healthy),
            "/set/unhealthy" => self.set(Mood::Unhealthy),
            "/set/hang" => self.set(Mood::Hang),
            "/set/blip" => self.set(Mood::Blip(ask("n", 1_000_000, 1)?)),
            _ => reply(404, format!("there is no {path}\n{ROUTES}")),
        })
    }

    /// Serves one connection until it ends.
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IDLE))?;
        let mut reader = BufReader::new(stream);
        let who = [
            ("X-Instance", self.settings.instance.as_str()),
            ("X-Version", self.settings.version.as_str()),
        ];
        loop {
            let request = match Request::read(&mut reader) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    reply(400, format!("{error}\n")).send(stream, true, &who)?;
                    return linger(stream);
                }
                request => request?,
            };
            self.busy.fetch_add(1, SeqCst);
            let answer = self.answer(&request);
            let exit = answer.as_ref().and_then(|reply| reply.exit);
            let close = request.close || exit.is_some() || self.stopping.load(SeqCst);
            let sent = answer.as_ref().map(|reply| reply.send(stream, close, &who));
            self.busy.fetch_sub(1, SeqCst);
            if self.settings.log_requests {
                let status = answer.map_or("no answer".into(), |reply| reply.status.to_string());
                log(&format!("{} {} {status}", request.method, request.path));
            }
            let Some(sent) = sent else {
                stream.set_read_timeout(None)?;
                return io::copy(&mut reader, &mut io::sink()).map(drop);
            };
            sent?;
            if close {
                linger(stream)?;
                return exit.map_or(Ok(()), |code| leave(code, "by request"));
            }
        }
    }

    /// SIGTERM: serve on for the delay, let running requests finish, exit 0.
    fn stop(&self) -> ! {
        sleep(self.settings.term_delay);
        self.stopping.store(true, SeqCst);
        let deadline = Instant::now() + FINISH;
        while self.busy.load(SeqCst) > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(5));
        }
        exit(0)
    }
}

fn environment() -> Text {
    let all = std::env::vars_os();
    all.map(|(k, v)| (k.to_string_lossy().into(), v.to_string_lossy().into())).collect()
}

/// A line on stdout; a log that nobody takes is no reason to stop.
fn log(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line on stderr, in one piece.
fn complain(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn leave(code: u8, why: &str) -> ! {
    complain(&format!("exiting with {code}: {why}"));
    exit(code.into())
}

fn fail<T>(code: u8) -> impl FnOnce(String) -> T {
    move |why| leave(code, &why)
}

/// Does something later, beside everything else.
fn after(delay: Duration, what: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        sleep(delay);
        what()
    });
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--version") => return log(concat!("hello ", env!("CARGO_PKG_VERSION"))),
        Some(other) => leave(2, &format!("there is only --version, no {other}")),
    }
    let settings = Settings::read(&environment()).unwrap_or_else(fail(2));
    let app = Arc::new(App::new(settings));

    // Process 1 has no default signal handling: without this, SIGTERM would do nothing.
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| format!("no signals: {e}"));
    let mut signals = signals.unwrap_or_else(fail(1));
    let on_signal = app.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGTERM && on_signal.settings.ignore_term {
                complain("ignoring SIGTERM");
                continue;
            }
            complain("stopping");
            let app = on_signal.clone();
            after(Duration::ZERO, move || app.stop());
        }
    });

    match app.settings.exit {
        Some((code, Duration::ZERO)) => leave(code, "HELLO_EXIT_CODE"),
        Some((code, delay)) => after(delay, move || leave(code, "HELLO_EXIT_CODE")),
        None => {}
    }
    if let Some(delay) = app.settings.unhealthy_after {
        let app = app.clone();
        after(delay, move || drop(app.set(Mood::Unhealthy)));
    }
    sleep(app.settings.start_delay);

    let port = app.settings.port;
    let listener = TcpListener::bind(("0.0.0.0", port))
        .and_then(|listener| Ok((listener.local_addr()?, listener)))
        .map_err(|e| format!("cannot listen on port {port}: {e}"));
    let (address, listener) = listener.unwrap_or_else(fail(1));
    let (instance, version) = (&app.settings.instance, &app.settings.version);
    log(&format!("hello {instance} version {version} listening on {address}"));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            sleep(Duration::from_millis(10)); // out of descriptors
            continue;
        };
        let app = app.clone();
        // Without a thread left the connection is dropped, and the client sees it close.
        let _ = thread::Builder::new().stack_size(256 * 1024).spawn(move || app.serve(&stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Text {
        let pairs = pairs.iter();
        pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn app(pairs: &[(&str, &str)]) -> App {
        App::new(Settings::read(&env(pairs)).unwrap())
    }

    fn get(app: &App, target: &str) -> (u16, String) {
        let head = format!("GET {target} HTTP/1.1\r\n\r\n");
        let request = Request::read(&mut head.as_bytes()).unwrap();
        let reply = app.answer(&request);
        reply.map_or((0, String::new()), |reply| (reply.status, reply.body))
    }

    #[test]
    fn wrong_environment_is_named() {
        let wrong = |name, value| Settings::read(&env(&[(name, value)])).err().unwrap();
        assert!(wrong("PORT", "65536").contains("from 0 to 65535, not \"65536\""));
        assert!(wrong("HELLO_HANG", "yes").starts_with("HELLO_HANG must be"));
        assert!(wrong("HELLO_EXIT_AFTER_MS", "5").contains("needs HELLO_EXIT_CODE"));
        assert_eq!(Settings::read(&env(&[("PORT", "")])).unwrap().port, 8080);
    }

    #[test]
    fn says_who_answers() {
        let app = app(&[("KUBE_LITE_INSTANCE", "a\"b"), ("KUBE_LITE_NODE", "n1")]);
        let plain = "hello from a\"b on n1, version v1\n";
        assert_eq!(get(&app, "/"), (200, plain.into()));
        let json = "{\"instance\":\"a\\\"b\",\"node\":\"n1\",\"version\":\"v1\"}\n";
        assert_eq!(get(&app, "/json"), (200, json.into()));
        assert_eq!(get(&app, "/nowhere").0, 404);
    }

    #[test]
    fn health_does_as_told() {
        let app = app(&[("HELLO_UNHEALTHY", "1")]);
        let check = || get(&app, "/healthz").0;
        assert_eq!(check(), 503);
        assert_eq!(get(&app, "/set/blip?n=2").0, 200);
        assert_eq!([check(), check(), check(), check()], [503, 503, 200, 200]);
        assert_eq!(get(&app, "/set/hang").0, 200);
        assert_eq!(check(), 0);
        assert_eq!(get(&app, "/set/healthy").0, 200);
        assert_eq!(check(), 200);
        assert_eq!(get(&app, "/set/blip?n=x").0, 400);
        assert_eq!(check(), 200);
    }
}
