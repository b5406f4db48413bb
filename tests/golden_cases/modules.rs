//! `modules.*`: bi-masks and one-hot losses with their gradients.

use crate::support::{
    active_set, gradients, leaf, load_json, load_tensors, numbers, run_cases, tensor, Tensors,
    TestResult, Tolerance,
};
use once_for_both::components::{survival_by_rank, BiMask, RankedBiMask, UnitState};
use once_for_both::components::{AdaptiveOneHotLoss, EntropyVarianceLoss};
use once_for_both::space::{ActiveSet, Candidates, DimensionKind};
use serde::Deserialize;
use tch::Tensor;

/// All cases of `modules.json`; a kind that is not listed here is an error.
#[derive(Deserialize)]
pub struct Modules {
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Case {
    Flat {
        units: i64,
        widths: Vec<i64>,
        #[serde(flatten)]
        common: MaskCase,
    },
    Grid {
        heads: i64,
        channels: i64,
        head_counts: Vec<i64>,
        channel_widths: Vec<i64>,
        #[serde(flatten)]
        common: MaskCase,
    },
    Pmim(super::pmim::PmimCase),
}

#[derive(Deserialize, Clone)]
pub struct MaskCase {
    name: String,
    lambda_: f64,
    importance_weight: f64,
}

/// Sums of positive numbers: no cancellation, so a share of each number.
const MASK: Tolerance = Tolerance::relative(1e-6);
/// Losses add numbers of both signs, but stay of the size of the largest.
const LOSS: Tolerance = Tolerance::relative(1e-5);
/// Gradients cancel: a share of the largest of each tensor.
const GRADIENT: f64 = 1e-5;

/// One case with its tensors, all shaped like grids.
struct Prepared<'a> {
    name: &'a str,
    tensors: &'a Tensors,
    active: ActiveSet,
    score: Tensor,
    alpha: Tensor,
    importance_weight: f64,
    lambda: f64,
    kind: DimensionKind,
}

impl<'a> Prepared<'a> {
    fn new(
        candidates: Candidates,
        kind: DimensionKind,
        common: &'a MaskCase,
        tensors: &'a Tensors,
    ) -> TestResult<Self> {
        let MaskCase { name, lambda_, importance_weight } = common;
        let stored = |field: &str| tensor(tensors, &format!("{name}.{field}"));
        Ok(Self {
            active: active_set(&candidates, stored("active")?)?,
            score: leaf(&stored("score")?.f_view(candidates.unit_shape())?),
            alpha: leaf(&stored("alpha")?.f_view(candidates.shape())?),
            name,
            tensors,
            importance_weight: *importance_weight,
            lambda: *lambda_,
            kind,
        })
    }

    fn state(&self) -> UnitState<'_> {
        UnitState {
            score: &self.score,
            alpha: &self.alpha,
            active: &self.active,
            pruned_importance: None,
        }
    }

    /// Compares with a stored tensor, which may be flat where ours has one head.
    fn close(&self, field: &str, actual: &Tensor, tolerance: Tolerance) -> TestResult {
        let stored = tensor(self.tensors, &format!("{}.{field}", self.name))?;
        let flat = actual.size().len() == 2 && actual.size()[0] == 1 && stored.dim() == 1;
        let stored = if flat { stored.unsqueeze(0) } else { stored.shallow_clone() };
        tolerance.check(field, actual, &stored)
    }

    fn close_gradient(&self, field: &str, actual: &Tensor) -> TestResult {
        let stored = tensor(self.tensors, &format!("{}.{field}", self.name))?;
        self.close(field, actual, Tolerance::of_scale(GRADIENT, stored)?)
    }

    fn check_mask(&self) -> TestResult {
        let by_rank = survival_by_rank(&self.alpha, &self.active)?;
        self.close("sparsity_by_rank", &by_rank, MASK)?;
        let mask = RankedBiMask.mask(self.state(), self.lambda)?;
        self.close("importance", &mask.importance, MASK)?;
        self.close("sparsity", &mask.sparsity, MASK)?;
        self.close("mask", &mask.mask, MASK)?;
        let upstream = tensor(self.tensors, &format!("{}.upstream", self.name))?;
        let loss = (mask.mask.f_view_as(upstream)? * upstream).f_sum(None)?;
        let found = gradients(&loss, &[&self.score, &self.alpha])?;
        self.close_gradient("grad_score", &found[0])?;
        self.close_gradient("grad_alpha", &found[1])
    }

    fn check_loss(&self, field: &str, loss: &Tensor) -> TestResult {
        let loss_field = format!("loss_{field}");
        self.close(&loss_field, &loss.f_view([1])?, LOSS)?;
        let found = gradients(loss, &[&self.score, &self.alpha])?;
        self.close_gradient(&format!("{loss_field}.grad_alpha"), &found[1])?;
        let score_field = format!("{loss_field}.grad_score");
        if self.tensors.contains_key(&format!("{}.{score_field}", self.name)) {
            return self.close_gradient(&score_field, &found[0]);
        }
        let moved = numbers(&found[0])?.iter().any(|&gradient| gradient != 0.0);
        if moved {
            return Err(format!("{loss_field} has a gradient in the score").into());
        }
        Ok(())
    }

    fn check_losses(&self) -> TestResult {
        let full = EntropyVarianceLoss {
            attention_weight: self.importance_weight,
            other_weight: self.importance_weight,
            ..EntropyVarianceLoss::paper()
        };
        full.check()?;
        let entropy = EntropyVarianceLoss { tangent: false, ..full };
        self.check_loss("entropy", &entropy.alpha_loss(&self.alpha, &self.active)?)?;
        self.check_loss("entropy_var", &full.alpha_loss(&self.alpha, &self.active)?)?;
        let importance = RankedBiMask.importance(&self.score)?;
        self.check_loss("full", &full.loss(self.kind, &self.alpha, &self.active, &importance)?)
    }
}

fn run(case: &Case, tensors: &Tensors, check: impl Fn(&Prepared) -> TestResult) -> TestResult {
    let (candidates, kind, common) = match case {
        Case::Flat { units, widths, common } => {
            (Candidates::flat(*units, widths.clone())?, DimensionKind::Hidden, common)
        }
        Case::Grid { heads, channels, head_counts, channel_widths, common } => {
            let candidates =
                Candidates::grid(*heads, *channels, head_counts.clone(), channel_widths.clone())?;
            (candidates, DimensionKind::Attention, common)
        }
        Case::Pmim(_) => return Err("not a mask".into()),
    };
    check(&Prepared::new(candidates, kind, common, tensors)?)
}

/// Flat and grid cases with their names.
fn mask_cases(modules: &Modules) -> Vec<(&str, &Case)> {
    let named = modules.cases.iter().filter_map(|case| match case {
        Case::Flat { common, .. } | Case::Grid { common, .. } => Some((common.name.as_str(), case)),
        Case::Pmim(_) => None,
    });
    named.collect()
}

fn run_masks(check: impl Fn(&Prepared) -> TestResult) -> TestResult {
    let (modules, tensors): (Modules, _) = (load_json("modules")?, load_tensors("modules")?);
    run_cases(mask_cases(&modules), |case| case.0.to_owned(), |case| run(case.1, &tensors, &check));
    Ok(())
}

#[test]
fn bi_masks_and_their_gradients() -> TestResult {
    run_masks(|case| case.check_mask())
}

#[test]
fn one_hot_losses_and_their_gradients() -> TestResult {
    run_masks(|case| case.check_losses())
}
