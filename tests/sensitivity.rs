//! Measured sensitivity: against networks that are really narrowed, forecasts, α set from it.

mod support;

use once_for_both::batch::Batch;
use once_for_both::components::cross_entropy;
use once_for_both::cost::{Budget, CostModel, Metric};
use once_for_both::models::{Architecture, SwinConfig, VitConfig};
use once_for_both::search::{Search, SearchOptions};
use once_for_both::sensitivity::{
    Calibration, CandidateSensitivity, DimensionSensitivity, Outputs, Progress, Rise, Sensitivity,
};
use once_for_both::space::{Candidates, DimensionKind, SearchSpace, Size, Sizes};
use once_for_both::supernet::{Supernet, Weights};
use once_for_both::Error;
use std::cell::Cell;
use support::little::little;
use support::tiny_run::{alone, batch, fade_out_options, options, run, search_with, vit, STEPS};
use support::{numbers, test_device, TestResult};
use tch::{Kind, Reduction, Tensor};

/// Largest difference of two losses of about 2 that differ by the order of f32 sums.
const ROUNDING: f64 = 3e-6;

/// A supernet with weights large enough that every unit matters, norms and biases included, all gates
/// but those of the scores 1.
fn supernet<A: Architecture>(architecture: A, space: SearchSpace) -> TestResult<Supernet<A>> {
    once_for_both::randomness::seed(5);
    let mut supernet = Supernet::new(architecture, space, false, test_device())?;
    let random = |weight: &Tensor| -> once_for_both::Result<Tensor> {
        let noise = weight.f_randn_like()?.f_mul_scalar(0.2)?;
        Ok(if weight.dim() == 1 { noise.f_add(&weight.f_detach()?)? } else { noise })
    };
    let weights = supernet.raw_weights().into_iter();
    let weights = weights.map(|(name, weight)| Ok((name, random(&weight)?)));
    let weights: Weights = weights.collect::<once_for_both::Result<_>>()?;
    supernet.load_weights(&weights)?;
    for state in supernet.states_mut() {
        state.set_score(&state.score.f_randn_like()?.f_detach()?)?;
    }
    open(&supernet)?;
    Ok(supernet)
}

/// Materialises at gates of 1: the network's weights are θ.
fn open<A: Architecture>(supernet: &Supernet<A>) -> TestResult {
    let gates = supernet.states().iter().map(|state| state.score.f_detach()?.f_ones_like());
    Ok(supernet.materialise(&gates.collect::<Result<Vec<_>, _>>()?)?)
}

/// The loss of a copy of the supernet that is narrowed to sizes, as (index, size).
fn narrowed_loss<A: Architecture>(
    supernet: &Supernet<A>,
    space: &SearchSpace,
    sizes: &[(usize, Size)],
    batches: &[Batch],
) -> TestResult<f64> {
    let architecture = supernet.architecture().clone();
    let mut copy = Supernet::new(architecture, space.clone(), false, test_device())?;
    copy.load_weights(&supernet.raw_weights())?;
    for (own, state) in copy.states_mut().iter_mut().zip(supernet.states()) {
        own.set_score(&state.score.f_detach()?)?;
    }
    copy.narrow(sizes)?;
    open(&copy)?;
    loss(&copy, batches)
}

fn loss<A: Architecture>(supernet: &Supernet<A>, batches: &[Batch]) -> TestResult<f64> {
    let mut sum = 0.0;
    for batch in batches {
        let logits = supernet.network_logits(&batch.images)?;
        sum += cross_entropy(&logits, &batch.targets, 0.0, Reduction::Mean)?.f_double_value(&[])?;
    }
    Ok(sum / batches.len() as f64)
}

/// The space with the dense and one or two other sizes of every dimension.
fn few(mut space: SearchSpace) -> TestResult<SearchSpace> {
    for dimension in &mut space.dimensions {
        let (full, kind) = (dimension.candidates.full(), dimension.kind);
        let (heads, channels) = (vec![full.heads / 2, full.heads], full.channels);
        dimension.candidates = match kind {
            DimensionKind::Attention => {
                Candidates::grid(full.heads, channels, heads, vec![channels - 1, channels])?
            }
            _ => Candidates::flat(channels, vec![channels / 2, channels - 1, channels])?,
        };
        if dimension.removable {
            dimension.candidates = dimension.candidates.clone().with_removal();
        }
    }
    Ok(space)
}

fn batches() -> TestResult<Vec<Batch>> {
    Ok(vec![batch(0)?, batch(1)?])
}

/// Compares every measured candidate with a copy of the network that is narrowed to it.
fn expect_narrowed<A: Architecture>(architecture: A, space: SearchSpace) -> TestResult {
    let (supernet, batches) = (supernet(architecture, space.clone())?, batches()?);
    let sensitivity = Calibration::cross_entropy(&batches).measure(&supernet)?;
    let before = loss(&supernet, &batches)?;
    assert_eq!(sensitivity.images, 12);
    assert!((sensitivity.loss - before).abs() < ROUNDING, "{} {before}", sensitivity.loss);
    for (at, dimension) in sensitivity.dimensions.iter().enumerate() {
        let declared = &space.dimensions[at];
        assert_eq!((&dimension.name, dimension.kind), (&declared.name, declared.kind));
        assert_eq!(dimension.candidates.len(), declared.candidates.len());
        for CandidateSensitivity { size, rise } in &dimension.candidates {
            let expected = narrowed_loss(&supernet, &space, &[(at, *size)], &batches)? - before;
            let difference = (rise.mean - expected).abs();
            let name = &dimension.name;
            assert!(difference < ROUNDING, "{name} at {size}: {} {expected}", rise.mean);
            let whole = *size == declared.candidates.full();
            assert_eq!(*rise == Rise::default(), whole, "{name} at {size}: {rise:?}");
        }
    }
    Ok(())
}

#[test]
fn rise_of_every_candidate_of_a_vit_is_that_of_the_narrowed_network() -> TestResult {
    let _alone = alone();
    expect_narrowed(vit(), few(vit().space()?)?)
}

#[test]
fn rise_of_every_candidate_of_a_swin_is_that_of_the_narrowed_network() -> TestResult {
    let _alone = alone();
    let swin = SwinConfig::uniform(16, &[1, 1], 2).input(16, 3, 2).window(4).classes(5);
    // The norm after the patch embedding, relative position tables of heads, merged stages.
    let space = few(swin.space()?)?;
    expect_narrowed(swin, space)
}

#[test]
fn rise_of_several_dimensions_is_that_of_the_narrowed_network() -> TestResult {
    let _alone = alone();
    let space = vit().space()?;
    let (supernet, batches) = (supernet(vit(), space.clone())?, batches()?);
    let first = |at: usize| (at, space.dimensions[at].candidates.size(0));
    let name = |&(at, size): &(usize, Size)| (space.dimensions[at].name.clone(), size);
    for cut in [vec![first(1), first(2), first(4)], vec![first(0), first(1), first(3)]] {
        let sizes: Sizes = cut.iter().map(name).collect();
        let rise = Calibration::cross_entropy(&batches).rise(&supernet, &sizes)?.mean;
        let before = loss(&supernet, &batches)?;
        let expected = narrowed_loss(&supernet, &space, &cut, &batches)? - before;
        assert!((rise - expected).abs() < ROUNDING, "{sizes:?}: {rise} {expected}");
    }
    Ok(())
}

#[test]
fn standard_error_is_that_of_the_images_rises() -> TestResult {
    let _alone = alone();
    let (supernet, batches) = (supernet(vit(), vit().space()?)?, batches()?);
    let images: Vec<Tensor> = batches.iter().map(|batch| batch.images.shallow_clone()).collect();
    // A loss of 0, 1, …, 11 plus its batch before pruning, and three times that after it.
    let mut calls = 0.0;
    let loss = |_: Outputs| {
        calls += 1.0;
        let scale = if calls > 2.0 { 3.0 } else { 1.0 };
        Ok(Tensor::f_arange(6, (Kind::Double, test_device()))?.f_mul_scalar(scale)?)
    };
    let sizes = [("blocks.0.mlp".to_owned(), Size::flat(32))].into();
    let rise = Calibration::with(&images, loss).rise(&supernet, &sizes)?;
    // Rises 0, 2, …, 10, twice: mean 5, Σ (x − 5)² = 140.
    assert_eq!(rise.mean, 5.0);
    assert!((rise.standard_error - (140.0_f64 / 11.0 / 12.0).sqrt()).abs() < 1e-12, "{rise:?}");
    Ok(())
}

#[test]
fn measured_search_is_unchanged_to_the_last_bit_and_continues_alike() -> TestResult {
    let _alone = alone();
    let batches = batches()?;
    let mut weights = Vec::new();
    for measures in [false, true] {
        let mut search = search_with(options().with(|o| o.training.ema_decay = Some(0.9)), 0.5)?;
        run(&mut search, 2)?;
        search.materialise()?;
        if measures {
            let before = state(&search)?;
            let mut calibration = Calibration::cross_entropy(&batches);
            let with_ema = search.evaluate(|supernet| calibration.measure(supernet))?;
            assert_eq!(state(&search)?, before);
            // And without the EMA, also where the loss fails half-way.
            let plain = calibration.measure(search.supernet())?;
            assert_ne!(with_ema, plain);
            let images = [batches[0].images.shallow_clone()];
            let calls = Cell::new(0);
            let mut failing = Calibration::with(&images, |_| {
                calls.set(calls.get() + 1);
                let fails = calls.get() > 20;
                Ok(Tensor::f_full([6 - i64::from(fails)], 1.0, (Kind::Float, test_device()))?)
            });
            let refused = failing.measure(search.supernet());
            assert!(matches!(refused, Err(Error::Shape { .. })), "{refused:?}");
            assert_eq!(state(&search)?, before);
        }
        run(&mut search, STEPS)?;
        weights.push(state(&search)?);
    }
    assert_eq!(weights[0], weights[1]);
    Ok(())
}

/// Every number of θ, θ ⊙ gates, scores and α, by name.
fn state(search: &Search<VitConfig>) -> TestResult<Vec<(String, Vec<f64>)>> {
    let supernet = search.supernet();
    let named = [("raw", supernet.raw_weights()), ("folded", supernet.folded_weights())];
    let mut all = Vec::new();
    for (kind, weights) in &named {
        for (name, weight) in weights {
            all.push((format!("{kind} {name}"), numbers(weight)?));
        }
    }
    for own in supernet.states() {
        all.push((own.score_name(), numbers(&own.score)?));
        all.push((own.alpha_name(), numbers(&own.alpha)?));
    }
    Ok(all)
}

#[test]
fn loss_without_labels_compares_with_the_network_before_pruning() -> TestResult {
    let _alone = alone();
    let (supernet, batches) = (supernet(vit(), few(vit().space()?)?)?, batches()?);
    let images: Vec<Tensor> = batches.iter().map(|batch| batch.images.shallow_clone()).collect();
    let seen = Cell::new(0);
    let mut calibration = Calibration::with(&images, |outputs| {
        assert_eq!(outputs.batch, seen.get() % 2);
        seen.set(seen.get() + 1);
        let distance = outputs.logits.f_sub(outputs.reference)?.f_square()?;
        Ok(distance.f_sum_dim_intlist([1i64].as_slice(), false, None)?)
    });
    let sensitivity = calibration.measure(&supernet)?;
    assert_eq!((sensitivity.loss, sensitivity.standard_error), (0.0, 0.0));
    for dimension in &sensitivity.dimensions {
        for candidate in dimension.candidates.iter().filter(|own| own.size != dimension.size) {
            assert!(candidate.rise.mean > 0.0, "{} {candidate:?}", dimension.name);
        }
    }
    Ok(())
}

#[test]
fn progress_counts_every_pass_and_its_error_ends_the_measurement() -> TestResult {
    let _alone = alone();
    let space = vit().space()?.only(&["embed", "blocks.1.mlp"])?;
    let (supernet, batches) = (supernet(vit(), space)?, batches()?);
    let mut seen = Vec::new();
    let mut calibration = Calibration::cross_entropy(&batches).on_progress(|progress| {
        seen.push((progress.dimension.to_owned(), progress.done, progress.passes));
        Ok(())
    });
    let sensitivity = calibration.measure(&supernet)?;
    let candidates = sensitivity.dimensions.iter();
    let passes: usize = candidates.map(|own| own.candidates.len() - 1).sum::<usize>() + 1;
    drop(calibration);
    assert_eq!(seen.iter().map(|own| own.1).collect::<Vec<_>>(), (0..passes).collect::<Vec<_>>());
    assert!(seen.iter().all(|own| own.2 == passes), "{seen:?}");
    assert_eq!(seen.last().map(|own| own.0.as_str()), Some("blocks.1.mlp"));
    let stop = |_: Progress| Err(Error::Missing { kind: "time", name: "left".into() });
    let stopped = Calibration::cross_entropy(&batches).on_progress(stop).measure(&supernet);
    assert!(matches!(stopped, Err(Error::Missing { .. })), "{stopped:?}");
    Ok(())
}

#[test]
fn nan_loss_is_refused_by_dimension_and_size() -> TestResult {
    let _alone = alone();
    let (supernet, batches) = (supernet(vit(), vit().space()?)?, batches()?);
    let images = [batches[0].images.shallow_clone()];
    let calls = Cell::new(0);
    let nan_at = |at: usize| {
        calls.set(0);
        let calls = &calls;
        Calibration::with(&images, move |outputs| {
            calls.set(calls.get() + 1);
            let loss = if calls.get() == at { f64::NAN } else { 1.0 };
            Ok(Tensor::f_full([6], loss, (Kind::Float, outputs.logits.device()))?)
        })
        .measure(&supernet)
    };
    let words = |refused: once_for_both::Result<Sensitivity>| match refused {
        Err(error @ Error::NonFinite { .. }) => error.to_string(),
        other => format!("{other:?}"),
    };
    let expected = "calibration loss of the network before pruning holds a NaN or an infinity";
    assert_eq!(words(nan_at(1)), expected);
    let expected = "calibration loss of embed pruned to 16 holds a NaN or an infinity";
    assert_eq!(words(nan_at(2)), expected);
    Ok(())
}

#[test]
fn calibration_without_batches_or_images_or_with_wrong_ones_is_refused() -> TestResult {
    let _alone = alone();
    let supernet = supernet(vit(), vit().space()?)?;
    let refused = |batches: &[Batch]| -> String {
        let measured = Calibration::cross_entropy(batches).measure(&supernet);
        measured.map_or_else(|error| error.to_string(), |found| format!("{found:?}"))
    };
    let of = |images: i64, class: i64| -> TestResult<Batch> {
        let classes = Tensor::f_full([images], class, (Kind::Int64, test_device()))?;
        Ok(Batch::classes(batch(0)?.images.f_narrow(0, 0, images)?, classes))
    };
    assert_eq!(refused(&[]), "number of calibration batches: got 0, expected at least one");
    let expected = "number of calibration images: got 1, expected at least 2, for a standard error";
    assert_eq!(refused(&[of(1, 0)?]), expected);
    assert!(refused(&[of(3, 5)?]).starts_with("class index of the targets: got 5"));
    let bytes = [batch(0)?.images.f_to_kind(Kind::Uint8)?];
    let measured = Calibration::with(&bytes, |_| unreachable!()).measure(&supernet);
    assert!(measured.is_err_and(|error| error.to_string().starts_with("kind of the images")));
    let unknown = [("depth".to_owned(), Size::flat(1))].into();
    let batches = [of(2, 0)?];
    let measured = Calibration::cross_entropy(&batches).rise(&supernet, &unknown);
    assert!(matches!(measured, Err(Error::Unknown { .. })), "{measured:?}");
    Ok(())
}

#[test]
fn measurement_during_a_fade_out_is_refused() -> TestResult {
    let _alone = alone();
    let mut search = search_with(fade_out_options().with(|o| o.pruning.fade_out_steps = 4), 0.5)?;
    run(&mut search, 5)?;
    let batches = batches()?;
    let refused = Calibration::cross_entropy(&batches).measure(search.supernet());
    let Err(Error::Invalid { name, .. }) = refused else { panic!("{refused:?}") };
    assert!(name.starts_with("gate fade-out of "), "{name}");
    Ok(())
}

/// Rises of the little space, of which those of the attention are not monotone in its size.
fn little_sensitivity(space: &SearchSpace) -> Sensitivity {
    let rises: [&[f64]; 3] = [&[0.5, 0.0], &[0.3, 0.1, 0.25, 0.0], &[0.4, 0.15, 0.0]];
    let dimension = |(own, rises): (&once_for_both::space::Dimension, &[f64])| {
        let candidate = |(size, &mean): (Size, &f64)| CandidateSensitivity {
            size,
            rise: Rise { mean, standard_error: 0.01 },
        };
        let candidates = own.candidates.sizes().zip(rises).map(candidate).collect();
        let (name, size) = (own.name.clone(), own.candidates.full());
        DimensionSensitivity { name, kind: own.kind, size, candidates }
    };
    let dimensions = space.dimensions.iter().zip(rises).map(dimension).collect();
    Sensitivity { images: 8, loss: 1.0, standard_error: 0.1, dimensions }
}

/// Least sum of rises, and its sizes, of all choices that use 98 % of the limit; the 2 % left double until there is
/// such a choice.
fn brute_force(
    sensitivity: &Sensitivity,
    model: &CostModel,
    limit: f64,
) -> TestResult<(f64, Sizes)> {
    let mut choices = vec![(0.0, Sizes::new())];
    for own in &sensitivity.dimensions {
        let mut longer = Vec::new();
        for (sum, sizes) in &choices {
            for candidate in &own.candidates {
                let mut sizes = sizes.clone();
                sizes.insert(own.name.clone(), candidate.size);
                longer.push((sum + candidate.rise.mean, sizes));
            }
        }
        choices = longer;
    }
    let mut unused = 0.02;
    loop {
        let mut best: Option<(f64, Sizes)> = None;
        for (sum, sizes) in &choices {
            let cost = model.cost(Metric::Macs, sizes)?;
            let near = cost <= limit && cost >= (1.0 - unused) * limit;
            if near && best.as_ref().is_none_or(|best| sum < &best.0) {
                best = Some((*sum, sizes.clone()));
            }
        }
        match best {
            Some(best) => return Ok(best),
            None => unused *= 2.0,
        }
    }
}

#[test]
fn forecast_of_a_small_space_is_the_least_sum_of_all_choices() -> TestResult {
    let (space, model, _) = little()?;
    let sensitivity = little_sensitivity(&space);
    let dense = model.dense_cost(Metric::Macs)?;
    let shares: Vec<f64> = (3..=20).map(|at| f64::from(at) / 20.0).collect();
    let budgets: Vec<Budget> = shares.iter().map(|share| Budget::macs_share(*share)).collect();
    let forecast = sensitivity.forecast(&model, &space, &budgets)?;
    assert_eq!((forecast.points.len(), forecast.loss), (budgets.len(), 1.0));
    for (point, share) in forecast.points.iter().zip(shares.iter().rev()) {
        let limit = (share * dense).floor();
        assert_eq!(point.budget.limit, limit, "the highest budget comes first");
        let (sum, sizes) = brute_force(&sensitivity, &model, limit)?;
        assert!((point.predicted - sum).abs() < 1e-12, "{share}: {point:?} {sum}");
        assert_eq!(point.sizes, sizes, "{share}");
        assert_eq!(point.share, model.cost(Metric::Macs, &sizes)? / dense);
        assert_eq!(point.measured, None);
    }
    Ok(())
}

#[test]
fn order_of_a_forecast_is_that_in_which_falling_limits_prune() -> TestResult {
    let (space, model, _) = little()?;
    let sensitivity = little_sensitivity(&space);
    let forecast = sensitivity.forecast(&model, &space, &[Budget::macs_share(0.12)])?;
    let order: Vec<&str> = forecast.order.iter().map(|own| own.dimension.as_str()).collect();
    assert_eq!(order.len(), 3, "at the least cost every dimension is pruned: {order:?}");
    assert_eq!(order.last(), Some(&"e"), "the dearest is pruned last: {order:?}");
    assert!(forecast.order.windows(2).all(|pair| pair[0].share >= pair[1].share), "{order:?}");
    let whole = sensitivity.forecast(&model, &space, &[Budget::macs_share(1.0)])?.to_string();
    assert!(whole.contains("1.0000 (+0.0000)"), "nothing is pruned, and nothing rises: {whole}");
    let text = forecast.to_string();
    let expected = "loss before pruning 1.0000, on 8 calibration images";
    assert!(text.starts_with(expected), "{text}");
    assert!(
        text.contains(&format!("pruned first, as the limit falls: {} at ", order[0])),
        "{text}"
    );
    Ok(())
}

#[test]
fn checked_forecast_has_the_measured_rise_of_each_choice() -> TestResult {
    let _alone = alone();
    let space = few(vit().space()?)?;
    let (supernet, batches) = (supernet(vit(), space.clone())?, batches()?);
    let mut calibration = Calibration::cross_entropy(&batches);
    let sensitivity = calibration.measure(&supernet)?;
    let budgets = [Budget::macs_share(0.6), Budget::macs_share(1.0)];
    let mut forecast = sensitivity.forecast(supernet.cost_model(), &space, &budgets)?;
    forecast.check(&mut calibration, &supernet)?;
    for point in &forecast.points {
        let measured = calibration.rise(&supernet, &point.sizes)?;
        assert_eq!(point.measured, Some(measured));
        let text = format!("({:+.4} ± {:.4})", measured.mean, measured.standard_error);
        assert!(forecast.to_string().contains(&text), "{forecast}");
    }
    Ok(())
}

#[test]
fn forecast_without_budgets_with_two_metrics_or_of_another_space_is_refused() -> TestResult {
    let (space, model, _) = little()?;
    let sensitivity = little_sensitivity(&space);
    let refused = |sensitivity: &Sensitivity, budgets: &[Budget]| -> String {
        let forecast = sensitivity.forecast(&model, &space, budgets);
        forecast.map_or_else(|error| error.to_string(), |found| format!("{found:?}"))
    };
    let half = Budget::macs_share(0.5);
    let none = "number of budgets of a forecast: got 0, expected at least one";
    assert_eq!(refused(&sensitivity, &[]), none);
    let two = "metric of a budget: got parameters, expected MACs, as of the first";
    assert!(refused(&sensitivity, &[half, Budget::params_share(0.5)]).starts_with(two));
    assert!(refused(&sensitivity, &[Budget::macs_share(0.01)]).starts_with("budget: got"));
    let mut fewer = sensitivity.clone();
    fewer.dimensions.pop();
    assert!(refused(&fewer, &[half]).starts_with("unknown dimension of the sensitivity h"));
    let mut odd = sensitivity.clone();
    odd.dimensions[2].candidates[0].size = Size::flat(3);
    let other = "measured size of h: got 3, expected a candidate of the search space";
    assert_eq!(refused(&odd, &[half]), other);
    Ok(())
}

#[test]
fn written_sensitivity_is_read_back_and_another_file_is_refused() -> TestResult {
    let (space, ..) = little()?;
    let sensitivity = little_sensitivity(&space);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("sensitivity.json");
    sensitivity.write(&path)?;
    assert_eq!(Sensitivity::read(&path)?, sensitivity);
    std::fs::write(&path, "{}")?;
    assert!(matches!(Sensitivity::read(&path), Err(Error::File { .. })));
    assert!(matches!(Sensitivity::read(folder.path().join("none")), Err(Error::Io { .. })));
    Ok(())
}

/// A search whose α is fixed.
fn fixed() -> SearchOptions {
    SearchOptions::learned(STEPS, 8).seed(3).with(|o| {
        o.optimiser.alpha_rate = Some(0.0);
        o.pruning.drop_share = 0.0;
        o.pruning.fade_out_steps = 0;
    })
}

#[test]
fn search_with_alpha_from_sensitivity_decides_as_forecast_and_starts_as_the_dense_network(
) -> TestResult {
    let _alone = alone();
    let batches = batches()?;
    let mut search = search_with(fixed(), 0.5)?;
    let before = search.evaluate(|supernet| supernet.network_logits(&batches[0].images))?;
    let mut calibration = Calibration::cross_entropy(&batches);
    let sensitivity = search.evaluate(|supernet| calibration.measure(supernet))?;
    sensitivity.start_alpha(&mut search, 0.01)?;
    let (model, space) = (search.supernet().cost_model(), search.supernet().space());
    let forecast = sensitivity.forecast(model, space, &[Budget::macs_share(0.5)])?;
    let after = search.supernet().network_logits(&batches[0].images)?;
    support::Tolerance::of_scale(1e-5, &before)?.check("logits", &after, &before)?;
    for state in search.supernet().states() {
        let rises = sensitivity.dimension(&state.name)?.candidates.iter().map(|c| c.rise.mean);
        let expected: Vec<f64> = rises.map(|rise| f64::from((-rise / 0.01) as f32)).collect();
        assert_eq!(numbers(&state.alpha)?, expected);
    }
    run(&mut search, STEPS)?;
    assert_eq!(search.supernet().sizes(), forecast.points[0].sizes);
    Ok(())
}

#[test]
fn start_of_alpha_after_a_step_or_by_another_measurement_is_refused() -> TestResult {
    let _alone = alone();
    let batches = batches()?;
    let mut search = search_with(fixed(), 0.5)?;
    let mut calibration = Calibration::cross_entropy(&batches);
    let sensitivity = search.evaluate(|supernet| calibration.measure(supernet))?;
    let before = state(&search)?;
    let mut refused = |sensitivity: &Sensitivity, temperature: f64| -> String {
        let set = sensitivity.start_alpha(&mut search, temperature);
        set.map_or_else(|error| error.to_string(), |()| "set".into())
    };
    assert!(refused(&sensitivity, 0.0).starts_with("temperature of α: got 0"));
    let mut fewer = sensitivity.clone();
    fewer.dimensions.pop();
    assert!(refused(&fewer, 1.0).starts_with("unknown dimension of the sensitivity blocks.1.mlp"));
    let mut other = sensitivity.clone();
    other.dimensions[0].candidates.remove(0);
    assert!(
        refused(&other, 1.0).starts_with("size of embed: got 16, expected one that was measured")
    );
    // Gates of units of the largest candidate alone are 0 without λ.
    let mut steep = sensitivity.clone();
    for own in &mut steep.dimensions {
        own.candidates.iter_mut().for_each(|candidate| candidate.rise.mean = 0.0);
        own.candidates[0].rise.mean = -200.0;
    }
    assert_eq!(state(&search)?, before);
    let mut without_lambda = search_with(fixed().with(|o| o.lambda.start = 0.0), 0.5)?;
    let started = state(&without_lambda)?;
    let error = steep.start_alpha(&mut without_lambda, 1.0).err().ok_or("set")?.to_string();
    assert!(error.contains("gate"), "{error}");
    assert_eq!(state(&without_lambda)?, started);
    let mut estimated = search_with(SearchOptions::new(12, 8), 0.5)?;
    let without_effect = sensitivity.start_alpha(&mut estimated, 1.0);
    let told = "decisions: got estimated, expected learned";
    assert!(without_effect.is_err_and(|error| error.to_string().starts_with(told)));
    run(&mut search, 1)?;
    let late = sensitivity.start_alpha(&mut search, 1.0);
    assert!(late.is_err_and(|error| error.to_string().starts_with("steps done: got 1, expected 0")));
    Ok(())
}
