//! What a handler gets.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::HeaderMap;

use super::guard::Caller;
use crate::model::ApiError;
use crate::model::error::shown;

/// A request that has passed everything that can be checked without knowing
/// what it is about.
#[derive(Debug)]
pub struct Request<C> {
    /// Which route it took.
    pub call: C,
    /// The id it is logged under, also sent back as `X-Request-Id`.
    pub id: String,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// Who is behind it.
    pub caller: Caller,
    /// The parameters in its path.
    pub params: Params,
    /// The parameters in its query.
    pub query: Query,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; empty for routes that take none.
    pub body: Bytes,
}

impl<C> Request<C> {
    /// A parameter of the path: a well-formed id.
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name)
    }
}

/// The parameters of a path, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(&'static str, String)>);

impl Params {
    pub(super) fn push(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    /// The parameter called `name`, which the route's path must mention.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// The parameters of a query, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query. When `strict`, a parameter that is not in `allowed` is an
    /// error: ignoring a mistyped `?worklod=web` would answer another question.
    ///
    /// # Errors
    /// When a parameter is not known, or given twice.
    pub fn parse(raw: Option<&str>, allowed: &[&str], strict: bool) -> Result<Self, ApiError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            if !allowed.contains(&name.as_ref()) {
                if strict {
                    return Err(unknown(&name, allowed));
                }
                continue;
            }
            if pairs.iter().any(|(known, _)| *known == name) {
                let sentence =
                    format!("The query parameter `{name}` is given twice; give it once.");
                return Err(ApiError::invalid_field(name, sentence));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    /// The parameter called `name`, if given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is true or false; left out: false, without a value: true.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => Err(ApiError::invalid_field(
                name,
                format!(
                    "The query parameter `{name}` is {}; it must be true or false.",
                    shown(other)
                ),
            )),
        }
    }

    /// A parameter that is a whole number of at most `max`.
    pub fn number(&self, name: &str, max: u64) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        // `parse` alone would take "+5".
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && number <= max => Ok(Some(number)),
            _ => Err(ApiError::invalid_field(
                name,
                format!(
                    "The query parameter `{name}` is {}; it must be a whole number from 0 to {max}.",
                    shown(text)
                ),
            )),
        }
    }
}

fn unknown(name: &str, allowed: &[&str]) -> ApiError {
    let known = match allowed {
        [] => "this route takes none".to_owned(),
        [one] => format!("this route takes only `{one}`"),
        several => format!("this route takes `{}`", several.join("`, `")),
    };
    let sentence = format!("Unknown query parameter {}: {known}.", shown(name));
    ApiError::invalid_field(name.chars().take(60).collect::<String>(), sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Result<Query, ApiError> {
        Query::parse(Some(raw), &["tail", "follow"], true)
    }

    #[test]
    fn known_parameters_are_read() {
        let query = parse("tail=5&follow=true").unwrap();
        assert_eq!(query.number("tail", 10).unwrap(), Some(5));
        assert!(query.flag("follow").unwrap());
        let bare = parse("follow").unwrap();
        assert!(bare.flag("follow").unwrap());
        assert_eq!(bare.number("tail", 10).unwrap(), None);
    }

    #[test]
    fn unknown_and_doubled_parameters_are_named() {
        let error = parse("tial=5").unwrap_err();
        assert_eq!(error.field.as_deref(), Some("tial"));
        assert!(error.error.contains("`tail`, `follow`"), "{}", error.error);
        assert!(parse("tail=1&tail=2").unwrap_err().error.contains("twice"));
        let lenient = Query::parse(Some("new=1&tail=2"), &["tail"], false).unwrap();
        assert_eq!(lenient.get("tail"), Some("2"));
        assert_eq!(lenient.get("new"), None);
    }

    #[test]
    fn values_are_checked() {
        for wrong in ["", "-1", "+1", "1.5", "11", "99999999999999999999", "x"] {
            let query = parse(&format!("tail={}", wrong.replace('+', "%2B"))).unwrap();
            let error = query.number("tail", 10).unwrap_err();
            assert!(error.error.contains("from 0 to 10"), "{wrong}: {}", error.error);
        }
        assert!(parse("follow=maybe").unwrap().flag("follow").is_err());
    }
}
