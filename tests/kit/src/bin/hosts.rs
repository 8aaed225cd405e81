//! `make hosts`: several hosts to play with, until Ctrl-C.

use std::process::ExitCode;

use kube_lite_testkit::hosts::Hosts;
use kube_lite_testkit::second;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (binary, count) = match arguments.as_slice() {
        [binary, count] => (binary.clone(), count.parse().ok().filter(|n| (1..=20).contains(n))),
        _ => (String::new(), None),
    };
    let Some(count) = count else {
        eprintln!("error: expected the kube-lite binary and how many hosts, 1 to 20");
        return ExitCode::from(2);
    };
    if let Some(why) = second::impossible() {
        eprintln!("error: {why}");
        return ExitCode::FAILURE;
    }
    second::apart(move || play(binary, count));
    ExitCode::SUCCESS
}

async fn play(binary: String, count: u8) {
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals");
    let mut terminate = signal(SignalKind::terminate()).expect("signals");
    println!("starting {count} hosts: each takes some seconds");
    let life = async {
        let hosts = Hosts::start(&binary, count).await;
        let machine = hosts.join_machine();
        tell(&hosts, &binary, &machine);
        std::future::pending::<()>().await;
    };
    // Whatever is up when the signal comes ends when `life` is dropped.
    tokio::select! {
        () = life => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    println!("\nending all of them, and what runs there");
}

fn tell(hosts: &Hosts, binary: &str, machine: &str) {
    println!("\nhost  address       its Docker, and how to become it");
    for host in &hosts.hosts {
        println!(
            "{:<4}  {:<12}  DOCKER_HOST={}",
            host.name(),
            host.address(),
            host.docker.docker_host()
        );
        println!("                    nsenter --net={}", host.network_file());
    }
    println!("\nThis machine is {machine} on their network. The scheduler is on h1:\n");
    println!("  export KUBE_LITE_CREDENTIALS={}", hosts.admin_file().display());
    println!("  {binary} ctl nodes");
    println!("  {binary} ctl deploy -f examples/hello.json");
    println!("  a browser: {}/ (its certificate is of the cluster's own authority)", hosts.url);
    if let Some(last) = hosts.hosts.last() {
        let enter = format!("nsenter --net={}", last.network_file());
        println!("\nCut {} off, and heal it:\n", last.name());
        println!("  {enter} ip link set eth0 down");
        println!("  {enter} ip link set eth0 up");
    }
    println!("\nCtrl-C ends all of it.");
}
