//! Four hosts, each with a network, a Docker daemon and an agent of its own, as a
//! cluster with TLS. What is right is what Docker says on each of them.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use kube_lite::client::{AgentClient, Client, ClientError};
use kube_lite::model::wire::{Fence, StopRequest};

use kube_lite_testkit::hosts::Hosts;
use kube_lite_testkit::network::Fault;
use kube_lite_testkit::sandbox::hello_probed;
use kube_lite_testkit::{LONG, Process, SHORT, http, second, until};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// When each container was started, by host.
type Started = BTreeMap<String, BTreeMap<String, String>>;

/// Runs `body` with so many hosts. One such test at a time: each is a daemon.
fn with_hosts<F: Future<Output = ()>>(
    count: u8,
    options: &'static [&'static str],
    body: impl FnOnce(Hosts) -> F + Send + 'static,
) {
    static ONE: Mutex<()> = Mutex::new(());
    if second::is_skipped() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    second::apart(move || async move { body(Hosts::start_with(BIN, count, options).await).await });
}

fn with_four_hosts<F: Future<Output = ()>>(body: impl FnOnce(Hosts) -> F + Send + 'static) {
    with_hosts(4, &[], body);
}

/// Waits until all of a workload is ready, nothing is too much, and the daemons of
/// all hosts together run exactly that.
async fn settles(hosts: &Hosts, count: u32) -> Started {
    hosts.ready("web", count).await;
    until(&format!("{count} containers on all hosts"), LONG, || async {
        let started = hosts.started().await;
        let all: usize = started.values().map(BTreeMap::len).sum();
        if all == count as usize { Ok(started) } else { Err(format!("{started:?}")) }
    })
    .await
}

async fn is_dead(hosts: &Hosts, name: &str) {
    until(&format!("{name} to be taken for dead"), LONG, || async {
        let nodes = hosts.client.nodes().await.map_err(|e| e.to_string())?;
        let dead = nodes.iter().any(|n| n.id.as_str() == name && n.status.as_str() == "dead");
        if dead { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await;
}

/// Waits until so many run on the other hosts, ready.
async fn replaced(hosts: &Hosts, away: &str, count: u32) {
    until(&format!("{count} ready without {away}"), LONG, || async {
        let view = hosts.client.workload("web").await.map_err(|e| e.to_string())?;
        let mut elsewhere = 0;
        for host in hosts.hosts.iter().filter(|host| host.name() != away) {
            elsewhere += host.truth.running_of("web").await.len();
        }
        let right = view.ready == count && elsewhere == count as usize;
        if right { Ok(()) } else { Err(format!("{elsewhere} run; {view:?}")) }
    })
    .await;
}

/// What ran on these hosts runs on as if nothing had happened.
fn unchanged(before: &Started, after: &Started, on: impl Fn(&str) -> bool) {
    for (host, containers) in before.iter().filter(|(host, _)| on(host)) {
        for (name, at) in containers {
            assert_eq!(after[host].get(name), Some(at), "{name} on {host}; now: {after:?}");
        }
    }
}

#[test]
fn hosts_that_are_cut_off_are_replaced_and_come_back() {
    with_four_hosts(|mut hosts| async move {
        hosts.deploy(&hello_probed("web", 8)).await;
        let mut before = settles(&hosts, 8).await;
        for (host, containers) in &before {
            assert_eq!(containers.len(), 2, "spread: {host} of {before:?}");
        }
        everything_is_reached_at_its_own_address(&hosts).await;

        for (fault, name) in [(Fault::Cut, "h2"), (Fault::Deaf, "h3"), (Fault::Mute, "h4")] {
            hosts.host(name).fault(fault);
            is_dead(&hosts, name).await;
            replaced(&hosts, name, 8).await;
            let meanwhile = hosts.started().await;
            unchanged(&before, &meanwhile, |_| true);
            hosts.host(name).heal();
            hosts.able(4).await;
            let after = settles(&hosts, 8).await;
            // The replacements go: they are on the more crowded hosts, and younger.
            assert_eq!(before, after, "{fault:?}");
            before = after;
        }

        // On a bad line one may be taken for dead and come back, again and again. What is
        // on good ones is not touched.
        for name in ["h2", "h3"] {
            hosts.host(name).fault(Fault::Lossy(25));
        }
        hosts.client.scale("web", 12).await.expect("scale");
        until("12 ready over bad lines", LONG, || async {
            let view = hosts.client.workload("web").await.map_err(|e| e.to_string())?;
            if view.ready >= 12 { Ok(()) } else { Err(format!("{view:?}")) }
        })
        .await;
        for name in ["h2", "h3"] {
            hosts.host(name).heal();
        }
        hosts.able(4).await;
        let after = settles(&hosts, 12).await;
        unchanged(&before, &after, |host| matches!(host, "h1" | "h4"));
        hosts.client.delete("web").await.expect("delete");
        until("nothing to be left on any host", LONG, || async {
            let started = hosts.started().await;
            let empty = started.values().all(BTreeMap::is_empty);
            if empty { Ok(()) } else { Err(format!("{started:?}")) }
        })
        .await;
    });
}

async fn everything_is_reached_at_its_own_address(hosts: &Hosts) {
    let addresses: BTreeMap<String, String> =
        hosts.hosts.iter().map(|host| (host.name(), host.address())).collect();
    for node in hosts.nodes().await {
        assert_eq!(node.address, format!("{}:8081", addresses[node.id.as_str()]));
    }
    let found = hosts.discover("web").await;
    assert_eq!(found.endpoints.len(), 8, "{found:?}");
    for endpoint in found.endpoints {
        let (address, _) = endpoint.address.rsplit_once(':').expect("an address with a port");
        assert_eq!(address, addresses[endpoint.node_id.as_str()], "{endpoint:?}");
        let answer = http::get(&endpoint.address, "/").await.expect("an answer");
        assert_eq!(answer.status, 200, "{endpoint:?}: {answer:?}");
    }
}

#[test]
fn a_host_loses_its_docker_and_its_power() {
    with_four_hosts(|mut hosts| async move {
        hosts.deploy(&hello_probed("web", 8)).await;
        let before = settles(&hosts, 8).await;

        hosts.host("h2").docker.kill().await;
        until("h2 to say that its Docker is away", LONG, || async {
            let nodes = hosts.client.nodes().await.map_err(|e| e.to_string())?;
            let said = nodes.iter().any(|node| node.id.as_str() == "h2" && node.message.is_some());
            if said { Ok(()) } else { Err(format!("{nodes:?}")) }
        })
        .await;
        hosts.host("h2").docker.start_again().await;
        hosts.able(4).await;
        let after = settles(&hosts, 8).await;
        unchanged(&before, &after, |host| host != "h2");

        // For as long as it takes to be replaced.
        let groups = hosts.host("h3").docker.control_groups();
        assert!(!groups.is_empty(), "containers without control groups");
        hosts.power_off("h3").await;
        let left: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
        assert!(left.is_empty(), "of containers that have ended: {left:?}");
        is_dead(&hosts, "h3").await;
        replaced(&hosts, "h3", 8).await;
        hosts.power_on("h3").await;
        hosts.able(4).await;
        let before = settles(&hosts, 8).await;
        unchanged(&after, &before, |host| host != "h3");

        // With the scheduler, and back at once.
        hosts.power_off("h1").await;
        hosts.power_on("h1").await;
        hosts.able(4).await;
        let after = settles(&hosts, 8).await;
        unchanged(&before, &after, |host| host != "h1");

        hosts.client.scale("web", 12).await.expect("scale");
        let grown = settles(&hosts, 12).await;
        unchanged(&after, &grown, |_| true);
        assert!(grown.values().all(|containers| !containers.is_empty()), "{grown:?}");
    });
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// `ctl`, as an admin has it.
fn ctl(hosts: &Hosts, arguments: &[&str]) -> String {
    let mut command = Command::new(BIN);
    command.arg("ctl").args(arguments).env("KUBE_LITE_CREDENTIALS", hosts.admin_file());
    let output = command.env_remove("KUBE_LITE_SERVER").output().expect("ctl");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Certificates that are good for twenty seconds: they are renewed under running
/// containers, on both sides; who was off for longer comes back with its own.
#[test]
fn certificates_are_renewed_and_who_was_off_for_too_long_comes_back() {
    with_hosts(2, &["--certificate-life", "20s"], |mut hosts| async move {
        hosts.deploy(&hello_probed("web", 4)).await;
        let before = settles(&hosts, 4).await;
        let first = ["h1", "h2"].map(|name| hosts.certificate(name));
        hosts.stop_agent("h2");
        is_dead(&hosts, "h2").await;
        replaced(&hosts, "h2", 4).await;

        // That of h1 twice over, and the scheduler's own as often; that of h2 runs out.
        until("the first certificates to be over", LONG, || async {
            let (signed, _) = hosts.certificate("h1");
            let over = first.iter().all(|(_, expires)| now() > *expires && signed > *expires);
            if over { Ok(()) } else { Err(format!("{first:?}, {signed}, it is {}", now())) }
        })
        .await;
        assert_eq!(hosts.certificate("h2"), first[1], "nobody has renewed it");
        // Orders and reports go on under the new ones.
        hosts.client.scale("web", 5).await.expect("scale");
        replaced(&hosts, "h2", 5).await;
        hosts.start_agent_of("h2").await;
        hosts.able(2).await;
        assert!(hosts.certificate("h2").0 > first[1].1, "{:?}", hosts.certificate("h2"));
        let after = settles(&hosts, 5).await;
        // It has its containers as it left them; of what took their place one is more
        // than it had.
        assert_eq!(before["h2"], after["h2"], "{after:?}");
        unchanged(&before, &after, |_| true);
        assert!(ctl(&hosts, &["nodes"]).contains("h2"));
    });
}

/// Who it is counts, and not where it is or what it says: neither another node nor
/// another scheduler at the scheduler's own address moves anything.
#[test]
fn no_node_acts_on_the_word_of_another() {
    with_hosts(3, &[], |mut hosts| async move {
        hosts.deploy(&hello_probed("web", 3)).await;
        let before = settles(&hosts, 3).await;
        let nodes = hosts.nodes().await;
        let h3 = nodes.iter().find(|node| node.id.as_str() == "h3").expect("h3").address.clone();
        let of_h3 = before["h3"].keys().next().expect("one on h3").as_str().into();

        // With all that h2 has, and the words of the scheduler.
        let tls = hosts.member("h2").client_config().expect("TLS");
        let agents = AgentClient::secured(SHORT, tls.clone());
        let health = hosts.client.health().await.expect("health");
        let fence = Fence {
            cluster: health.cluster.expect("a cluster").into(),
            node: "h3".into(),
            incarnation: 1,
            epoch: health.epoch.expect("an epoch"),
        };
        let stop = StopRequest { fence, drain_ms: 0, why: "because h2 says so".to_owned() };
        let h3_of_h2 = agents.at(&"h3".into(), &h3);
        let refused = agents.stop(&h3_of_h2, &of_h3, &stop).await.expect_err("no order of h2's");
        assert_eq!(reason(&refused), "WrongKindOfCaller", "{refused}");
        let to_scheduler = Client::secured(&hosts.url, tls).expect("a client");
        let report = json!({"nodeId": "h3", "incarnation": 1, "epoch": 1, "seq": 1, "synced": true,
            "docker": {"state": "ok"}, "containers": []});
        let report = serde_json::from_value(report).expect("a report");
        let refused = to_scheduler.heartbeat(&report).await.expect_err("no report for h3");
        assert_eq!(reason(&refused), "AnotherNode", "{refused}");
        let refused = to_scheduler.workloads().await.expect_err("no specs for a node");
        assert_eq!(reason(&refused), "WrongKindOfCaller", "{refused}");
        // With nothing at all, and in plain HTTP.
        let plain = http::send(&h3, "POST", &format!("/stop/{of_h3}"), Some("{}")).await;
        assert_eq!(plain.expect("an answer").json()["reason"], "NotTls");

        // The scheduler's host goes, and h2 takes its address, with a cluster of its own.
        hosts.power_off("h1").await;
        hosts.take_address("h1", "h2");
        let mut found = hosts.host("h2").command(BIN);
        let (address, data) = (hosts.address_of("h1"), hosts.data_of("impostor"));
        let listen = format!("{address}:8080");
        found.args(["scheduler", "--init", "--host", &address, "--listen", &listen, "--data-dir"]);
        assert!(found.arg(&data).output().expect("--init").status.success());
        let mut impostor = hosts.host("h2").command(BIN);
        impostor.args(["scheduler", "--listen", &listen, "--data-dir"]).arg(&data);
        let impostor = Process::start("the impostor", &mut impostor);
        for name in ["h2", "h3"] {
            until(&format!("{name} to meet the impostor"), LONG, || async {
                let said = hosts.said(name);
                if said.contains("of another cluster") { Ok(()) } else { Err(said) }
            })
            .await;
        }
        for name in ["h2", "h3"] {
            assert_eq!(hosts.host(name).started().await, before[name], "{name}");
        }
        drop(impostor);
        hosts.give_back_address("h1", "h2");

        hosts.power_on("h1").await;
        hosts.able(3).await;
        let after = settles(&hosts, 3).await;
        unchanged(&before, &after, |host| host != "h1");
    });
}

fn reason(error: &ClientError) -> &str {
    match error {
        ClientError::Api(error) => &error.reason,
        _ => "no answer",
    }
}
