//! What people write.

use kube_lite::model::{ApiError, WorkloadSpec, parse, validate};
use kube_lite::roles::ctl::spec_file::check;

use crate::{is_a_sentence, survives_writing};

/// A spec as it is sent to `POST /deploy`.
pub fn spec(bytes: &[u8]) {
    match parse::from_people::<WorkloadSpec>(bytes).and_then(accepted) {
        Ok(spec) => {
            survives_writing(&spec);
            let text = serde_json::to_vec(&spec).expect("it can be written");
            let again = parse::from_people::<WorkloadSpec>(&text).and_then(accepted);
            assert_eq!(again, Ok(spec), "what was taken is not taken again");
        }
        Err(error) => {
            assert_eq!(error.status, 400, "{error:?}");
            is_a_sentence(&error.error);
            assert!(error.error.len() < 2_000, "nobody reads that: {error:?}");
            assert!(!error.reason.is_empty(), "{error:?}");
            assert!(error.reason != "InvalidField" || error.field.is_some(), "where? {error:?}");
        }
    }
}

fn accepted(spec: WorkloadSpec) -> Result<WorkloadSpec, ApiError> {
    validate::validate(&spec).map(|()| spec)
}

/// A file of `ctl deploy -f`: judged as the scheduler will judge it, and a mistake is
/// shown where it stands.
pub fn spec_file(bytes: &[u8]) {
    let sent = parse::from_people::<WorkloadSpec>(bytes).and_then(accepted);
    let checked = check("web.json", bytes);
    // A manifest of Kubernetes or a list is refused in other words, but by both.
    assert_eq!(checked.is_ok(), sent.is_ok(), "{checked:?} here, there {sent:?}");
    let Err(said) = checked else { return };
    is_a_sentence(&said);
    let rest = said.strip_prefix("web.json").unwrap_or_else(|| panic!("of which file? {said}"));
    let mut place = rest.strip_prefix(':').into_iter().flat_map(|rest| rest.split(':'));
    if let Some(Ok(line)) = place.next().map(str::parse::<usize>) {
        let text = std::str::from_utf8(bytes).expect("a place in a text");
        let lines = text.matches('\n').count() + 1;
        assert!((1..=lines).contains(&line), "line {line} of {lines}: {said}");
        let column = place.next().and_then(|column| column.parse::<usize>().ok());
        let longest = text.split('\n').nth(line - 1).map_or(0, str::len);
        assert!(column.is_some_and(|column| column <= longest + 1), "of {longest}: {said}");
    }
}
