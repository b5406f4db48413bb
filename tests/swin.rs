//! Swin Transformers: declaration, search, resume, extraction, masked tokens.

mod support;

use approx::assert_abs_diff_eq;
use once_for_both::check::self_check;
use once_for_both::components::MaskedTokens;
use once_for_both::cost::Budget;
use once_for_both::models::{Architecture, Network, SwinConfig, VitConfig};
use once_for_both::search::{Checkpoints, Event, Search, SearchOptions};
use once_for_both::subnet::{Export, Subnet};
use once_for_both::supernet::Supernet;
use once_for_both::Error;
use support::tiny_run::{alone, batch, fade_out_options, options, run, without_times, STEPS};
use support::{test_device, TestResult, Tolerance};
use tch::{nn, Kind, Tensor};

/// Two stages: the first with shifted windows, the second with a single one.
fn swin() -> SwinConfig {
    SwinConfig::uniform(16, &[2, 1], 2).input(16, 3, 2).window(4).classes(5)
}

fn search(share: f64, options: SearchOptions) -> TestResult<Search<SwinConfig>> {
    let builder = Search::of(swin()).budget(Budget::macs_share(share)).options(options);
    Ok(builder.device(test_device()).build()?)
}

#[test]
fn self_check_of_swin_is_sound() -> TestResult {
    let _alone = alone();
    let images = Tensor::f_randn([2, 3, 16, 16], (Kind::Float, test_device()))?;
    self_check(&swin(), &swin().space()?, &images)?.expect_sound()?;
    let three = SwinConfig::uniform(16, &[1, 2, 1], 2).input(24, 3, 2).window(3).classes(5);
    let images = Tensor::f_randn([2, 3, 24, 24], (Kind::Float, test_device()))?;
    self_check(&three, &three.space()?, &images)?.expect_sound()?;
    // Grids of 9, 5 and 3, padded for windows and for patch merging.
    let padded = SwinConfig::uniform(16, &[2, 2, 1], 2).input(18, 3, 2).window(4).classes(5);
    let images = Tensor::f_randn([2, 3, 18, 18], (Kind::Float, test_device()))?;
    self_check(&padded, &padded.space()?, &images)?.expect_sound()?;
    Ok(())
}

#[test]
fn search_meets_its_budget_and_prunes_exactly() -> TestResult {
    let _alone = alone();
    for (share, options) in [(0.4, options()), (0.6, fade_out_options())] {
        let mut search = search(share, options)?;
        let mut prunings = 0;
        for event in run(&mut search, STEPS)? {
            if let Event::Pruned(pruned) = event {
                prunings += 1;
                assert!(pruned.exact_difference <= 1e-5 * pruned.logit_scale, "{pruned:?}");
            }
        }
        assert!(prunings > 0, "no unit was pruned at a budget of {share}");
        let images = batch(99)?.images;
        let subnet = search.extract(&images)?;
        let limit = search.limits()[0].limit;
        assert!(subnet.macs()? <= limit, "{} MACs, budget {limit}", subnet.macs()?);
        let verification = &subnet.verification;
        assert!(verification.max_abs_logit_difference() <= 1e-5 * verification.logit_scale);

        let folder = tempfile::tempdir()?;
        let path = folder.path().join("subnet");
        subnet.save(&path, &Export::default())?;
        let loaded = Subnet::<SwinConfig>::load(&path, test_device())?;
        assert_eq!(loaded.architecture(), subnet.architecture());
        assert!(loaded.predict(&images)?.equal(&subnet.predict(&images)?));
    }
    Ok(())
}

#[test]
fn search_resumed_after_any_stop_is_bit_exact() -> TestResult {
    let _alone = alone();
    let mut whole = search(0.5, fade_out_options())?;
    let expected = run(&mut whole, STEPS)?;
    for stop in [1, STEPS / 2, STEPS - 1] {
        let folder = tempfile::tempdir()?;
        let mut first = search(0.5, fade_out_options())?;
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

/// The scale of the patch norm fades out by √(k/d) when k of d channels are kept: the kept channels
/// then have the size they have in the narrowed network, instead of √(d/k) = 1.41 times that. The
/// mean, which the zeros change as well, makes a difference of a few percent.
#[test]
fn patch_norm_at_the_end_of_a_fade_out_has_the_scale_of_the_narrowed_network() -> TestResult {
    let _alone = alone();
    let mut supernet = Supernet::new(swin(), swin().space()?, false, test_device())?;
    let images = batch(0)?.images;
    let size = supernet.states()[0].candidates().size(0);
    assert_eq!(2 * size.units(), supernet.states()[0].candidates().units());
    supernet.begin_fade_out(&[(0, size)], &present_gates(&supernet)?, 0)?;
    let fade_out = supernet.states_mut()[0].fade_out.as_mut().ok_or("no fade-out")?;
    fade_out.remaining = 0.0;
    let kept = Tensor::f_from_slice(fade_out.kept())?.f_to_device(test_device())?;
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

/// A masked token of the last stage masks all patches that are merged into it.
#[test]
fn logits_with_masked_tokens_do_not_depend_on_their_pixels() -> TestResult {
    let _alone = alone();
    let store = nn::VarStore::new(test_device());
    let network = swin().build(&store.root())?;
    let images = batch(0)?.images;
    let (count, float) = (images.size()[0], (Kind::Float, test_device()));
    let token = Tensor::f_randn([1, 1, 16], float)?;
    let mask = Tensor::f_zeros([count, 16], float)?;
    let _ = mask.f_select(1, 5)?.f_fill_(1.0)?;
    // Token 5 of 4 × 4 covers rows and columns 4 to 7 of the image.
    let other = images.f_detach_copy()?;
    let _ = other.f_narrow(2, 4, 4)?.f_narrow(3, 4, 4)?.f_zero_()?;
    let masked = || MaskedTokens { mask: &mask, token: &token };
    let (with, _) = network.forward_masked(&images, &masked(), false)?;
    let (without, _) = network.forward_masked(&other, &masked(), false)?;
    assert!(with.class.equal(&without.class));
    let unmasked = network.forward(&images, false)?;
    let close = Tolerance::of_scale(1e-3, &unmasked.class)?;
    assert!(close.check("logits", &with.class, &unmasked.class).is_err(), "nothing was masked");
    Ok(())
}

#[test]
fn swin_config_that_cannot_be_built_is_refused_by_field() -> TestResult {
    let _alone = alone();
    for (config, field) in [
        (swin().input(16, 3, 3), "patch_size"),
        (swin().classes(0), "classes"),
        (swin().window(0), "window_size"),
        // Windows whose constants do not fit into memory.
        (swin().input(16384, 3, 1).window(16), "window_size"),
        (swin().input(256, 3, 1).window(256), "window_size"),
        (SwinConfig::uniform(16, &[32], 2).input(64, 3, 1).window(64), "window_size"),
        (SwinConfig { stages: Vec::new(), ..swin() }, "stages"),
        (SwinConfig::uniform(16, &[2, 1], 0).input(16, 3, 2).window(4), "stages.0.blocks.0.heads"),
    ] {
        match config.check() {
            Err(Error::Invalid { name, .. }) if name == field => {}
            other => return Err(format!("{field}: {other:?}").into()),
        }
    }
    // Costs of configurations far out of range are computed without a panic.
    for absurd in [
        swin().input(224, 3, 1 << 32),
        swin().window(-4_000_000_000),
        SwinConfig::uniform(16, &[1; 70], 2),
    ] {
        let _ = absurd.cost_model();
        assert!(absurd.check().is_err());
    }
    assert_eq!(swin().windows(60, 0).count(), 1);
    let least = swin().window(i64::MIN).windows(0, 0);
    assert_eq!((least.padding(), least.count()), (i64::MIN, 64));
    let images = Tensor::f_zeros([1, 3, 8, 8], (Kind::Float, test_device()))?;
    let network = swin().build(&nn::VarStore::new(test_device()).root())?;
    assert_refused!(network.forward(&images, false), Error::Shape { .. });
    Ok(())
}

#[test]
fn search_with_pmim_at_sizes_that_its_decoder_does_not_fit_is_refused_with_the_size() -> TestResult
{
    let learned = || SearchOptions::learned(4, 2);
    let padded = SwinConfig::tiny().input(240, 3, 4);
    let search =
        |options| Search::of(padded.clone()).budget(Budget::macs_share(0.5)).options(options);
    let refused = search(learned()).check();
    assert_refused!(
        refused,
        Error::Invalid { name, expected, actual } if name == "image_size"
            && actual == "240" && expected.contains("= 32 for masked image modeling")
    );
    search(learned().with(|o| o.pmim = None)).check()?;
    // Grids of 8, 4, 2 and 1: the last has no token to mask.
    let small = SwinConfig::uniform(16, &[1, 1, 1, 1], 2).input(32, 3, 4).window(2).classes(5);
    let search =
        |options| Search::of(small.clone()).budget(Budget::macs_share(0.5)).options(options);
    assert_refused!(
        search(learned()).check(),
        Error::Invalid { name, expected, actual } if name == "token grid"
            && actual == "1 × 1" && expected.contains("set pmim to none")
    );
    search(learned().with(|o| o.pmim = None)).check()?;
    let vit = VitConfig::deit_tiny().rectangular([224, 224], [16, 8]);
    let refused = Search::of(vit).budget(Budget::macs_share(0.5)).options(learned()).check();
    assert_refused!(
        refused,
        Error::Invalid { name, expected, actual } if name == "patch_width"
            && actual == "8" && expected.starts_with("16")
    );
    Ok(())
}
