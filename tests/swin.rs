//! Swin from end to end: what is declared is what the network is, a search keeps its budget, cuts
//! exactly and goes on after an interruption, and what is extracted is what was searched.

mod support;

use approx::assert_abs_diff_eq;
use once_for_both::check::self_check;
use once_for_both::components::MaskedTokens;
use once_for_both::cost::{Budget, Metric};
use once_for_both::models::{Architecture, Network, SwinConfig};
use once_for_both::search::{Checkpoints, Event, Search, SearchOptions};
use once_for_both::subnet::{verify, Export, FoldingExtractor, Subnet, SubnetExtractor};
use once_for_both::supernet::Supernet;
use once_for_both::Error;
use support::tiny_run::{alone, batch, fade_out_options, options, run, without_times, STEPS};
use support::{test_device, TestResult, Tolerance};
use tch::{nn, Kind, Tensor};

/// Two stages; windows are shifted in the first and all there is in the second.
fn swin() -> SwinConfig {
    SwinConfig::uniform(16, &[2, 1], 2).input(16, 3, 2).window(4).classes(5)
}

fn session(share: f64, options: SearchOptions) -> TestResult<Search<SwinConfig>> {
    let budget = Budget::share(Metric::Macs, share, &swin().cost_model())?;
    let (space, device) = (swin().space()?, test_device());
    Ok(Search::new(swin(), space, None, vec![budget], options, device)?)
}

#[test]
fn the_declared_space_is_that_of_the_network() -> TestResult {
    let _alone = alone();
    let images = Tensor::f_randn([2, 3, 16, 16], (Kind::Float, test_device()))?;
    self_check(&swin(), &swin().space()?, &images)?.expect_sound()?;
    let three = SwinConfig::uniform(16, &[1, 2, 1], 2).input(24, 3, 2).window(3).classes(5);
    let images = Tensor::f_randn([2, 3, 24, 24], (Kind::Float, test_device()))?;
    self_check(&three, &three.space()?, &images)?.expect_sound()?;
    Ok(())
}

#[test]
fn a_search_keeps_its_budget_and_cuts_exactly() -> TestResult {
    let _alone = alone();
    for (share, options) in [(0.4, options()), (0.6, fade_out_options())] {
        let mut session = session(share, options)?;
        let mut cuts = 0;
        for event in run(&mut session, STEPS)? {
            if let Event::Pruned(cut) = event {
                cuts += 1;
                assert!(cut.exact_difference <= 1e-5 * cut.logit_scale, "{cut:?}");
            }
        }
        assert!(cuts > 0, "no unit left at a budget of {share}");
        session.materialise()?;
        let subnet = FoldingExtractor.extract(session.supernet())?;
        let limit = session.budgets()[0].limit;
        assert!(subnet.macs()? <= limit, "{} MACs, budget {limit}", subnet.macs()?);
        let images = batch(99)?.images;
        let verification = verify(session.supernet(), &subnet, &images)?;
        assert!(verification.max_abs_logit_difference() <= 1e-5 * verification.logit_scale);

        let folder = tempfile::tempdir()?;
        let path = folder.path().join("subnet");
        subnet.save(&path, &images, &verification, &Export::default())?;
        let loaded = Subnet::<SwinConfig>::load(&path, test_device())?;
        assert_eq!(loaded.architecture(), subnet.architecture());
        assert!(loaded.predict(&images)?.equal(&subnet.predict(&images)?));
    }
    Ok(())
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() -> TestResult {
    let _alone = alone();
    let mut whole = session(0.5, fade_out_options())?;
    let expected = run(&mut whole, STEPS)?;
    for stop in [1, STEPS / 2, STEPS - 1] {
        let folder = tempfile::tempdir()?;
        let mut first = session(0.5, fade_out_options())?;
        let mut events = run(&mut first, stop)?;
        let checkpoint = Checkpoints::new(folder.path(), 2).save(&first)?;
        let mut second = Search::<SwinConfig>::resume(&checkpoint, test_device())?;
        events.extend(run(&mut second, STEPS)?);
        assert_eq!(without_times(&events), without_times(&expected), "stopped after {stop}");
        let (left, right) = (second.supernet().raw_weights(), whole.supernet().raw_weights());
        assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
        for (name, tensor) in &left {
            assert!(tensor.equal(&right[name]), "{name} after a stop at {stop}");
        }
    }
    Ok(())
}

fn present_gates(supernet: &Supernet<SwinConfig>) -> TestResult<Vec<Tensor>> {
    Ok(supernet.masks(0.3)?.into_iter().map(|mask| mask.mask.detach()).collect())
}

/// The norm of the patches is gated, and turned down while units land: with the leaving channels at
/// zero, the others are as large as in the narrowed network. Without that they are √(d/k) = 1.41
/// times as large; what the mean makes is a few percent.
#[test]
fn the_norm_of_the_patches_lands() -> TestResult {
    let _alone = alone();
    let mut supernet = Supernet::new(swin(), swin().space()?, false, test_device())?;
    let images = batch(0)?.images;
    let size = supernet.states()[0].candidates().size(0);
    assert_eq!(2 * size.units(), supernet.states()[0].candidates().units());
    supernet.begin_fade_out(&[(0, size)], &present_gates(&supernet)?, 0)?;
    let fade_out = supernet.states_mut()[0].fade_out.as_mut().ok_or("no fade_out")?;
    fade_out.remaining = 0.0;
    let kept = Tensor::f_from_slice(&fade_out.kept()?)?.f_to_device(test_device())?;
    let patches = |supernet: &Supernet<SwinConfig>| -> TestResult<Tensor> {
        supernet.materialise(&present_gates(supernet)?)?;
        let (name, patches) = supernet.network().trace(&images)?.swap_remove(0);
        assert_eq!(name, "patch_embed");
        Ok(patches)
    };
    let masked = patches(&supernet)?;
    supernet.narrow(&[(0, size)])?;
    let narrowed = patches(&supernet)?;
    let others = masked.f_index_select(2, &kept)?;
    assert_eq!(masked.f_norm()?.f_double_value(&[])?, others.f_norm()?.f_double_value(&[])?);
    let ratio = (others.f_norm()? / narrowed.f_norm()?).f_double_value(&[])?;
    assert_abs_diff_eq!(ratio, 1.0, epsilon = 0.1);
    Ok(())
}

/// A hidden token of the last grid hides all of its patches: nothing of their pixels is left.
#[test]
fn hidden_tokens_hide_all_their_pixels() -> TestResult {
    let _alone = alone();
    let store = nn::VarStore::new(test_device());
    let network = swin().build(&store.root())?;
    let images = batch(0)?.images;
    let (count, float) = (images.size()[0], (Kind::Float, test_device()));
    let token = Tensor::f_randn([1, 1, 16], float)?;
    let mask = Tensor::f_zeros([count, 16], float)?;
    let _ = mask.f_select(1, 5)?.f_fill_(1.0)?;
    // Token 5 of 4 × 4 paints rows and columns 4 to 7.
    let other = images.f_detach_copy()?;
    let _ = other.f_narrow(2, 4, 4)?.f_narrow(3, 4, 4)?.f_zero_()?;
    let hidden = || MaskedTokens { mask: &mask, token: &token };
    let (with, _) = network.forward_masked(&images, &hidden(), false)?;
    let (without, _) = network.forward_masked(&other, &hidden(), false)?;
    assert!(with.class.equal(&without.class));
    let seen = network.forward(&images, false)?;
    let close = Tolerance::of_scale(1e-3, &seen.class)?;
    assert!(close.check("logits", &with.class, &seen.class).is_err(), "nothing was hidden");
    Ok(())
}

#[test]
fn what_cannot_be_built_is_refused_by_name() -> TestResult {
    for (config, field) in [
        (swin().window(3), "window_size"),
        (swin().input(18, 3, 2).window(9), "image_size / patch_size"),
        (swin().input(16, 3, 3), "patch_size"),
        (swin().classes(0), "classes"),
        (swin().window(0), "window_size"),
        // Constants of windows that no memory holds.
        (swin().input(16384, 3, 1).window(16), "window_size"),
        (swin().input(256, 3, 1).window(256), "window_size"),
        (SwinConfig { stages: Vec::new(), ..swin() }, "number of stages"),
        (SwinConfig::uniform(16, &[2, 1], 0).input(16, 3, 2).window(4), "layers.0.blocks.0.heads"),
    ] {
        match config.check() {
            Err(Error::Invalid { name, .. }) if name == field => {}
            other => return Err(format!("{field}: {other:?}").into()),
        }
    }
    // Asking is no fault, whatever comes out.
    for absurd in [
        swin().input(224, 3, 1 << 32),
        swin().window(-4_000_000_000),
        SwinConfig::uniform(16, &[1; 70], 2),
    ] {
        let _ = absurd.cost_model();
        assert!(absurd.check().is_err());
    }
    assert_eq!(swin().windows(60, 0).count(), 0);
    let images = Tensor::f_zeros([1, 3, 8, 8], (Kind::Float, test_device()))?;
    let network = swin().build(&nn::VarStore::new(test_device()).root())?;
    assert_refused!(network.forward(&images, false), Error::Shape { .. });
    Ok(())
}
