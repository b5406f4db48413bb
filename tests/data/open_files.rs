//! Shards in a process that may open few files.

use crate::archives::{archive, pattern, put};
use crate::support::TestResult;
use once_for_both::data::{Dataset, TarShards};
use std::fs::File;
use tempfile::tempdir;

const SHARDS: usize = 100;

/// The shards are in the environment.
#[test]
#[ignore = "started by the test with few open files"]
fn read_in_a_process_with_few_open_files() -> TestResult {
    let shards = TarShards::open(&std::env::var("OFB_SHARDS")?)?;
    for index in (0..SHARDS).chain(0..SHARDS) {
        assert_eq!(shards.read(index, &mut Vec::new())?, Some(index));
        // Other parts of the program open files, too.
        let others = (0..16).map(|_| File::open("/dev/null"));
        others.collect::<std::io::Result<Vec<_>>>()?;
    }
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn more_shards_than_open_files_are_read() -> TestResult {
    let folder = tempdir()?;
    for number in 0..SHARDS {
        let class = number.to_string();
        let files = [("a.jpg", &b"image"[..]), ("a.cls", class.as_bytes())];
        put(&folder, &format!("{number:03}.tar"), &archive(&files)?)?;
    }
    let path = folder.path().join("{000..099}.tar");
    let test = "open_files::read_in_a_process_with_few_open_files";
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$@\"", "sh"])
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env("OFB_SHARDS", pattern(&path)?)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    Ok(())
}
