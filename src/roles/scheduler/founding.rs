//! `kube-lite scheduler --init`: makes a cluster of those who can prove who they are.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;

use crate::http::Hosts;
use crate::identity::keeper;

/// Founds the cluster and says what to do next. The one line on standard output is
/// the command that lets a machine join.
pub(super) fn found(listen: &str, hosts: &[String], data_dir: &Path) -> anyhow::Result<()> {
    let names = Hosts::parse(hosts).map_err(anyhow::Error::msg)?;
    let names: Vec<String> = names.names().map(str::to_owned).collect();
    let scheduler = reached_at(listen, &names)?;
    let dir = data_dir.display();
    let Some(founded) = keeper::found(data_dir, &scheduler, &names)? else {
        eprintln!(
            "{dir} has its authority and its admin already; nothing was changed.\n\
             To let a machine join: kube-lite ctl token create --role join"
        );
        return Ok(());
    };
    let local = scheduler.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
    let listens = |port| if local { String::new() } else { format!(" --listen :{port}") };
    let port = scheduler.rsplit_once(':').map_or("8080", |(_, port)| port);
    eprintln!(
        "This cluster has an authority of its own now, in {dir}/identity; keep a copy of it in a \
         safe place.\n\
         Start the scheduler:  kube-lite scheduler --data-dir {dir}{}\n\
         Be its admin:         export KUBE_LITE_CREDENTIALS={}\n\
         On each node, within 24 hours, the line below. Whoever has it can add a node.",
        if local { format!(" --listen {scheduler}") } else { listens(port) },
        founded.admin_file.display(),
    );
    let mut out = std::io::stdout().lock();
    let invitation = founded.invitation.text();
    writeln!(out, "kube-lite agent --join {invitation}{}", listens("8081"))?;
    Ok(out.flush()?)
}

/// `host:port` for agents and people: the first name, or the address to listen on.
fn reached_at(listen: &str, names: &[String]) -> anyhow::Result<String> {
    let Some((host, port)) =
        listen.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0))
    else {
        bail!("--init takes --listen HOST:PORT with the port that is to be used, not {listen:?}");
    };
    match names.first() {
        Some(name) => Ok(format!("{name}:{port}")),
        None if matches!(host, "" | "0.0.0.0" | "[::]" | "*") => bail!(
            "under which name or address do other machines reach this one? Say it: --host NAME"
        ),
        None => Ok(format!("{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is_reached() {
        let names = ["sched.example".to_owned(), "10.0.0.1".to_owned()];
        assert_eq!(reached_at("127.0.0.1:8080", &[]).unwrap(), "127.0.0.1:8080");
        assert_eq!(reached_at("127.0.0.1:8080", &names).unwrap(), "sched.example:8080");
        assert_eq!(reached_at(":9", &names).unwrap(), "sched.example:9");
        assert_eq!(reached_at("10.0.0.1:9", &[]).unwrap(), "10.0.0.1:9");
        for bad in [":8080", "0.0.0.0:8080", "[::]:1"] {
            assert!(reached_at(bad, &[]).unwrap_err().to_string().contains("--host"), "{bad}");
        }
        for bad in ["box", "box:0", "box:x"] {
            assert!(reached_at(bad, &names).is_err(), "{bad}");
        }
    }
}
