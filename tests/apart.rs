//! Queries and keys with a width of their own, apart from values, from the search space to the artifact.

#[path = "apart_cases/function.rs"]
mod function;
#[path = "apart_cases/pruning.rs"]
mod pruning;
#[path = "apart_cases/run.rs"]
mod run;
#[path = "apart_cases/search.rs"]
mod search;
mod support;

use once_for_both::models::{Architecture, SwinConfig};
use once_for_both::subnet::Subnet;
use once_for_both::supernet::Weights;
use support::{test_device, TestResult};
use tch::nn;

/// Two stages, the first with shifted windows.
fn swin() -> SwinConfig {
    SwinConfig::uniform(16, &[2, 2], 2).input(16, 3, 2).window(4).classes(5)
}

/// A network with random biases and norms.
fn network<A: Architecture>(architecture: &A) -> TestResult<Subnet<A>> {
    let store = nn::VarStore::new(test_device());
    architecture.build(&store.root())?;
    let mut weights = Weights::new();
    // In order of their names, so that a seed gives the same network again.
    for (name, own) in store.variables().into_iter().collect::<Weights>() {
        let noise = own.f_randn_like()?.f_mul_scalar(0.2)?;
        weights.insert(name, tch::no_grad(|| own.f_add(&noise))?);
    }
    Ok(Subnet::new(architecture.clone(), &weights, test_device())?)
}
