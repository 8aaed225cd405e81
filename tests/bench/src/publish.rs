//! Puts the last results into `docs/performance.md`, and their curves beside it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::plot::svg;
use crate::report::{Group, Results, cells};

const BEGIN: &str = "<!-- results: written by make bench -->\n";
const END: &str = "<!-- end of results -->\n";

/// Writes both.
///
/// # Errors
/// When the page is not there or has lost its marks.
pub fn publish(results: &Results, docs: &Path) -> anyhow::Result<()> {
    let page = docs.join("performance.md");
    let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let (before, rest) = text.split_once(BEGIN).context("the page has no place for results")?;
    let (_, after) = rest.split_once(END).context("the page has no end of results")?;
    let curves: Vec<_> = results.groups.values().flat_map(|group| group.curves.clone()).collect();
    if !curves.is_empty() {
        std::fs::write(docs.join("images/scaling.svg"), svg(&curves))?;
    }
    std::fs::write(&page, format!("{before}{BEGIN}{}{END}{after}", tables(results)))?;
    Ok(())
}

fn tables(results: &Results) -> String {
    let mut text = format!("\nMachine: {}.\n", results.machine);
    for (name, group) in &results.groups {
        let Group { at, load_before, took, rows, .. } = group;
        let _ = write!(
            text,
            "\n### {name}\n\n{at}, load before {load_before:.1}, {took:.0} s.\n\n\
             | | kube-lite | beside it | | × | aim |\n|---|--:|---|--:|--:|---|\n"
        );
        for row in rows {
            let _ = writeln!(text, "| {} |", cells(row).join(" | "));
        }
    }
    text + "\n"
}
