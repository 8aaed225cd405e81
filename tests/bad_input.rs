//! Bad input: each gets a clear error, nothing changes, and the next good
//! request works.

mod support;

use support::bad_requests::run_all;
use support::scheduler::Scheduler;

#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let scheduler = Scheduler::start().await;
    scheduler.register("n1", 1).await;
    run_all(scheduler.addr).await;
}
