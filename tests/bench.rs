//! Each benchmark still runs. What it measures is not looked at: machines are noisy.
//! The page's takes a browser and the built page, which `make test` sees to.

use kube_lite_bench::Bench;
use kube_lite_bench::run::Plan;
use kube_lite_testkit::second::is_skipped;

async fn runs(bench: Bench) {
    let plan = Plan {
        binary: env!("CARGO_BIN_EXE_kube-lite").into(),
        smoke: true,
        rounds: 1,
        itself: None,
        million: (0, 0),
    };
    let group = bench.run(&plan).await;
    assert!(!group.rows.is_empty(), "it found nothing");
    assert!(group.is_whole(), "{group:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker() {
    runs(Bench::Docker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn healing() {
    runs(Bench::Healing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small() {
    runs(Bench::Small).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api() {
    runs(Bench::Api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn core() {
    runs(Bench::Core).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swarm() {
    if is_skipped() {
        return;
    }
    runs(Bench::Swarm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn million() {
    runs(Bench::Million).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page() {
    runs(Bench::Page).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse() {
    runs(Bench::Abuse).await;
}
