//! What follows when an instance ends: pure rules of restart policy and
//! back-off (DESIGN section 6, "Restarting").

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use crate::model::{Phase, Reason, RestartPolicy, Timing};

/// How an instance ended, without anybody having asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its process ended with this code.
    Exited(i64),
    /// Its container disappeared without an exit code.
    Vanished,
    /// It never ran: pull, create or start failed.
    NeverStarted,
    /// It was stopped because its probe failed, whatever its exit code.
    IllHealth,
}

impl Ending {
    /// The ending that a report in a final phase speaks of.
    pub fn of(phase: Phase, exit_code: Option<i64>, reason: Option<Reason>) -> Self {
        match (phase, exit_code) {
            (Phase::Exited, code) => Ending::Exited(code.unwrap_or(-1)),
            (_, Some(code)) => Ending::Exited(code),
            _ if reason == Some(Reason::Removed) => Ending::Vanished,
            _ => Ending::NeverStarted,
        }
    }
}

/// What follows from an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done; nothing follows.
    Done,
    /// Another instance follows.
    Again {
        /// Milliseconds from now.
        delay_ms: u64,
        /// Failures in a row, this one included.
        step: u32,
        /// Whether it stays on its node.
        same_node: bool,
    },
}

/// Judges an ending by restart policy. `step` is the number of failures in a
/// row before this one, `ran_for_ms` how long it had been running.
pub fn judge(
    policy: RestartPolicy,
    ending: Ending,
    step: u32,
    ran_for_ms: u64,
    timing: &Timing,
    draw: u64,
) -> Verdict {
    let again = match (ending, policy) {
        // What never ran has not had its try: retried under every policy.
        (Ending::NeverStarted, _) => true,
        (_, RestartPolicy::Always) => true,
        (Ending::Exited(0), RestartPolicy::OnFailure) => false,
        (_, RestartPolicy::OnFailure) => true,
        (_, RestartPolicy::Never) => false,
    };
    if !again {
        return Verdict::Done;
    }
    let step = if ran_for_ms >= timing.stable_after_ms { 0 } else { step };
    Verdict::Again {
        delay_ms: backoff(step, timing, draw),
        step: step.saturating_add(1),
        same_node: ending != Ending::NeverStarted,
    }
}

/// The delay before a restart after `step` failures in a row: none at first,
/// then 1, 2, 4 … 60 s, each with up to a tenth more so that what failed
/// together does not come back together.
pub fn backoff(step: u32, timing: &Timing, draw: u64) -> u64 {
    if step == 0 {
        return 0;
    }
    let doublings = (step - 1).min(32);
    let delay = timing.backoff_base_ms.saturating_mul(1 << doublings).min(timing.backoff_max_ms);
    delay + draw % (delay / 10 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(policy: RestartPolicy, ending: Ending, step: u32, ran_for_ms: u64) -> Verdict {
        judge(policy, ending, step, ran_for_ms, &Timing::default(), 0)
    }

    #[test]
    fn policies() {
        use Ending::*;
        use RestartPolicy::*;
        let table = [
            (Always, Exited(0), true),
            (Always, Exited(1), true),
            (Always, Vanished, true),
            (Always, IllHealth, true),
            (OnFailure, Exited(0), false),
            (OnFailure, Exited(1), true),
            (OnFailure, Vanished, true),
            (OnFailure, IllHealth, true),
            (Never, Exited(0), false),
            (Never, Exited(1), false),
            (Never, Vanished, false),
            (Never, IllHealth, false),
            (Always, NeverStarted, true),
            (OnFailure, NeverStarted, true),
            (Never, NeverStarted, true),
        ];
        for (policy, ending, again) in table {
            let verdict = judged(policy, ending, 0, 0);
            assert_eq!(verdict != Verdict::Done, again, "{policy:?} {ending:?}");
        }
    }

    #[test]
    fn backoff_grows_as_specified_and_ends_after_a_stable_minute() {
        let timing = Timing::default();
        let delays: Vec<u64> = (0..10).map(|step| backoff(step, &timing, 0)).collect();
        assert_eq!(delays, [0, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
        for step in 1..40 {
            for draw in [0, 1, 77, u64::MAX] {
                let delay = backoff(step, &timing, draw);
                let nominal = backoff(step, &timing, 0);
                assert!(delay >= nominal && delay <= nominal + nominal / 10, "{step} {draw}");
            }
        }
        // Jitter is up to a tenth, and the tenth itself.
        assert_eq!((backoff(1, &timing, 100), backoff(1, &timing, 101)), (1100, 1000));
        assert_eq!(
            judged(RestartPolicy::Always, Ending::Exited(1), 7, 60_000),
            Verdict::Again { delay_ms: 0, step: 1, same_node: true }
        );
        assert_eq!(
            judged(RestartPolicy::Always, Ending::Exited(1), 2, 59_999),
            Verdict::Again { delay_ms: 2000, step: 3, same_node: true }
        );
    }

    #[test]
    fn only_a_failed_start_may_move() {
        for (ending, stays) in
            [(Ending::Exited(3), true), (Ending::Vanished, true), (Ending::NeverStarted, false)]
        {
            let Verdict::Again { same_node, .. } = judged(RestartPolicy::Always, ending, 0, 0)
            else {
                panic!("{ending:?} must be restarted");
            };
            assert_eq!(same_node, stays, "{ending:?}");
        }
    }
}
