//! Callers that do not mean well: connections that say nothing, say it slowly, send for
//! ever or never read. The real scheduler in a process of its own goes on answering, its
//! memory stays bounded, and nothing is left of them once they are gone.
//!
//! How fast and how large it was is printed (`--nocapture`), and measured by `make bench
//! ROWS=abuse`; here only what no machine is too slow for is asked.

use std::time::Duration;

use kube_lite_testkit::siege::{
    Attack, Siege, Stronghold, call, descriptors, descriptors_for, resident, talkative,
};
use kube_lite_testkit::{LONG, until};
use tokio::sync::Mutex;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");
/// An honest caller that waits longer has been locked out.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long each attack is looked at.
const PERIOD: Duration = Duration::from_secs(4);
/// The scheduler's memory, however many there are, in megabytes.
const MOST: f64 = 400.0;

/// The attackers of one test take most of the descriptors that a process has.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const EACH: [(Attack, usize); 4] =
    [(Attack::Idle, 10_000), (Attack::Slow, 1_000), (Attack::Body, 150), (Attack::Reader, 300)];

struct Besieged(Stronghold);

impl Besieged {
    /// A line of what came out, and whether it held.
    fn holds(&self, what: &str, period: Duration) {
        let answers = tokio::task::block_in_place(|| call(&self.0.castle, period, PATIENCE));
        let memory = resident(self.0.process.id());
        println!("{what}: {answers}; {memory:.0} MB");
        assert_eq!(answers.failed, Vec::<String>::new(), "{what}: {answers}");
        assert!(memory < MOST, "{what}: {memory:.0} MB");
    }

    async fn attacked(&self, what: &str, attackers: &[(Attack, usize)], at_least: usize) {
        let before = descriptors(self.0.process.id());
        let siege = Siege::lay(&self.0.castle, attackers);
        until(&format!("{what}: {at_least} to have arrived"), LONG, || async {
            let there = descriptors(self.0.process.id());
            if there >= at_least { Ok(()) } else { Err(format!("{there}, {siege:?}")) }
        })
        .await;
        self.holds(what, PERIOD);
        drop(siege);
        until(&format!("{what}: all to be gone"), LONG, || async {
            let left = descriptors(self.0.process.id());
            if left <= before + 20 { Ok(()) } else { Err(format!("{left}, before {before}")) }
        })
        .await;
        self.holds(&format!("after {what}"), Duration::from_millis(200));
    }

    /// Each alone, then all at once; then all again, which must cost no more.
    async fn besieged(&self) {
        self.holds("nobody", Duration::from_millis(500));
        for attack in EACH {
            let (kind, count) = attack;
            self.attacked(&format!("{kind:?} × {count}"), &[attack], count / 2).await;
        }
        self.attacked("all", &EACH, 5_000).await;
        self.attacked("all again", &EACH, 5_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn plain_http_holds() {
    let _alone = ONE_AT_A_TIME.lock().await;
    descriptors_for(14_000);
    let mut scheduler = Stronghold::start(BIN, false, 16_000).await;
    scheduler.castle.log = talkative(scheduler.castle.address).await;
    Besieged(scheduler).besieged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tls_holds() {
    let _alone = ONE_AT_A_TIME.lock().await;
    descriptors_for(14_000);
    Besieged(Stronghold::start(BIN, true, 16_000).await).besieged().await;
}

/// More of them than there are places: those that only sit there make room.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_is_locked_out_by_those_who_only_sit_there() {
    let _alone = ONE_AT_A_TIME.lock().await;
    descriptors_for(14_000);
    for secure in [false, true] {
        let scheduler = Besieged(Stronghold::start(BIN, secure, 1_024).await);
        let attackers = [(Attack::Idle, 5_000), (Attack::Slow, 500)];
        scheduler.attacked(&format!("7 for each place, TLS: {secure}"), &attackers, 700).await;
    }
}
