//! Tables without lines: aligned columns, a title above each.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement};

use super::{Look, Tone, words};

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    number: bool,
    only_if_any: bool,
}

impl Column {
    /// A column of words.
    pub const fn words(title: &'static str) -> Self {
        Self { title, number: false, only_if_any: false }
    }

    /// A column of numbers: aligned at its right edge.
    pub const fn numbers(title: &'static str) -> Self {
        Self { title, number: true, only_if_any: false }
    }

    /// A column of words that is left out when no row has anything in it.
    pub const fn if_any(title: &'static str) -> Self {
        Self::words(title).unless_empty()
    }

    /// The same column, left out when no row has anything in it.
    pub const fn unless_empty(self) -> Self {
        Self { only_if_any: true, ..self }
    }
}

/// One cell: a text and what to think of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text that is neither good nor bad.
    pub fn new(text: impl ToString) -> Self {
        Self::toned(Tone::Plain, text)
    }

    /// A text in this tone.
    pub fn toned(tone: Tone, text: impl ToString) -> Self {
        Self { text: words::one_line(&text.to_string()).into_owned(), tone }
    }

    /// The text, or nothing.
    pub fn maybe(text: Option<impl ToString>) -> Self {
        Self::new(text.map(|text| text.to_string()).unwrap_or_default())
    }

    /// Columns of columns are hard to read where a cell is empty.
    fn shown(&self) -> &str {
        if self.text.is_empty() { "-" } else { &self.text }
    }
}

/// The table as text, each line ending in a newline. If the width is known, the
/// last column is wrapped to fit.
pub fn table(look: &Look, columns: &[Column], rows: &[Vec<Cell>]) -> String {
    let shown = |index: &usize| {
        let has_text = |row: &Vec<Cell>| row.get(*index).is_some_and(|cell| !cell.text.is_empty());
        !columns[*index].only_if_any || rows.iter().any(has_text)
    };
    let kept: Vec<usize> = (0..columns.len()).filter(shown).collect();

    let mut table = comfy_table::Table::new();
    table.load_style(NOTHING).force_no_tty();
    if look.color {
        table.enforce_styling();
    }
    table.set_header(kept.iter().map(|index| Tone::Dim.cell(columns[*index].title)));
    for row in rows {
        table.add_row(kept.iter().map(|index| row[*index].tone.cell(row[*index].shown())));
    }
    if let Some(width) = look.width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    let last = kept.len().saturating_sub(1);
    let wrap = fits(look, columns, rows, &kept);
    for (position, index) in kept.iter().enumerate() {
        let column = table.column_mut(position).expect("as many columns as titles");
        let gap = if position == last { 0 } else { 2 };
        column.set_padding((0, gap));
        if columns[*index].number {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if position < last || !wrap {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(&without_padding(&line));
        text.push('\n');
    }
    text
}

/// The line without the blanks that fill its last column: a coloured cell has them
/// before its closing code, and a terminal would wrap them.
fn without_padding(line: &str) -> String {
    match line.strip_suffix("\x1b[0m") {
        Some(painted) => format!("{}\x1b[0m", painted.trim_end()),
        None => line.trim_end().to_owned(),
    }
}

/// Whether enough room is left for the last column to be wrapped decently;
/// where it is not, the terminal may wrap whole lines.
fn fits(look: &Look, columns: &[Column], rows: &[Vec<Cell>], kept: &[usize]) -> bool {
    const DECENT: usize = 20;
    let Some((_, before)) = kept.split_last() else { return true };
    let width_of = |index: &usize| {
        let longest = rows.iter().map(|row| row[*index].shown().chars().count()).max().unwrap_or(0);
        longest.max(columns[*index].title.len()) + 2
    };
    let taken: usize = before.iter().map(width_of).sum();
    look.width.is_none_or(|width| taken + DECENT <= usize::from(width))
}
