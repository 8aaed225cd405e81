//! Deliberate faults, one at a time, to show that the simulator finds them (see
//! `docs/simulator.md`). Only builds with the feature `planted-faults` have them;
//! in all others [`planted`] is `false` at compile time and nothing is left of it.

#[cfg(all(feature = "planted-faults", not(debug_assertions)))]
compile_error!("planted-faults is for the simulator (--profile sim) and never for a release");

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An order that its agent has no trace of stays pending for ever.
    PendingNeverExpires,
    /// An order that was not answered is given again under a new id.
    RetryMakesNewId,
    /// An agent takes orders of a former life of the scheduler.
    NoEpochCheck,
    /// An agent takes orders that were meant for a former life of itself.
    NoIncarnationCheck,
    /// A container that has exited is taken in without judging its end.
    ExitIsSkipped,
    /// What runs on a dead node still counts.
    DeadNodeCounts,
    /// People and agents are answered before the disk has it.
    AcknowledgedBeforeWritten,
    /// What an agent does not list is gone, though it has not looked yet.
    AbsenceBeforeSynced,
    /// An agent forgets at once what must not come back.
    TombstoneForgotten,
    /// What runs passes for what its replica is to have, whatever its revision.
    RevisionIgnored,
    /// A stop for an instance that is gone takes its successor along.
    StopTakesSuccessor,
    /// A drained instance goes before its replacement is ready.
    DrainsTooSoon,
    /// One more than the bounds allow is started.
    SurgeOffByOne,
    /// That a replica is done is forgotten when the scheduler restarts.
    DoneForgotten,
    /// A host port that was asked for is not reserved.
    PortNotReserved,
    /// A scale is acknowledged and not written.
    ScaleNotWritten,
    /// An older snapshot that arrives late counts as news.
    OldNewsCounts,
    /// After its own pause the scheduler holds the silence against the nodes.
    OwnPauseNotNoticed,
    /// A restarted scheduler waits for nobody.
    RecoversAtOnce,
    /// A rollout that fails goes on.
    RolloutNeverAborts,
    /// Of two instances in a replica the one that is not ready is kept.
    KeepsTheWorse,
    /// What is left of a deleted workload is adopted and stays.
    LeftoversStay,
    /// Ready is what runs, whatever its probe says.
    ReadyWithoutProbe,
    /// A rollout stops everything old at once and starts nothing before.
    AllOutAtOnce,
    /// A ready instance is stopped for a rollout although its replica has nothing
    /// else; one per step.
    OldOutFirst,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 25] = [
        Fault::PendingNeverExpires,
        Fault::RetryMakesNewId,
        Fault::NoEpochCheck,
        Fault::NoIncarnationCheck,
        Fault::ExitIsSkipped,
        Fault::DeadNodeCounts,
        Fault::AcknowledgedBeforeWritten,
        Fault::AbsenceBeforeSynced,
        Fault::TombstoneForgotten,
        Fault::RevisionIgnored,
        Fault::StopTakesSuccessor,
        Fault::DrainsTooSoon,
        Fault::SurgeOffByOne,
        Fault::DoneForgotten,
        Fault::PortNotReserved,
        Fault::ScaleNotWritten,
        Fault::OldNewsCounts,
        Fault::OwnPauseNotNoticed,
        Fault::RecoversAtOnce,
        Fault::RolloutNeverAborts,
        Fault::KeepsTheWorse,
        Fault::LeftoversStay,
        Fault::ReadyWithoutProbe,
        Fault::AllOutAtOnce,
        Fault::OldOutFirst,
    ];
}

/// Whether this is done wrong.
#[cfg(not(feature = "planted-faults"))]
#[inline(always)]
pub const fn planted(_: Fault) -> bool {
    false
}

#[cfg(feature = "planted-faults")]
mod here {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Whether this is done wrong, in this thread.
    pub fn planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }

    /// Does this wrong from now on, in this thread; `None`: nothing.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.set(fault);
    }
}

#[cfg(feature = "planted-faults")]
pub use here::{plant, planted};
