//! Searches under a latency budget: the limit, the measurement of the choice, its correction, resume.

use crate::assert_refused;
use crate::device::{milliseconds, noisy, quiet, vit, SyntheticDevice};
use crate::support::{test_device, TestResult};
use once_for_both::cost::Metric;
use once_for_both::error::LatencyError;
use once_for_both::latency::{Meter, Setting, Timer};
use once_for_both::prelude::*;
use once_for_both::search::{
    Checkpoints, LatencyCheck, LatencyOutcome, NonFiniteAction, SearchBuilder,
};
use once_for_both::Error;
use std::path::Path;
use std::sync::Arc;
use tch::{Kind, Tensor};

fn batch(number: u64) -> once_for_both::Result<Batch> {
    once_for_both::randomness::seed(number);
    let images = Tensor::f_randn([4, 3, 32, 32], (Kind::Float, test_device()))?;
    let classes = Tensor::f_randint(10, [4], (Kind::Int64, test_device()))?;
    Ok(Batch::classes(images, classes))
}

/// Two rounds before the last decision.
fn estimated() -> SearchOptions {
    SearchOptions::new(8, 6).with(|options| options.pruning.interval = 2)
}

fn builder(
    device: SyntheticDevice,
    options: SearchOptions,
) -> TestResult<SearchBuilder<VitConfig>> {
    let search = Search::of(vit()).latency(quiet()?).latency_meter(Arc::new(device));
    Ok(search.options(options).device(test_device()))
}

/// Trains to the end; returns the search and the checks of its latency.
fn trained(
    builder: SearchBuilder<VitConfig>,
) -> TestResult<(Search<VitConfig>, Vec<LatencyCheck>)> {
    let mut search = builder.build()?;
    let mut checks = Vec::new();
    let mut listener = |event: &Event| {
        if let Event::Latency(check) = event {
            checks.push(*check);
        }
        Ok(())
    };
    search.train(&mut batch, &mut listener)?;
    Ok((search, checks))
}

fn latency_share(search: &Search<VitConfig>) -> f64 {
    milliseconds(search.supernet().architecture()) / milliseconds(&vit())
}

#[test]
fn search_under_a_latency_budget_ends_within_it_however_it_decides() -> TestResult {
    for options in [estimated(), SearchOptions::learned(8, 6)] {
        let builder =
            builder(SyntheticDevice::quiet(), options)?.budget(Budget::latency_share(0.6));
        let (mut search, checks) = trained(builder)?;
        let (share, limit) = (latency_share(&search), search.limits()[0]);
        assert!(share <= 0.606 && share > 0.5, "{share}");
        let supernet = search.supernet();
        let predicted = supernet.cost_model().cost(Metric::Latency, &supernet.sizes())?;
        assert!(predicted <= limit.limit);
        let last = checks.last().ok_or("no check")?;
        assert_eq!((last.asked_ms, last.predicted_ms), (limit.limit, predicted));
        assert!(last.measured.is_some_and(|own| own.ms <= limit.limit), "{last:?}");
        let extracted = search.extract(&batch(0)?.images)?;
        assert_eq!(extracted.provenance.limits, [limit]);
    }
    Ok(())
}

#[test]
fn search_under_budgets_of_latency_and_macs_meets_both() -> TestResult {
    let budgets = [Budget::latency_share(0.7), Budget::macs_share(0.5)];
    let options = estimated();
    let (search, _) = trained(builder(SyntheticDevice::quiet(), options)?.budgets(budgets))?;
    let model = search.supernet().cost_model();
    for limit in search.limits() {
        assert!(model.cost(limit.metric, &search.supernet().sizes())? <= limit.limit);
    }
    Ok(())
}

#[test]
fn choice_slower_than_asked_is_made_again_until_it_is_fast_enough() -> TestResult {
    let device = SyntheticDevice { slower: 1.15, ..SyntheticDevice::quiet() };
    let builder = builder(device, estimated())?.budget(Budget::latency_share(0.7));
    let (search, checks) = trained(builder)?;
    let first = checks[0].measured.ok_or("no measurement")?;
    assert!(first.ms > 1.1 * checks[0].asked_ms, "{checks:?}");
    let last = checks.last().and_then(|own| own.measured).ok_or("no measurement")?;
    assert!(last.ms <= checks[0].asked_ms && checks.len() > 1, "{checks:?}");
    let outcomes: Vec<_> = checks.iter().map(|own| own.outcome).collect();
    assert_eq!(outcomes[0], LatencyOutcome::ChosenAgain);
    assert_eq!(outcomes[outcomes.len() - 1], LatencyOutcome::Met);
    assert!(1.15 * latency_share(&search) <= 0.707, "{}", latency_share(&search));
    Ok(())
}

#[test]
fn choice_that_is_complete_before_the_end_of_the_search_is_measured() -> TestResult {
    let options = SearchOptions::learned(40, 30).with(|options| {
        options.pruning.interval = 1;
        options.pruning.drop_share = 0.99;
        options.pruning.decide_early = true;
        options.optimiser.alpha_rate = Some(2.0);
        options.pruning.fade_out_steps = 0;
    });
    // The embedding alone has a choice, and one of two that the budget allows.
    let mut space = vit().space()?;
    for own in &mut space.dimensions {
        let [heads, channels] = [own.candidates.heads(), own.candidates.channels()];
        own.candidates = match own.kind {
            DimensionKind::Embedding => Candidates::flat(channels, vec![channels / 2, channels])?,
            _ => Candidates::grid(heads, channels, vec![heads], vec![channels])?,
        };
    }
    let half: Sizes =
        space.dimensions.iter().map(|own| (own.name.clone(), own.candidates.size(0))).collect();
    let milliseconds = quiet()?.predict(&half)?;
    let builder = builder(SyntheticDevice::quiet(), options)?.space(space);
    let (search, checks) = trained(builder.budget(Budget::latency(milliseconds)))?;
    let [check] = checks.as_slice() else { return Err(format!("{checks:?}").into()) };
    assert!(check.step < 29 && check.outcome == LatencyOutcome::Met, "{checks:?}");
    assert_eq!(search.supernet().architecture().embed_dim, vit().embed_dim / 2);
    Ok(())
}

#[test]
fn choice_after_a_rollback_is_measured_with_the_meter_of_the_caller() -> TestResult {
    let options = estimated().with(|options| {
        options.log_interval = 1;
        options.training.max_skipped_in_a_row = 1;
    });
    let budget = Budget::latency_share(0.6);
    let mut search = builder(SyntheticDevice::quiet(), options)?.budget(budget).build()?;
    let folder = tempfile::tempdir()?;
    let (mut checks, mut rolled_back, mut bad) = (Vec::new(), false, true);
    let mut run = search.run_in(folder.path())?.checkpoint_every(1).on_event(|event: &Event| {
        match event {
            Event::Latency(check) => checks.push(*check),
            Event::NonFinite { action, .. } => {
                rolled_back |= *action == NonFiniteAction::RolledBack;
            }
            _ => {}
        }
        Ok(())
    });
    // Step 2 has NaN, and none when it is repeated.
    run.train(&mut |number: u64| {
        let batch = batch(number)?;
        let now = number == 2 && std::mem::take(&mut bad);
        let images = if now { batch.images * f64::NAN } else { batch.images };
        Ok(Batch { images, ..batch })
    })?;
    drop(run);
    assert!(rolled_back);
    assert!(checks.last().is_some_and(|check| check.measured.is_some()), "{checks:?}");
    Ok(())
}

#[test]
fn lowest_of_several_latency_budgets_is_the_one_that_is_asked() -> TestResult {
    let device = SyntheticDevice { slower: 1.15, ..SyntheticDevice::quiet() };
    let budgets = [0.9, 0.7].map(Budget::latency_share);
    let (search, checks) = trained(builder(device, estimated())?.budgets(budgets))?;
    assert!((checks[0].asked_ms / quiet()?.dense_ms - 0.7).abs() < 1e-6, "{checks:?}");
    assert!(1.15 * latency_share(&search) <= 0.707, "{}", latency_share(&search));
    Ok(())
}

#[test]
fn choice_slower_than_asked_by_less_than_noise_is_kept() {
    let measured = |ms, standard_error| {
        let measured = Some(once_for_both::latency::MeasuredLatency { ms, standard_error });
        let outcome = LatencyOutcome::Met;
        LatencyCheck { step: 1, asked_ms: 10.0, predicted_ms: 9.9, measured, outcome }
    };
    assert_eq!(measured(10.4, 0.3).slower(2.0), None);
    assert_eq!(measured(11.0, 0.3).slower(2.0), Some(1.1));
    assert_eq!(LatencyCheck { measured: None, ..measured(99.0, 0.0) }.slower(2.0), None);
}

#[test]
fn choice_that_no_smaller_network_corrects_is_kept_and_told() -> TestResult {
    let device = SyntheticDevice { slower: 4.0, ..SyntheticDevice::quiet() };
    let builder = builder(device, estimated())?.budget(Budget::latency_share(0.6));
    let (_, checks) = trained(builder)?;
    let last = checks.last().ok_or("no check")?;
    assert!(last.slower(2.0).is_some(), "{checks:?}");
    assert_eq!(last.outcome, LatencyOutcome::NoSmallerNetwork);
    assert!(last.outcome.missed());
    assert!(last.outcome.to_string().contains("no smaller network"));
    Ok(())
}

/// A device on which every network but the dense one takes 0.63 of its latency.
#[derive(Debug)]
struct Constant;

impl Meter<VitConfig> for Constant {
    fn setting(&self) -> Setting {
        Meter::<VitConfig>::setting(&SyntheticDevice::quiet())
    }

    fn prepare(&self, network: &VitConfig) -> once_for_both::Result<Timer<'_>> {
        let share = if *network == vit() { 1.0 } else { 0.63 };
        Ok(Box::new(move || Ok(share * milliseconds(&vit()))))
    }
}

#[test]
fn choice_that_all_corrections_leave_too_slow_is_kept_and_told() -> TestResult {
    let search = Search::of(vit()).latency(quiet()?).latency_meter(Arc::new(Constant));
    let search = search.options(estimated()).device(test_device());
    let (_, checks) = trained(search.budget(Budget::latency_share(0.6)))?;
    let outcomes: Vec<_> = checks.iter().map(|own| own.outcome).collect();
    let [again, used_up] = [LatencyOutcome::ChosenAgain, LatencyOutcome::CorrectionsUsedUp];
    assert_eq!(outcomes, [again, again, again, again, used_up]);
    assert!(used_up.missed() && !again.missed());
    Ok(())
}

#[test]
fn search_on_another_device_than_the_model_measures_nothing() -> TestResult {
    let model = quiet()?;
    let search = Search::of(vit()).latency(model).budget(Budget::latency_share(0.6));
    let (_, checks) = trained(search.options(estimated()).device(test_device()))?;
    assert_eq!(checks.iter().map(|own| own.measured).collect::<Vec<_>>(), [None]);
    assert_eq!(checks[0].outcome, LatencyOutcome::NotMeasured);
    Ok(())
}

#[test]
fn resumed_search_has_its_latency_model_and_refuses_another() -> TestResult {
    let folder = tempfile::tempdir()?;
    let own = || -> TestResult<_> {
        let own = builder(SyntheticDevice::quiet(), estimated())?;
        Ok(own.budget(Budget::latency_share(0.6)))
    };
    let mut search = own()?.build()?;
    search.step(&[batch(0)?], &mut ())?;
    let path: &Path = folder.path();
    Checkpoints::new(path.join("checkpoints"), 1).save(&search)?;
    let resumed = own()?.build_or_resume(path)?.search;
    assert_eq!(resumed.steps_done(), 1);
    assert_eq!(resumed.latency_model(), search.latency_model());
    let branch = resumed.branch(&[Budget::latency_share(0.7)], 2)?;
    assert_eq!(branch.latency_model(), search.latency_model());
    let elsewhere = SyntheticDevice { name: "other", ..SyntheticDevice::quiet() };
    assert_refused!(
        own()?.latency_meter(Arc::new(elsewhere)).build_or_resume(path),
        Error::Latency(LatencyError::Differs { what: "device", .. })
    );
    let other = Search::of(vit()).latency(noisy()?);
    let other = other.budget(Budget::latency_share(0.6)).options(estimated());
    assert_refused!(
        other.device(test_device()).build_or_resume(path),
        Error::Invalid { ref name, .. } if name == "latency model"
    );
    Ok(())
}
