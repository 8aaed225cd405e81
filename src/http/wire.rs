//! One TCP connection, as hyper is to see it: a reader that never reads cannot
//! hold it forever, and an answer that was sent before the request was read to
//! its end still reaches the client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep};

/// How long and for how many bytes a closed connection is still read.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 20;

/// The receiving side, shared with the live streams on the connection, which
/// watch it for the client's leaving.
pub(super) type Ear = Arc<OwnedReadHalf>;

/// A connection with a limit on how long a write may make no progress, and a
/// close that lingers.
///
/// Closing a socket that has unread data resets the connection, and a reset
/// destroys what was sent but not yet received: a client that is still sending
/// a body would never see its 413. So after the last byte it is read on for a
/// moment, into nothing.
#[derive(Debug)]
pub(super) struct Wire {
    ear: Ear,
    mouth: OwnedWriteHalf,
    /// Longest time without progress while there is something to write.
    write_stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    heard_end: bool,
    lingering: Option<Linger>,
}

#[derive(Debug)]
struct Linger {
    until: Pin<Box<Sleep>>,
    bytes: usize,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, write_stall: Duration) -> (Self, Ear) {
        let (ear, mouth) = stream.into_split();
        let ear = Arc::new(ear);
        let wire = Self {
            ear: ear.clone(),
            mouth,
            write_stall,
            stalled: None,
            heard_end: false,
            lingering: None,
        };
        (wire, ear)
    }

    /// Passes on what became of a write, unless the other side has been taking
    /// nothing for too long.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.write_stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the client has read nothing for {} s", limit.as_secs_f64()),
        )))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.ear.as_ref().as_ref().poll_read_ready(cx))?;
            match self.ear.try_read_buf(buffer) {
                Ok(count) => {
                    self.heard_end |= count == 0;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.heard_end = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.mouth).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.mouth).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.mouth.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.mouth).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.mouth).poll_shutdown(cx))?;
            let until = Box::pin(tokio::time::sleep_until(Instant::now() + LINGER));
            self.lingering = Some(Linger { until, bytes: 0 });
        }
        let mut scrap = [0; 8192];
        while !self.heard_end {
            let Some(linger) = &mut self.lingering else { break };
            if linger.bytes > LINGER_BYTES || linger.until.as_mut().poll(cx).is_ready() {
                break;
            }
            let mut buffer = ReadBuf::new(&mut scrap);
            if ready!(self.as_mut().poll_read(cx, &mut buffer)).is_err() {
                break;
            }
            if let Some(linger) = &mut self.lingering {
                linger.bytes += buffer.filled().len();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Waits until the client has closed its sending side, which for a stream that
/// never ends by itself means that it has left.
pub(super) async fn client_left(ear: Ear) {
    let stream = ear.as_ref().as_ref();
    loop {
        match stream.peek(&mut [0]).await {
            Ok(0) | Err(_) => return,
            // The next request is already here and hides the end behind it, if
            // there is one; looking now and then is enough.
            Ok(_) => {
                let ready = stream.ready(tokio::io::Interest::READABLE).await;
                if ready.is_ok_and(|ready| ready.is_read_closed()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}
