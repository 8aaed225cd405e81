//! What was measured: as rows on the terminal and as JSON.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};

/// Several measurements of one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `ms`, `MB`, `/s` …
    pub unit: String,
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub samples: usize,
}

impl Figure {
    /// The figure of these measurements.
    ///
    /// # Panics
    /// When there are none.
    pub fn of(unit: &str, mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Self {
            unit: unit.to_owned(),
            median: quantile(&values, 0.5),
            min: values[0],
            max: values[values.len() - 1],
            samples: values.len(),
        }
    }

    /// A figure of which there is but one.
    pub fn one(unit: &str, value: f64) -> Self {
        Self::of(unit, vec![value])
    }

    fn shown(&self) -> String {
        let number = |value: f64| match value.abs() {
            v if v >= 100.0 => format!("{value:.0}"),
            v if v >= 10.0 => format!("{value:.1}"),
            _ => format!("{value:.2}"),
        };
        match self.samples {
            1 => format!("{} {}", number(self.median), self.unit),
            _ => format!(
                "{} {} ({}…{})",
                number(self.median),
                self.unit,
                number(self.min),
                number(self.max)
            ),
        }
    }
}

/// The value below which `share` of these sorted values are.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len() - 1) as f64 * share;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// One thing that was measured, and what it is to be compared with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// What it is.
    pub what: String,
    /// What was measured; nothing where it could not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<Figure>,
    /// Why it could not be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What could not be beaten, or somebody else: its name, and what was measured
    /// of it in the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<(String, Figure)>,
    /// `figure` as a multiple of what is beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What was aimed at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<String>,
    /// Whether the median is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

impl Row {
    /// A row with nothing beside it.
    pub fn new(what: impl Into<String>, figure: Figure) -> Self {
        Self { what: what.into(), figure: Some(figure), ..Self::default() }
    }

    /// A row that could not be measured.
    pub fn failed(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), failed: Some(why.into()), ..Self::default() }
    }

    /// With its floor or peer.
    pub fn beside(mut self, what: impl Into<String>, figure: Figure) -> Self {
        self.ratio = (figure.median != 0.0).then(|| self.median() / figure.median);
        self.beside = Some((what.into(), figure));
        self
    }

    /// To be at most this, in its own unit.
    pub fn at_most(self, limit: f64) -> Self {
        let unit = self.figure.as_ref().map_or("", |figure| &figure.unit);
        let aim = format!("≤ {limit} {unit}").trim_end().to_owned();
        let met = self.median() <= limit;
        self.aim(aim, met)
    }

    /// To be at most so many times what is beside it.
    pub fn at_most_times(self, limit: f64) -> Self {
        let met = self.ratio.is_some_and(|ratio| ratio <= limit);
        self.aim(format!("≤ {limit} ×"), met)
    }

    /// To be at most this more than what is beside it.
    pub fn at_most_more(self, extra: f64) -> Self {
        let unit = self.figure.as_ref().map_or("", |figure| &figure.unit);
        let aim = format!("≤ that + {extra} {unit}");
        let peer = self.beside.as_ref().map_or(f64::NAN, |(_, figure)| figure.median);
        let met = self.median() <= peer + extra;
        self.aim(aim, met)
    }

    /// With what is aimed at, and whether that is reached.
    pub fn aim(mut self, aim: impl Into<String>, met: bool) -> Self {
        self.aim = Some(aim.into());
        self.met = Some(met);
        self
    }

    fn median(&self) -> f64 {
        self.figure.as_ref().map_or(f64::NAN, |figure| figure.median)
    }
}

/// No part of a benchmark takes longer, or it is given up.
pub const PART: Duration = Duration::from_secs(600);

/// What a part of a benchmark found; where it could not, one row says why.
pub async fn attempt(
    what: &str,
    limit: Duration,
    part: impl Future<Output = anyhow::Result<Vec<Row>>>,
) -> Vec<Row> {
    // The test kit panics where it waits in vain.
    let outcome = tokio::time::timeout(limit, AssertUnwindSafe(part).catch_unwind()).await;
    let why = match outcome {
        Ok(Ok(Ok(rows))) => return rows,
        Ok(Ok(Err(error))) => format!("{error:#}"),
        Ok(Err(panic)) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(other) => other.downcast_ref::<&str>().copied().unwrap_or("it panicked").to_owned(),
        },
        Err(_) => format!("it did not end within {} s", limit.as_secs()),
    };
    eprintln!("error: {what}: {why}");
    vec![Row::failed(what, why)]
}

/// How something grows with the size of the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// What it is.
    pub what: String,
    /// Instances, and milliseconds.
    pub points: Vec<(f64, f64)>,
}

/// What one benchmark found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// When it began.
    pub at: String,
    /// How many processes wanted to run just before: on an idle machine near 0.
    pub load_before: f64,
    /// How long it took, seconds.
    pub took: f64,
    /// What it found.
    pub rows: Vec<Row>,
    /// How that grows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
}

impl Group {
    /// Whether everything could be measured.
    pub fn is_whole(&self) -> bool {
        self.rows.iter().all(|row| row.failed.is_none())
    }
}

/// All there is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// Processors, memory, kernel.
    pub machine: String,
    /// The newest of each benchmark.
    pub groups: BTreeMap<String, Group>,
}

impl Results {
    /// What was found before, if anything.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }
}

/// A benchmark's rows for a terminal.
pub fn table(name: &str, group: &Group) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header([name, "kube-lite", "beside it", "", "×", "aim"]);
    for row in &group.rows {
        table.add_row(cells(row));
    }
    for column in [1, 3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// The cells of a row.
pub fn cells(row: &Row) -> [String; 6] {
    let (peer, figure) =
        row.beside.as_ref().map_or_else(Default::default, |(what, f)| (what.clone(), f.shown()));
    let sign = |met| if met { "✓" } else { "✗" };
    let aim = row.aim.clone().unwrap_or_default();
    [
        row.what.clone(),
        row.figure.as_ref().map_or_else(|| "could not run".to_owned(), Figure::shown),
        row.failed.as_deref().map_or(peer, one_line),
        figure,
        row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        row.met.map_or_else(|| aim.clone(), |met| format!("{aim} {}", sign(met))),
    ]
}

/// The beginning of what may be long, for a cell.
fn one_line(text: &str) -> String {
    const MOST: usize = 160;
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ").replace('|', "/");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
