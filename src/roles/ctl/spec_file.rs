//! Spec files: read them, and find what is wrong with them before anybody is
//! asked, because here the file's name and its lines are known.

mod locate;

use std::io::{IsTerminal, Read};

use bytes::Bytes;
use serde_json::Value;

use super::stop::Stop;
use crate::model::{WorkloadSpec, parse, validate};

/// A spec is text that people write; anything larger is a mistake.
const LARGEST: u64 = 1 << 20;

/// A spec file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecFile {
    /// How to call it in messages.
    pub name: String,
    /// What is in it.
    pub text: Bytes,
}

/// Reads a file, or standard input if it is called `-`, and checks it.
pub fn read(path: &str) -> Result<SpecFile, Stop> {
    let name = if path == "-" { "standard input" } else { path }.to_owned();
    let mut bytes = Vec::new();
    let result = if path == "-" {
        let input = std::io::stdin();
        if input.is_terminal() {
            eprintln!("reading the spec from the keyboard; end it with Ctrl-D");
        }
        input.take(LARGEST + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
    };
    result.map_err(|error| Stop::Failed(format!("cannot read {name}: {}", in_words(&error))))?;
    check(&name, &bytes).map_err(Stop::Failed)?;
    Ok(SpecFile { name, text: bytes.into() })
}

/// Reads a file and checks it, for those who are no command of ours.
///
/// # Errors
/// When it cannot be read, or is no spec that the scheduler would take: what is
/// wrong with it, and where.
pub fn load(path: &std::path::Path) -> Result<Bytes, String> {
    let path = path.to_string_lossy();
    read(&path).map(|file| file.text).map_err(|stop| match stop {
        Stop::Failed(text) | Stop::Usage(text) => text,
        other => format!("cannot read {path}: {other:?}"),
    })
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether `bytes` are a spec that the scheduler will take; if not, what is wrong
/// and where.
pub fn check(name: &str, bytes: &[u8]) -> Result<(), String> {
    if bytes.len() as u64 > LARGEST {
        return Err(format!("{name} is larger than 1 MiB; that cannot be a workload's spec"));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(format!(
            "{name} is not UTF-8 text; expected the spec of a workload, {EXAMPLE}"
        ));
    };
    if text.trim().is_empty() {
        return Err(format!("{name} is empty; expected the spec of a workload, {EXAMPLE}"));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) => {
            if let Some(advice) = wrong_kind(&value) {
                return Err(format!("{name}: {advice}"));
            }
        }
        Err(error) => {
            let place = (error.line(), error.column());
            let mut message = complain(name, text, &refusal(text), Some(place));
            if looks_like_yaml(name, text) {
                message.push_str("\nkube-lite reads JSON; this looks like YAML");
            }
            return Err(message);
        }
    }
    let spec = parse::from_people::<WorkloadSpec>(bytes);
    let error = match spec.and_then(|spec| validate::validate(&spec)) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let offset = error.field.as_ref().and_then(|field| locate::locate(text, field));
    Err(complain(name, text, &error.error, offset.map(|offset| line_and_column(text, offset))))
}

/// What the one reader of specs says about a text that is no JSON.
fn refusal(text: &str) -> String {
    match parse::from_people::<Value>(text.as_bytes()) {
        Ok(_) => "this is no JSON".to_owned(),
        Err(error) => error.error,
    }
}

/// The message, and the line it is about.
fn complain(name: &str, text: &str, what: &str, place: Option<(usize, usize)>) -> String {
    match place {
        Some((line, column)) => {
            format!("{name}:{line}:{column}: {what}{}", excerpt(text, line, column))
        }
        None => format!("{name}: {what}"),
    }
}

/// Counted like serde_json does: from 1, columns in bytes.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = offset - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
    (line, column)
}

const EXAMPLE: &str = r#"such as {"name": "web", "image": "nginx:1.27", "replicas": 3}"#;

/// Good JSON that is something else altogether.
fn wrong_kind(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields)
            if fields.contains_key("apiVersion") || fields.contains_key("kind") =>
        {
            Some(format!(
                "this looks like a Kubernetes manifest; kube-lite has a shorter form, {EXAMPLE}"
            ))
        }
        Value::Object(_) => None,
        Value::Array(_) => Some(format!(
            "expected the spec of one workload, {EXAMPLE}, not a list; \
             give each its own file and repeat -f"
        )),
        _ => Some(format!("expected the spec of a workload, {EXAMPLE}")),
    }
}

fn looks_like_yaml(name: &str, text: &str) -> bool {
    let named = name.ends_with(".yaml") || name.ends_with(".yml");
    let begins = |c: char| c.is_ascii_alphabetic() || c == '-' || c == '#';
    named || text.trim_start().starts_with(begins)
}

/// The line it is about, and a mark below the place.
fn excerpt(text: &str, line: usize, column: usize) -> String {
    const LONGEST: usize = 100;
    let Some(content) = line.checked_sub(1).and_then(|index| text.lines().nth(index)) else {
        return String::new();
    };
    // The column counts bytes, up to and including the one it is about.
    let before = content.get(..column.saturating_sub(1)).unwrap_or(content).chars().count();
    let content: String = content.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if content.chars().count() > LONGEST {
        return String::new();
    }
    format!(
        "\n  {line} | {content}\n  {:width$} | {:before$}^",
        "",
        "",
        width = line.to_string().len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        check("web.json", text.as_bytes()).expect_err(text)
    }

    #[test]
    fn good_specs() {
        for text in [
            r#"{"name": "web", "image": "nginx"}"#,
            "\n {\"name\": \"web\", \"image\": \"nginx\", \"replicas\": 3}\n\n",
        ] {
            assert_eq!(check("web.json", text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn the_place_is_shown() {
        assert_eq!(
            problem("{\n  \"name\": \"web\",\n  \"replicas\": 3x\n}"),
            "web.json:3:16: The JSON is broken at line 3, column 16: expected `,` or `}`, \
             near `\"replicas\": 3x`.\n  \
             3 |   \"replicas\": 3x\n    \
             |                ^"
        );
        assert_eq!(
            problem(
                "{\"name\": \"web\", \"image\": \"x\",\n \"ports\": [{\"containerPort\": 70000}]}"
            ),
            "web.json:2:13: `ports[0].containerPort` is 70000; it must be a whole number from 0 to \
             65535.\n  \
             2 |  \"ports\": [{\"containerPort\": 70000}]}\n    \
             |             ^"
        );
        assert_eq!(
            problem("{\"name\": \"web\", \"image\": \"x\",\n\t\"replcas\": 3}"),
            "web.json:2:2: Unknown field `replcas`; did you mean `replicas`?\n  \
             2 |  \"replcas\": 3}\n    \
             |  ^"
        );
        assert_eq!(problem("{\"name\": \"web\"}"), "web.json: The field `image` is missing.");
        assert!(
            problem("{\"name\": \"Web\", \"image\": \"x\"}").starts_with("web.json:1:2: `name` is")
        );
        assert!(problem("{\"name\": \"web\"").starts_with("web.json:1:14: The JSON is broken"));
    }

    #[test]
    fn things_that_are_no_spec_at_all() {
        for (text, wanted) in [
            ("", "web.json is empty; expected the spec of a workload"),
            (" \n", "web.json is empty"),
            ("[]", "give each its own file and repeat -f"),
            ("3", "expected the spec of a workload"),
            (r#"{"apiVersion": "v1", "kind": "Pod"}"#, "looks like a Kubernetes manifest"),
            ("name: web\nimage: nginx\n", "kube-lite reads JSON; this looks like YAML"),
            ("--- \nname: web", "this looks like YAML"),
        ] {
            assert!(problem(text).contains(wanted), "{text:?}: {}", problem(text));
        }
        let huge = " ".repeat(LARGEST as usize + 1);
        assert!(problem(&huge).contains("larger than 1 MiB"));
        assert!(check("x", b"\xff\xfe{").is_err());
    }
}
