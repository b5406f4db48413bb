//! Folders that a run does not write to: those of other programs, and of other processes.

use super::{in_words, options};
use crate::assert_refused;
use crate::support::tiny_run::{alone, batch, builder};
use crate::support::{test_device, TestResult};
use once_for_both::error::FolderError;
use once_for_both::models::VitConfig;
use once_for_both::search::{read_events, Checkpoints, MetricsFile};
use once_for_both::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

const CHILD: &str = "OFB_TEST_OWNED_RUN";

/// Not a test of its own: the other process of
/// [`run_folder_of_another_process_can_be_read_but_not_written`].
#[test]
fn child_that_owns_a_run_folder() -> TestResult {
    let Some(folder) = std::env::var_os(CHILD) else { return Ok(()) };
    let _alone = alone();
    let mut search = builder(options(), 0.5).build()?;
    let mut run = search.run_in(folder)?.checkpoint_every(2);
    run.train_until(2, &mut |step| batch(step).map_err(in_words))?;
    println!("ready");
    let _ = std::io::stdin().read(&mut [0])?;
    Ok(())
}

#[test]
fn run_folder_of_another_process_can_be_read_but_not_written() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "run_cases::child_that_owns_a_run_folder", "--nocapture"])
        .env(CHILD, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with("ready")));
    let before = fs::read(folder.path().join("metrics.jsonl"))?;
    let checkpoints = || Checkpoints::new(folder.path().join("checkpoints"), 2);

    let mut resumed = builder(options(), 0.5).build_or_resume(folder.path())?.search;
    let holder = format!("in use by process {} on ", child.id());
    let refused = |error: Error| {
        let in_use = matches!(error, Error::Folder(FolderError::InUse { .. }));
        assert!(in_use && error.to_string().contains(&holder), "{error}");
    };
    refused(resumed.run_in(folder.path()).map(drop).err().ok_or("run_in was not refused")?);
    refused(checkpoints().save(&resumed).err().ok_or("save was not refused")?);
    let mut other = resumed.run(checkpoints());
    refused(other.train(&mut |_| batch(0).map_err(in_words)).err().ok_or("?")?);
    drop(other);
    assert_eq!(checkpoints().resume::<VitConfig>(test_device())?.ok_or("none")?.skipped.len(), 0);
    assert!(!read_events(&folder.path().join("metrics.jsonl"))?.is_empty());
    assert_eq!(fs::read(folder.path().join("metrics.jsonl"))?, before);

    // The lock ends with its process, however that ends.
    child.kill()?;
    child.wait()?;
    let run = resumed.run_in(folder.path())?;
    // The same in one process.
    let mut second = builder(options(), 0.5).build_or_resume(folder.path())?.search;
    assert_refused!(
        second.run_in(folder.path()).map(drop),
        Error::Folder(FolderError::InUse { .. })
    );
    drop(run);
    second.run_in(folder.path()).map(drop)?;
    Ok(())
}

#[test]
fn run_in_a_folder_of_other_files_is_refused_and_leaves_it() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("cats"))?;
    let mut search = builder(options(), 0.5).build()?;
    let expect = |refused: once_for_both::Result<()>| match refused {
        Err(Error::Folder(FolderError::Foreign { path, found, .. })) => {
            assert!(path == folder.path() && found.contains("cats"), "{found}");
        }
        other => panic!("{other:?}"),
    };
    expect(search.run_in(folder.path()).map(drop));
    expect(Checkpoints::new(folder.path(), 2).save(&search).map(drop));
    assert_eq!(fs::read_dir(folder.path())?.count(), 1);
    // Files that the crate writes before a run begins are no reason.
    fs::rename(folder.path().join("cats"), folder.path().join("tensorboard"))?;
    search.run_in(folder.path()).map(drop)?;
    Ok(())
}

#[test]
fn checkpoints_neither_replace_nor_remove_folders_of_other_programs() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let foreign = |name: &str, file: &str, text: &str| -> TestResult {
        fs::create_dir(folder.path().join(name))?;
        Ok(fs::write(folder.path().join(name).join(file), text)?)
    };
    foreign("step-0", "model.bin", "weights")?;
    foreign("step-00000002", "state.json", "{\"epoch\": 3}")?;
    let mut search = builder(options(), 0.5).build()?;
    let checkpoints = Checkpoints::new(folder.path(), 1);
    search.step(&[batch(0)?], &mut ())?;
    checkpoints.save(&search)?;
    search.step(&[batch(1)?], &mut ())?;
    assert_refused!(checkpoints.save(&search), Error::Folder(FolderError::Foreign { .. }));
    search.step(&[batch(2)?], &mut ())?;
    checkpoints.save(&search)?;
    let text = |path: &Path| fs::read_to_string(folder.path().join(path));
    assert_eq!(text(Path::new("step-0/model.bin"))?, "weights");
    assert_eq!(text(Path::new("step-00000002/state.json"))?, "{\"epoch\": 3}");
    assert!(!folder.path().join("step-00000001").exists());
    Ok(())
}

#[test]
fn damaged_checkpoint_is_written_anew_when_its_step_is_reached_again() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let mut search = builder(options(), 0.5).build()?;
    let checkpoints = Checkpoints::new(folder.path(), 1);
    search.step(&[batch(0)?], &mut ())?;
    let saved = checkpoints.save(&search)?;
    fs::write(saved.join("state.json"), "{\"format\": \"once")?;
    checkpoints.save(&search)?;
    assert!(checkpoints.resume::<VitConfig>(test_device())?.is_some());
    Ok(())
}

#[test]
fn metrics_file_over_a_file_of_another_program_is_refused_and_leaves_it() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notes.txt");
    for text in ["{\"loss\": 0.5}\n{\"loss\": 0.4}\n", "to do", "{}\n"] {
        fs::write(&path, text)?;
        let refused = MetricsFile::open(&path, 0).map(drop);
        assert_refused!(refused, Error::Folder(FolderError::Foreign { .. }));
        assert_eq!(fs::read_to_string(&path)?, text);
    }
    // Killed while the first event was written.
    fs::write(&path, "{\"event\": \"st")?;
    MetricsFile::open(&path, 0)?;
    Ok(())
}
