//! What of its machine a node shows to containers: nothing, but for what its own
//! command line names. A scheduler (or who pretends to be one) cannot widen it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;

use crate::model::validate::{MAX_STRING, RESERVED_ENV, is_file_name};
use crate::model::{Mount, Reason};

/// The largest file of environment variables, bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// What the agent was told to allow. By default nothing.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    mounts: Vec<Place>,
    env_dir: Option<PathBuf>,
}

/// A file or directory that may be mounted, with all that is in it.
#[derive(Clone, Debug)]
struct Place {
    /// As it was given.
    given: PathBuf,
    /// Where that is, links followed.
    real: PathBuf,
    read_only: bool,
}

/// Why a container may not be started here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Allowed {
    /// From `PATH` or `PATH:ro` each, and the directory of files with variables.
    ///
    /// # Errors
    /// When one of them is not there, or is no place to be allowed.
    pub fn new(mounts: &[String], env_dir: Option<&Path>) -> anyhow::Result<Self> {
        let mounts = mounts.iter().map(|text| Place::parse(text)).collect::<Result<_, _>>()?;
        let env_dir = env_dir.map(|directory| {
            let real = std::fs::canonicalize(directory)
                .with_context(|| format!("--env-dir {} cannot be used", directory.display()))?;
            anyhow::ensure!(real.is_dir(), "--env-dir {} is no directory", directory.display());
            Ok(real)
        });
        Ok(Self { mounts, env_dir: env_dir.transpose()? })
    }

    /// Where a mount leads, links followed, if it is allowed. What lies outside is
    /// not even looked at: the answer must not tell what is there.
    pub(super) fn source(&self, mount: &Mount) -> Result<String, Refusal> {
        let source = Path::new(&mount.source);
        let climbs = source.components().any(|part| part == Component::ParentDir);
        let named =
            |place: &Place| source.starts_with(&place.given) || source.starts_with(&place.real);
        if climbs || !source.is_absolute() || !self.mounts.iter().any(named) {
            return Err(not_allowed(format!(
                "it mounts {}, which this node does not allow; {}. To allow it, start its agent \
                 with --allow-mount {0}[:ro]",
                mount.source,
                self.told()
            )));
        }
        // One sentence for all of it: who can make links in there must not learn by them
        // what there is elsewhere.
        let nowhere = || {
            not_there(format!(
                "it mounts {}, which on the node is not there, or nothing that its agent may look \
                 at, or a link that leads out of what is allowed there ({})",
                mount.source,
                self.told()
            ))
        };
        let real = std::fs::canonicalize(source).map_err(|_| nowhere())?;
        // The closest one counts: what is in a writable directory may be read-only.
        let holders = self.mounts.iter().filter(|place| real.starts_with(&place.real));
        let place = holders.max_by_key(|place| place.real.components().count());
        let place = place.ok_or_else(nowhere)?;
        if place.read_only && !mount.read_only {
            return Err(not_allowed(format!(
                "it mounts {} to write, and this node allows it to be read only (--allow-mount \
                 {}:ro); set the mount's readOnly to true",
                mount.source,
                place.given.display()
            )));
        }
        real.into_os_string()
            .into_string()
            .map_err(|_| not_there(format!("{} leads to a name that is not UTF-8", mount.source)))
    }

    /// What is allowed, in words.
    fn told(&self) -> String {
        let one = |place: &Place| {
            let how = if place.read_only { " (read only)" } else { "" };
            format!("{}{how}", place.given.display())
        };
        match self.mounts.iter().map(one).collect::<Vec<_>>() {
            none if none.is_empty() => "it allows no mounts".to_owned(),
            some => format!("it allows {}", some.join(", ")),
        }
    }

    /// The variables in these files; of two with the same name the later one counts.
    /// What stands in them is in no error: it is secret.
    pub(super) fn variables(&self, files: &[String]) -> Result<BTreeMap<String, String>, Refusal> {
        let mut all = BTreeMap::new();
        for file in files {
            let text = self.read(file)?;
            let said = variables(&text)
                .map_err(|problem| not_there(format!("its file of variables {file}: {problem}")))?;
            all.extend(said);
        }
        Ok(all)
    }

    fn read(&self, file: &str) -> Result<String, Refusal> {
        let Some(directory) = &self.env_dir else {
            return Err(not_allowed(format!(
                "it takes variables from the file {file}, and this node has no directory for such \
                 files; start its agent with --env-dir DIR"
            )));
        };
        if !is_file_name(file) {
            return Err(not_allowed(format!("{file:?} is no name of a file in its --env-dir")));
        }
        let whole = directory.join(file);
        let not_usable = |problem: String| {
            not_there(format!("its file of variables, {} on the node: {problem}", whole.display()))
        };
        let io = |error: std::io::Error| not_usable(what_is(&error));
        let real = std::fs::canonicalize(&whole).map_err(io)?;
        if !real.starts_with(directory) {
            return Err(not_usable("it is a link that leads out of --env-dir".to_owned()));
        }
        if !real.metadata().map_err(io)?.is_file() {
            return Err(not_usable("it is no file".to_owned()));
        }
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(&real).map_err(io)?;
        opened.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(not_usable(format!("it is larger than {LARGEST_FILE} bytes")));
        }
        String::from_utf8(bytes).map_err(|_| not_usable("it is not UTF-8".to_owned()))
    }
}

impl Place {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (path, read_only) = match text.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (text, false),
        };
        let given = PathBuf::from(path);
        anyhow::ensure!(
            given.is_absolute() && !given.components().any(|part| part == Component::ParentDir),
            "--allow-mount {text}: the path must begin with '/' and be without '..'"
        );
        let real = std::fs::canonicalize(&given).with_context(|| {
            format!("--allow-mount {text} cannot be used; the file or directory must be there")
        })?;
        anyhow::ensure!(
            real.parent().is_some(),
            "--allow-mount {text} would give the whole machine away; name a directory in it"
        );
        Ok(Self { given, real, read_only })
    }
}

fn not_allowed(message: String) -> Refusal {
    Refusal { reason: Reason::NotAllowed, message }
}

fn not_there(message: String) -> Refusal {
    Refusal { reason: Reason::NotOnNode, message }
}

fn what_is(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "its agent has no permission to look at it".to_owned(),
        _ => format!("it cannot be looked at: {error}"),
    }
}

/// Reads `NAME=value` lines. Empty lines and those that begin with `#` are
/// comments; a value is everything after the first `=`, quotes included, as in
/// `docker run --env-file`.
///
/// # Errors
/// When a line is none of these: which one, without what stands in it.
pub fn variables(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let number = index + 1;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) =
            line.split_once('=').ok_or_else(|| format!("line {number} is no NAME=value"))?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "the name in line {number} must be printable ASCII without spaces"
            ));
        }
        if name.starts_with(RESERVED_ENV) {
            return Err(format!(
                "the name in line {number} begins with {RESERVED_ENV}: those are set by kube-lite"
            ));
        }
        if line.len() > MAX_STRING {
            return Err(format!("line {number} is longer than {MAX_STRING} bytes"));
        }
        if value.contains('\0') {
            return Err(format!("the value in line {number} has the character NUL in it"));
        }
        all.push((name.to_owned(), value.to_owned()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A directory `data` with `sub`, `secret` and links; beside it `other`.
    fn machine() -> (TempDir, PathBuf) {
        let root = TempDir::new().unwrap();
        let at = std::fs::canonicalize(root.path()).unwrap();
        for directory in ["data/sub", "data/secret", "other"] {
            std::fs::create_dir_all(at.join(directory)).unwrap();
        }
        std::fs::write(at.join("data/file"), "").unwrap();
        symlink(at.join("other"), at.join("data/out")).unwrap();
        symlink("sub", at.join("data/in")).unwrap();
        symlink("../other/nothing", at.join("data/dangling")).unwrap();
        symlink(at.join("data"), at.join("alias")).unwrap();
        (root, at)
    }

    fn allowed(at: &Path, given: &[&str]) -> Allowed {
        let given: Vec<String> =
            given.iter().map(|text| format!("{}/{text}", at.display())).collect();
        Allowed::new(&given, None).unwrap()
    }

    fn mount(at: &Path, source: &str, read_only: bool) -> Mount {
        let source = format!("{}/{source}", at.display());
        Mount { source, target: "/x".to_owned(), read_only }
    }

    #[test]
    fn mounts_lead_to_what_is_allowed_and_nowhere_else() {
        let (_root, at) = machine();
        let some = allowed(&at, &["data"]);
        for (source, leads_to) in [
            ("data", "data"),
            ("data/", "data"),
            ("data/sub", "data/sub"),
            ("data/in", "data/sub"),
            ("data/file", "data/file"),
            ("data//./sub", "data/sub"),
        ] {
            let found = some.source(&mount(&at, source, false)).unwrap();
            assert_eq!(Path::new(&found), at.join(leads_to), "{source}");
        }
        for (source, words) in [
            ("other", "does not allow"),
            ("data2", "does not allow"),
            ("data/../other", "does not allow"),
            ("other/nothing-there", "does not allow"),
            ("alias/sub", "does not allow"),
            ("data/out", "leads out"),
            ("data/out/deeper", "leads out"),
            ("data/dangling", "leads out"),
            ("data/missing", "is not there"),
        ] {
            let refusal = some.source(&mount(&at, source, true)).unwrap_err();
            assert!(refusal.message.contains(words), "{source}: {}", refusal.message);
            let reason = match words {
                "does not allow" => Reason::NotAllowed,
                _ => Reason::NotOnNode,
            };
            assert_eq!(refusal.reason, reason, "{source}");
        }
        let told = some.source(&mount(&at, "other", false)).unwrap_err().message;
        assert!(told.contains(&format!("--allow-mount {}/other[:ro]", at.display())), "{told}");
        assert!(told.contains(&format!("it allows {}/data.", at.display())), "{told}");
        // An alias that was given is as good as the place.
        let aliased = allowed(&at, &["alias"]);
        assert!(aliased.source(&mount(&at, "alias/sub", false)).is_ok());
        assert!(aliased.source(&mount(&at, "data/sub", false)).is_ok());
        let none = Allowed::default().source(&mount(&at, "data", true)).unwrap_err();
        assert!(none.message.contains("it allows no mounts"), "{}", none.message);
        for source in ["data", ""] {
            let relative =
                Mount { source: source.to_owned(), target: "/x".to_owned(), read_only: true };
            assert_eq!(some.source(&relative).unwrap_err().reason, Reason::NotAllowed);
        }
    }

    #[test]
    fn read_only_stays_so_and_the_closest_counts() {
        let (_root, at) = machine();
        let some = allowed(&at, &["data", "data/secret:ro"]);
        assert!(some.source(&mount(&at, "data/sub", false)).is_ok());
        assert!(some.source(&mount(&at, "data/secret", true)).is_ok());
        let refusal = some.source(&mount(&at, "data/secret", false)).unwrap_err();
        assert_eq!(refusal.reason, Reason::NotAllowed);
        assert!(refusal.message.contains("readOnly to true"), "{}", refusal.message);
    }

    #[test]
    fn what_cannot_be_allowed_is_refused_at_the_start() {
        let (_root, at) = machine();
        for (text, words) in [
            ("data".to_owned(), "begin with '/'"),
            (format!("{}/data/../other", at.display()), "without '..'"),
            (format!("{}/missing:ro", at.display()), "must be there"),
            ("/".to_owned(), "the whole machine"),
            ("/:ro".to_owned(), "the whole machine"),
        ] {
            let error = Allowed::new(&[text], None).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let file = at.join("data/file");
        assert!(Allowed::new(&[], Some(&file)).unwrap_err().to_string().contains("no directory"));
        assert!(Allowed::new(&[], Some(&at.join("missing"))).is_err());
    }

    #[test]
    fn variables_are_read_from_files_of_one_directory() {
        let (_root, at) = machine();
        std::fs::write(at.join("data/a"), "# of a\nA=1\n\n  B= x = \"y\" \r\nC=\n").unwrap();
        std::fs::write(at.join("data/b"), "A=2\n").unwrap();
        std::fs::write(at.join("data/.hidden"), "A=2\n").unwrap();
        std::fs::write(at.join("data/latin"), b"A=\xe4\n").unwrap();
        std::fs::write(at.join("other/c"), "A=3\n").unwrap();
        symlink(at.join("other/c"), at.join("data/away")).unwrap();
        symlink("a", at.join("data/within")).unwrap();
        let big = std::fs::File::create(at.join("data/big")).unwrap();
        big.set_len(LARGEST_FILE + 1).unwrap();
        let some = Allowed::new(&[], Some(&at.join("data"))).unwrap();
        let read = |files: &[&str]| {
            let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
            some.variables(&files)
        };
        let found = read(&["a", "b", "within"]).unwrap();
        let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(found, [("A", "1"), ("B", " x = \"y\" "), ("C", "")]);
        assert_eq!(read(&["a", "b"]).unwrap()["A"], "2");
        for (file, reason, words) in [
            ("missing", Reason::NotOnNode, "no such file"),
            ("sub", Reason::NotOnNode, "it is no file"),
            ("away", Reason::NotOnNode, "leads out"),
            ("latin", Reason::NotOnNode, "not UTF-8"),
            ("big", Reason::NotOnNode, "larger than"),
            ("../other/c", Reason::NotAllowed, "no name of a file"),
            (".hidden", Reason::NotAllowed, "no name of a file"),
        ] {
            let refusal = read(&[file]).unwrap_err();
            assert_eq!(refusal.reason, reason, "{}", refusal.message);
            assert!(refusal.message.contains(words), "{}", refusal.message);
        }
        let none = Allowed::default().variables(&["a".to_owned()]).unwrap_err();
        assert_eq!(none.reason, Reason::NotAllowed);
        assert!(none.message.contains("--env-dir DIR"), "{}", none.message);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_without_what_stands_there() {
        let long = format!("hunter2={}", "x".repeat(MAX_STRING));
        for (text, words) in [
            ("A=1\nhunter2\n", "line 2 is no NAME=value"),
            ("=hunter2", "name in line 1"),
            ("export hunter2=1", "without spaces"),
            ("hünter2=1", "printable ASCII"),
            ("KUBE_LITE_NODE=hunter2", "set by kube-lite"),
            ("A=hunter2\0", "NUL"),
            (long.as_str(), "longer than"),
        ] {
            let error = variables(text).unwrap_err();
            assert!(error.contains(words) && !error.contains("nter2"), "{error}");
        }
    }
}
