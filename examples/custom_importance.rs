//! Replace where scores come from: one trait, and the search accepts it.
//!
//! Here a unit matters as much as its Fisher information says: the running mean of the squared
//! gradient in its gate. Run with `cargo run --release --example custom_importance`.

use once_for_both::batch::Batch;
use once_for_both::batch::Targets;
use once_for_both::components::{Importance, Observation, UnitImportance};
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Event, Method, Search, SearchOptions};
use once_for_both::space::{Dimension, SearchSpace};
use once_for_both::subnet::{verify, FoldingExtractor, SubnetExtractor};
use once_for_both::supernet::Weights;
use once_for_both::Result;
use tch::{Device, Kind, Tensor};

/// Scores are ln(F), F the mean of (∂L/∂m)², brought to mean 2 and std 0.5.
#[derive(Debug)]
struct Fisher {
    momentum: f64,
}

impl Importance for Fisher {
    fn start(&self, dimension: &Dimension, weights: &Weights) -> Result<Tensor> {
        UnitImportance::LearnedFromMagnitude { mean: 2.0, std: 0.5 }.start(dimension, weights)
    }

    fn follow(&self, seen: Observation) -> Result<Option<Tensor>> {
        let information = seen.gate_gradient.f_square()?.f_add_scalar(1e-20)?.f_log()?;
        let centred = information.f_sub(&information.f_mean(None)?)?;
        let spread = centred.f_square()?.f_mean(None)?.f_sqrt()?.f_add_scalar(1e-6)?;
        let scores = centred.f_div(&spread)?.f_mul_scalar(0.5)?.f_add_scalar(2.0)?;
        Ok(Some(scores.f_lerp(seen.score, self.momentum)?))
    }
}

/// Random images whose class is their brightest quarter.
fn batch() -> Result<Batch> {
    let device = Device::Cpu;
    let classes = Tensor::f_randint(4, [32], (Kind::Int64, device))?;
    let light = classes.f_one_hot(4)?.f_to_kind(Kind::Float)?.f_view([32, 1, 2, 2])?;
    let light = light.f_upsample_nearest2d([8, 8], None, None)?.f_mul_scalar(3.0)?;
    let images = Tensor::f_randn([32, 1, 8, 8], (Kind::Float, device))?.f_add(&light)?;
    Ok(Batch { images, targets: Targets::Classes(classes), hidden: None })
}

fn run(mut session: Search<VitConfig>) -> Result<Search<VitConfig>> {
    let mut report = |event: &Event| {
        if let Event::Step(step) = event {
            if step.step % 50 == 0 {
                let (phase, loss, macs) = (step.phase, step.loss.task, step.macs_current);
                println!("{phase:?} {:3}: task {loss:.3}, MACs {macs:.0}", step.step);
            }
        }
        Ok(())
    };
    while !session.is_done() {
        session.step(&[batch()?], &mut report)?;
    }
    Ok(session)
}

fn main() -> Result<()> {
    let network = VitConfig::uniform(32, 2, 4).input(8, 1, 2).classes(4);
    let training = SearchOptions::training(250).peak_rate(3e-3);
    let nothing = SearchSpace::empty();
    let device = Device::Cpu;
    let dense = Search::new(network.clone(), nothing, None, vec![], training, device)?;
    let weights = run(dense)?.supernet().folded_weights();

    let options = SearchOptions::new(300, 200).peak_rate(1e-3);
    let method = Method { importance: Box::new(Fisher { momentum: 0.9 }), ..Method::of(&options)? };
    let budget = Budget::share(Metric::Macs, 0.5, &network.cost_model())?;
    let space = network.space()?;
    let (weights, budgets) = (Some(&weights), vec![budget]);
    let search = Search::with_method(method, network, space, weights, budgets, options, device)?;
    let search = run(search)?;

    let subnet = FoldingExtractor.extract(search.supernet())?;
    let verification = verify(search.supernet(), &subnet, &batch()?.images)?;
    println!("subnet: {:.0} MACs, budget {:.0}", subnet.macs()?, budget.limit);
    println!("largest difference of a logit: {:.1e}", verification.max_abs_logit_difference());
    Ok(())
}
