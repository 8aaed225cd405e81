//! Compiles the built dashboard (`ui/dist`, made by `make ui`) into the binary:
//! a table of its compressed files. Without it, the table is empty.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
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
