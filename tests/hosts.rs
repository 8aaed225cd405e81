//! Four hosts, each with a network, a Docker daemon and an agent of its own. What is
//! right is what Docker says on each of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kube_lite_testkit::hosts::Hosts;
use kube_lite_testkit::network::Fault;
use kube_lite_testkit::sandbox::hello_probed;
use kube_lite_testkit::{LONG, http, second, until};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// When each container was started, by host.
type Started = BTreeMap<String, BTreeMap<String, String>>;

/// Runs `body` with four hosts. One such test at a time: that is four daemons.
fn with_four_hosts<F: Future<Output = ()>>(body: impl FnOnce(Hosts) -> F + Send + 'static) {
    static ONE: Mutex<()> = Mutex::new(());
    if second::is_skipped() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    second::apart(|| async { body(Hosts::start(BIN, 4).await).await });
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
