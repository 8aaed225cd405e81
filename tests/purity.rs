//! Decisions are functions of their arguments: the files that decide read no
//! clock, draw nothing, wait for nothing and talk to nobody.
//!
//! Clippy forbids the calls (`clippy.toml`, with the reason of each ban); this
//! test forbids the words, and that a pure file forgets to ask clippy.

use std::path::{Path, PathBuf};

/// Where decisions live. Every file in here is pure unless it is listed below.
const HOUSES: [&str; 4] = ["src/identity", "src/model", "src/roles/scheduler", "src/roles/agent"];

/// Files that may touch the world: they carry out what was decided.
const SHELLS: [&str; 29] = [
    "src/identity/authority.rs",
    "src/identity/credentials.rs",
    "src/identity/files.rs",
    "src/identity/keeper.rs",
    "src/identity/membership.rs",
    "src/identity/tls.rs",
    "src/roles/scheduler/dispatch.rs",
    "src/roles/scheduler/driver.rs",
    "src/roles/scheduler/founding.rs",
    "src/roles/scheduler/recorder.rs",
    "src/roles/scheduler/rerun",
    "src/roles/scheduler/rerun.rs",
    "src/roles/scheduler/server",
    "src/roles/scheduler/server.rs",
    "src/roles/scheduler/store",
    "src/roles/scheduler/store.rs",
    "src/roles/scheduler/upkeep.rs",
    "src/roles/scheduler/vitals.rs",
    "src/roles/agent/docker",
    "src/roles/agent/docker.rs",
    "src/roles/agent/driver.rs",
    "src/roles/agent/fleet.rs",
    "src/roles/agent/health.rs",
    "src/roles/agent/heartbeat.rs",
    "src/roles/agent/home.rs",
    "src/roles/agent/runtime.rs",
    "src/roles/agent/server.rs",
    "src/roles/agent/simulated.rs",
    "src/roles/agent/vitals.rs",
];

/// Words that have no business in a decision.
const FORBIDDEN: [&str; 17] = [
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "tokio",
    "async",
    "await",
    "rand",
    "getrandom",
    "HashMap",
    "HashSet",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "println",
];

const DENIAL: &str =
    "#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]";

fn files_in(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(directory).expect("a directory of sources");
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Pure files, as they are named in the repository.
fn pure_files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("src/model.rs")];
    for house in HOUSES {
        if root.join(house).is_dir() {
            files_in(&root.join(house), &mut paths);
        }
    }
    let mut files = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root).expect("below the root");
        let is_shell = SHELLS.iter().any(|shell| name.starts_with(shell));
        let is_test = name
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        if !is_shell && !is_test {
            let text = std::fs::read_to_string(&path).expect("a source");
            files.push((name.to_str().expect("a plain name").replace('\\', "/"), text));
        }
    }
    files.sort();
    files
}

/// What is compiled into the product: no comments, no unit tests.
fn code(text: &str) -> String {
    let mut in_tests = false;
    let mut before = "";
    let mut code = String::new();
    for line in text.lines() {
        in_tests |= before == "#[cfg(test)]" && line == "mod tests {";
        if !in_tests {
            code.push_str(line.split("//").next().unwrap_or_default());
            code.push('\n');
        }
        in_tests &= line != "}";
        before = line;
    }
    code
}

fn has_word(code: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(is_name) && !code[at + word.len()..].starts_with(is_name)
    })
}

#[test]
fn pure_files_contain_nothing_of_the_world() {
    let files = pure_files();
    assert!(files.len() >= 30, "the houses have moved: {} files", files.len());
    let mut found = Vec::new();
    for (name, text) in &files {
        let code = code(text);
        found.extend(
            FORBIDDEN.iter().filter(|w| has_word(&code, w)).map(|w| format!("{name}: {w}")),
        );
    }
    assert!(
        found.is_empty(),
        "these files decide and must be pure; a new file that carries out decisions belongs into \
         SHELLS of tests/purity.rs:\n{}",
        found.join("\n")
    );
}

#[test]
fn pure_files_ask_clippy_too() {
    // One line in a module file covers all below it.
    let covers = ["src/model.rs"];
    let silent: Vec<String> = pure_files()
        .into_iter()
        .filter(|(name, _)| !name.starts_with("src/model/"))
        .filter(|(_, text)| !text.contains(DENIAL))
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "add to each (and to {covers:?}): {DENIAL}\n{silent:#?}");
}

#[test]
fn shells_that_are_listed_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for shell in SHELLS {
        assert!(root.join(shell).exists(), "{shell} is gone; take it off the list");
    }
}

#[test]
fn the_words_are_found_as_words() {
    assert!(has_word("use std::time::Instant;", "Instant"));
    assert!(!has_word("NodeInstantly", "Instant"));
    assert!(!has_word("let operand = 1;", "rand"));
    let text = "let a = 1; // Instant\n#[cfg(test)]\nmod tests {\n    use tokio;\n}\nlet b = 2;";
    assert_eq!(code(text), "let a = 1; \n#[cfg(test)]\nlet b = 2;\n");
}
