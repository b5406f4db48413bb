//! Replaces the importance score: one trait, implemented for Fisher information.
//! `cargo run --release --example 03_custom_importance`

use once_for_both::components::Observation;
use once_for_both::prelude::*;
use once_for_both::supernet::Weights;
use once_for_both::Result;
use tch::{Device, Kind, Tensor};

/// Empirical Fisher information of a unit, F = (∂L/∂m)² on one batch: the score is the running mean
/// of 2 + 0.5·z, with z the standardised ln F, so that S = σ(score) starts near 0.9.
#[derive(Debug)]
struct Fisher {
    /// Share of the previous score in the next, in [0, 1).
    momentum: f64,
}

impl Importance for Fisher {
    fn id(&self) -> ComponentId {
        ComponentId::new("fisher").with("momentum", self.momentum)
    }

    fn initial(&self, dimension: &Dimension, weights: &Weights) -> Result<Tensor> {
        UnitImportance::LearnedFromMagnitude { mean: 2.0, std: 0.5 }.initial(dimension, weights)
    }

    fn update(&self, seen: Observation) -> Result<Option<Tensor>> {
        let information = seen.gate_gradient.f_square()?.f_add_scalar(1e-20)?.f_log()?;
        let centred = information.f_sub(&information.f_mean(None)?)?;
        let spread = centred.f_square()?.f_mean(None)?.f_sqrt()?.f_add_scalar(1e-6)?;
        let scores = centred.f_div(&spread)?.f_mul_scalar(0.5)?.f_add_scalar(2.0)?;
        Ok(Some(scores.f_lerp(seen.score, self.momentum)?))
    }
}

/// Random images whose class is their brightest quarter.
fn batch(_: u64) -> Result<Batch> {
    let device = Device::Cpu;
    let classes = Tensor::f_randint(4, [32], (Kind::Int64, device))?;
    let light = classes.f_one_hot(4)?.f_to_kind(Kind::Float)?.f_view([32, 1, 2, 2])?;
    let light = light.f_upsample_nearest2d([8, 8], None, None)?.f_mul_scalar(3.0)?;
    let images = Tensor::f_randn([32, 1, 8, 8], (Kind::Float, device))?.f_add(&light)?;
    Ok(Batch::classes(images, classes))
}

fn print(event: &Event) -> Result<()> {
    if let Event::Step(step) = event {
        if step.step % 50 == 0 {
            let (phase, loss, macs) = (step.phase, step.loss.task, step.macs_current);
            println!("{phase:?} step {:3}: task loss {loss:.3}, current MACs {macs:.0}", step.step);
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let vit = VitConfig::uniform(32, 2, 4).input(8, 1, 2).classes(4);
    let training = SearchOptions::training(250).peak_rate(3e-3);
    let mut dense = Search::of(vit.clone()).options(training).build()?;
    dense.train(&mut batch, &mut print)?;
    let dense = dense.extract(&batch(0)?.images)?;

    let mut search = Search::of(vit)
        .weights(dense.weights())
        .budget(Budget::macs_share(0.5))
        .options(SearchOptions::new(300, 200).peak_rate(1e-3))
        .importance(Fisher { momentum: 0.9 })
        .build()?;
    search.train(&mut batch, &mut print)?;
    let subnet = search.extract(&batch(0)?.images)?;
    println!("{:.0} MACs of at most {:.0}", subnet.macs()?, search.limits()[0].limit);
    let difference = subnet.verification.max_abs_logit_difference();
    println!("extracted and masked network: logits differ by at most {difference:.1e}");
    Ok(())
}
