//! Latency of Swins, and candidates at which latency steps.

use crate::assert_refused;
use crate::device::{quiet, vit, SyntheticDevice};
use crate::support::alone::run_alone;
use crate::support::TestResult;
use once_for_both::cost::Metric;
use once_for_both::error::LatencyError;
use once_for_both::latency::{
    peak_memory, DeviceMeter, LatencyModel, MeasureOptions, Meter, PredictionError, Setting, Timer,
};
use once_for_both::models::{BlockConfig, Rope};
use once_for_both::prelude::*;
use once_for_both::space::{Binding, Dimension, DimensionKind, Size};
use once_for_both::Error;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// Two stages, of grids of 9 and 5 tokens.
fn swin() -> SwinConfig {
    SwinConfig::uniform(32, &[2, 2], 2).input(18, 3, 2).window(4).classes(10)
}

/// Widths count in multiples of 8; a patch merging costs what both its widths are.
fn milliseconds(network: &SwinConfig) -> f64 {
    let padded = |width: i64| ((width + 7) / 8 * 8) as f64;
    let block = |width: f64, own: &BlockConfig| {
        let attention = width * (own.heads * own.head_dim) as f64 * 1e-3;
        0.2 + attention + 0.1 * own.heads as f64 + width * padded(own.hidden_dim) * 3e-4
    };
    let mut sum = 1.0;
    for (stage, own) in network.stages.iter().enumerate() {
        let width = padded(own.embed_dim);
        let before = stage.checked_sub(1).map_or(0.0, |at| padded(network.stages[at].embed_dim));
        sum += 0.01 * width + 5e-4 * before * width;
        sum += own.blocks.iter().map(|own| block(width, own)).sum::<f64>();
    }
    sum
}

#[derive(Debug)]
struct SwinDevice;

impl Meter<SwinConfig> for SwinDevice {
    fn setting(&self) -> Setting {
        Setting { images: [1, 3, 18, 18], ..Meter::<VitConfig>::setting(&SyntheticDevice::quiet()) }
    }

    fn prepare(&self, network: &SwinConfig) -> once_for_both::Result<Timer<'_>> {
        let own = milliseconds(network);
        Ok(Box::new(move || Ok(own)))
    }
}

fn measured() -> TestResult<LatencyModel> {
    let (swin, options) = (swin(), MeasureOptions { networks: 80, ..MeasureOptions::default() });
    Ok(LatencyModel::measure(&swin, &swin.space()?, &SwinDevice, &options, &mut |_| Ok(()))?)
}

#[test]
fn model_of_a_swin_predicts_random_networks_and_couples_neighbouring_stages() -> TestResult {
    let (model, space) = (measured()?, swin().space()?);
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut pairs = Vec::new();
    for _ in 0..40 {
        let sizes: Sizes = space
            .dimensions
            .iter()
            .map(|own| {
                let at = random.random_range(0..own.candidates.len() as u64) as usize;
                (own.name.clone(), own.candidates.size(at))
            })
            .collect();
        pairs.push([model.predict(&sizes)?, milliseconds(&swin().resized(&sizes)?)]);
    }
    let error = PredictionError::of(&pairs);
    assert!(error.median < 0.03 && error.p95 < 0.08, "{error:?}");
    let merging = ["layers.0.embed", "layers.1.embed"];
    assert!(model.cost.terms().iter().any(|term| term.dimensions == merging), "{model}");
    // Blocks of one stage are equal, those of several are not.
    let equal: Vec<usize> = model.profile()?.iter().map(|own| own.names.len()).collect();
    assert_eq!(equal.iter().sum::<usize>(), space.dimensions.len());
    assert!(equal.iter().all(|count| *count <= 2), "{equal:?}");
    Ok(())
}

#[test]
fn search_of_a_swin_meets_a_latency_budget() -> TestResult {
    let model = measured()?;
    let builder = Search::of(swin()).latency(model).budget(Budget::latency_share(0.6));
    let mut search = builder.options(SearchOptions::new(6, 4)).build()?;
    let images = || Tensor::f_randn([4, 3, 18, 18], (Kind::Float, Device::Cpu));
    for _ in 0..6 {
        let classes = Tensor::f_randint(10, [4], (Kind::Int64, Device::Cpu))?;
        search.step(&[Batch::classes(images()?, classes)], &mut ())?;
    }
    let subnet = search.extract(&images()?)?;
    let sizes = subnet.architecture().cost_model().dense;
    let limit = search.limits()[0].limit;
    let own = search.supernet().cost_model().cost(Metric::Latency, &sizes)?;
    assert!(own <= limit, "{own} ms, limit {limit} ms");
    Ok(())
}

#[test]
fn device_meter_times_a_swin_with_padded_windows() -> TestResult {
    let meter = DeviceMeter::new(Device::Cpu, Precision::F32, [1, 3, 18, 18])?;
    assert!(meter.prepare(&swin())?()? > 0.0);
    Ok(())
}

/// Widths of the embedding count in multiples of 8 on the synthetic device.
#[test]
fn candidates_at_steps_of_the_latency_are_kept_and_most_others_are_not() -> TestResult {
    let (model, space) = (quiet()?, vit().space()?);
    let stepped = model.stepped(space.clone())?;
    for (own, all) in stepped.dimensions.iter().zip(&space.dimensions) {
        let (own_widths, widths) = (own.candidates.widths(), all.candidates.widths());
        assert!(own_widths.iter().all(|width| widths.contains(width)), "{}", own.name);
        let ends = [own_widths[0], own_widths[own_widths.len() - 1]];
        assert_eq!(ends, [widths[0], widths[widths.len() - 1]], "{}", own.name);
        if own.name == "embed" {
            // The model is a smooth estimate: a neighbour of a step may be kept, too.
            let steps = [32, 40, 48, 56, 64];
            assert!(steps.iter().all(|step| own_widths.contains(step)), "{own_widths:?}");
            assert!(own_widths.len() <= widths.len() / 2, "{own_widths:?} of {widths:?}");
        }
    }
    // Dimensions that the space leaves out are dense.
    let without = model.stepped(space.clone().without(&["embed"])?)?;
    assert_eq!(without, stepped.without(&["embed"])?);
    let mut beyond = space;
    beyond.dimension_mut("blocks.1.mlp")?.candidates = Candidates::flat(256, vec![16, 128])?;
    assert_refused!(model.stepped(beyond), Error::Latency(LatencyError::Beyond { .. }));
    Ok(())
}

#[test]
fn cost_of_a_head_and_of_a_channel_are_slopes_of_the_profile() -> TestResult {
    let profile = quiet()?.profile()?;
    let attention =
        profile.iter().find(|own| own.names[0].ends_with(".attn")).ok_or("no attention")?;
    let per_head = attention.per_head().ok_or("one number of heads")?;
    // Of 64 × 16 × 1e-3, and 0.2 a head.
    assert!((per_head - 1.224).abs() < 0.1, "{per_head}");
    let embed = profile.iter().find(|own| own.names[0] == "embed").ok_or("no embedding")?;
    assert!(embed.per_head().is_none() && embed.per_channel().is_some_and(|ms| ms > 0.0));
    Ok(())
}

/// Of channels that are turned in pairs, the units are the pairs; costs and multiples are those of channels.
#[test]
fn cost_and_multiples_of_channels_in_pairs_are_those_of_single_channels() -> TestResult {
    let rope = Some(Rope::Normalised { base: 10.0 });
    let pairs = VitConfig { rope, ..vit() };
    let (device, options) =
        (SyntheticDevice::quiet(), MeasureOptions { networks: 60, ..MeasureOptions::default() });
    let space = pairs.space()?;
    let model = LatencyModel::measure(&pairs, &space, &device, &options, &mut |_| Ok(()))?;
    let cost = |model: &LatencyModel| -> TestResult<f64> {
        let profile = model.profile()?;
        let own = profile.iter().find(|own| own.names[0].ends_with(".attn"));
        Ok(own.and_then(|own| own.per_channel()).ok_or("no cost of a channel")?)
    };
    let (own, single) = (cost(&model)?, cost(&quiet()?)?);
    assert!((own / single - 1.0).abs() < 0.2, "{own} ms, of single channels {single} ms");
    let most = |model: &LatencyModel| -> TestResult<Size> {
        let profile = model.profile()?;
        let own = profile.iter().find(|own| own.names[0].ends_with(".attn"));
        Ok(own.and_then(|own| own.latency.last()).ok_or("no sizes")?.0)
    };
    assert_eq!(most(&model)?, most(&quiet()?)?);

    // 4, 6, …, 16 channels of a head.
    let widths = |factor| -> TestResult<Vec<i64>> {
        let space = space.clone().multiple_of(DimensionKind::Attention, factor)?;
        Ok(space.dimensions[1].candidates.widths().to_vec())
    };
    assert_eq!((widths(8)?, widths(4)?), (vec![4, 8], vec![2, 4, 6, 8]));
    assert_refused!(
        space.clone().multiple_of(DimensionKind::Attention, 0),
        Error::Invalid { actual, .. } if actual == "0"
    );
    let mut halves = Dimension::new("d", DimensionKind::Attention, Candidates::attention(2, 8)?);
    assert_eq!(halves.channels_per_unit(), 1);
    halves = halves.bind(Binding::gated("q", 0).half_split());
    assert_eq!(halves.channels_per_unit(), 2);
    Ok(())
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn peak_memory_of_a_call_is_what_it_allocates_beside_what_is_there() -> TestResult {
    let alone = run_alone("swin::peak_memory_in_a_process_of_its_own", &[])?;
    // Two tensors of 48 MiB at a time.
    let mib = alone.megabytes * 1000.0 / 1024.0;
    assert!((90.0..110.0).contains(&mib), "{mib} MiB: {}", alone.output);
    Ok(())
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn peak_memory_in_a_process_of_its_own() -> TestResult {
    let part = || Tensor::f_ones([12 << 20], (Kind::Float, Device::Cpu));
    let standing = part()?;
    let call = || {
        let sum = part()?.f_add(&standing)?;
        drop(sum);
        part().map(drop).map_err(Error::from)
    };
    let bytes = peak_memory(&call, Device::Cpu)?;
    // CUDA is not measured.
    assert_eq!(peak_memory(&call, Device::Cuda(0))?, None);
    match bytes {
        Some(bytes) => println!("\npeak {}", bytes / 1024),
        None => println!("\nnot measured"),
    }
    Ok(())
}
