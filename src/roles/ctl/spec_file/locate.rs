//! Where a field stands in a text, so that an error about it can show the line.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Deserializer;

/// The byte at which the field at `path` (such as `ports[0].hostPort`) begins in
/// `text`, which is good JSON. If it is missing, the place where it should be;
/// `None` if that is the document itself.
pub fn locate(text: &str, path: &str) -> Option<usize> {
    walk(text, skip_space(text, 0), path)
}

fn walk(text: &str, at: usize, path: &str) -> Option<usize> {
    match text.as_bytes().get(at)? {
        b'{' => in_object(text, at + 1, path),
        b'[' => in_array(text, at + 1, path),
        _ => None,
    }
}

fn in_object(text: &str, begin: usize, path: &str) -> Option<usize> {
    let mut at = skip_space(text, begin);
    while text.as_bytes().get(at)? == &b'"' {
        let (key, end): (String, usize) = read(text, at)?;
        let colon = skip_space(text, end);
        let value = skip_space(text, colon + 1);
        // Keys are looked for in the path, not the other way round: they may
        // hold dots and brackets themselves.
        if let Some(rest) = path.strip_prefix(key.as_str()) {
            match rest.chars().next() {
                None => return Some(at),
                Some('.') => return walk(text, value, &rest[1..]).or(Some(at)),
                Some('[') => return walk(text, value, rest).or(Some(at)),
                Some(_) => {}
            }
        }
        at = next_entry(text, value)?;
    }
    None
}

fn in_array(text: &str, begin: usize, path: &str) -> Option<usize> {
    let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
    let mut at = skip_space(text, begin);
    for _ in 0..index.parse::<usize>().ok()? {
        at = next_entry(text, at)?;
    }
    match rest.strip_prefix('.').unwrap_or(rest) {
        "" => Some(at),
        rest => walk(text, at, rest).or(Some(at)),
    }
}

/// Past the value at `at`, and past the comma behind it.
fn next_entry(text: &str, at: usize) -> Option<usize> {
    let (_, end): (IgnoredAny, usize) = read(text, at)?;
    let comma = skip_space(text, end);
    (text.as_bytes().get(comma)? == &b',').then(|| skip_space(text, comma + 1))
}

/// The value at `at`, and where it ends.
fn read<T: DeserializeOwned>(text: &str, at: usize) -> Option<(T, usize)> {
    let mut values = Deserializer::from_str(&text[at..]).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, at + values.byte_offset()))
}

fn skip_space(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or("");
    text.len() - rest.trim_ascii_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let text = r#" {"name": "a, \"b\"", "ports": [{"containerPort": 1}, {"hostPort": 2}],
            "env": {"A.B": "1", "A": {"B": 3}}, "list": [[1, 2], [3]]}"#;
        for (path, wanted) in [
            ("name", Some(r#""name""#)),
            ("ports", Some(r#""ports""#)),
            ("ports[0].containerPort", Some(r#""containerPort""#)),
            ("ports[1].hostPort", Some(r#""hostPort": 2"#)),
            ("ports[1]", Some(r#"{"hostPort""#)),
            ("env.A.B", Some(r#""A.B": "1""#)),
            ("list[1][0]", Some("3]]")),
            ("ports[1].containerPort", Some(r#"{"hostPort""#)),
            ("ports[7].hostPort", Some(r#""ports""#)),
            ("image", None),
            ("", None),
        ] {
            let found = locate(text, path).map(|at| &text[at..]);
            match wanted {
                Some(wanted) => {
                    assert!(found.is_some_and(|at| at.starts_with(wanted)), "{path}: {found:?}")
                }
                None => assert_eq!(found, None, "{path}"),
            }
        }
    }

    #[test]
    fn broken_text_is_no_reason_to_panic() {
        for text in ["", "{", "[", "{\"a\"", "{\"a\":", "{\"a\":1", "[1", "nonsense", "{é", "\"é"]
        {
            for path in ["a", "a.b", "[0]", "[1].a", "[x]", "é"] {
                locate(text, path);
            }
        }
    }
}
