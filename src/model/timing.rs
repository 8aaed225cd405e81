//! Every interval and limit that a decision depends on, as one value.

use serde::{Deserialize, Serialize};

/// All constants of the system, in milliseconds unless the name says otherwise.
/// Passed into the cores, so that tests and the simulator can scale them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// An agent reports at least this often.
    pub heartbeat_ms: u64,
    /// A node silent for this long is dead.
    pub dead_after_ms: u64,
    /// The scheduler looks at its nodes at least this often.
    pub sweep_ms: u64,
    /// Everything is looked at again at least this often.
    pub resync_ms: u64,
    /// A gap between two steps longer than this means the scheduler itself was
    /// paused; it is not held against the nodes. Must exceed `sweep_ms`.
    pub pause_gap_ms: u64,
    /// An order without an answer is repeated after this long.
    pub order_retry_ms: u64,
    /// One HTTP exchange of an order may take this long.
    pub order_timeout_ms: u64,
    /// So many orders in a row without an answer (a count): the node is heard but
    /// cannot be reached, and gets nothing new.
    pub unreachable_after: u32,
    /// A start that such a node has no trace of for this long is given up and may
    /// move; after twice this, the node is tried again.
    pub unreachable_ms: u64,
    /// Back-off after the second failure in a row; doubles from there.
    pub backoff_base_ms: u64,
    /// Back-off never exceeds this (before jitter).
    pub backoff_max_ms: u64,
    /// Running for this long ends a row of failures.
    pub stable_after_ms: u64,
    /// Docker not answering for this long: its instances are treated as on a
    /// dead node.
    pub docker_unable_after_ms: u64,
    /// Mass node loss is considered from this many nodes on (a count).
    pub mass_loss_min_nodes: usize,
    /// Mass node loss compares with the nodes that were alive this long ago.
    pub mass_loss_window_ms: u64,
    /// Mass node loss holds replacements back for at most this long.
    pub mass_loss_hold_ms: u64,
    /// A pull without progress for this long is given up.
    pub pull_stall_ms: u64,
    /// A transient pull failure is retried by the agent after this long; doubles.
    pub pull_retry_ms: u64,
    /// An agent without a 2xx to its heartbeats for this long restarts crashed
    /// instances by itself.
    pub autonomy_after_ms: u64,
    /// Several changes within this long make one heartbeat.
    pub coalesce_ms: u64,
    /// A change that may wait for what comes next is told within this long.
    pub minor_news_ms: u64,
    /// An agent tells everything it has, and not only what has changed, about this often.
    pub whole_report_ms: u64,
    /// A registration that failed is tried again after this long; doubles up to
    /// `heartbeat_ms`.
    pub register_retry_ms: u64,
    /// Ending an agent together with its containers takes no longer than this.
    pub shutdown_ms: u64,
    /// Between SIGTERM and SIGKILL then.
    pub shutdown_grace_ms: u64,
    /// The agent asks Docker whether it is there this often.
    pub docker_ping_ms: u64,
    /// Docker not answering a ping for this long is hung.
    pub docker_hung_after_ms: u64,
    /// The agent lists all its containers this often.
    pub docker_resync_ms: u64,
    /// While starting, the first probe is repeated after this long; doubles up
    /// to the probe's own interval.
    pub probe_start_ms: u64,
    /// A removal or stop that failed is tried again after this long.
    pub stop_retry_ms: u64,
    /// Ids of gone instances an agent remembers, so that none comes back (a count).
    pub tombstones_kept: usize,
    /// Dead containers kept for their logs per workload and node (a count).
    pub dead_kept: usize,
    /// Events kept for readers (a count).
    pub events_kept: usize,
    /// Revisions kept per workload (a count).
    pub revisions_kept: usize,
    /// A revision of this age without a probe counts as ready in a rollout.
    pub probeless_ready_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: 3_000,
            dead_after_ms: 9_000,
            sweep_ms: 1_000,
            resync_ms: 5_000,
            pause_gap_ms: 2_500,
            order_retry_ms: 1_000,
            order_timeout_ms: 5_000,
            unreachable_after: 3,
            unreachable_ms: 30_000,
            backoff_base_ms: 1_000,
            backoff_max_ms: 60_000,
            stable_after_ms: 60_000,
            docker_unable_after_ms: 60_000,
            mass_loss_min_nodes: 10,
            mass_loss_window_ms: 60_000,
            mass_loss_hold_ms: 300_000,
            pull_stall_ms: 600_000,
            pull_retry_ms: 1_000,
            autonomy_after_ms: 9_000,
            coalesce_ms: 4,
            minor_news_ms: 250,
            whole_report_ms: 600_000,
            register_retry_ms: 100,
            shutdown_ms: 12_000,
            shutdown_grace_ms: 5_000,
            docker_ping_ms: 2_000,
            docker_hung_after_ms: 5_000,
            docker_resync_ms: 15_000,
            probe_start_ms: 100,
            stop_retry_ms: 2_000,
            tombstones_kept: 1_000,
            dead_kept: 2,
            events_kept: 10_000,
            revisions_kept: 10,
            probeless_ready_ms: 5_000,
        }
    }
}
