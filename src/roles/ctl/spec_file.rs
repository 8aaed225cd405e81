//! Spec files: read them, and find what is wrong with them before anybody is
//! asked, because here the file's name and its lines are known.

use std::fmt::Write;
use std::io::{IsTerminal, Read};

use bytes::Bytes;
use serde_json::Value;

use super::stop::Stop;
use crate::model::WorkloadSpec;

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

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether `bytes` may be a spec; if not, what is wrong and where. The last word
/// is the scheduler's: it also refuses fields that do not exist and values that
/// are not allowed.
pub fn check(name: &str, bytes: &[u8]) -> Result<(), String> {
    if bytes.len() as u64 > LARGEST {
        return Err(format!("{name} is larger than 1 MiB; that cannot be a workload's spec"));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(format!("{name} is empty; expected the spec of a workload, {EXAMPLE}"));
    }
    if let Ok(value) = serde_json::from_slice::<Value>(bytes)
        && let Some(advice) = wrong_kind(&value)
    {
        return Err(format!("{name}: {advice}"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let result = serde_path_to_error::deserialize::<_, WorkloadSpec>(&mut reader);
    let (path, error) = match result {
        Ok(_) => match reader.end() {
            Ok(()) => return Ok(()),
            Err(error) => (String::new(), error),
        },
        Err(error) => (error.path().to_string(), error.into_inner()),
    };
    let (line, column) = (error.line(), error.column());
    let full = error.to_string();
    let what = full.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&full);
    let mut message = format!("{name}:{line}:{column}: ");
    if !path.is_empty() && path != "." && error.is_data() {
        let _ = write!(message, "{path}: ");
    }
    let _ = write!(message, "{what}");
    message.push_str(&excerpt(&String::from_utf8_lossy(bytes), line, column));
    if looks_like_yaml(name, bytes) {
        message.push_str("\nkube-lite reads JSON; this looks like YAML");
    }
    Err(message)
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

fn looks_like_yaml(name: &str, bytes: &[u8]) -> bool {
    let named = name.ends_with(".yaml") || name.ends_with(".yml");
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    named || first.is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'-' || *byte == b'#')
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
            r#"{"name": "web", "image": "nginx", "unknown": "is for the scheduler to refuse"}"#,
        ] {
            assert_eq!(check("web.json", text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn the_place_is_shown() {
        assert_eq!(
            problem("{\n  \"name\": \"web\",\n  \"replicas\": 3x\n}"),
            "web.json:3:16: expected `,` or `}`\n  3 |   \"replicas\": 3x\n    |                ^"
        );
        assert_eq!(
            problem(
                "{\"name\": \"web\", \"image\": \"x\", \"ports\": [{\"containerPort\": 70000}]}"
            ),
            "web.json:1:63: ports[0].containerPort: invalid value: integer `70000`, expected u16\n  \
             1 | {\"name\": \"web\", \"image\": \"x\", \"ports\": [{\"containerPort\": 70000}]}\n    \
             |                                                               ^"
        );
        assert!(problem("{\"name\": \"web\"").starts_with("web.json:1:14: EOF while parsing"));
        assert!(problem("{\"name\": \"web\"}").contains("missing field `image`"));
        assert!(problem("{\"name\": \"w\", \"image\": \"i\"} x").contains("trailing characters"));
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
