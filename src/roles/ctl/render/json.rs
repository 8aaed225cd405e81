//! JSON made readable without being understood: the very keys, numbers and
//! order that came in, on lines of their own.

use std::iter::Peekable;
use std::str::Chars;

/// `text` with two spaces of indent per level. What is no JSON comes out as it
/// is, more or less; nothing is lost but white space between tokens.
pub fn pretty(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_ascii_whitespace() => {}
            '"' => {
                out.push(c);
                string(&mut rest, &mut out);
            }
            '{' | '[' => {
                out.push(c);
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                match rest.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(c),
        }
    }
    out.push('\n');
    out
}

/// What is ours, in the same way.
pub fn of(value: &impl serde::Serialize) -> String {
    pretty(&serde_json::to_string(value).unwrap_or_default())
}

/// Copies the rest of a string, up to and including its closing quote.
fn string(rest: &mut Peekable<Chars<'_>>, out: &mut String) {
    while let Some(c) = rest.next() {
        out.push(c);
        match c {
            '"' => return,
            '\\' => out.extend(rest.next()),
            _ => {}
        }
    }
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_numbers_and_strings_survive() {
        let given = r#" {"z":1.50,"a":[],"s":"x, {y}: \"q\\", "l":[{"n":null},18446744073709551615],"o":{ }} "#;
        let wanted = r#"{
  "z": 1.50,
  "a": [],
  "s": "x, {y}: \"q\\",
  "l": [
    {
      "n": null
    },
    18446744073709551615
  ],
  "o": {}
}
"#;
        assert_eq!(pretty(given), wanted);
    }

    #[test]
    fn agrees_with_serde_json() {
        let value = serde_json::json!({"a": [1, "two \"three\" \\", {"b": []}], "c": {"d": {}}});
        let wanted = serde_json::to_string_pretty(&value).expect("JSON") + "\n";
        assert_eq!(pretty(&value.to_string()), wanted);
        assert_eq!(pretty(&wanted), wanted);
    }
}
