//! Autograd mode: what differentiates does so in every mode of the caller, and restores it.

mod support;

use once_for_both::batch::{Batch, Targets};
use once_for_both::check::self_check;
use once_for_both::components::{
    AdaptiveOneHotLoss, BiMask, ComponentId, Distillation, EntropyVarianceLoss, Importance, Mask,
    Observation, PmimRegularizer, RankedBiMask, Teacher, UnitImportance, UnitState, WindowedPixels,
};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Event, Search};
use once_for_both::space::{ActiveSet, Dimension, DimensionKind};
use once_for_both::supernet::Weights;
use once_for_both::{Error, Result};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use support::tiny_run::{alone, batch, builder, fade_out_options, options, run, STEPS};
use support::{numbers, test_device, TestResult};
use tch::{Device, Kind, Tensor};

/// Whether operations on the thread are recorded by autograd.
fn records() -> bool {
    let leaf = Tensor::zeros([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    (leaf + 1.0).requires_grad()
}

/// Everything that a search computes: losses, weights, reconstruction, logits of the subnet.
fn everything() -> TestResult<Vec<Vec<f64>>> {
    let own = fade_out_options().with(|o| o.training.distillation = Some(Distillation::deit()));
    let mut search = builder(own, 0.5).teacher(Constant).build()?;
    let images = batch(0)?.images;
    let gradients = search.gradients(&[batch(0)?])?;
    let mut found = vec![numbers(&gradients.losses.task)?];
    found.push(numbers(&search.reconstruct(&images)?.reconstructed)?);
    let events = run(&mut search, STEPS)?;
    let losses = events.iter().filter_map(|event| match event {
        Event::Step(metrics) => Some(metrics.loss.total),
        _ => None,
    });
    found.push(losses.collect());
    found.push(numbers(&search.evaluate(|supernet| supernet.network_logits(&images))?)?);
    let extracted = search.extract(&images)?;
    found.push(numbers(&extracted.predict(&images)?)?);
    for weight in search.supernet().raw_weights().values() {
        found.push(numbers(weight)?);
    }
    Ok(found)
}

#[test]
fn search_inside_no_grad_computes_what_it_does_outside() -> TestResult {
    let _alone = alone();
    let expected = everything()?;
    let found = tch::no_grad(|| everything().map_err(|error| error.to_string()))?;
    assert!(found == expected);
    assert!(records());
    Ok(())
}

#[test]
fn checks_of_components_and_spaces_inside_no_grad_pass() -> TestResult {
    use once_for_both::strategies::{check_bi_mask, check_one_hot_loss, check_pmim_regularizer};
    let _alone = alone();
    let config = VitConfig::uniform(16, 1, 2).input(8, 3, 4).classes(3);
    let images = Tensor::f_rand([2, 3, 8, 8], (Kind::Float, test_device()))?;
    tch::no_grad(|| -> TestResult {
        check_bi_mask(&RankedBiMask, 4, test_device())?;
        check_one_hot_loss(&EntropyVarianceLoss::paper(), 4, test_device())?;
        check_pmim_regularizer(&WindowedPixels::paper(), 4, test_device())?;
        Ok(self_check(&config, &config.space()?, &images)?.expect_sound()?)
    })
}

/// A component of every kind that panics while the flag is set.
#[derive(Debug, Clone)]
struct Panicking(Arc<AtomicBool>);

impl Panicking {
    fn maybe(&self) {
        assert!(!self.0.load(Ordering::Relaxed), "of a component");
    }
}

fn id() -> ComponentId {
    ComponentId::new("panicking")
}

impl Importance for Panicking {
    fn id(&self) -> ComponentId {
        id()
    }
    fn initial(&self, dimension: &Dimension, weights: &Weights) -> Result<Tensor> {
        UnitImportance::Learned.initial(dimension, weights)
    }
    fn update(&self, _seen: Observation) -> Result<Option<Tensor>> {
        self.maybe();
        Ok(None)
    }
}

impl BiMask for Panicking {
    fn id(&self) -> ComponentId {
        id()
    }
    fn importance(&self, score: &Tensor) -> Result<Tensor> {
        self.maybe();
        RankedBiMask.importance(score)
    }
    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor> {
        RankedBiMask.sparsity(state, importance)
    }
}

impl AdaptiveOneHotLoss for Panicking {
    fn id(&self) -> ComponentId {
        id()
    }
    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        self.maybe();
        EntropyVarianceLoss::paper().alpha_loss(alpha, active)
    }
    fn importance_loss(&self, kind: DimensionKind, importance: &Tensor) -> Result<Tensor> {
        EntropyVarianceLoss::paper().importance_loss(kind, importance)
    }
}

impl PmimRegularizer for Panicking {
    fn id(&self) -> ComponentId {
        id()
    }
    fn targets(&self, images: &Tensor) -> Result<Tensor> {
        self.maybe();
        WindowedPixels::paper().targets(images)
    }
    fn loss(
        &self,
        targets: &Tensor,
        prediction: &Tensor,
        token_mask: &Tensor,
        rows: i64,
    ) -> Result<Tensor> {
        WindowedPixels::paper().loss(targets, prediction, token_mask, rows)
    }
}

impl Teacher for Panicking {
    fn id(&self) -> ComponentId {
        id()
    }
    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        self.maybe();
        Constant.logits(images)
    }
}

/// A teacher that is sure of the first class.
struct Constant;

impl Teacher for Constant {
    fn id(&self) -> ComponentId {
        ComponentId::new("constant")
    }
    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        let row = Tensor::f_from_slice(&[3.0f32, 0.0, 0.0, 0.0, 0.0])?;
        Ok(row.f_to_device(images.device())?.f_expand([images.size()[0], 5], false)?)
    }
}

#[test]
fn mode_after_a_panic_of_any_component_is_restored_and_the_next_step_succeeds() -> TestResult {
    let _alone = alone();
    let own = || options().with(|o| o.training.distillation = Some(Distillation::deit()));
    for kind in ["importance", "bi_mask", "one_hot", "pmim", "teacher"] {
        let component = Panicking(Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&component.0);
        let builder = builder(own(), 0.5).teacher(Constant);
        let mut search = match kind {
            "importance" => builder.importance(component),
            "bi_mask" => builder.bi_mask(component),
            "one_hot" => builder.one_hot(component),
            "pmim" => builder.pmim(component),
            _ => builder.teacher(component),
        }
        .build()?;
        let first = batch(0)?;
        for autograd in [true, false] {
            flag.store(true, Ordering::Relaxed);
            let step = |search: &mut Search<VitConfig>| {
                let stepped =
                    AssertUnwindSafe(|| search.step(std::slice::from_ref(&first), &mut ()));
                let panicked = catch_unwind(stepped).is_err();
                (panicked, records())
            };
            let (panicked, recording) = match autograd {
                true => step(&mut search),
                false => tch::no_grad(|| step(&mut search)),
            };
            assert!(panicked && recording == autograd, "{kind}, autograd {autograd}");
            flag.store(false, Ordering::Relaxed);
            search.step(std::slice::from_ref(&first), &mut ())?;
        }
    }
    Ok(())
}

/// A bi-mask without gradients.
#[derive(Debug)]
struct Detached;

impl BiMask for Detached {
    fn id(&self) -> ComponentId {
        ComponentId::new("detached")
    }
    fn importance(&self, score: &Tensor) -> Result<Tensor> {
        RankedBiMask.importance(score)
    }
    fn sparsity(&self, state: UnitState, importance: &Tensor) -> Result<Tensor> {
        RankedBiMask.sparsity(state, importance)
    }
    fn mask(&self, state: UnitState, lambda: f64) -> Result<Mask> {
        let mask = RankedBiMask.mask(state, lambda)?;
        let Mask { importance, sparsity, mask } = mask;
        Ok(Mask {
            importance: importance.detach(),
            sparsity: sparsity.detach(),
            mask: mask.detach(),
        })
    }
}

/// A network whose logits have no graph.
mod detached {
    use once_for_both::cost::CostModel;
    use once_for_both::models::{Architecture, Logits, Network, VisionTransformer, VitConfig};
    use once_for_both::space::{SearchSpace, Sizes};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, Serialize, Deserialize)]
    pub struct Config(pub VitConfig);

    #[derive(Debug)]
    pub struct Net(VisionTransformer);

    impl Network for Net {
        fn forward(&self, images: &tch::Tensor, train: bool) -> once_for_both::Result<Logits> {
            tch::no_grad(|| self.0.forward(images, train))
        }
    }

    impl Architecture for Config {
        type Network = Net;
        const FAMILY: &'static str = "detached";
        fn build(&self, path: &tch::nn::Path) -> once_for_both::Result<Net> {
            Ok(Net(self.0.build(path)?))
        }
        fn space(&self) -> once_for_both::Result<SearchSpace> {
            self.0.space()
        }
        fn cost_model(&self) -> CostModel {
            self.0.cost_model()
        }
        fn resized(&self, sizes: &Sizes) -> once_for_both::Result<Self> {
            Ok(Self(self.0.resized(sizes)?))
        }
    }
}

#[test]
fn step_of_a_loss_without_gradient_is_refused_by_name() -> TestResult {
    let _alone = alone();
    // Plain tensors: after the search, no one-hot loss has a graph either.
    let own = options().with(|o| {
        o.pmim = None;
        o.one_hot.weight = 0.0;
    });
    let mut search = Search::of(detached::Config(support::tiny_run::vit()))
        .budget(once_for_both::cost::Budget::macs_share(0.5))
        .options(own)
        .device(test_device())
        .build()?;
    let refused = search.step(&[batch(0)?], &mut ());
    assert_refused!(refused, Error::Invalid { name, .. } if name.starts_with("task loss"));
    // The losses of α still have a graph where the bi-mask has none: the step is made.
    let mut search = builder(options(), 0.5).bi_mask(Detached).build()?;
    search.step(&[batch(0)?], &mut ())?;
    Ok(())
}

#[test]
fn step_with_targets_that_do_not_fit_is_refused_in_plain_words() -> TestResult {
    let _alone = alone();
    let mut search = builder(options(), 0.5).build()?;
    let images = || -> TestResult<Tensor> { Ok(batch(0)?.images) };
    let soft = |width: i64| -> TestResult<Batch> {
        let probabilities = Tensor::f_full([6, width], 0.2, (Kind::Float, test_device()))?;
        Ok(Batch { images: images()?, targets: Targets::Probabilities(probabilities) })
    };
    for width in [4, 6] {
        let refused = search.step(&[soft(width)?], &mut ());
        assert_refused!(refused, Error::Shape { expected, actual, .. } if expected[1] == 5 && actual[1] == width);
    }
    search.step(&[soft(5)?], &mut ())?;
    for wrong in [-1, 5, -100, i64::MAX] {
        let classes = Tensor::f_from_slice(&[0, 1, 2, 3, 4, wrong])?.f_to_device(test_device())?;
        let refused = search.step(&[Batch::classes(images()?, classes)], &mut ());
        if test_device() == Device::Cpu {
            assert_refused!(refused, Error::Invalid { name, actual, .. }
                if name == "class index of the targets" && actual == wrong.to_string());
        } else {
            refused?;
        }
    }
    Ok(())
}

/// A one-hot loss that is NaN from some step on.
#[derive(Debug)]
struct NanAfter(std::sync::atomic::AtomicI64);

impl AdaptiveOneHotLoss for NanAfter {
    fn id(&self) -> ComponentId {
        ComponentId::new("nan_after")
    }
    fn alpha_loss(&self, alpha: &Tensor, active: &ActiveSet) -> Result<Tensor> {
        let loss = EntropyVarianceLoss::paper().alpha_loss(alpha, active)?;
        match self.0.fetch_sub(1, Ordering::Relaxed) > 0 {
            true => Ok(loss),
            false => Ok(loss.f_mul_scalar(f64::NAN)?),
        }
    }
    fn importance_loss(&self, kind: DimensionKind, importance: &Tensor) -> Result<Tensor> {
        EntropyVarianceLoss::paper().importance_loss(kind, importance)
    }
}

/// A teacher whose logits are NaN.
struct NanTeacher;

impl Teacher for NanTeacher {
    fn id(&self) -> ComponentId {
        ComponentId::new("nan")
    }
    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        Ok(Constant.logits(images)?.f_mul_scalar(f64::NAN)?)
    }
}

#[test]
fn divergence_names_the_loss_that_was_not_finite_first() -> TestResult {
    use once_for_both::components::DistillationKind;
    let _alone = alone();
    let own = |soft: bool| {
        options().with(|o| {
            o.log_interval = 2;
            let kind = DistillationKind::Soft { temperature: 1.0 };
            o.training.distillation = soft.then_some(Distillation::new(kind, 0.5));
            o.training.max_skipped_in_a_row = 2;
        })
    };
    let diverged = |mut search: Search<VitConfig>| -> TestResult<Vec<String>> {
        for step in 0..10 {
            match search.step(&[batch(step)?], &mut ()) {
                Err(Error::Diverged { first, .. }) => return Ok(first),
                other => other?,
            }
        }
        Err("it did not diverge".into())
    };
    // Five dimensions call it in each step: NaN begins in the second.
    let one_hot = NanAfter(5.into());
    let found = diverged(builder(own(false), 0.5).one_hot(one_hot).build()?)?;
    assert_eq!(found, ["one-hot loss of nan_after"]);
    let found = diverged(builder(own(true), 0.5).teacher(NanTeacher).build()?)?;
    assert_eq!(found, ["distillation loss"]);
    Ok(())
}

/// A reconstruction loss without gradient.
#[derive(Debug)]
struct DetachedPixels(WindowedPixels);

impl PmimRegularizer for DetachedPixels {
    fn id(&self) -> ComponentId {
        ComponentId::new("detached pixels")
    }
    fn token_mask(&self, batch: i64, tokens: i64, ratio: f64, device: Device) -> Result<Tensor> {
        self.0.token_mask(batch, tokens, ratio, device)
    }
    fn targets(&self, images: &Tensor) -> Result<Tensor> {
        self.0.targets(images)
    }
    fn loss(&self, t: &Tensor, prediction: &Tensor, mask: &Tensor, rows: i64) -> Result<Tensor> {
        Ok(self.0.loss(t, prediction, mask, rows)?.f_detach()?)
    }
}

#[test]
fn reconstruction_loss_without_gradient_is_refused_by_its_component() -> TestResult {
    let _alone = alone();
    let options = options().with(|own| {
        if let Some(pmim) = &mut own.pmim {
            pmim.mask_ratio.start = 0.5;
        }
    });
    let search = builder(options, 0.5).pmim(DetachedPixels(WindowedPixels::new(3)?)).build()?;
    assert_refused!(search.gradients(&[batch(0)?]), Error::Invalid { ref name, .. }
        if name == "reconstruction loss of detached pixels");
    Ok(())
}
