//! What Docker is asked to do: each request is done in stages, takes time, and
//! fails in every way there is; see `roles/agent/docker.rs`.

use kube_lite::model::wire::labels;
use kube_lite::model::{ClusterId, NodeId, Reason};
use kube_lite::roles::agent::message::{
    ContainerState, DockerAction, EventKind, Input, Launch, LaunchOutcome, Observed, PullError,
};

use super::{Condition, Fails};
use crate::image::{Offer, behaviour};
use crate::tell;
use crate::world::{Event, World};

/// Containers that a process has Docker start at a time.
const STARTS_AT_A_TIME: usize = 4;
/// How long an agent waits for looking up, listing and changing.
const LIMITS_MS: (u64, u64, u64) = (15_000, 30_000, 60_000);

/// A request.
#[derive(Debug)]
pub struct Job {
    /// Who asked.
    pub machine: usize,
    /// In which life.
    pub life: u64,
    /// Whoever asked is gone, or does not wait any more.
    pub client_left: bool,
    daemon: usize,
    work: Work,
    limit_ms: Option<u64>,
    asked_at: u64,
    limit_planned: bool,
    answered: bool,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Work {
    /// See whether an image is there.
    Check(String),
    /// Get an image.
    Pull(String),
    /// Make and start a container; its id once it is made.
    Launch(Box<Launch>, Option<String>),
    /// Stop a container.
    Stop(String, u32),
    /// Remove a container.
    Remove(String),
    /// List containers.
    List(u64, ClusterId, NodeId),
}

/// The next part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// All of it, or making the container.
    First,
    /// Starting the container.
    Start,
    /// Looking at the container.
    Inspect,
    /// The pull has come so far.
    Progress(u64),
    /// Whoever asked gives up.
    Limit,
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Docker says no.
    Refused,
    /// It is done, and the answer is lost.
    DoneUnsaid,
    /// Nothing is done, and nothing is said.
    Undone,
}

impl World {
    /// An agent wants something of Docker.
    pub fn ask_docker(&mut self, machine: usize, life: u64, action: DockerAction) {
        self.judge_docker_action(machine, &action);
        let (work, limit_ms) = match action {
            DockerAction::CheckImage { image } => (Work::Check(image), Some(LIMITS_MS.0)),
            DockerAction::Pull { image } => (Work::Pull(image), None),
            DockerAction::CancelPull { image } => return self.cancel_pull(life, &image),
            DockerAction::Launch(launch) => (Work::Launch(launch, None), Some(LIMITS_MS.2)),
            DockerAction::Stop { container_id, grace_seconds } => {
                let limit = u64::from(grace_seconds) * 1_000 + LIMITS_MS.2 / 2;
                (Work::Stop(container_id, grace_seconds), Some(limit))
            }
            DockerAction::Remove { container_id } => {
                (Work::Remove(container_id), Some(LIMITS_MS.2))
            }
            DockerAction::List { number, cluster, node } => {
                (Work::List(number, cluster, node), Some(LIMITS_MS.1))
            }
        };
        let number = self.number();
        let daemon = self.machines[machine].daemon;
        let is_launch = matches!(work, Work::Launch(..));
        let job = Job {
            machine,
            life,
            client_left: false,
            daemon,
            work,
            limit_ms,
            asked_at: self.now,
            limit_planned: false,
            answered: false,
        };
        self.jobs.insert(number, job);
        if is_launch && let Some(process) = &mut self.machines[machine].agent {
            if process.launches.0 >= STARTS_AT_A_TIME {
                return process.launches.1.push_back(number);
            }
            process.launches.0 += 1;
        }
        self.stage(number, Stage::First);
    }

    fn stage(&mut self, job: u64, stage: Stage) {
        let Some(asked) = self.jobs.get(&job) else { return };
        let (least, most) = match (&asked.work, stage) {
            (Work::Launch(..), Stage::First) => (10, 50),
            (Work::Launch(..), Stage::Start) => (30, 110),
            (Work::Check(_) | Work::Launch(..), _) => (1, 4),
            (Work::Pull(_), _) => (20, 60),
            (Work::Stop(..) | Work::Remove(_), _) => (2, 15),
            (Work::List(..), _) => (2, 12),
        };
        let slow = self.daemons[asked.daemon].slow_ms;
        let after = self.rng.range(least, most) + self.rng.below(slow + 1);
        self.plan(after, Event::Docker { job, stage });
    }

    /// Docker does the next part of a request.
    pub fn docker_does(&mut self, job: u64, stage: Stage) {
        let Some(asked) = self.jobs.get(&job) else { return };
        let (daemon, work) = (asked.daemon, asked.work.clone());
        if stage == Stage::Limit {
            if !asked.answered && !asked.client_left {
                let input = broken(&work, "did not answer in time");
                self.give_up(job, input);
            }
            return;
        }
        match self.daemons[daemon].condition {
            Condition::Hung => return self.sticks(job, stage),
            Condition::Down => return self.docker_breaks_off(job),
            Condition::Up => {}
        }
        if asked.client_left {
            // What was asked before it left may or may not be done.
            if self.rng.chance(500) {
                return drop(self.jobs.remove(&job));
            }
        }
        let failure = self.failure(daemon, &work, stage);
        if failure == Some(Failure::Undone) {
            return self.docker_breaks_off(job);
        }
        let unsaid = failure == Some(Failure::DoneUnsaid);
        let refused = failure == Some(Failure::Refused);
        match work {
            Work::Check(image) => {
                let outcome = match refused {
                    true => Err("Docker said no".to_owned()),
                    false => Ok(self.daemons[daemon].images.contains(&image)),
                };
                self.answer(job, Input::ImageChecked { image, outcome });
            }
            Work::Pull(image) => self.pull(job, daemon, image, stage, refused || unsaid),
            Work::Launch(launch, made) => match (stage, made) {
                (Stage::First, _) => self.create(job, daemon, &launch, refused, unsaid),
                (Stage::Start, Some(id)) => self.start(job, daemon, &launch, &id, refused, unsaid),
                (_, Some(id)) => self.inspect(job, daemon, &launch, &id),
                (_, None) => {}
            },
            Work::Stop(id, grace_seconds) => {
                if refused {
                    return self.docker_answers(job, false, "Docker said no");
                }
                self.stop(job, daemon, &id, grace_seconds);
                if unsaid {
                    self.docker_breaks_off(job);
                }
            }
            Work::Remove(id) => {
                if refused {
                    return self.docker_answers(job, false, "device or resource busy");
                }
                self.remove_container(daemon, &id);
                if unsaid {
                    return self.docker_breaks_off(job);
                }
                self.docker_answers(job, true, "");
            }
            Work::List(number, cluster, node) => {
                let outcome = match refused || unsaid {
                    true => Err("Docker said no".to_owned()),
                    false => Ok(self.list(job, daemon, &cluster, &node)),
                };
                self.answer(job, Input::Listed { number, outcome });
            }
        }
    }

    fn failure(&mut self, daemon: usize, work: &Work, stage: Stage) -> Option<Failure> {
        let Fails { look, pull, create, start, end } = self.daemons[daemon].fails;
        let permille = match (work, stage) {
            (Work::Check(_) | Work::List(..), _) => look,
            (Work::Pull(_), _) => pull,
            (Work::Launch(..), Stage::First) => create,
            (Work::Launch(..), Stage::Start) => start,
            (Work::Launch(..), _) => look,
            (Work::Stop(..) | Work::Remove(_), _) => end,
        };
        let fails = permille > 0 && self.rng.chance(permille);
        fails.then(|| *self.rng.pick(&[Failure::Refused, Failure::DoneUnsaid, Failure::Undone]))
    }

    // ---- launching ----

    fn create(&mut self, job: u64, daemon: usize, launch: &Launch, refused: bool, unsaid: bool) {
        let now = self.now;
        let here = &mut self.daemons[daemon];
        if refused {
            return self.launch_failed(job, launch, Reason::CreateFailed, "Docker said no");
        }
        let (id, ended) = if let Some(known) = here.named(launch.id.as_str()) {
            let ours =
                launch.labels.iter().all(|(name, value)| known.labels.get(name) == Some(value));
            if !ours {
                let text = "there is another container of that name";
                return self.launch_failed(job, launch, Reason::CreateFailed, text);
            }
            (known.id.clone(), known.state == ContainerState::Ended)
        } else if !here.images.contains(&launch.image) {
            return self.launch_failed(job, launch, Reason::ImageNotFound, "no such image");
        } else {
            let id = here.make(launch, now);
            tell!(self, format!("docker {}", here.name), "created {}", launch.id);
            self.docker_says(daemon, &id, EventKind::Create);
            (id, false)
        };
        if unsaid {
            return self.docker_breaks_off(job);
        }
        let Some(asked) = self.jobs.get_mut(&job) else { return };
        if asked.client_left {
            return drop(self.jobs.remove(&job));
        }
        asked.work = Work::Launch(Box::new(launch.clone()), Some(id));
        if ended {
            self.turn_is_over(job);
            return self.stage(job, Stage::Inspect);
        }
        self.stage(job, Stage::Start);
    }

    fn start(
        &mut self,
        job: u64,
        daemon: usize,
        launch: &Launch,
        id: &str,
        refused: bool,
        unsaid: bool,
    ) {
        let late = self.jobs.get(&job).is_some_and(|asked| asked.client_left);
        if let Some(container) = self.daemons[daemon].containers.get_mut(id) {
            container.started_late |= late;
        }
        let state = self.daemons[daemon].containers.get(id).map(|container| container.state);
        let trouble = match state {
            _ if refused => Some((Reason::StartFailed, "Docker said no".to_owned())),
            None => Some((Reason::StartFailed, "no such container".to_owned())),
            Some(ContainerState::Running) => None,
            Some(_) => self.start_container(daemon, id).err().map(|port| {
                (Reason::PortTaken, format!("host port {port} is taken by something else"))
            }),
        };
        if unsaid && trouble.is_none() {
            return self.docker_breaks_off(job);
        }
        if late {
            return drop(self.jobs.remove(&job));
        }
        self.turn_is_over(job);
        let Some((reason, message)) = trouble else { return self.stage(job, Stage::Inspect) };
        // What could not be started is removed, if that can be.
        let end = self.daemons[daemon].fails.end;
        let left_over = self.rng.chance(end).then(|| id.to_owned());
        if left_over.is_none() {
            self.remove_container(daemon, id);
        }
        let outcome = LaunchOutcome::Failed { reason, message, left_over };
        self.answer(job, Input::Launched { id: launch.id.clone(), outcome });
    }

    fn inspect(&mut self, job: u64, daemon: usize, launch: &Launch, id: &str) {
        let outcome = match self.daemons[daemon].containers.get(id) {
            Some(container) => LaunchOutcome::Started(container.facts()),
            None => LaunchOutcome::Failed {
                reason: Reason::Removed,
                message: "removed by somebody else right after its start".to_owned(),
                left_over: None,
            },
        };
        self.answer(job, Input::Launched { id: launch.id.clone(), outcome });
    }

    fn launch_failed(&mut self, job: u64, launch: &Launch, reason: Reason, text: &str) {
        self.turn_is_over(job);
        let outcome = LaunchOutcome::Failed { reason, message: text.to_owned(), left_over: None };
        self.answer(job, Input::Launched { id: launch.id.clone(), outcome });
    }

    /// The next launch that waits for its turn has it.
    fn turn_is_over(&mut self, job: u64) {
        let Some(asked) = self.jobs.get(&job) else { return };
        let (machine, life) = (asked.machine, asked.life);
        let Some(process) = &mut self.machines[machine].agent else { return };
        if process.life != life {
            return;
        }
        match process.launches.1.pop_front() {
            Some(next) => self.stage(next, Stage::First),
            None => process.launches.0 = process.launches.0.saturating_sub(1),
        }
    }

    // ---- the rest ----

    fn pull(&mut self, job: u64, daemon: usize, image: String, stage: Stage, fails: bool) {
        let offered = behaviour(&image);
        let failed =
            |outcome: PullError| Input::Pulled { image: image.clone(), outcome: Err(outcome) };
        if fails || self.faults.registry_is_away(self.now) {
            let text = "the registry does not answer".to_owned();
            return self.answer(job, failed(PullError::Transient(text)));
        }
        let reason = match offered.offer {
            Offer::Yes => None,
            Offer::No => Some(Reason::ImageNotFound),
            Offer::Denied => Some(Reason::ImageDenied),
        };
        if let Some(reason) = reason {
            let message = format!("the registry does not give {image}");
            return self.answer(job, failed(PullError::Final { reason, message }));
        }
        let done = match stage {
            Stage::Progress(done) => done,
            _ => 0,
        };
        if done < offered.pull_ms {
            const PIECE_MS: u64 = 2_000;
            let piece = PIECE_MS.min(offered.pull_ms - done);
            if done > 0 {
                let Some(asked) = self.jobs.get(&job) else { return };
                let (machine, life) = (asked.machine, asked.life);
                let input = Input::PullProgress { image };
                self.plan(1, Event::Outcome { machine, life, job: None, input });
            }
            return self.plan(piece, Event::Docker { job, stage: Stage::Progress(done + piece) });
        }
        self.daemons[daemon].images.insert(image.clone());
        self.answer(job, Input::Pulled { image, outcome: Ok(()) });
    }

    fn cancel_pull(&mut self, life: u64, image: &str) {
        let pull = self.jobs.iter().find(|(_, job)| {
            let same = matches!(&job.work, Work::Pull(of) if of == image);
            job.life == life && same && !job.answered
        });
        if let Some(job) = pull.map(|(number, _)| *number) {
            let image = image.to_owned();
            self.answer(job, Input::Pulled { image, outcome: Err(PullError::Cancelled) });
        }
    }

    fn stop(&mut self, job: u64, daemon: usize, id: &str, grace_seconds: u32) {
        let Some(container) = self.daemons[daemon].containers.get_mut(id) else {
            return self.docker_answers(job, true, "");
        };
        if !container.is_running() {
            return self.docker_answers(job, true, "");
        }
        container.stoppers.push(job);
        let grace_ms = u64::from(grace_seconds) * 1_000;
        let (after, code) = match behaviour(&container.image).term_ms {
            Some(ms) if ms < grace_ms => (ms, 143),
            _ => (grace_ms, 137),
        };
        let run = container.run;
        self.plan(after, Event::Ends { daemon, container: id.to_owned(), run, code });
    }

    fn list(
        &mut self,
        job: u64,
        daemon: usize,
        cluster: &ClusterId,
        node: &NodeId,
    ) -> Vec<Observed> {
        let Some(asked) = self.jobs.get(&job) else { return Vec::new() };
        let Some(process) = &mut self.machines[asked.machine].agent else { return Vec::new() };
        // As the agent does: what was inspected in this state is not again.
        let known = std::mem::take(&mut process.seen);
        let mut observed = Vec::new();
        for container in self.daemons[daemon].containers.values() {
            let has = |name: &str, value: &str| {
                container.labels.get(name).is_some_and(|label| label == value)
            };
            if !has(labels::CLUSTER, cluster.as_str()) || !has(labels::NODE, node.as_str()) {
                continue;
            }
            let facts = match known.get(&container.id) {
                Some(facts) if facts.state == container.state => facts.clone(),
                _ => container.facts(),
            };
            process.seen.insert(container.id.clone(), facts.clone());
            observed.push(Observed {
                name: container.name.clone(),
                image: container.image.clone(),
                labels: container.labels.clone(),
                facts,
            });
        }
        observed
    }

    // ---- answers ----

    /// The outcome of a stop or a removal.
    pub fn docker_answers(&mut self, job: u64, done: bool, why: &str) {
        let Some(asked) = self.jobs.get(&job) else { return };
        let outcome = if done { Ok(()) } else { Err(why.to_owned()) };
        let input = match &asked.work {
            Work::Stop(id, _) => Input::Stopped { container_id: id.clone(), outcome },
            Work::Remove(id) => Input::Removed { container_id: id.clone(), outcome },
            _ => return,
        };
        self.answer(job, input);
    }

    fn answer(&mut self, job: u64, input: Input) {
        let Some(asked) = self.jobs.get_mut(&job) else { return };
        if asked.client_left || asked.answered {
            return drop(self.jobs.remove(&job));
        }
        asked.answered = true;
        let (machine, life) = (asked.machine, asked.life);
        let after = self.rng.range(1, 3);
        self.plan(after, Event::Outcome { machine, life, job: Some(job), input });
    }

    /// The connection breaks: the request may or may not have been carried out.
    pub fn docker_breaks_off(&mut self, job: u64) {
        let Some(asked) = self.jobs.get(&job) else { return };
        let input = broken(&asked.work, "the connection to Docker broke");
        if matches!(input, Input::Launched { .. }) {
            self.turn_is_over(job);
        }
        self.answer(job, input);
    }

    /// Whoever asked waits no longer; what was asked goes on.
    fn give_up(&mut self, job: u64, input: Input) {
        if matches!(input, Input::Launched { .. }) {
            self.turn_is_over(job);
        }
        let Some(asked) = self.jobs.get_mut(&job) else { return };
        asked.client_left = true;
        let (machine, life) = (asked.machine, asked.life);
        self.plan(0, Event::Outcome { machine, life, job: None, input });
    }

    /// The daemon hangs: the request waits, for as long as whoever asked does.
    fn sticks(&mut self, job: u64, stage: Stage) {
        let now = self.now;
        let Some(asked) = self.jobs.get_mut(&job) else { return };
        let daemon = asked.daemon;
        if let Some(limit) = asked.limit_ms
            && !asked.limit_planned
        {
            asked.limit_planned = true;
            let at = (asked.asked_at + limit).max(now + 1);
            self.queue.plan(at, Event::Docker { job, stage: Stage::Limit });
        }
        self.daemons[daemon].stuck.push((job, stage));
    }
}

/// The outcome of a request whose answer did not come.
fn broken(work: &Work, why: &str) -> Input {
    let why = why.to_owned();
    match work.clone() {
        Work::Check(image) => Input::ImageChecked { image, outcome: Err(why) },
        Work::Pull(image) => Input::Pulled { image, outcome: Err(PullError::Transient(why)) },
        Work::Launch(launch, _) => {
            Input::Launched { id: launch.id, outcome: LaunchOutcome::Unknown(why) }
        }
        Work::Stop(container_id, _) => Input::Stopped { container_id, outcome: Err(why) },
        Work::Remove(container_id) => Input::Removed { container_id, outcome: Err(why) },
        Work::List(number, ..) => Input::Listed { number, outcome: Err(why) },
    }
}
