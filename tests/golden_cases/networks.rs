//! Networks with the weights of a golden file.

use crate::support::{tensor, test_device, Tensors, TestResult};
use once_for_both::models::Architecture;
use std::collections::BTreeSet;
use tch::nn;

/// Share of the largest feature or logit by which any of them may differ.
pub(super) const SHARE: f64 = 1e-5;

/// Builds a network and puts timm's weights in; both must have the very same names.
pub(super) fn load<A: Architecture>(
    config: &A,
    tensors: &Tensors,
) -> TestResult<(nn::VarStore, A::Network)> {
    let store = nn::VarStore::new(test_device());
    let network = config.build(&store.root())?;
    let mut variables = store.variables();
    let ours: BTreeSet<&str> = variables.keys().map(String::as_str).collect();
    let timm: BTreeSet<&str> =
        tensors.keys().map(String::as_str).filter(|name| !name.starts_with("golden.")).collect();
    if ours != timm {
        let (more, less) = (&ours - &timm, &timm - &ours);
        return Err(format!("only ours: {more:?}; only timm's: {less:?}").into());
    }
    for (name, variable) in &mut variables {
        let weight = tensor(tensors, name)?;
        if variable.size() != weight.size() {
            return Err(format!("{name}: {:?}, timm has {weight:?}", variable.size()).into());
        }
        tch::no_grad(|| variable.f_copy_(weight))?;
    }
    Ok((store, network))
}
