//! The example `gpu_check`: its file, and what it says of parts that fail; and the device that tests run on.

#[path = "support/program.rs"]
mod program;

use program::program;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

type TestResult<T = ()> = Result<T, Box<dyn Error>>;

/// The sections of the file.
const SECTIONS: [&str; 6] = [
    "## Tests",
    "## Search step beside a plain step",
    "## Images per second, and the parts of a step",
    "## Latency",
    "## Slowest operators",
    "## Training that waits for the loader",
];

/// Runs the program with a tiny network; `tools` is searched for programs first. Returns its file, too.
fn gpu_check(tools: &Path, arguments: &[&str]) -> TestResult<(Output, String)> {
    let file = tools.join("report.md");
    let mut command = Command::new(program("gpu_check")?);
    command.args(["--quick", "--out"]).arg(&file).args(arguments);
    // Tests run in parallel: one thread each.
    command.env("OMP_NUM_THREADS", "1").env("PATH", path_with(tools)?);
    let output = command.output()?;
    let report = fs::read_to_string(&file)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output, report))
}

fn path_with(folder: &Path) -> TestResult<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths([folder.to_owned()].into_iter().chain(std::env::split_paths(&path)))?)
}

/// Writes a shell program into a folder.
#[cfg(unix)]
fn write_program(folder: &Path, name: &str, text: &str) -> TestResult {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
}

fn section<'a>(report: &'a str, title: &str) -> TestResult<&'a str> {
    let (_, rest) = report.split_once(title).ok_or_else(|| format!("no {title} in {report}"))?;
    Ok(rest.split("\n## ").next().unwrap_or(rest))
}

#[test]
fn report_has_every_section_and_names_the_parts_that_failed() -> TestResult {
    let folder = tempfile::tempdir()?;
    let device = std::env::var("OFB_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let tests =
        "echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out'; \
                 printf 'failures:\\n\\n---- one stdout ----\\ngot 1\\n\\n'; \
                 echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out'; exit 101";
    let (output, report) = gpu_check(
        folder.path(),
        &["--device", &device, "--tests", tests, "--gates", "echo of the bench; exit 3"],
    )?;
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("**Failed: Tests; Search step beside a plain step.**"), "{report}");
    let places: Vec<_> = SECTIONS.iter().map(|title| report.find(title)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {report}");
    let tests = section(&report, SECTIONS[0])?;
    assert!(tests.contains("| 2 | 5 | 1 | 1 |") && tests.contains("got 1"), "{tests}");
    let gates = section(&report, SECTIONS[1])?;
    assert!(gates.contains("exit status: 3") && gates.contains("of the bench"), "{gates}");
    assert!(section(&report, SECTIONS[5])?.contains("--loader COMMAND is not given"), "{report}");
    for (title, rows) in [(SECTIONS[2], 8), (SECTIONS[3], 4), (SECTIONS[4], 9)] {
        let section = section(&report, title)?;
        let found = section.lines().filter(|line| line.contains("| bf16 |")).count();
        assert_eq!(found, rows, "{section}");
        assert!(!section.contains("FAILED"), "{section}");
    }
    for line in ["| device | ", "| driver | ", "| libtorch | ", "| date | 2", "commit ", "--quick"]
    {
        assert!(report.contains(line), "{line} in {report}");
    }
    Ok(())
}

/// A row on an absent device fails; a command, and the memory while it runs, do not need it.
#[cfg(unix)]
#[test]
fn report_on_an_absent_device_has_card_memory_and_the_reason_of_the_failure() -> TestResult {
    let folder = tempfile::tempdir()?;
    // 700 MiB, and 900 while the command runs, which ends when that was read.
    let readings =
        "case \"$*\" in *memory.used*) if [ -e \"$0.used\" ]; then : > \"$0.read\"; echo 900; \
                    else echo 700; fi;; *) echo 'Card | X, 81559, 9.0, 580.65';; esac";
    write_program(folder.path(), "nvidia-smi", readings)?;
    let smi = folder.path().join("nvidia-smi");
    let smi = smi.to_str().ok_or("not UTF-8")?;
    let loader =
        format!(": > {smi}.used; until [ -e {smi}.read ]; do sleep 0.01; done; echo waiting 1 %");
    let arguments = ["--device", "cuda:4096", "--parts", "latency,loader", "--loader", &loader];
    let (output, report) = gpu_check(folder.path(), &arguments)?;
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("| card | Card \\| X |"), "{report}");
    assert!(report.contains("| driver | 580.65 |"), "{report}");
    let latency = section(&report, SECTIONS[3])?;
    assert!(latency.contains("FAILED") && latency.contains("cuda:4096"), "{latency}");
    let loader = section(&report, SECTIONS[5])?;
    assert!(loader.contains("700 MiB before, at most 900 MiB"), "{loader}");
    assert!(loader.contains("waiting 1 %") && !loader.contains("FAILED"), "{loader}");
    Ok(())
}

#[test]
fn command_beyond_the_time_limit_is_ended_and_reported() -> TestResult {
    let folder = tempfile::tempdir()?;
    let arguments =
        ["--device", "cpu", "--parts", "gates", "--limit", "1", "--gates", "sleep 600 & sleep 600"];
    let (_, report) = gpu_check(folder.path(), &arguments)?;
    assert!(section(&report, SECTIONS[1])?.contains("ended after 1 s"), "{report}");
    Ok(())
}

/// Returns the device that `scripts/on-test-device` chooses.
#[cfg(unix)]
fn chosen_device(tools: &Path, libtorch: &Path, set: Option<&str>) -> TestResult<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/on-test-device");
    let mut command = Command::new(script);
    command.args(["sh", "-c", "echo $OFB_TEST_DEVICE $NVIDIA_TF32_OVERRIDE"]);
    command.env_remove("OFB_TEST_DEVICE").env_remove("NVIDIA_TF32_OVERRIDE");
    command.env_remove("LIBTORCH_USE_PYTORCH").env_remove("LIBTORCH_LIB");
    command.env("LIBTORCH", libtorch).env("PATH", path_with(tools)?);
    command.envs(set.map(|device| ("OFB_TEST_DEVICE", device)));
    Ok(String::from_utf8(command.output()?.stdout)?.trim().to_owned())
}

#[cfg(unix)]
#[test]
fn tests_run_on_cuda_where_card_and_libtorch_have_it_and_on_the_named_device_otherwise(
) -> TestResult {
    let (tools, cpu, cuda) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
    fs::create_dir(cuda.path().join("lib"))?;
    fs::write(cuda.path().join("lib/libtorch_cuda.so"), "")?;
    let chosen =
        |libtorch: &tempfile::TempDir, set| chosen_device(tools.path(), libtorch.path(), set);
    write_program(tools.path(), "nvidia-smi", "echo 'No devices were found'; exit 6")?;
    assert_eq!(chosen(&cuda, None)?, "cpu 0");
    write_program(tools.path(), "nvidia-smi", "echo 'GPU 0: Card (UUID: GPU-1)'")?;
    assert_eq!(chosen(&cuda, None)?, "cuda 0");
    assert_eq!(chosen(&cpu, None)?, "cpu 0");
    assert_eq!(chosen(&cuda, Some("cpu"))?, "cpu 0");
    assert_eq!(chosen(&cpu, Some("cuda:1"))?, "cuda:1 0");
    Ok(())
}
