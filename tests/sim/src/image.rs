//! Images, and how what is made of them behaves. The name says it: `good:3` runs
//! for ever, `crash:1` does not.

use kube_lite::model::{RestartPolicy, Template};

/// How a container of an image behaves.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// Where the registry stands.
    pub offer: Offer,
    /// Pulling it takes this long.
    pub pull_ms: u64,
    /// How its process ends by itself.
    pub life: Life,
    /// How it answers probes.
    pub health: Health,
    /// It ends this long after SIGTERM; never, when `None`.
    pub term_ms: Option<u64>,
}

/// What the registry says about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It can be had.
    Yes,
    /// There is none.
    No,
    /// It is not for us.
    Denied,
}

/// How a process ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does not.
    Forever,
    /// With this code, after so many milliseconds.
    Ends(i64, u64),
    /// With 0 or 1, as it falls.
    EndsSomehow(u64),
}

/// How a process answers probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Well, so many milliseconds after its start.
    GoodAfter(u64),
    /// Well at first, ill so many milliseconds after its start.
    BadAfter(u64),
    /// Never.
    Never,
}

/// The behaviour of an image.
pub fn behaviour(image: &str) -> Behaviour {
    let good = Behaviour {
        offer: Offer::Yes,
        pull_ms: 400,
        life: Life::Forever,
        health: Health::GoodAfter(150),
        term_ms: Some(40),
    };
    match image.split(':').next().unwrap_or_default() {
        "lazy" => Behaviour { health: Health::GoodAfter(6_000), ..good },
        "big" => Behaviour { pull_ms: 20_000, ..good },
        "stubborn" => Behaviour { term_ms: None, ..good },
        "crash" => Behaviour { life: Life::Ends(1, 700), ..good },
        "eager" => Behaviour { life: Life::Ends(3, 1), ..good },
        "sick" => Behaviour { health: Health::Never, ..good },
        "turncoat" => Behaviour { health: Health::BadAfter(9_000), ..good },
        "missing" => Behaviour { offer: Offer::No, pull_ms: 60, ..good },
        "denied" => Behaviour { offer: Offer::Denied, pull_ms: 60, ..good },
        "job" => Behaviour { life: Life::Ends(0, 2_500), ..good },
        "quickjob" => Behaviour { life: Life::Ends(0, 1), ..good },
        "badjob" => Behaviour { life: Life::Ends(2, 1_500), ..good },
        "dicejob" => Behaviour { life: Life::EndsSomehow(1_200), ..good },
        _ => good,
    }
}

/// How a replica of a template ends up when nothing disturbs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Running and ready.
    Runs,
    /// Done.
    Finishes,
    /// Neither, ever: it crashes, is ill, or has no image.
    NeverRests,
}

/// What becomes of a replica of this template.
pub fn fate(template: &Template) -> Fate {
    let image = behaviour(&template.image);
    if image.offer != Offer::Yes {
        return Fate::NeverRests;
    }
    let probed = template.health_check.is_some();
    let well = matches!(image.health, Health::GoodAfter(_)) || !probed;
    match (image.life, template.restart_policy) {
        (Life::Forever, _) if well => Fate::Runs,
        (Life::Forever, _) | (_, RestartPolicy::Always) => Fate::NeverRests,
        (Life::Ends(0, _) | Life::EndsSomehow(_), RestartPolicy::OnFailure) => Fate::Finishes,
        (Life::Ends(..), RestartPolicy::OnFailure) => Fate::NeverRests,
        (_, RestartPolicy::Never) => Fate::Finishes,
    }
}
