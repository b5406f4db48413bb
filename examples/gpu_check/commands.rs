//! Parts that are commands of their own: the tests and two benches.

use crate::children::Child;
use crate::options::Options;
use crate::report::{Section, Table};
use std::process::Command;

/// Lines that are kept of what failed tests printed.
const FAILURE_LINES: usize = 400;

/// Runs the tests on the device.
pub fn tests(options: &Options) -> Section {
    let mut section = Section::default();
    let Some(output) = run(&mut section, options, "--tests", options.tests.as_deref()) else {
        return section;
    };
    let Counts { programs, passed, failed, ignored } = Counts::of(&output);
    let mut table = Table::new(&["programs", "passed", "failed", "ignored"]);
    table.row([programs, passed, failed, ignored].map(|count| count.to_string()));
    section.table(table);
    let details = failures(&output);
    if !details.is_empty() {
        section.verbatim(&details);
    }
    if passed == 0 {
        section.fail("tests", &"got no test that passed, expected some".into());
    }
    section
}

/// Returns what the programs printed of tests that failed, between `failures:` and `test result:`.
fn failures(output: &str) -> String {
    let mut inside = false;
    let failed = output.lines().filter(|line| {
        inside = (inside || line.starts_with("failures:")) && !line.starts_with("test result: ");
        inside
    });
    failed.take(FAILURE_LINES).collect::<Vec<_>>().join("\n")
}

/// Runs the bench `gates`.
pub fn gates(options: &Options) -> Section {
    bench(options, "--gates", options.gates.as_deref())
}

/// Runs the part of the bench `loader` that trains.
pub fn loader(options: &Options) -> Section {
    bench(options, "--loader", options.loader.as_deref())
}

fn bench(options: &Options, option: &str, command: Option<&str>) -> Section {
    let mut section = Section::default();
    let output = run(&mut section, options, option, command);
    if let Some(output) = output.filter(|output| !output.trim().is_empty()) {
        section.verbatim(&output);
    }
    section
}

/// Runs a shell command and returns its output, also if it fails. The section says if it failed, or if there is none.
fn run(
    section: &mut Section,
    options: &Options,
    option: &str,
    command: Option<&str>,
) -> Option<String> {
    let Some(text) = command else {
        section
            .text(&format!("Not run: {option} COMMAND is not given (`make gpu-check` gives it)."));
        return None;
    };
    section.text(&format!("`OFB_TEST_DEVICE={} {text}`", options.device));
    let mut command = Command::new("sh");
    command.args(["-c", text]).env("OFB_TEST_DEVICE", &options.device);
    let child = Child::run(command, options).map_err(|error| section.fail(text, &error)).ok()?;
    if let Some(failure) = child.failure {
        section.fail(text, &failure.into());
    }
    if let Some(peak) = child.peak {
        let (before, most) = (peak.before, peak.most);
        section.text(&format!(
            "Memory in use on the device: {before} MiB before, at most {most} MiB."
        ));
    }
    Some(child.output)
}

/// Sums of cargo's lines `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
#[derive(Default)]
struct Counts {
    programs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    fn of(output: &str) -> Self {
        let mut counts = Self::default();
        for line in output.lines().filter(|line| line.starts_with("test result: ")) {
            counts.programs += 1;
            for part in line.split([';', '.']) {
                let mut words = part.split_whitespace();
                let number = words.next().and_then(|word| word.parse::<u64>().ok());
                let (Some(number), Some(word)) = (number, words.next()) else { continue };
                match word {
                    "passed" => counts.passed += number,
                    "failed" => counts.failed += number,
                    "ignored" => counts.ignored += number,
                    _ => {}
                }
            }
        }
        counts
    }
}
