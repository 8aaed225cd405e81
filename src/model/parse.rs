//! Reading JSON: strictly what people send, leniently what machines send.
//!
//! People mistype. A field that is silently ignored is a wish that silently
//! does not come true, so whatever is not understood is an error that names the
//! place, what was given and what is allowed there. Agents and schedulers may be
//! one release apart, so they skip what they do not know.

mod known;

use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ApiError;
use super::error::{shown, tame};
use super::validate::MAX_REPLICAS;
use known::{Known, known_at};

/// A step on the way to a place in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Reads a JSON object that a person wrote. Anything that is not understood is
/// an error with the place where it stands.
pub fn from_people<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
    if text.trim().is_empty() {
        return Err(bad_json("The body is empty; send a JSON object."));
    }
    // First as any JSON: what is broken is told apart from what is unexpected,
    // and errors can show what stands at a place.
    let document: Value = serde_json::from_str(text).map_err(|error| broken(text, &error))?;
    if !document.is_object() {
        let given = described(&document);
        return Err(bad_json(format!("The body is {given}; it must be a JSON object, in {{ }}.")));
    }

    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let result = serde_ignored::deserialize(tracked, |path| unknown.push(steps_of_ignored(&path)));
    // A mistyped field is unknown, and the one that was meant may be missing:
    // the former is the error to fix.
    if !unknown.is_empty() {
        return Err(unknown_fields::<T>(&unknown));
    }
    let value = result.map_err(|error| unexpected::<T>(&document, track.path(), &error))?;
    match array_for_object::<T>(&document, &mut Vec::new()) {
        Some(path) => Err(wrong(&path, "an array", "an object, in { }")),
        None => Ok(value),
    }
}

/// Reads what another program of ours sent, skipping what this build does not
/// know. `what` it should be is for the error.
pub fn from_machine<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ApiError> {
    // There are many of these, and nearly all are good: where one is wrong is looked for
    // only then.
    let read = serde_json::from_slice(bytes);
    read.or_else(|_| {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        serde_path_to_error::deserialize(&mut json)
    })
    .map_err(|error| {
        // It names fields as they were sent, and stands in logs.
        let error: String = error.to_string().chars().take(LONGEST_PROBLEM).flat_map(plain).collect();
        bad_json(format!(
            "This is no {what}: {error}. Both sides must be of the same or of neighbouring releases."
        ))
    })
}

/// So many characters of what is wrong with a message are told.
const LONGEST_PROBLEM: usize = 500;

/// A character as it may stand in a sentence.
fn plain(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let as_it_is = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(as_it_is)
}

fn bad_json(sentence: impl Into<String>) -> ApiError {
    ApiError::new(400, "BadJson", sentence)
}

fn not_utf8(bytes: &[u8], valid: usize) -> ApiError {
    let before = &bytes[..valid];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    bad_json(format!(
        "The body is not UTF-8: byte {:#04x} at line {line}, byte {column} of it. Save it as UTF-8.",
        bytes[valid]
    ))
}

/// JSON that no JSON reader would take.
fn broken(text: &str, error: &serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    let message = match without_position(error).as_str() {
        "trailing characters" => "there is more after the end of the object".to_owned(),
        "trailing comma" => "there is a comma after the last entry".to_owned(),
        "key must be a string" => "a field's name must stand in double quotes".to_owned(),
        "expected ident" => "this is no JSON".to_owned(),
        "expected value" => "a value is expected here".to_owned(),
        "number out of range" => "the number is too large".to_owned(),
        "recursion limit exceeded" => "it is nested too deeply".to_owned(),
        message => match message.strip_prefix("EOF while parsing ") {
            Some(what) => format!("it ends in the middle of {what}"),
            None => message.to_owned(),
        },
    };
    let mut sentence = format!("The JSON is broken at line {line}, column {column}: {message}");
    if let Some(near) = near(text, line, column) {
        let _ = write!(sentence, ", near `{}`", tame(&near));
    }
    sentence.push('.');
    bad_json(sentence)
}

/// The text around a position that counts bytes, as serde_json does.
fn near(text: &str, line: usize, column: usize) -> Option<String> {
    let line = text.lines().nth(line.checked_sub(1)?)?;
    let start = line.floor_char_boundary(column.saturating_sub(16));
    let end = line.ceil_char_boundary((column + 8).min(line.len()));
    let near = line.get(start..end)?.trim();
    (!near.is_empty()).then(|| near.to_owned())
}

/// What serde says, without the position it adds for JSON.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&suffix).unwrap_or(&text).to_owned()
}

/// Good JSON that is not what is expected at some place.
fn unexpected<T: DeserializeOwned>(
    document: &Value,
    path: serde_path_to_error::Path,
    error: &serde_json::Error,
) -> ApiError {
    let mut steps = steps_of_tracked(&path);
    let message = without_position(error);
    if let Some(name) = between_backticks(&message, "missing field ") {
        steps.push(Step::Key(name.to_owned()));
        let field = dotted(&steps);
        return ApiError::invalid_field(&field, format!("The field `{field}` is missing."));
    }
    if let Some(name) = between_backticks(&message, "duplicate field ") {
        if steps.last() != Some(&Step::Key(name.to_owned())) {
            steps.push(Step::Key(name.to_owned()));
        }
        let field = dotted(&steps);
        let (line, column) = (error.line(), error.column());
        return ApiError::invalid_field(
            &field,
            format!(
                "The field `{field}` is given twice, the second time at line {line}, column \
                 {column}; give it once."
            ),
        );
    }
    let given = look_up(document, &steps);
    let shown_given = given.map_or_else(|| "not as expected".to_owned(), described);
    if let Some(Known::Variants(variants)) = known_at::<T>(&steps) {
        let allowed = one_of(variants);
        let meant = given.and_then(Value::as_str).and_then(|text| similar(text, variants));
        let hint = meant.map(|meant| format!(" (did you mean \"{meant}\"?)")).unwrap_or_default();
        return wrong(&steps, &shown_given, &format!("{allowed}{hint}"));
    }
    match message.rsplit_once(", expected ") {
        Some((_, "u32")) if steps == [Step::Key("replicas".to_owned())] => {
            wrong(&steps, &shown_given, &whole_number(u64::from(MAX_REPLICAS), given))
        }
        Some((_, expected)) => wrong(&steps, &shown_given, &allowed(expected, given)),
        None => {
            let field = dotted(&steps);
            ApiError::invalid_field(&field, format!("`{field}` is {shown_given}: {message}."))
        }
    }
}

fn wrong(path: &[Step], given: &str, allowed: &str) -> ApiError {
    let field = dotted(path);
    ApiError::invalid_field(&field, format!("`{field}` is {given}; it must be {allowed}."))
}

fn whole_number(most: u64, given: Option<&Value>) -> String {
    let hint = match given {
        Some(Value::String(text)) if text.parse::<u64>().is_ok_and(|n| n <= most) => {
            format!(": write {text}, without quotes")
        }
        _ => String::new(),
    };
    format!("a whole number from 0 to {most}{hint}")
}

/// What serde expects, in words for people, with a hint at the usual slips.
fn allowed(expected: &str, given: Option<&Value>) -> String {
    let most = match expected {
        "u8" => Some(u64::from(u8::MAX)),
        "u16" => Some(u64::from(u16::MAX)),
        "u32" => Some(u64::from(u32::MAX)),
        "u64" | "usize" => Some(u64::MAX),
        _ => None,
    };
    if let Some(most) = most {
        return whole_number(most, given);
    }
    match expected {
        "a string" => match given {
            Some(value @ (Value::Number(_) | Value::Bool(_))) => {
                format!("a string: write \"{value}\", in quotes")
            }
            _ => "a string, in double quotes".to_owned(),
        },
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "an array, in [ ]".to_owned(),
        "a map" => "an object, in { }".to_owned(),
        other if other.starts_with("struct ") => "an object, in { }".to_owned(),
        other => other.to_owned(),
    }
}

/// A value as it may stand in a sentence.
fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the string {}", shown(text)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn unknown_fields<T: DeserializeOwned>(unknown: &[Vec<Step>]) -> ApiError {
    let Some((Step::Key(name), place)) = unknown[0].split_last() else {
        return bad_json("There is a field that is not known.");
    };
    let known = match known_at::<T>(place) {
        Some(Known::Fields(fields)) => fields,
        _ => &[],
    };
    let hint = match similar(name, known) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => format!("; known here are `{}`.", known.join("`, `")),
    };
    let field = dotted(&unknown[0]);
    let mut sentence = format!("Unknown field `{field}`{hint}");
    if unknown.len() > 1 {
        let others: Vec<String> = unknown[1..].iter().take(5).map(|path| dotted(path)).collect();
        let _ = write!(sentence, " Also unknown: `{}`", others.join("`, `"));
        sentence.push_str(if unknown.len() > 6 { " and more." } else { "." });
    }
    ApiError::invalid_field(field, sentence)
}

/// The known word that was probably meant.
fn similar<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    // `host_port`, `HostPort` and `hostport` all mean `hostPort`.
    let plain = |text: &str| -> String {
        text.chars().take(64).filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let given = plain(given);
    let score = |word: &str| {
        let word = plain(word);
        // `interval` is far from `intervalSeconds` and yet surely means it.
        let begins = given.len() >= 3 && word.starts_with(&given);
        if begins { 1.0 } else { strsim::normalized_damerau_levenshtein(&given, &word) }
    };
    known
        .iter()
        .map(|word| (score(word), *word))
        .filter(|(score, _)| *score >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// serde takes an array for a struct, its fields in order of declaration.
/// Nobody writes that on purpose.
fn array_for_object<T: DeserializeOwned>(value: &Value, path: &mut Vec<Step>) -> Option<Vec<Step>> {
    let children: Vec<(Step, &Value)> = match value {
        Value::Array(items) => {
            if let Some(Known::Fields(_)) = known_at::<T>(path) {
                return Some(path.clone());
            }
            items.iter().enumerate().map(|(index, item)| (Step::Index(index), item)).collect()
        }
        Value::Object(fields) => {
            fields.iter().map(|(key, field)| (Step::Key(key.clone()), field)).collect()
        }
        _ => return None,
    };
    for (step, child) in children {
        path.push(step);
        let found = array_for_object::<T>(child, path);
        path.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

fn look_up<'a>(document: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(document, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

/// A path as people write it: `ports[0].hostPort`.
fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&tame(key)); // keys are foreign text and may be anything
            }
            Step::Index(index) => {
                let _ = write!(text, "[{index}]");
            }
        }
    }
    text
}

fn steps_of_tracked(path: &serde_path_to_error::Path) -> Vec<Step> {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn steps_of_ignored(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path;
    match path {
        Path::Root => Vec::new(),
        Path::Seq { parent, index } => {
            let mut steps = steps_of_ignored(parent);
            steps.push(Step::Index(*index));
            steps
        }
        Path::Map { parent, key } => {
            let mut steps = steps_of_ignored(parent);
            steps.push(Step::Key(key.clone()));
            steps
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => steps_of_ignored(parent),
    }
}

fn between_backticks<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.strip_prefix('`')?.strip_suffix('`')
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests;
