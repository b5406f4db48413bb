//! Examples of this crate that tests run as programs.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the path of an example as it was built last. `cargo test` builds all examples before the tests;
/// `cargo test --test NAME` builds none: a program older than one of the files it was built from is refused.
pub fn program(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let tests = std::env::current_exe()?;
    let folder = tests.parent().and_then(Path::parent).ok_or("no folder above the tests")?;
    let program = folder.join("examples").join(name);
    let build = format!("cargo build --example {name}, with the features of the tests");
    let modified = |path: &Path| fs::metadata(path)?.modified();
    let path = program.display();
    let built = modified(&program).map_err(|_| format!("{path} is not built: {build}"))?;
    // cargo writes beside a program what it was built from, in a line "PROGRAM: FILE FILE …".
    let files = fs::read_to_string(program.with_extension("d"))?;
    let newer = |file: &&PathBuf| modified(file).map_or(true, |changed| changed > built);
    match sources(&files).iter().find(newer) {
        None => Ok(program),
        Some(file) => Err(format!("{path} is older than {}: {build}", file.display()).into()),
    }
}

/// Returns the files in a line of cargo's, in which spaces in a path are escaped.
fn sources(line: &str) -> Vec<PathBuf> {
    let files = line.split_once(": ").map_or("", |(_, files)| files).trim();
    let files = files.replace("\\ ", "\0");
    files.split(' ').map(|file| file.replace('\0', " ").into()).collect()
}
