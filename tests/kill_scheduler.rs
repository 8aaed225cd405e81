//! The scheduler is killed at random moments while people give it work: what it
//! has acknowledged is there afterwards, and what runs is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kube_lite::client::{Client, ClientError};
use kube_lite::model::view::{RolloutRequest, WorkloadView};
use kube_lite_testkit::census::agree;
use kube_lite_testkit::chance::{Chance, a_while, chance};
use kube_lite_testkit::docker::DockerEvent;
use kube_lite_testkit::sandbox::{Fleet, hello, hello_probed};
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{SHORT, until};
use serde_json::{Value, json};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");
const IMAGES: [&str; 2] = ["kube-lite/hello:v1", "kube-lite/hello:v2"];
/// People who work at once, each on workloads of their own.
const PEOPLE: usize = 4;
const WORKLOADS_EACH: usize = 2;
const WORDS_EACH: usize = 50;
/// No more than three of a workload are ever wanted, and one more while it rolls.
const MOST_AT_ONCE: usize = 4;

/// What was said of a workload, as far as it can be seen again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    replicas: u32,
    revision: u64,
    image: String,
    mark: String,
}

impl Said {
    fn seen(view: &WorkloadView) -> Self {
        let spec = &view.spec;
        Self {
            replicas: view.desired,
            revision: view.revision,
            image: spec.image.clone(),
            mark: spec.env.get("MARK").cloned().unwrap_or_default(),
        }
    }
}

/// A word given to the scheduler.
#[derive(Clone, Debug)]
enum Word {
    Deploy { replicas: u32, image: &'static str, mark: String },
    Scale(u32),
    Roll(&'static str),
    Undo,
    Delete,
}

/// What became of a word.
#[derive(Debug)]
enum Answer {
    /// Done, with the revision now wanted if the answer names one.
    Done(Option<u64>),
    /// Not done.
    NotDone,
    /// No answer: done or not.
    Nobody,
}

/// One workload, and all that is known of it for sure.
struct Model {
    name: String,
    probed: bool,
    /// The last acknowledged word; `None`: there is no such workload.
    now: Option<Said>,
    /// What each revision of this life is made of.
    templates: BTreeMap<u64, (String, String)>,
    /// The largest revision that was ever acknowledged under this name.
    largest: u64,
    marks: u32,
    /// In which life of the scheduler it was last compared.
    compared_in: u64,
    /// What was said and answered, for whoever has to find out.
    story: Vec<String>,
}

impl Model {
    fn new(name: String, probed: bool) -> Self {
        Self {
            name,
            probed,
            now: None,
            templates: BTreeMap::new(),
            largest: 0,
            marks: 0,
            compared_in: 0,
            story: Vec::new(),
        }
    }

    fn next_word(&mut self, chance: &mut Chance) -> Word {
        let replicas = chance.u32(0..=3);
        let image = IMAGES[chance.usize(..2)];
        let kind = if self.now.is_none() { 0 } else { chance.u32(0..100) };
        match kind {
            0..15 => {
                self.marks += 1;
                Word::Deploy { replicas, image, mark: self.marks.to_string() }
            }
            15..55 => Word::Scale(replicas),
            55..75 => Word::Roll(image),
            75..85 => Word::Undo,
            _ => Word::Delete,
        }
    }

    fn spec(&self, replicas: u32, image: &str, mark: &str) -> Value {
        let mut spec = match self.probed {
            true => hello_probed(&self.name, replicas),
            false => hello(&self.name, replicas),
        };
        spec["ports"] = match self.probed {
            true => json!([{"containerPort": 8080}]),
            false => json!([]),
        };
        spec["image"] = image.into();
        spec["env"] = json!({ "MARK": mark });
        spec
    }

    async fn say(&self, client: &Client, word: &Word) -> Answer {
        let name = self.name.as_str();
        let outcome = match word {
            Word::Deploy { replicas, image, mark } => {
                let spec = self.spec(*replicas, image, mark);
                client.deploy(Bytes::from(spec.to_string())).await.map(|done| Some(done.revision))
            }
            Word::Scale(replicas) => client.scale(name, *replicas).await.map(|_| None),
            Word::Roll(image) => {
                let image = (*image).to_owned();
                let wanted = RolloutRequest { image, max_surge: None, max_unavailable: None };
                client.start_rollout(name, &wanted).await.map(|done| Some(done.revision))
            }
            Word::Undo => client.undo_rollout(name, None).await.map(|done| Some(done.revision)),
            Word::Delete => client.delete(name).await.map(|_| None),
        };
        match outcome {
            Ok(revision) => Answer::Done(revision),
            // There is nothing to go back to.
            Err(ClientError::Api(error)) if error.status == 409 => {
                assert!(matches!(word, Word::Undo), "{name}: {word:?} refused: {error}");
                Answer::NotDone
            }
            Err(ClientError::Api(error)) => panic!("{name}: {word:?} refused: {error}"),
            // It says that nothing was done, and is taken at its word.
            Err(ClientError::Unreachable { .. }) => Answer::NotDone,
            Err(_) => Answer::Nobody,
        }
    }

    /// What is, once `word` is done; without the revision, if that was not told.
    fn after(&self, word: &Word, revision: Option<u64>) -> Option<Said> {
        let now = self.now.clone();
        match word {
            Word::Delete => None,
            Word::Deploy { replicas, image, mark } => Some(Said {
                replicas: *replicas,
                revision: revision.unwrap_or(0),
                image: (*image).to_owned(),
                mark: mark.clone(),
            }),
            Word::Scale(replicas) => now.map(|said| Said { replicas: *replicas, ..said }),
            Word::Roll(image) => now.map(|said| Said {
                image: (*image).to_owned(),
                revision: revision.unwrap_or(0),
                ..said
            }),
            Word::Undo => now.map(|said| {
                let known = revision.and_then(|number| self.templates.get(&number));
                let (image, mark) = known.cloned().unwrap_or_default();
                Said { revision: revision.unwrap_or(0), image, mark, ..said }
            }),
        }
    }

    /// Whether what is seen is what comes of `word`.
    fn comes_of(&self, word: &Word, seen: Option<&Said>) -> bool {
        let revision = seen.map(|said| said.revision);
        let fits = self.after(word, revision).as_ref() == seen;
        let is_new = matches!(word, Word::Deploy { .. });
        fits && (!is_new || revision > Some(self.largest))
    }

    fn learn(&mut self, now: Option<Said>) {
        match &now {
            None => self.templates.clear(),
            Some(said) => {
                let made_of = (said.image.clone(), said.mark.clone());
                let known = self.templates.insert(said.revision, made_of.clone());
                assert!(
                    known.is_none_or(|known| known == made_of),
                    "{}: revision {} means two things",
                    self.name,
                    said.revision
                );
                self.largest = self.largest.max(said.revision);
            }
        }
        self.now = now;
    }

    /// Says a word and takes in what came of it.
    async fn work(&mut self, client: &Client, word: Word, epochs: &AtomicU64) {
        let answer = self.say(client, &word).await;
        self.story.push(format!("{word:?}: {answer:?}"));
        match answer {
            Answer::Done(revision) => {
                if let (Word::Deploy { .. }, Some(revision)) = (&word, revision) {
                    assert!(revision > self.largest, "{}: {revision} was used before", self.name);
                }
                self.learn(self.after(&word, revision));
            }
            Answer::NotDone => {}
            Answer::Nobody => {
                let seen = look(client, &self.name).await;
                let comes_of_it = self.comes_of(&word, seen.as_ref());
                assert!(
                    comes_of_it || seen == self.now,
                    "{}: was {:?}, is {seen:?}, after {:#?}",
                    self.name,
                    self.now,
                    self.story
                );
                self.learn(seen);
            }
        }
        self.compare(client, epochs).await;
    }

    /// Compares with the scheduler, once in each of its lives.
    async fn compare(&mut self, client: &Client, epochs: &AtomicU64) {
        let life = epochs.load(Ordering::SeqCst);
        if self.compared_in != life {
            let seen = look(client, &self.name).await;
            let story = &self.story[self.story.len().saturating_sub(5)..];
            assert_eq!(seen, self.now, "{} in epoch {life}, after {story:#?}", self.name);
            self.compared_in = life;
        }
    }
}

/// What there is of a workload, once the scheduler is there to be asked.
async fn look(client: &Client, name: &str) -> Option<Said> {
    until("the scheduler to answer", SHORT, || async {
        match client.workload(name).await {
            Ok(view) => Ok(Some(Said::seen(&view))),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    })
    .await
}

/// One of those who give the scheduler work.
async fn person(
    number: usize,
    client: Client,
    mut chance: Chance,
    epochs: Arc<AtomicU64>,
) -> Vec<Model> {
    let name = |workload| format!("w{number}{workload}");
    let mut models: Vec<Model> =
        (0..WORKLOADS_EACH).map(|w| Model::new(name(w), (number + w).is_multiple_of(2))).collect();
    for _ in 0..WORDS_EACH {
        let model = &mut models[chance.usize(..WORKLOADS_EACH)];
        model.compare(&client, &epochs).await;
        let word = model.next_word(&mut chance);
        model.work(&client, word, &epochs).await;
        a_while(&mut chance, 50..=900).await;
    }
    models
}

/// Two hundred words of four people, and a scheduler that is killed all the
/// while: in the middle of a write, of an order, of waiting for its nodes, and
/// before it even listens.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_any_number_of_kills() {
    let mut chance = chance("kill_scheduler");
    let mut fleet = Fleet::start(BIN, 3).await;
    fleet.deploy(&hello_probed("bystander", 3)).await;
    fleet.ready("bystander", 3).await;
    let bystanders = fleet.runs("bystander", 3).await;
    let watch = fleet.truth.watch().await;

    let epochs = Arc::new(AtomicU64::new(fleet.epoch().await));
    let mut people: Vec<_> = (0..PEOPLE)
        .map(|number| {
            let client = fleet.client.clone();
            tokio::spawn(person(number, client, chance.fork(), Arc::clone(&epochs)))
        })
        .collect();
    let mut kills = 0;
    while people.iter().any(|person| !person.is_finished()) {
        // Often before it has heard of all its nodes, often well after.
        match chance.bool() {
            true => a_while(&mut chance, 0..=800).await,
            false => a_while(&mut chance, 3_000..=6_000).await,
        }
        fleet.scheduler.kill();
        if chance.u8(..4) == 0 {
            let stillborn = fleet.scheduler_process();
            a_while(&mut chance, 0..=60).await;
            drop(stillborn);
        }
        fleet.start_scheduler().await;
        let epoch = fleet.epoch().await;
        let before = epochs.swap(epoch, Ordering::SeqCst);
        assert!(epoch > before, "epoch {epoch} after {before}");
        kills += 1;
    }
    assert!(kills >= 5, "only {kills} kills");
    let mut models = Vec::new();
    for person in people.drain(..) {
        models.extend(person.await.expect("everything as it was acknowledged"));
    }

    let mut wanted = BTreeMap::from([("bystander".to_owned(), 3)]);
    for model in &mut models {
        model.compare(&fleet.client, &epochs).await;
        if let Some(said) = &model.now {
            wanted.insert(model.name.clone(), said.replicas as usize);
        }
    }
    agree(&fleet, &wanted).await;
    let count = watch.events().len();
    stays("nothing happens any more", Duration::from_secs(4), || async {
        // What had ended may still be on its way out of Docker.
        let moves = |e: &&DockerEvent| e.action != "destroy";
        let events = watch.events();
        let later: Vec<_> = events[count..].iter().filter(moves).collect();
        if later.is_empty() { Ok(()) } else { Err(format!("{later:?}")) }
    })
    .await;
    for action in ["create", "start", "die"] {
        assert_eq!(watch.repeated(action), [""; 0], "an instance is one container's one life");
    }
    let happened = watch.happened_to(&bystanders);
    assert!(happened.is_empty(), "what runs is not touched: {happened:?}");
    assert_eq!(fleet.runs("bystander", 3).await, bystanders);
    assert!(watch.starts("bystander").is_empty(), "and nothing is started beside it");
    for model in &models {
        let most = watch.most_at_once(&model.name, &[]);
        assert!(most <= MOST_AT_ONCE, "{most} of {} ran at once", model.name);
    }
    for name in wanted.keys() {
        fleet.client.delete(name).await.expect("delete");
    }
    fleet.nothing_left().await;
}
