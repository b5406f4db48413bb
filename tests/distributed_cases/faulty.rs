//! Searches of a group in which something goes wrong on one rank.

use super::ranks::say;
use super::searches::{build, builder, share_of, vit, BATCH};
use super::TestResult;
use once_for_both::batch::{Batch, Targets};
use once_for_both::distributed::{Collective, Share};
use once_for_both::error::DistributedError;
use once_for_both::search::{Event, NonFiniteAction, Outcome, Search, SearchOptions};
use once_for_both::Error;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use tch::{Device, Tensor};

/// Runs a search with a fault.
pub fn run(fault: &str, folder: &Path, group: &Arc<dyn Collective>) -> TestResult {
    let odd = group.rank() == 1;
    match fault {
        "seed" => {
            let builder = builder("default", group, |options| options.seed += u64::from(odd))?;
            Ok(builder.build().map(drop)?)
        }
        "weights" => {
            let mut dense = Search::training(vit(), 1).build()?.supernet().raw_weights();
            if let Some(bias) = dense.get_mut("head.bias").filter(|_| odd) {
                *bias = bias.f_add_scalar(1e-3)?;
            }
            let builder = Search::training(vit(), 4).weights(&dense);
            Ok(builder.distributed(Arc::clone(group)).build().map(drop)?)
        }
        "drift" => {
            let mut search = build("default", group)?;
            steps(&mut search, 3, group)?;
            if odd {
                let mut bias = search.supernet().raw_weights()["head.bias"].shallow_clone();
                let _ = tch::no_grad(|| bias.f_add_scalar_(1e-6))?;
            }
            steps(&mut search, 1, group)
        }
        "share" => {
            Share::of(&**group).places(BATCH as usize - 1)?;
            Ok(())
        }
        "source" => {
            let mut search = build("default", group)?;
            let mut source = |number| match number == 2 && odd {
                true => Err(Error::File { path: "shard-7.tar".into(), reason: "torn".into() }),
                false => share_of(number, Share::of(&**group)),
            };
            Ok(search.train(&mut source, &mut ())?)
        }
        "whole" => {
            let mut search = build("training", group)?;
            let ended = search.train(&mut |number| share_of(number, Share::WHOLE), &mut ());
            assert_eq!(search.steps_done(), 0, "steps before the refusal");
            Ok(ended?)
        }
        "images" => {
            let mut search = build("default", group)?;
            let count = |number| BATCH / 2 - i64::from(number == 1 && odd);
            let mut run = search.run_in(folder)?.checkpoint_every(1);
            let mut source = |number| some(number, group.rank(), count(number));
            let ended = run.train(&mut source).map(drop);
            assert_eq!(run.search().steps_done(), 1, "steps before the refusal");
            Ok(ended?)
        }
        // Three ranks: the mean is that of an equal share.
        "three_shares" => {
            let mut search = build("default", group)?;
            let count = [3, 5, 4][group.rank()];
            let mut run = search.run_in(folder)?.checkpoint_every(1);
            Ok(run.train(&mut |number| some(number, group.rank(), count)).map(drop)?)
        }
        "images_without_run" => {
            let mut search = build("training", group)?;
            let count = if odd { 5 } else { 3 };
            let mut source = |number| some(number, group.rank(), count);
            let ended = search.train(&mut source, &mut ());
            assert_eq!(search.steps_done(), 0, "steps before the refusal");
            Ok(ended?)
        }
        "device" => {
            let device = if odd { Device::Cuda(0) } else { Device::Cpu };
            Ok(builder("default", group, |_| ())?.device(device).build().map(drop)?)
        }
        "nccl" => {
            let mut search = build("default", group)?;
            let mut source = |number| match number == 2 && odd {
                true => {
                    let (device, reason) = ("cuda:1".into(), "no library".into());
                    Err(DistributedError::Nccl { device, reason }.into())
                }
                false => share_of(number, Share::of(&**group)),
            };
            Ok(search.train(&mut source, &mut ())?)
        }
        "rollback" | "emit" => listener(fault, folder, group),
        "nan" => nan(group),
        "stop" => stop(folder, group),
        "unwritable" => unwritable(folder, group),
        _ => Err(format!("unknown fault {fault}").into()),
    }
}

/// So many images of a batch, others on every rank.
fn some(number: u64, rank: usize, count: i64) -> once_for_both::Result<Batch> {
    let Batch { images, targets } = share_of(number, Share::WHOLE)?;
    let Targets::Classes(classes) = targets else { return Ok(Batch { images, targets }) };
    let some = |all: Tensor| all.f_narrow(0, rank as i64, count);
    Ok(Batch::classes(some(images)?, some(classes)?))
}

/// The listener of rank 0 fails at a rollback, or at an event of the caller's.
fn listener(fault: &str, folder: &Path, group: &Arc<dyn Collective>) -> TestResult {
    let sensitive = |options: &mut SearchOptions| options.training.max_skipped_in_a_row = 1;
    let mut search = builder("default", group, sensitive)?.build()?;
    let main = group.is_main();
    let fails = move |event: &Event| match event {
        Event::NonFinite { action: NonFiniteAction::RolledBack, .. } | Event::Evaluated { .. }
            if main =>
        {
            Err(Error::File { path: "events".into(), reason: "disk full".into() })
        }
        _ => Ok(()),
    };
    let mut source = |number: u64| {
        let Batch { images, targets } = share_of(number, Share::of(&**group))?;
        let bad = number == 2 && fault == "rollback";
        let images = if bad { images.f_mul_scalar(f64::NAN)? } else { images };
        Ok(Batch { images, targets })
    };
    let mut run = search.run_in(folder)?.checkpoint_every(1).on_event(fails);
    run.train_until(2, &mut source)?;
    if fault == "emit" && main {
        run.emit(&Event::Evaluated { step: 2, top1: 0.5 })?;
    }
    Ok(run.train(&mut source).map(drop)?)
}

/// Makes so many steps.
fn steps(
    search: &mut Search<once_for_both::models::VitConfig>,
    count: u64,
    group: &Arc<dyn Collective>,
) -> TestResult {
    for _ in 0..count {
        let batch = share_of(search.steps_done(), Share::of(&**group))?;
        search.step(&[batch], &mut ())?;
    }
    Ok(())
}

/// One rank's images of a step hold a NaN: every rank says what it skipped.
fn nan(group: &Arc<dyn Collective>) -> TestResult {
    let mut search = build("default", group)?;
    let share = Share::of(&**group);
    let mut source = |number: u64| {
        let Batch { images, targets } = share_of(number, share)?;
        let bad = number == 2 && group.rank() == 1;
        let images = if bad { images.f_mul_scalar(f64::NAN)? } else { images };
        Ok(Batch { images, targets })
    };
    let mut told = |event: &Event| {
        if let Event::NonFinite { step, skipped, first, .. } = event {
            say(&format!("step {step}: {skipped} skipped: {}", first.join(", ")));
        }
        Ok(())
    };
    search.train(&mut source, &mut told)?;
    let bias: Tensor = search.supernet().raw_weights()["head.bias"].shallow_clone();
    say(&format!("{:?}", Vec::<f32>::try_from(bias.f_detach()?)?));
    Ok(())
}

/// One rank is told to stop.
fn stop(folder: &Path, group: &Arc<dyn Collective>) -> TestResult {
    let mut search = build("default", group)?;
    let (stop, share) = (AtomicBool::new(group.rank() == 1), Share::of(&**group));
    let mut run = search.run_in(folder)?.stop_when(&stop);
    let outcome = run.train(&mut |number| share_of(number, share))?;
    assert_eq!(outcome, Outcome::Stopped);
    say(&format!("stopped after {}", run.search().steps_done()));
    Ok(())
}

/// The folder of the checkpoints becomes a file.
fn unwritable(folder: &Path, group: &Arc<dyn Collective>) -> TestResult {
    let mut search = build("default", group)?;
    let share = Share::of(&**group);
    let checkpoints = folder.join("checkpoints");
    let mut run = search.run_in(folder)?.checkpoint_every(2);
    let mut source = |number| {
        if number == 3 && group.is_main() {
            std::fs::remove_dir_all(&checkpoints)
                .and_then(|()| std::fs::write(&checkpoints, "full"))
                .map_err(|source| Error::Io {
                    action: "write",
                    path: checkpoints.clone(),
                    source,
                })?;
        }
        share_of(number, share)
    };
    Ok(run.train(&mut source).map(drop)?)
}
