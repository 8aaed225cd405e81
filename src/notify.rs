//! Telling systemd how this process is: sd_notify(3). Without systemd, nobody is told.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// It has started: it listens.
pub fn ready() {
    tell("READY=1");
}

/// It is about to end.
pub fn stopping() {
    tell("STOPPING=1");
}

/// Says again and again that this process lives, for as long as `lives` says so. If it
/// ever does not, systemd is left waiting, and after `WatchdogSec=` it starts another.
/// Never returns where anybody listens; returns at once where nobody does.
pub async fn keep_alive<F: Future<Output = bool>>(mut lives: impl FnMut() -> F) {
    let Some(interval) = interval() else { return };
    loop {
        tokio::time::sleep(interval).await;
        if lives().await {
            tell("WATCHDOG=1");
        } else {
            tracing::error!("the task that decides has not moved for {interval:?}");
        }
    }
}

/// Half of the time within which systemd wants to hear of this process.
fn interval() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let of_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| of_us && *micros > 1)?;
    Some(Duration::from_micros(micros / 2))
}

fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("systemd was not told {state}: {error}");
    }
}

fn send(socket: &OsStr, state: &str) -> std::io::Result<()> {
    // With an @ it is a name that no file has.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("kube-lite-notify-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{name}").into()),
        ];
        for (listener, address) in sockets {
            send(&address, "READY=1").unwrap();
            let mut heard = [0; 16];
            let length = listener.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
    }
}
