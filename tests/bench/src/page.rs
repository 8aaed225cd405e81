//! The dashboard in a real browser (`scripts/ui bench`): 200 nodes and 5,000
//! instances, of which 500 change every second.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::report::{Figure, Row};
use crate::run::{Plan, bar};

/// Measures.
///
/// # Errors
/// When the browser or the page did not do what they should.
pub fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(root.join("scripts/ui"));
    command.arg("bench").arg("--json");
    if plan.smoke {
        command.args(["--nodes", "4", "--instances", "40", "--changes", "4", "--seconds", "2"]);
    }
    let bar = bar("the page", 1);
    let output = command.output().context("scripts/ui")?;
    bar.finish_and_clear();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(said.lines().last().unwrap_or_default())
        .with_context(|| format!("it said: {said}"))?;
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
    let what = format!("{} instances", report["instances"]);
    let mut rows = Vec::new();
    let mut row = |text: String, unit: &str, path: &str, floor: Option<(&str, &str)>| {
        let value = number(path).with_context(|| format!("no {path} in {report}"))?;
        let row = Row::new(text, Figure::one(unit, value));
        let beside = floor.and_then(|(name, path)| Some((name, number(path)?)));
        rows.push(match beside {
            Some((name, value)) => row.beside(name, Figure::one(unit, value)),
            None => row,
        });
        anyhow::Ok(())
    };
    let paint = Some(("first paint of anything", "/firstContentfulPaintMs"));
    row(format!("{what}: tiles are there"), "ms", "/firstTilesMs", paint)?;
    for (phase, name) in
        [("start", "start"), ("resting", "changes go on"), ("scrolling", "… and it is scrolled")]
    {
        row(format!("{name}: longest task"), "ms", &format!("/{phase}/longestTaskCpuMs"), None)?;
        row(format!("{name}: main thread"), "%", &format!("/{phase}/mainThreadPercent"), None)?;
    }
    Ok(rows)
}
