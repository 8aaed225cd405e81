//! Callers that do not mean well, and what an honest one notices of them.

use std::time::Duration;

use kube_lite_testkit::siege::{
    Attack, Siege, Stronghold, call, descriptors, descriptors_for, resident, talkative,
};

use crate::report::{Figure, PART, Row, attempt};
use crate::run::{Plan, bar, until};

/// An answer that takes longer does not count as one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until so many are there.
const ARRIVAL: Duration = Duration::from_secs(120);

/// Measures.
///
/// # Errors
/// When something did not work.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for secure in [false, true] {
        let how = if secure { "TLS" } else { "plain" };
        rows.extend(attempt(&format!("abuse, {how}"), PART, besieged(plan, secure, how)).await);
    }
    Ok(rows)
}

async fn besieged(plan: &Plan, secure: bool, how: &str) -> anyhow::Result<Vec<Row>> {
    let part = |full: usize| plan.or(full, full / 50);
    let each = [
        ("10,000 idle", vec![(Attack::Idle, part(10_000))]),
        ("1,000 slow", vec![(Attack::Slow, part(1_000))]),
        ("150 endless bodies", vec![(Attack::Body, part(150))]),
        ("300 that do not read", vec![(Attack::Reader, part(300))]),
    ];
    let all = each.iter().flat_map(|(_, attackers)| attackers.clone()).collect();
    let period = Duration::from_secs(plan.or(10, 1));
    descriptors_for(plan.or(14_000, 500));
    let mut hold = Stronghold::start(plan.binary()?, secure, plan.or(16_000, 1_024)).await;
    if !secure {
        hold.castle.log = talkative(hold.castle.address).await;
    }
    let castle = hold.castle.clone();
    let ask = move || {
        let castle = castle.clone();
        tokio::task::spawn_blocking(move || call(&castle, period, PATIENCE))
    };
    let quiet = Figure::one("ms", ask().await?.within(0.99));
    let at_rest = Figure::one("MB", resident(hold.process.id()));
    let mut rows = Vec::new();
    let attacks: Vec<(&str, Vec<(Attack, usize)>)> =
        each.into_iter().chain([("all of them", all)]).collect();
    let bar = bar(&format!("abuse, {how}"), attacks.len() as u64);
    for (what, attackers) in attacks {
        let wanted: usize = attackers.iter().map(|(_, count)| count / 2).sum();
        let siege = Siege::lay(&hold.castle, &attackers);
        until(what, ARRIVAL, Duration::from_millis(100), || async {
            Ok((descriptors(hold.process.id()) >= wanted).then_some(()))
        })
        .await?;
        let answers = ask().await?;
        anyhow::ensure!(answers.failed.is_empty(), "{what}: {:?}", answers.failed);
        let memory = Figure::one("MB", resident(hold.process.id()));
        drop(siege);
        let row = |of: &str, figure: Figure, quiet: &Figure| {
            Row::new(format!("{of}: {what}, {how}"), figure).beside("nobody", quiet.clone())
        };
        let slowest = Figure::one("ms", answers.within(0.99));
        rows.push(row("/health p99", slowest, &quiet).at_most(100.0));
        rows.push(row("memory", memory, &at_rest).at_most(200.0));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rows)
}
