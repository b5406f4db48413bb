//! `search_trace.*`: optimiser steps of a tiny ViT under search, from start to end.

use crate::support::test_device;
use crate::support::{load_json, load_tensors, numbers, tensor, Tensors, TestResult, Tolerance};
use once_for_both::batch::Batch;
use once_for_both::components::{ComponentId, Components, PmimRegularizer, WindowedPixels};
use once_for_both::cost::Budget;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::optim::AdamWOptions;
use once_for_both::schedule::{CosineSchedule, LinearRamp};
use once_for_both::search::{Event, PmimOptions, Search, SearchOptions};
use once_for_both::space::{Candidates, DimensionKind, SearchSpace};
use once_for_both::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Description {
    #[serde(flatten)]
    network: super::vit::Description,
    embed_widths: Vec<i64>,
    head_counts: Vec<i64>,
    channel_widths: Vec<i64>,
    hidden_widths: Vec<i64>,
    steps: i64,
    loss_columns: Vec<String>,
    weights: BTreeMap<String, f64>,
    optimizer: Optimizer,
}

#[derive(Deserialize)]
struct Optimizer {
    lr: f64,
    eps: f64,
    weight_decay: f64,
    betas: [f64; 2],
    alpha_betas: [f64; 2],
}

impl Description {
    fn config(&self) -> VitConfig {
        self.network.config(false)
    }

    /// The default space, with hidden layers of at least a quarter.
    fn space(&self) -> Result<SearchSpace> {
        self.config().space()?.at_least_share(DimensionKind::Hidden, 0.25)
    }

    /// The trace's λ, which falls by the same amount every step, as a schedule.
    fn lambda(&self, lambda: &[f64]) -> LinearRamp {
        let fall = (lambda[0] - lambda[lambda.len() - 1]) / (lambda.len() - 1) as f64;
        let steps = lambda.len() as u64;
        LinearRamp::new(lambda[0], lambda[0] - fall * steps as f64, steps)
    }

    fn options(&self, lambda: LinearRamp) -> SearchOptions {
        let constant = CosineSchedule {
            peak: self.optimizer.lr,
            floor: 1.0,
            warmup_steps: 0,
            total_steps: self.steps as u64,
        };
        let group = |betas: [f64; 2]| AdamWOptions {
            beta1: betas[0],
            beta2: betas[1],
            eps: self.optimizer.eps,
            weight_decay: self.optimizer.weight_decay,
        };
        // One step more than the trace has, so that nothing is decided within it.
        let steps = self.steps as u64 + 1;
        let mut options = SearchOptions::paper(steps, steps);
        options.lambda = lambda;
        // Any ratio above zero: the trace brings its own token masks.
        options.pmim = Some(PmimOptions::paper(LinearRamp::new(0.25, 0.25, 0)));
        options.one_hot.weight = self.weights["attention"];
        options.budget.weight = self.weights["budget"];
        options.pruning.interval = steps;
        options.log_interval = 1;
        options.optimiser.weight_rate = constant;
        options.optimiser.score_rate = Some(self.optimizer.lr);
        options.optimiser.alpha_rate = Some(self.optimizer.lr);
        options.optimiser.weights = group(self.optimizer.betas);
        options.optimiser.alpha = group(self.optimizer.alpha_betas);
        options
    }
}

/// Our name of a tensor of the trace.
fn ours(name: &str) -> String {
    let renamed = [
        ("mask_token", "pmim.mask_token"),
        ("decoder.0.", "pmim.decoder."),
        ("patch_embed.score", "embed.score"),
        ("patch_embed.alpha", "embed.alpha"),
    ];
    let found = renamed.iter().find(|(theirs, _)| name.starts_with(theirs));
    found.map_or_else(|| name.into(), |(theirs, ours)| name.replacen(theirs, ours, 1))
}

/// Tensors under a prefix, by our name.
fn under(tensors: &Tensors, prefix: &str) -> Tensors {
    let found =
        tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    found.map(|(name, tensor)| (ours(name), tensor.shallow_clone())).collect()
}

fn search(description: &Description, tensors: &Tensors) -> TestResult<Search<VitConfig>> {
    let lambda = description.lambda(&numbers(tensor(tensors, "lambda")?)?);
    let (config, init) = (description.config(), under(tensors, "init/"));
    let dense = config.cost_model().dense_cost(once_for_both::cost::Metric::Macs)?;
    let builder = Search::of(config)
        .space(description.space()?)
        .components(Components::paper())
        .options(description.options(lambda))
        .pmim(TracedMasks::new(tensor(tensors, "token_masks")?)?)
        .budget(Budget::macs(dense));
    let mut search = builder.device(test_device()).build()?;
    let mut weights = under(tensors, "init/");
    weights.retain(|name, _| !name.ends_with(".score") && !name.ends_with(".alpha"));
    search.supernet_mut().load_weights(&weights)?;
    for state in search.supernet_mut().states_mut() {
        let (score, alpha) = (state.score_name(), state.alpha_name());
        state.set_score(tensor(&init, &score)?)?;
        state.set_alpha(tensor(&init, &alpha)?)?;
    }
    Ok(search)
}

fn batch(tensors: &Tensors, step: i64) -> TestResult<Batch> {
    let labels = tensor(tensors, "labels")?.f_get(step)?.to_kind(Kind::Int64);
    Ok(Batch::classes(tensor(tensors, "images")?.f_get(step)?, labels))
}

/// The paper's PMIM with the token masks of the trace, one a step.
#[derive(Debug)]
struct TracedMasks(Mutex<std::vec::IntoIter<Tensor>>);

impl TracedMasks {
    fn new(masks: &Tensor) -> TestResult<Self> {
        Ok(Self(Mutex::new(masks.f_unbind(0)?.into_iter())))
    }
}

impl PmimRegularizer for TracedMasks {
    fn id(&self) -> ComponentId {
        ComponentId::new("traced_masks")
    }

    fn token_mask(
        &self,
        _batch: i64,
        _tokens: i64,
        _ratio: f64,
        _device: Device,
    ) -> Result<Tensor> {
        let mut masks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let exhausted = || Error::Unsupported {
            model: "the trace".into(),
            operation: "more steps than it has token masks",
        };
        masks.next().ok_or_else(exhausted)
    }

    fn targets(&self, images: &Tensor) -> Result<Tensor> {
        WindowedPixels::paper().targets(images)
    }

    fn loss(
        &self,
        targets: &Tensor,
        prediction: &Tensor,
        mask: &Tensor,
        rows: i64,
    ) -> Result<Tensor> {
        WindowedPixels::paper().loss(targets, prediction, mask, rows)
    }
}

#[test]
fn default_search_space_from_a_quarter_on_equals_that_of_the_trace() -> TestResult {
    let description: Description = load_json("search_trace")?;
    let space = description.space()?;
    let attention = Candidates::grid(
        description.network.heads,
        description.network.dim / description.network.heads,
        description.head_counts,
        description.channel_widths,
    )?;
    let hidden = Candidates::flat(
        description.network.mlp_ratio * description.network.dim,
        description.hidden_widths,
    )?;
    assert_eq!(
        space.dimensions[0].candidates,
        Candidates::flat(description.network.dim, description.embed_widths)?
    );
    assert_eq!(space.dimensions[1].candidates, attention);
    assert_eq!(space.dimensions[2].candidates, hidden);
    Ok(())
}

#[test]
fn first_step_of_the_trace_gives_its_gradients_and_logits() -> TestResult {
    let (description, tensors) =
        (load_json::<Description>("search_trace")?, load_tensors("search_trace")?);
    let search = search(&description, &tensors)?;
    let gradients = search.gradients(&[batch(&tensors, 0)?])?.parameters()?;
    let expected = under(&tensors, "grad0/");
    assert!(!expected.is_empty());
    for (name, expected) in &expected {
        let close = Tolerance::of_scale(1e-5, expected)?;
        close.check(name, tensor(&gradients, name)?, expected)?;
    }
    let first = batch(&tensors, 0)?;
    let mask = tensor(&tensors, "token_masks")?.f_get(0)?;
    let output = search.supernet().forward(&first.images, Some(&mask), false)?;
    let expected = tensor(&tensors, "logits0")?;
    Tolerance::of_scale(1e-5, expected)?.check("logits", &output.logits.prediction()?, expected)
}

#[test]
fn all_steps_of_the_trace_give_its_losses_and_final_tensors() -> TestResult {
    let (description, tensors) =
        (load_json::<Description>("search_trace")?, load_tensors("search_trace")?);
    assert_eq!(description.loss_columns, ["task", "architecture", "reconstruction", "total"]);
    let mut search = search(&description, &tensors)?;
    let mut losses = Vec::new();
    let mut record = |event: &Event| {
        if let Event::Step(metrics) = event {
            let loss = metrics.loss;
            losses.extend([loss.task, loss.one_hot + loss.budget, loss.reconstruction, loss.total]);
        }
        Ok(())
    };
    for step in 0..description.steps {
        search.step(&[batch(&tensors, step)?], &mut record)?;
    }
    let losses = Tensor::from_slice(&losses).view([description.steps, 4]).to_device(test_device());
    Tolerance::relative(1e-5).check("losses", &losses, tensor(&tensors, "losses")?)?;

    let expected = under(&tensors, "final/");
    assert!(!expected.is_empty());
    for parameter in search.supernet().parameters() {
        let (mut actual, mut expected) =
            (parameter.value.detach(), tensor(&expected, &parameter.name)?.shallow_clone());
        if parameter.name.ends_with("qkv.bias") {
            // The true gradient of the keys' part is zero, so Adam amplifies rounding there.
            let without_keys = |bias: &Tensor| {
                let parts = bias.view([3, -1]);
                Tensor::cat(&[parts.get(0), parts.get(2)], 0)
            };
            (actual, expected) = (without_keys(&actual), without_keys(&expected));
        }
        // Adam divides by the root of the mean square, so where a gradient is near zero rounding
        // moves a parameter by a share of the learning rate: 2% of one step is allowed.
        let close = Tolerance { relative: 1e-5, absolute: 0.02 * description.optimizer.lr };
        close.check(&parameter.name, &actual, &expected)?;
    }
    Ok(())
}
