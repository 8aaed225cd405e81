//! Whether a pull gets anywhere. Docker talks all the time, also while it tries the
//! same blob in vain again and again; only what is further than ever before counts.

use std::collections::BTreeMap;

use bollard::models::CreateImageInfo;

/// Images whose pulls are remembered at most; they are forgotten once they are there.
const MOST: usize = 100;

/// How far each layer of each image has ever come, over all attempts.
#[derive(Debug, Default)]
pub(super) struct Reached(BTreeMap<String, BTreeMap<String, (u8, i64)>>);

impl Reached {
    /// Takes in one line of a pull's stream; true if something is further than ever.
    pub(super) fn advances(&mut self, image: &str, said: &CreateImageInfo) -> bool {
        let layer = said.id.clone().unwrap_or_default();
        let Some(stage) = said.status.as_deref().and_then(stage) else { return false };
        let bytes = said.progress_detail.as_ref().and_then(|detail| detail.current).unwrap_or(0);
        if !self.0.contains_key(image) && self.0.len() >= MOST {
            self.0.pop_first();
        }
        let best = self.0.entry(image.to_owned()).or_default().entry(layer).or_default();
        let further = (stage, bytes) > *best;
        if further {
            *best = (stage, bytes);
        }
        further
    }

    /// The image is there, or given up.
    pub(super) fn forget(&mut self, image: &str) {
        self.0.remove(image);
    }
}

/// The stages of a layer, in order; `None` for what says nothing about getting on.
fn stage(status: &str) -> Option<u8> {
    match status {
        "Downloading" => Some(1),
        "Verifying Checksum" => Some(2),
        "Download complete" => Some(3),
        "Extracting" => Some(4),
        "Pull complete" | "Already exists" => Some(5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, status: &str, current: i64) -> CreateImageInfo {
        serde_json::from_value(serde_json::json!({
            "id": id, "status": status, "progressDetail": {"current": current, "total": 100},
        }))
        .expect("a line")
    }

    #[test]
    fn only_what_is_further_than_ever_is_progress() {
        let mut reached = Reached::default();
        for (id, status, current, further) in [
            ("v1", "Pulling from web", 0, false),
            ("a", "Pulling fs layer", 0, false),
            ("a", "Waiting", 0, false),
            ("a", "Downloading", 10, true),
            ("a", "Downloading", 20, true),
            ("a", "Retrying in 4 seconds", 0, false),
            ("a", "Downloading", 10, false),
            ("a", "Downloading", 20, false),
            ("a", "Downloading", 21, true),
            ("b", "Downloading", 5, true),
            ("a", "Verifying Checksum", 0, true),
            ("a", "Download complete", 0, true),
            ("a", "Extracting", 1, true),
            ("a", "Extracting", 1, false),
            ("a", "Pull complete", 0, true),
            ("a", "Already exists", 0, false),
            ("a", "Downloading", 99, false),
        ] {
            assert_eq!(reached.advances("web:1", &line(id, status, current)), further, "{status}");
        }
        assert!(reached.advances("web:2", &line("a", "Downloading", 1)), "another image");
        reached.forget("web:1");
        assert!(reached.advances("web:1", &line("a", "Downloading", 1)), "begun anew");
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let mut reached = Reached::default();
        for number in 0..3 * MOST {
            reached.advances(&format!("web:{number}"), &line("a", "Downloading", 1));
        }
        assert_eq!(reached.0.len(), MOST);
    }
}
