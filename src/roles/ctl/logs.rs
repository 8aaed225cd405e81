//! `logs`: of one instance as they are, of a workload line by line with the
//! instance in front.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::args::LogsArgs;
use super::render::{Look, Tone, lists};
use super::session::Session;
use super::stop::Stop;
use crate::client::{Client, ClientError};
use crate::model::{ContainerInstance, Phase};

/// While following, new instances are looked for this often.
const LOOK_FOR_NEW: Duration = Duration::from_secs(1);
/// So many instances are followed at once: each is an open connection, here, at
/// the scheduler and at an agent.
const FOLLOWED_AT_MOST: usize = 100;
/// Lines in flight between the readers and the writer.
const IN_FLIGHT: usize = 256;
/// Codes of colours that tell instances apart.
const COLORS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Shows the log of whatever `of` names: a workload first, else an instance.
pub async fn logs(session: &Session, args: &LogsArgs) -> Result<(), Stop> {
    let of = args.of.as_str();
    let instances = match session.client.instances(Some(of)).await {
        Ok(instances) => instances,
        Err(error) if error.status() == Some(404) => Vec::new(),
        Err(error) => return Err(session.failed(&error)),
    };
    if !instances.is_empty() {
        return of_workload(session, args, instances).await;
    }
    match session.client.workload(of).await {
        Ok(_) if args.follow => of_workload(session, args, instances).await,
        Ok(_) => Err(Stop::Failed(format!(
            "{of} has no instances, hence no logs. See: kube-lite ctl explain {of}"
        ))),
        Err(error) if error.status() == Some(404) => of_instance(session, args).await,
        Err(error) => Err(session.failed(&error)),
    }
}

/// One instance: every byte as it comes.
async fn of_instance(session: &Session, args: &LogsArgs) -> Result<(), Stop> {
    let mut stream = match session.client.logs(&args.of, args.tail, args.follow).await {
        Ok(stream) => stream,
        Err(error) if error.status() == Some(404) => {
            let instances = session.client.instances(None).await;
            let instances = instances.map_err(|error| session.failed(&error))?;
            let names: Vec<&str> = instances.iter().map(|one| one.id.as_str()).collect();
            return Err(session.unknown("workload or instance", &args.of, &names).await);
        }
        Err(error) => return Err(session.failed(&error)),
    };
    while let Some(chunk) = stream.next_chunk().await.map_err(|error| session.failed(&error))? {
        session.say(chunk)?;
    }
    Ok(())
}

/// All instances of a workload.
async fn of_workload(
    session: &Session,
    args: &LogsArgs,
    instances: Vec<ContainerInstance>,
) -> Result<(), Stop> {
    let mut readers = Readers::new(session, args);
    if args.follow { readers.follow(instances).await } else { readers.once(&instances).await }
}

/// Reads several logs at once.
struct Readers<'a> {
    session: &'a Session,
    args: &'a LogsArgs,
    /// What stands in front of the lines of each instance.
    prefixes: BTreeMap<String, String>,
    /// The instances whose log is being read, has ended or is not to be read.
    known: BTreeSet<String>,
    /// The instances whose log broke off; it is taken up again at its end.
    broken: BTreeSet<String>,
    /// Instance ids are padded to this, so that lines begin at one column.
    width: usize,
    failures: usize,
}

impl<'a> Readers<'a> {
    fn new(session: &'a Session, args: &'a LogsArgs) -> Self {
        let (prefixes, known, broken) = Default::default();
        Self { session, args, prefixes, known, broken, width: 0, failures: 0 }
    }

    /// One after another, in the order of their replicas.
    async fn once(&mut self, instances: &[ContainerInstance]) -> Result<(), Stop> {
        self.note_width(instances);
        for instance in lists::in_order(instances) {
            if let Some(why) = no_log_yet(instance) {
                self.session.remark(&format!("{}: no log yet: {why}", instance.id));
                continue;
            }
            let prefix = self.prefix_of(instance.id.as_str());
            if let Err(error) = self.copy(instance, &prefix).await? {
                self.complain(instance.id.as_str(), &error);
            }
        }
        self.result()
    }

    async fn copy(
        &self,
        instance: &ContainerInstance,
        prefix: &str,
    ) -> Result<Result<(), ClientError>, Stop> {
        let opened = self.session.client.logs(instance.id.as_str(), self.args.tail, false).await;
        let mut lines = match opened {
            Ok(stream) => stream.lines(),
            Err(error) => return Ok(Err(error)),
        };
        loop {
            match lines.next_line().await {
                Ok(Some(line)) => self.session.say(marked(prefix, &line))?,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// All at once, and those that start later too, until the workload is gone.
    async fn follow(&mut self, instances: Vec<ContainerInstance>) -> Result<(), Stop> {
        let mut tasks = JoinSet::new();
        let (lines, mut inbox) = mpsc::channel(IN_FLIGHT);
        let mut tick = tokio::time::interval(LOOK_FOR_NEW);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.start(&instances, &mut tasks, &lines);
        let mut gone = false;
        while !(gone && tasks.is_empty() && inbox.is_empty()) {
            tokio::select! {
                Some(text) = inbox.recv() => self.session.say(text)?,
                Some(ended) = tasks.join_next() => {
                    if let Ok((id, result)) = ended {
                        self.ended(&id, result);
                    }
                }
                _ = tick.tick(), if !gone => match self.look().await {
                    Ok(Some(fresh)) => self.start(&fresh, &mut tasks, &lines),
                    Ok(None) => gone = true,
                    // Its readers will say what there is to say.
                    Err(_) => {}
                },
            }
        }
        self.session.remark(&format!("{} is gone", self.args.of));
        Ok(())
    }

    /// The instances there are now; `None` if the workload is gone.
    async fn look(&self) -> Result<Option<Vec<ContainerInstance>>, ClientError> {
        let client = &self.session.client;
        match client.workload(&self.args.of).await {
            Ok(_) => client.instances(Some(&self.args.of)).await.map(Some),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts to read those that have a log by now and are not being read yet.
    fn start(
        &mut self,
        instances: &[ContainerInstance],
        tasks: &mut JoinSet<(String, Result<(), ClientError>)>,
        lines: &mpsc::Sender<Bytes>,
    ) {
        self.note_width(instances);
        for instance in lists::in_order(instances) {
            let id = instance.id.as_str();
            if self.known.contains(id) || no_log_yet(instance).is_some() {
                continue;
            }
            if tasks.len() >= FOLLOWED_AT_MOST {
                self.session.remark(&format!(
                    "{id} is not followed: there are already {FOLLOWED_AT_MOST} that are"
                ));
                self.known.insert(id.to_owned());
                continue;
            }
            self.known.insert(id.to_owned());
            let tail = if self.broken.contains(id) { Some(0) } else { self.args.tail };
            let prefix = self.prefix_of(id);
            let (client, id, lines) = (self.session.client.clone(), id.to_owned(), lines.clone());
            tasks.spawn(async move {
                let result = forward(&client, &id, tail, &prefix, &lines).await;
                (id, result)
            });
        }
    }

    fn ended(&mut self, id: &str, result: Result<(), ClientError>) {
        match result {
            Ok(()) => self.session.remark(&format!("{id}: its log has ended")),
            Err(error) if error.is_transient() => {
                if self.broken.insert(id.to_owned()) {
                    self.complain(id, &error);
                }
                self.known.remove(id);
            }
            Err(error) => self.complain(id, &error),
        }
    }

    fn complain(&mut self, id: &str, error: &ClientError) {
        self.failures += 1;
        self.session.remark(&format!("{id}: {}", self.session.in_words(error)));
    }

    fn result(&self) -> Result<(), Stop> {
        match self.failures {
            0 => Ok(()),
            1 => Err(Stop::Failed("one log could not be read".to_owned())),
            more => Err(Stop::Failed(format!("{more} logs could not be read"))),
        }
    }

    fn note_width(&mut self, instances: &[ContainerInstance]) {
        let widest = instances.iter().map(|one| one.id.as_str().len()).max().unwrap_or(0);
        self.width = self.width.max(widest);
    }

    fn prefix_of(&mut self, id: &str) -> String {
        let nth = self.prefixes.len();
        let make = || prefix(id, self.width, nth, &self.session.look());
        self.prefixes.entry(id.to_owned()).or_insert_with(make).clone()
    }
}

/// Sends the lines of one log until it ends.
async fn forward(
    client: &Client,
    id: &str,
    tail: Option<u64>,
    prefix: &str,
    lines: &mpsc::Sender<Bytes>,
) -> Result<(), ClientError> {
    let mut log = client.logs(id, tail, true).await?.lines();
    while let Some(line) = log.next_line().await? {
        if lines.send(marked(prefix, &line)).await.is_err() {
            break; // Nobody reads any more.
        }
    }
    Ok(())
}

/// What stands in front of each line of the `nth` instance.
fn prefix(id: &str, width: usize, nth: usize, look: &Look) -> String {
    let name = format!("{id:<width$}");
    if look.color {
        let color = COLORS[nth % COLORS.len()];
        format!("\x1b[{color}m{name}\x1b[0m {} ", Tone::Dim.paint("|", look))
    } else {
        format!("{name} | ")
    }
}

fn marked(prefix: &str, line: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(prefix.len() + line.len() + 1);
    text.put(prefix.as_bytes());
    text.put(line);
    text.put_u8(b'\n');
    text.freeze()
}

/// Why an instance cannot have written anything yet.
fn no_log_yet(instance: &ContainerInstance) -> Option<String> {
    let begun = !instance.container_id.is_empty() || instance.phase >= Phase::Running;
    (!begun).then(|| {
        lists::instance_why(instance)
            .unwrap_or_else(|| format!("it is {}", instance.phase.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn prefixes_are_aligned_and_differ_in_colour() {
        let plain = Look::plain(Timestamp::UNIX_EPOCH, TimeZone::UTC);
        assert_eq!(prefix("web-1", 7, 0, &plain), "web-1   | ");
        let look = Look { color: true, ..plain };
        assert_eq!(prefix("web-1", 7, 0, &look), "\x1b[36mweb-1  \x1b[0m \x1b[2m|\x1b[0m ");
        assert_ne!(prefix("a", 1, 0, &look), prefix("a", 1, 1, &look));
        assert_eq!(prefix("a", 1, 0, &look), prefix("a", 1, 6, &look), "there are six");
    }

    #[test]
    fn lines_are_passed_on_as_they_are() {
        assert_eq!(marked("a | ", b"\xff\x1b[31mred"), b"a | \xff\x1b[31mred\n".as_slice());
    }
}
