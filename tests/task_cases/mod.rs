//! Tests of tasks, and what they share.

mod losses;
mod own;
mod refusals;
mod saved;
mod searches;

use crate::support::{from_numbers, test_device, TestResult};
use once_for_both::components::{
    cross_entropy, Contrastive, ContrastiveLoss, FunctionTask, Task, TaskInputs,
};
use once_for_both::cost::Budget;
use once_for_both::models::VitConfig;
use once_for_both::search::{Search, SearchBuilder, SearchOptions};
use once_for_both::supernet::Weights;
use once_for_both::Error;
use tch::{Reduction, Tensor};

/// Features of an image of the tower below, and texts.
pub const WIDTH: i64 = 16;
pub const TEXTS: i64 = 5;

/// Embeddings of five texts, of any length.
pub fn texts() -> TestResult<Tensor> {
    let numbers: Vec<f64> =
        (0..TEXTS * WIDTH).map(|at| ((at * 37 % 23) as f64 - 11.0) / 7.0).collect();
    from_numbers(&numbers, &[TEXTS, WIDTH])
}

pub fn contrastive(loss: ContrastiveLoss) -> TestResult<Contrastive> {
    Ok(Contrastive::new(&texts()?, 0.5, loss)?)
}

/// A tower whose outputs are features of an image, and its weights.
pub fn tower() -> TestResult<(VitConfig, Weights)> {
    let vit = VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(WIDTH);
    let dense = Search::training(vit.clone(), 1).device(test_device()).build()?;
    Ok((vit, dense.supernet().raw_weights()))
}

pub fn search_of(
    (vit, weights): &(VitConfig, Weights),
    task: impl Task + 'static,
    options: SearchOptions,
) -> SearchBuilder<VitConfig> {
    let search = Search::of(vit.clone()).weights(weights).budget(Budget::macs_share(0.6));
    search.options(options).task(task).device(test_device())
}

pub fn invalid(name: &str) -> Error {
    Error::Invalid { name: name.into(), expected: "one".into(), actual: "none".into() }
}

pub fn own_task(name: &str) -> FunctionTask {
    FunctionTask::new(name, |inputs: &TaskInputs| {
        cross_entropy(inputs.outputs, &inputs.batch.targets, 0.0, Reduction::Mean)
    })
}
