//! Waiting until what was asked for has been carried out.

use std::time::Duration;

use tokio::time::Instant;

use super::live::Progress;
use super::progress::{self, Goal, Seen, Verdict};
use super::render::words::sentence;
use super::session::Session;
use super::stop::Stop;
use crate::client::ClientError;

/// The shortest time between two looks; a scheduler that takes long to answer
/// is asked less often.
const EVERY: Duration = Duration::from_millis(200);

/// What to wait for, and how long.
#[derive(Clone, Debug)]
pub struct Wait<'a> {
    /// The workload.
    pub workload: &'a str,
    /// When it is over.
    pub goal: Goal,
    /// When the user began to wait.
    pub began: Instant,
    /// When to give up, counted from there.
    pub timeout: Duration,
    /// Whether to give up once waiting cannot help.
    pub fail_fast: bool,
}

/// Waits, and shows progress meanwhile. The work itself goes on whatever
/// happens here.
pub async fn wait(session: &Session, wait: &Wait<'_>) -> Result<Seen, Stop> {
    let mut progress = Progress::new(session);
    let result = tokio::select! {
        result = look_again_and_again(session, wait, &mut progress) => result,
        _ = tokio::signal::ctrl_c() => Err(Stop::Interrupted(format!(
            "stopped waiting; the scheduler goes on. See: kube-lite ctl {}",
            next_step(wait)
        ))),
    };
    progress.end();
    result
}

async fn look_again_and_again(
    session: &Session,
    wait: &Wait<'_>,
    progress: &mut Progress,
) -> Result<Seen, Stop> {
    let mut last = Seen::default();
    let mut was_wanted = false;
    let mut said_hopeless = false;
    let mut in_trouble = false;
    loop {
        let asked = Instant::now();
        let left = wait.timeout.saturating_sub(wait.began.elapsed());
        let looked = tokio::time::timeout(left.max(EVERY), look(session, wait.workload)).await;
        match looked {
            Err(_) => return Err(timed_out(session, wait, &last)),
            Ok(Ok(seen)) => {
                last = seen;
                in_trouble = false;
                let verdict = progress::judge(&wait.goal, &last, was_wanted);
                let headline = progress::headline(wait.workload, &last);
                let headline = (verdict != Verdict::Settled).then_some(headline.as_str());
                let lines = progress::lines(&last);
                progress.update(session, headline, lines)?;
                match verdict {
                    Verdict::Going => {}
                    Verdict::Settled => return Ok(last),
                    Verdict::Off(why) => return Err(Stop::Failed(why)),
                }
                was_wanted |= progress::is_wanted(&wait.goal, &last);
            }
            Ok(Err(error)) if error.is_transient() => {
                if !in_trouble {
                    let words = session.in_words(&error);
                    progress.remark(session, &format!("{} Still trying.", sentence(&words)));
                }
                in_trouble = true;
            }
            Ok(Err(error)) => return Err(session.failed(&error)),
        }
        if let Some(why) = progress::hopeless(&last).filter(|_| was_wanted && !said_hopeless) {
            let next = format!("kube-lite ctl explain {}", wait.workload);
            if wait.fail_fast {
                return Err(Stop::Failed(format!("{why}\nThe whole story: {next}")));
            }
            progress.remark(session, &format!("{why}\n  Waiting on; Ctrl-C ends it. See: {next}"));
            said_hopeless = true;
        }
        if wait.began.elapsed() >= wait.timeout {
            return Err(timed_out(session, wait, &last));
        }
        tokio::time::sleep(EVERY.max(asked.elapsed() * 3)).await;
    }
}

/// One look at a workload and its instances; none of either is fine.
async fn look(session: &Session, workload: &str) -> Result<Seen, ClientError> {
    let missing = |error: &ClientError| error.status() == Some(404);
    let view = match session.client.workload(workload).await {
        Ok(view) => Some(view),
        Err(error) if missing(&error) => None,
        Err(error) => return Err(error),
    };
    let instances = match session.client.instances(Some(workload)).await {
        Ok(instances) => instances,
        Err(error) if missing(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(Seen { view, instances })
}

fn timed_out(session: &Session, wait: &Wait<'_>, last: &Seen) -> Stop {
    const ROOM: usize = 10;
    let seconds = wait.timeout.as_secs();
    let headline = progress::headline(wait.workload, last);
    let mut text = format!("not there after {seconds} s: {headline}");
    let mut lines = progress::lines(last);
    lines.retain(|line| !line.fine);
    for line in progress::screen(&lines, ROOM, &session.look()) {
        text.push_str(&format!("\n  {line}"));
    }
    text.push_str(&format!(
        "\nThe scheduler goes on. The whole story: kube-lite ctl {}",
        match wait.goal {
            Goal::Gone => next_step(wait),
            _ => format!("explain {}", wait.workload),
        }
    ));
    Stop::TimedOut(text)
}

/// The command that shows how it goes on.
fn next_step(wait: &Wait<'_>) -> String {
    match wait.goal {
        Goal::Gone => format!("instances {} --watch", wait.workload),
        _ => format!("status {} --watch", wait.workload),
    }
}
