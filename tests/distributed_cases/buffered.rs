//! Searches of a group whose network has buffers: running statistics, integers and flags.

use super::indexed_network::{Indexed, BUFFERS};
use super::late_network::{Late, LATE_BUFFERS};
use super::ranks::{say, start_all, Remains};
use super::recipe_network::{recipe, Attention, Mlp, CLASSES};
use super::searches::share_of;
use super::TestResult;
use once_for_both::batch::{Batch, Targets};
use once_for_both::cost::Budget;
use once_for_both::distributed::{Collective, Share};
use once_for_both::models::Architecture;
use once_for_both::search::{Search, SearchBuilder, SearchOptions};
use std::path::Path;
use std::sync::Arc;
use tch::Kind;

/// This rank's images of a step, with a NaN on the last rank in step 1.
fn source(number: u64, group: &dyn Collective) -> once_for_both::Result<Batch> {
    let Batch { images, targets } = share_of(number, Share::of(group))?;
    let bad = number == 1 && group.rank() + 1 == group.world_size();
    let images = if bad { images.f_mul_scalar(f64::NAN)? } else { images };
    match targets {
        Targets::Classes(classes) => Ok(Batch::classes(images, classes.f_remainder(CLASSES)?)),
        targets => Ok(Batch { images, targets }),
    }
}

fn builder<A: Architecture>(network: A, group: &Arc<dyn Collective>) -> SearchBuilder<A> {
    let options = SearchOptions::new(8, 6).seed(3).with(|own| own.pmim = None);
    let builder = Search::of(network).budget(Budget::macs_share(0.6)).options(options);
    builder.distributed(Arc::clone(group))
}

/// Begins or resumes a run, and goes on to step 3. Every rank says the buffers with these names before and after; those
/// of a new search are turned round first.
fn train<A: Architecture>(
    network: A,
    names: &[&str],
    folder: &Path,
    group: &Arc<dyn Collective>,
) -> TestResult {
    let mut search = builder(network, group).build_or_resume(folder)?.search;
    let weights = search.supernet().raw_weights();
    for name in names.iter().filter(|_| search.steps_done() == 0) {
        let turned = weights[*name].f_flip([0])?;
        weights[*name].shallow_clone().f_copy_(&turned)?;
    }
    let say_buffers = |search: &Search<A>| -> TestResult {
        let weights = search.supernet().raw_weights();
        let numbers = |name: &&str| Vec::<f64>::try_from(weights[*name].f_to_kind(Kind::Double)?);
        let own: Vec<_> = names.iter().map(numbers).collect::<Result<_, _>>()?;
        say(&format!("{own:?}"));
        Ok(())
    };
    say_buffers(&search)?;
    let mut run = search.run_in(folder)?.checkpoint_every(1);
    run.train_until(3, &mut |number| source(number, &**group))?;
    say_buffers(run.search())
}

/// Runs a case as one rank.
pub fn run(case: &str, folder: &Path, group: &Arc<dyn Collective>) -> TestResult {
    match case {
        "batch_norm" => {
            let names = ["bn.running_mean", "bn.running_var"];
            train(recipe(Attention::Grouped, Mlp::BatchNorm), &names, folder, group)
        }
        "late" => {
            let network = Late(recipe(Attention::Separate, Mlp::SwiGlu));
            train(network, &LATE_BUFFERS, folder, group)
        }
        _ => {
            let network = Indexed(recipe(Attention::Separate, Mlp::SwiGlu));
            train(network, &BUFFERS.map(|(name, _)| name), folder, group)
        }
    }
}

/// What all of two ranks say of their buffers: before and after the steps.
fn said(case: &str, folder: &Path) -> TestResult<[String; 2]> {
    let case = format!("buffered {case} {}", folder.display());
    let ended = start_all(&case, 2, 60_000)?.into_iter().map(|rank| rank.end());
    let ended: Vec<Remains> = ended.collect::<TestResult<_>>()?;
    let [main, other] = [ended[0].success(), ended[1].success()];
    assert_eq!(main, other);
    Ok(<[String; 2]>::try_from(main.to_vec()).map_err(|said| format!("{} lines", said.len()))?)
}

#[test]
fn statistics_of_a_batch_norm_are_finite_and_the_same_on_all_ranks() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [before, after] = said("batch_norm", folder.path())?;
    assert!(before != after && !after.contains("NaN"), "{before}: {after}");
    Ok(())
}

/// Step 0 writes one buffer, step 1 is skipped, and step 2 writes both.
#[test]
fn buffer_that_the_first_step_did_not_write_is_finite_and_the_same_on_all_ranks() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [before, after] = said("late", folder.path())?;
    assert_eq!(before, "[[0.0], [0.0]]");
    assert!(after != before && !after.contains("[0.0]") && !after.contains("NaN"), "{after}");
    Ok(())
}

#[test]
fn ranks_resume_a_network_with_integers_and_flags() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [before, after] = said("indexed", folder.path())?;
    assert!(before.starts_with("[[0.0, 1.0, 2.0"), "{before}");
    assert_eq!(before, after);
    assert_eq!(said("indexed", folder.path())?, [before, after]);
    Ok(())
}
