//! The dashboard in a real browser (`scripts/ui bench`): 200 nodes and 5,000
//! instances, of which 500 change every second.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::report::{Figure, Row};
use crate::run::{Plan, bar, output};

/// How often the page is opened.
const RUNS: u64 = 3;

/// Measures.
///
/// # Errors
/// When the browser or the page did not do what they should.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let arguments = plan.or(
        vec!["--seconds", "10"],
        vec!["--nodes", "4", "--instances", "40", "--changes", "4", "--seconds", "2"],
    );
    let bar = bar("the page", plan.or(RUNS, 1));
    let mut reports = Vec::new();
    for _ in 0..plan.or(RUNS, 1) {
        let mut command = Command::new(root.join("scripts/ui"));
        command.args(["bench", "--json"]).args(&arguments);
        let output = output(command).await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(said.lines().last().unwrap_or_default())
            .with_context(|| format!("it said: {said}"))?;
        reports.push(report);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let figure = |unit: &str, path: &str| {
        let of = |report: &Value| {
            let number = report.pointer(path).and_then(Value::as_f64);
            number.with_context(|| format!("no {path} in {report}"))
        };
        anyhow::Ok(Figure::of(unit, reports.iter().map(of).collect::<anyhow::Result<_>>()?))
    };
    let what = format!("{} instances", reports[0]["instances"]);
    let bare = figure("ms", "/emptyPagePaintMs")?;
    let mut rows = vec![
        Row::new(format!("{what}: first paint"), figure("ms", "/firstContentfulPaintMs")?)
            .beside("an empty page", bare.clone())
            .at_most(1_000.0),
        Row::new(format!("{what}: tiles are there"), figure("ms", "/firstTilesMs")?)
            .beside("an empty page", bare)
            .at_most(1_000.0),
    ];
    let changes = format!("{} changes per second", reports[0]["changesPerSecond"]);
    for (phase, name) in
        [("start", "start"), ("resting", &*changes), ("scrolling", "… and it is scrolled")]
    {
        let longest = figure("ms", &format!("/{phase}/longestTaskCpuMs"))?;
        let wall = figure("ms", &format!("/{phase}/longestTaskWallMs"))?;
        let row = Row::new(format!("{name}: longest task, its own time"), longest);
        let row = row.beside("by the clock", wall);
        rows.push(if phase == "start" { row } else { row.at_most(100.0) });
        let share = figure("%", &format!("/{phase}/mainThreadPercent"))?;
        rows.push(Row::new(format!("{name}: main thread"), share));
    }
    Ok(rows)
}
