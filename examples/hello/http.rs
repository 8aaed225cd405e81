//! As much HTTP/1.1 as the sample app needs: one request in, one reply out, on a blocking stream.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Longest request head; roomy, so that `/log` can write lines above Docker's 16 KiB frames.
const HEAD_LIMIT: u64 = 64 * 1024;

/// A request, its body left out.
#[derive(Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub close: bool,
}

impl Request {
    /// Reads one request and skips its body. `InvalidData` is worth an answer, other errors are not.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut head = reader.take(HEAD_LIMIT);
        let mut line = || {
            let mut bytes = Vec::new();
            head.read_until(b'\n', &mut bytes)?;
            match bytes.ends_with(b"\n") {
                true => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
                false if head.limit() == 0 => Err(bad("the request head is above 64 KiB")),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        };
        let first = line()?;
        let words: Vec<&str> = first.split(' ').collect();
        let [method, target, protocol @ ("HTTP/1.1" | "HTTP/1.0")] = words[..] else {
            return Err(bad("this is no HTTP/1.1 request"));
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), percent_decoded(value))
        };
        let mut request = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.split('&').map(pair).collect(),
            close: protocol == "HTTP/1.0",
        };
        let mut body = 0;
        loop {
            let header = line()?.to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            match header.split_once(':').map(|(k, v)| (k, v.trim())) {
                None => return Err(bad("a header without a colon")),
                Some(("connection", "close")) => request.close = true,
                Some(("connection", "keep-alive")) => request.close = false,
                Some(("transfer-encoding", _)) => return Err(bad("send a Content-Length")),
                Some(("content-length", length)) => {
                    body = length.parse().map_err(|_| bad("Content-Length is no number"))?;
                }
                Some(_) => {}
            }
        }
        io::copy(&mut reader.take(body), &mut io::sink())?;
        Ok(request)
    }
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let decoded = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        (rest, _) = match (byte, decoded) {
            (b'%', Some(decoded)) => (&tail[2..], out.push(decoded)),
            (b'+', _) => (tail, out.push(b' ')),
            _ => (tail, out.push(*byte)),
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// An answer, and the code to exit with once it is sent.
#[derive(Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub kind: &'static str,
    pub body: String,
    pub exit: Option<u8>,
}

pub fn reply(status: u16, body: impl Into<String>) -> Reply {
    Reply { status, kind: "text/plain; charset=utf-8", body: body.into(), exit: None }
}

impl Reply {
    /// Sends the reply, with headers of our own, in one piece.
    pub fn send(&self, mut to: &TcpStream, close: bool, own: &[(&str, &str)]) -> io::Result<()> {
        let word = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Service Unavailable",
        };
        let clean = |value: &str| value.replace(char::is_control, " ");
        let own = own.iter().map(|(name, value)| format!("{name}: {}\r\n", clean(value)));
        let answer = format!(
            "HTTP/1.1 {} {word}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {}\r\n{}\r\n{}",
            self.status,
            self.kind,
            self.body.len(),
            if close { "close" } else { "keep-alive" },
            own.collect::<String>(),
            self.body,
        );
        to.write_all(answer.as_bytes())
    }
}

/// Lets the client read the last answer before the connection, or the whole process, goes.
pub fn linger(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let _ = stream.read(&mut [0; 1024]);
    Ok(())
}

/// A whole number from 0 to `max`, nothing if it is not given, or a sentence that says what is wrong.
pub fn number(
    given: &BTreeMap<String, String>,
    name: &str,
    max: u64,
) -> Result<Option<u64>, String> {
    let Some(value) = given.get(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match value.parse() {
        Ok(number) if number <= max => Ok(Some(number)),
        _ => Err(format!("{name} must be a whole number from 0 to {max}, not {value:?}")),
    }
}

/// A JSON string.
pub fn json(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", c as u32),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, String> {
        Request::read(&mut text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_requests_one_after_the_other() {
        let two = "POST /log?line=a+b%21%zz&n=2 HTTP/1.1\r\ncontent-length: 3\r\n\r\nxyzGET / HTTP/1.0\n\n";
        let mut bytes = two.as_bytes();
        let first = Request::read(&mut bytes).unwrap();
        assert_eq!(
            (first.method.as_str(), first.path.as_str(), first.close),
            ("POST", "/log", false)
        );
        assert_eq!(first.query["line"], "a b!%zz");
        assert_eq!(first.query["n"], "2");
        let second = Request::read(&mut bytes).unwrap();
        assert_eq!((second.path.as_str(), second.close), ("/", true));
        assert!(bytes.is_empty());
    }

    #[test]
    fn says_what_is_wrong_with_a_request() {
        let wrong = |text: &str| read(text).unwrap_err();
        assert!(wrong("\u{16}\u{3}\n").contains("no HTTP/1.1"));
        assert!(wrong("GET / HTTP/1.1\nfoo\n\n").contains("colon"));
        assert!(wrong("GET / HTTP/1.1\ncontent-length: -1\n\n").contains("no number"));
        assert!(wrong("GET / HTTP/1.1\ntransfer-encoding: chunked\n\n").contains("Content-Length"));
        assert!(wrong(&format!("GET /{} HTTP/1.1\n\n", "x".repeat(70_000))).contains("64 KiB"));
    }
}
