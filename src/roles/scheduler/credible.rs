//! What an agent may say of its instances. A node speaks for itself alone, and is
//! believed about what it runs; but nothing that it says may become a record that the
//! scheduler would not read back, or a number that nothing can follow.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use crate::model::ids::dns_label_problem;
use crate::model::{ContainerInstance, InstanceId};

/// The last epoch that this scheduler moves on to because an agent has heard of one:
/// half of what is ever read back, so that as many starts are left.
pub(super) const LAST_EPOCH: u64 = 1 << 30;
/// The last number of a revision that is kept free because an agent has an instance of
/// it; as many are left.
pub(super) const LAST_REVISION: u64 = 1 << 52;
/// Restarts, back-off steps and numbers of replicas stay far below this.
const MANY: u32 = 1 << 30;
/// The longest id: a workload's name, a revision and some letters are shorter.
const LONGEST_ID: usize = 128;
/// So much of a sentence is kept, in bytes.
const LONGEST_SENTENCE: usize = 2_000;

/// A report as it may be taken in; `None`: no agent of ours says such a thing.
pub(super) fn credible(mut report: ContainerInstance) -> Option<ContainerInstance> {
    let others = report.replaces.iter().chain(&report.after);
    let can_be = std::iter::once(&report.id).chain(others).all(is_id)
        && dns_label_problem(report.workload_id.as_str()).is_none()
        && report.container_id.len() <= LONGEST_ID
        && report.revision <= LAST_REVISION
        && report.replica < MANY;
    if !can_be {
        return None;
    }
    report.restarts = report.restarts.min(MANY);
    report.backoff_step = report.backoff_step.min(MANY);
    if let Some(message) = report.message.as_mut().filter(|text| text.len() > LONGEST_SENTENCE) {
        let end = (0..=LONGEST_SENTENCE).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
        message.push('…');
    }
    Some(report)
}

/// Our own ids are of this alphabet, so that they are themselves in a path, in JSON and
/// on a terminal.
fn is_id(id: &InstanceId) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=LONGEST_ID).contains(&id.as_str().len()) && id.as_str().bytes().all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> ContainerInstance {
        let report = serde_json::json!({"id": "web-r1-x", "workloadId": "web", "replica": 0,
            "revision": 1, "nodeId": "n1", "image": "i", "phase": "running"});
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn what_cannot_be_is_not_taken_in() {
        assert_eq!(credible(report()), Some(report()));
        let spoilt: [fn(&mut ContainerInstance); 9] = [
            |r| r.id = "".into(),
            |r| r.id = "x\",\"instance\":\"y".into(),
            |r| r.id = "../../nodes".into(),
            |r| r.id = "x".repeat(129).into(),
            |r| r.after = Some("a b".into()),
            |r| r.workload_id = "../web".into(),
            |r| r.container_id = "0".repeat(129),
            |r| r.revision = (1 << 53) - 1,
            |r| r.replica = u32::MAX,
        ];
        for (number, spoil) in spoilt.into_iter().enumerate() {
            let mut wrong = report();
            spoil(&mut wrong);
            assert_eq!(credible(wrong), None, "{number}");
        }
    }

    #[test]
    fn what_is_too_much_is_cut() {
        let endless = ContainerInstance {
            restarts: u32::MAX,
            backoff_step: u32::MAX,
            message: Some("ä".repeat(5_000)),
            ..report()
        };
        let taken = credible(endless).unwrap();
        assert_eq!((taken.restarts, taken.backoff_step), (MANY, MANY));
        assert!(taken.message.unwrap().len() <= LONGEST_SENTENCE + '…'.len_utf8());
    }
}
