//! Checkpoints that were changed on disk: every flipped bit is found, and whatever has right
//! checksums is refused with the part that does not fit, or resumed and trained without a panic.

mod support;

use once_for_both::batch::Batch;
use once_for_both::cost::Budget;
use once_for_both::models::VitConfig;
use once_for_both::search::{Checkpoints, Search, SearchOptions};
use once_for_both::Error;
use proptest::prelude::*;
use serde_json::{json, Value};
use std::fs;
use std::path::PathBuf;
use support::damage::{
    config, found_by_libtorch, mutations, peak_memory, renew_checksums, Mutation,
};
use support::tiny_run::alone;
use support::{from_numbers, in_words, test_device, Tensors, TestResult};
use tch::{Kind, Tensor};

const STATE: &str = "state.json";
const TENSORS: &str = "tensors.safetensors";
const FILES: [&str; 3] = [STATE, TENSORS, "checksums.sfv"];

/// A search in a folder, after so many steps; checkpoints after each of them.
struct Saved {
    root: tempfile::TempDir,
    steps: u64,
}

fn options() -> SearchOptions {
    SearchOptions::learned(12, 8).seed(3).with(|options| {
        options.log_interval = 1;
        options.pruning.interval = 1;
        options.pruning.fade_out_steps = 2;
        options.optimiser.alpha_rate = Some(2.0);
        options.training.ema_decay = Some(0.9);
    })
}

/// The batch of a step, independent of libtorch's generator.
fn batch(step: u64) -> TestResult<Batch> {
    let number = |at: u64| ((at + 17 * step) as f64 * 12.9898).sin();
    let images = from_numbers(&(0..4 * 3 * 64).map(number).collect::<Vec<_>>(), &[4, 3, 8, 8])?;
    let classes = from_numbers(&[0.0, 1.0, 2.0, 1.0], &[4])?.to_kind(Kind::Int64);
    Ok(Batch::classes(images, classes))
}

impl Saved {
    fn after(steps: u64) -> TestResult<Self> {
        let root = tempfile::tempdir()?;
        let vit = VitConfig::uniform(8, 1, 2).input(8, 3, 4).classes(3);
        let search = Search::of(vit).budget(Budget::macs_share(0.5)).options(options());
        let mut search = search.device(test_device()).build()?;
        let checkpoints = Checkpoints::new(root.path(), 2);
        for step in 0..steps {
            search.step(&[batch(step)?], &mut ())?;
            if step + 2 >= steps {
                checkpoints.save(&search)?;
            }
        }
        Ok(Self { root, steps })
    }

    fn newest(&self) -> PathBuf {
        self.root.path().join(format!("step-{:08}", self.steps))
    }

    fn read(&self, file: &str) -> TestResult<Vec<u8>> {
        Ok(fs::read(self.newest().join(file))?)
    }

    fn write(&self, file: &str, bytes: &[u8]) -> TestResult {
        Ok(fs::write(self.newest().join(file), bytes)?)
    }

    fn state(&self) -> TestResult<Value> {
        Ok(serde_json::from_slice(&self.read(STATE)?)?)
    }

    /// Changes the state, with right checksums.
    fn edit(&self, change: impl FnOnce(&mut Value)) -> TestResult {
        let mut state = self.state()?;
        change(&mut state);
        self.write(STATE, &serde_json::to_vec(&state)?)?;
        renew_checksums(&self.newest())
    }

    /// Changes the tensors, with right checksums.
    fn retensor(&self, change: impl FnOnce(&mut Tensors)) -> TestResult {
        let path = self.newest().join(TENSORS);
        let mut tensors: Tensors = Tensor::read_safetensors(&path)?.into_iter().collect();
        change(&mut tensors);
        Tensor::write_safetensors(&tensors.iter().collect::<Vec<_>>(), &path)?;
        renew_checksums(&self.newest())
    }

    fn resume(&self) -> Result<Search<VitConfig>, Error> {
        Search::resume(self.newest(), test_device())
    }

    /// Checks that resuming is refused as [`Error::Resume`] with a cause that begins with `cause`.
    fn refused(&self, cause: &str) -> TestResult {
        match self.resume() {
            Err(Error::Resume { source, .. }) if source.to_string().starts_with(cause) => Ok(()),
            other => Err(format!("expected {cause}, got {:?}", other.map(drop)).into()),
        }
    }
}

/// Step in the middle of fade-outs, with units pruned before.
const MIDDLE: u64 = 5;

#[test]
fn checkpoint_with_a_flipped_bit_in_any_file_is_passed_over_and_named() -> TestResult {
    let _alone = alone();
    let saved = Saved::after(MIDDLE)?;
    for file in FILES {
        let bytes = saved.read(file)?;
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        saved.write(file, &damaged)?;
        let resumed = Checkpoints::new(saved.root.path(), 2)
            .resume::<VitConfig>(test_device())?
            .ok_or("nothing")?;
        assert_eq!(resumed.search.steps_done(), MIDDLE - 1, "{file}");
        let (path, reason) = &resumed.skipped[0];
        assert!(*path == saved.newest() && reason.to_string().contains(file), "{file}: {reason}");
        saved.write(file, &bytes)?;
    }
    assert_eq!(saved.resume()?.steps_done(), MIDDLE);
    Ok(())
}

#[test]
fn checkpoint_with_any_bit_flipped_is_refused() -> TestResult {
    let _alone = alone();
    let saved = Saved::after(MIDDLE)?;
    let flips = (0..FILES.len(), any::<prop::sample::Index>(), 0..8u32);
    proptest!(config(2000)?, |((file, place, bit) in flips)| {
        let refused = |saved: &Saved| -> TestResult {
            let bytes = saved.read(FILES[file])?;
            let (mut damaged, at) = (bytes.clone(), place.index(bytes.len()));
            damaged[at] ^= 1 << bit;
            saved.write(FILES[file], &damaged)?;
            let refused = saved.resume().is_err();
            saved.write(FILES[file], &bytes)?;
            refused.then_some(()).ok_or_else(|| format!("{}: byte {at}", FILES[file]).into())
        };
        in_words(refused(&saved))?;
    });
    Ok(())
}

/// Resumes a mutated state; where it is not refused, the search makes a step. No fault is found by
/// libtorch.
fn survives(saved: &Saved, state: &Value, mutation: &Mutation) -> TestResult {
    let mut mutated = state.clone();
    let place = mutation.apply(&mut mutated);
    if mutated == *state {
        return Ok(());
    }
    saved.write(STATE, &serde_json::to_vec(&mutated)?)?;
    renew_checksums(&saved.newest())?;
    let refused = |error: Error| -> TestResult {
        match found_by_libtorch(&error) {
            true => {
                Err(format!("{place}: {error}, {:?}", std::error::Error::source(&error)).into())
            }
            false => Ok(()),
        }
    };
    let mut search = match saved.resume() {
        Ok(search) => search,
        Err(error) => return refused(error),
    };
    match search.is_done() {
        true => Ok(()),
        false => search.step(&[batch(0)?], &mut ()).or_else(refused),
    }
}

#[test]
fn checkpoint_with_a_mutated_state_is_refused_or_steps() -> TestResult {
    let _alone = alone();
    for steps in [MIDDLE, 9] {
        let saved = Saved::after(steps)?;
        let state = saved.state()?;
        saved.resume()?.step(&[batch(steps)?], &mut ())?;
        let before = peak_memory();
        proptest!(config(150)?, |(mutation in mutations())| {
            in_words(survives(&saved, &state, &mutation))?;
        });
        if let (Some(before), Some(after)) = (before, peak_memory()) {
            assert!(after < before + (256 << 20), "{before} bytes, then {after}");
        }
    }
    Ok(())
}

#[test]
fn checkpoint_with_moments_of_another_shape_or_type_is_refused() -> TestResult {
    let _alone = alone();
    let name = "first/head.weight";
    for (change, cause) in [
        (
            (|t| t.transpose(0, 1).contiguous()) as fn(&Tensor) -> Tensor,
            "resume: shape of first/head.weight",
        ),
        (|t| t.to_kind(Kind::Double), "type of first/head.weight: got f64, expected f32"),
        (|t| t * f64::NAN, "first/head.weight of the checkpoint holds a NaN"),
    ] {
        let saved = Saved::after(MIDDLE)?;
        saved.retensor(|tensors| drop(tensors.insert(name.into(), change(&tensors[name]))))?;
        saved.refused(cause)?;
    }
    let saved = Saved::after(MIDDLE)?;
    saved.retensor(|tensors| drop(tensors.remove(name)))?;
    saved.refused("unknown tensor first/head.weight")
}

#[test]
fn checkpoint_with_one_origin_fewer_is_refused() -> TestResult {
    let _alone = alone();
    let saved = Saved::after(MIDDLE)?;
    saved.edit(|state| {
        state["dimensions"][0]["origin"].as_array_mut().map(Vec::pop);
    })?;
    saved.refused("number of units of embed in the dense network: got")
}

#[test]
fn checkpoint_with_more_updates_than_steps_is_refused() -> TestResult {
    let _alone = alone();
    let saved = Saved::after(MIDDLE)?;
    let whole = saved.state()?;
    saved.edit(|state| state["updates"]["head.weight"] = json!(MIDDLE + 1))?;
    saved.refused("updates of head.weight: got 6, expected at most 5")?;
    saved.edit(|state| {
        *state = whole;
        state["ema_updates"] = json!(MIDDLE + 1);
    })?;
    saved.refused("updates of the EMA: got 6, expected at most 5")
}

#[test]
fn checkpoint_that_claims_huge_sizes_is_refused_before_memory_is_taken() -> TestResult {
    let _alone = alone();
    let saved = Saved::after(MIDDLE)?;
    let whole = saved.state()?;
    let before = peak_memory();
    for (field, value) in [("embed_dim", 1_048_576), ("image_size", 65_536), ("classes", 1 << 20)] {
        // In one place, and in both, so that only the tensors contradict it.
        for both in [false, true] {
            let mut state = whole.clone();
            state["architecture"][field] = json!(value);
            if both {
                state["origin"]["architecture"][field] = json!(value);
            }
            saved.write(STATE, &serde_json::to_vec(&state)?)?;
            renew_checksums(&saved.newest())?;
            assert!(matches!(saved.resume(), Err(Error::Resume { .. })), "{field}");
        }
    }
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after < before + (64 << 20), "{before} bytes, then {after}");
    }
    Ok(())
}

#[test]
fn checkpoint_of_an_older_version_is_refused_by_its_version() -> TestResult {
    let _alone = alone();
    let saved = Saved::after(MIDDLE)?;
    saved.edit(|state| state["version"] = json!(2))?;
    fs::remove_file(saved.newest().join("checksums.sfv"))?;
    assert_refused!(
        saved.resume(),
        Error::File { path, reason }
            if path == saved.newest().join(STATE) && reason == "version: got 2, expected 3"
    );
    Ok(())
}
