//! Searches that processes make together, each on its share of every batch.

use super::ranks::say;
use super::TestResult;
use once_for_both::batch::Batch;
use once_for_both::cost::Budget;
use once_for_both::distributed::{Collective, Share};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::precision::Precision;
use once_for_both::search::{Decisions, Event, Search, SearchBuilder, SearchOptions, Stages};
use once_for_both::supernet::Weights;
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Images of a batch of all ranks.
pub const BATCH: i64 = 8;
const STEPS: u64 = 20;
const SEARCH: u64 = 16;

/// Names of the searches.
pub const SEARCHES: [&str; 8] =
    ["training", "default", "learned", "paper", "accumulated", "two_stages", "branched", "depth"];

/// A ViT with stochastic depth.
pub fn vit() -> VitConfig {
    let mut vit = VitConfig::uniform(32, 2, 2).input(16, 3, 4).classes(10);
    vit.drop_path = 0.3;
    vit
}

/// Options of a search by name; some decision, fade-out and cut falls into its steps.
pub fn options(name: &str) -> SearchOptions {
    let options = match name {
        "training" => SearchOptions::training(STEPS),
        "learned" => SearchOptions::learned(STEPS, SEARCH),
        "paper" => SearchOptions::paper(STEPS, SEARCH),
        _ => SearchOptions::new(STEPS, SEARCH),
    };
    options.with(|options| {
        (options.log_interval, options.seed) = (1, 3);
        if options.search_steps > 0 {
            (options.pruning.interval, options.pruning.fade_out_steps) = (4, 2);
        }
        if name == "bf16_exchange" {
            options.training.exchange = Precision::Bf16;
        }
        if name == "two_stages" {
            options.stages = Stages::Two { importance_steps: 6 };
            options.decisions = Decisions::Learned;
        }
        if name == "accumulated" {
            options.training.accumulate = 2;
            options.training.ema_decay = Some(0.9);
            options.training.label_smoothing = 0.1;
        }
    })
}

/// This rank's share of a batch that depends on its number alone.
pub fn share_of(number: u64, share: Share) -> once_for_both::Result<Batch> {
    share_of_images(BATCH, number, share)
}

/// This rank's share of a batch of so many images.
pub fn share_of_images(count: i64, number: u64, share: Share) -> once_for_both::Result<Batch> {
    once_for_both::randomness::seed(1000 + number);
    let images = Tensor::f_randn([count, 3, 16, 16], (Kind::Float, Device::Cpu))?;
    let classes = Tensor::f_randint(10, [count], (Kind::Int64, Device::Cpu))?;
    let places: Vec<i64> =
        share.places(count as usize)?.into_iter().map(|place| place as i64).collect();
    let places = Tensor::f_from_slice(&places)?;
    let own = |all: Tensor| all.f_index_select(0, &places);
    Ok(Batch::classes(own(images)?, own(classes)?))
}

/// Begins to build a search of a group, with a change of its options.
pub fn builder(
    name: &str,
    group: &Arc<dyn Collective>,
    change: impl FnOnce(&mut SearchOptions),
) -> TestResult<SearchBuilder<VitConfig>> {
    let dense = Search::training(vit(), 1).build()?.supernet().raw_weights();
    let builder = Search::of(vit()).weights(&dense).options(options(name).with(change));
    let builder = builder.distributed(Arc::clone(group));
    Ok(match name {
        "training" => builder,
        // No network with all branches meets it.
        "depth" => {
            builder.space(vit().space()?.removable_branches()).budget(Budget::macs_share(0.12))
        }
        _ => builder.budget(Budget::macs_share(0.5)),
    })
}

/// Builds a search of a group.
pub fn build(name: &str, group: &Arc<dyn Collective>) -> TestResult<Search<VitConfig>> {
    Ok(builder(name, group, |_| ())?.build()?)
}

/// Makes all steps of a search. Rank 0 writes its parameters and the logits of some images to a file,
/// and says its losses and events.
pub fn run(name: &str, file: &Path, group: &Arc<dyn Collective>) -> TestResult {
    let (main, share) = (group.is_main(), Share::of(&**group));
    let mut search = build(name, group)?;
    let mut told = |event: &Event| {
        if main {
            say(&serde_json::to_string(event).unwrap_or_default());
        }
        Ok(())
    };
    if name == "branched" {
        for number in 0..5 {
            search.step(&[share_of(number, share)?], &mut told)?;
        }
        search = search.branch(&[Budget::macs_share(0.6)], 4)?;
    }
    let accumulate = search.options().training.accumulate;
    search.train(&mut |number| share_of(number, share), &mut told)?;
    if !main {
        return Ok(());
    }
    let images = share_of(STEPS * accumulate, Share::WHOLE)?.images;
    let logits = search.evaluate(|supernet| supernet.network_logits(&images))?;
    let supernet = search.supernet();
    let mut tensors: Weights = supernet.raw_weights();
    for state in supernet.states() {
        tensors.insert(format!("score/{}", state.name), state.score.shallow_clone());
        tensors.insert(format!("alpha/{}", state.name), state.alpha.shallow_clone());
    }
    tensors.insert("logits".into(), logits);
    let tensors: Vec<(&String, Tensor)> =
        tensors.iter().map(|(name, tensor)| (name, tensor.detach().contiguous())).collect();
    Ok(Tensor::write_safetensors(&tensors, file)?)
}
