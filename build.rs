//! Compiles the built dashboard (`ui/dist`, made by `make ui`) into the binary:
//! a table of its compressed files. Without it, the table is empty.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rustc-env=KUBE_LITE_COMMIT={}", commit());
    let directory = |name| PathBuf::from(env::var_os(name).unwrap_or_default());
    let (dist, out) = (directory("CARGO_MANIFEST_DIR").join("ui/dist"), directory("OUT_DIR"));
    // The directory itself is always there: git keeps a file in it.
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut files = BTreeMap::new();
    for directory in [dist.clone(), dist.join("assets")] {
        collect(&directory, &mut files)?;
    }
    let mut table = String::from("static ASSETS: &[Asset] = &[\n");
    for (name, bytes) in files {
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let _ = writeln!(
            table,
            "    Asset {{ name: {name:?}, content_type: {:?}, etag: \"\\\"{:016x}\\\"\", \
             gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.gz\")) }},",
            content_type(&name),
            hasher.finish(),
        );
        keep(&out.join(format!("{name}.gz")), &bytes)?;
    }
    table.push_str("];\n");
    keep(&out.join("assets.rs"), table.as_bytes())
}

/// The commit that this is built from, as it follows the version: ` (0123abcd4567)`. Empty
/// where nobody knows, and in debug builds, which would be built anew for each commit.
/// `KUBE_LITE_COMMIT` says it where there is no git, as in a source package.
fn commit() -> String {
    println!("cargo::rerun-if-env-changed=KUBE_LITE_COMMIT");
    if let Some(given) = env::var("KUBE_LITE_COMMIT").ok().filter(|given| !given.is_empty()) {
        return format!(" ({given})");
    }
    if env::var("PROFILE").is_ok_and(|profile| profile == "debug") {
        return String::new();
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success());
        Some(text?.trim().to_owned())
    };
    // Of this repository, and not of one that this directory was unpacked in.
    let tracked = git(&["ls-files", "--error-unmatch", "build.rs"]).is_some();
    let described = git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    let Some(commit) = described.filter(|_| tracked) else { return String::new() };
    for file in ["HEAD", "logs/HEAD", "index"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    format!(" ({commit})")
}

/// The compressed files of a directory, by their names without `.gz`.
fn collect(directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.and_then(|name| name.strip_suffix(".gz")) {
            files.insert(name.to_owned(), fs::read(&path)?);
        }
    }
    Ok(())
}

/// Writes a file unless it is like that: what is unchanged need not be compiled anew.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::read(path) {
        Ok(known) if known == bytes => Ok(()),
        _ => fs::write(path, bytes),
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
