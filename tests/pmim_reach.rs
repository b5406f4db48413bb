//! What the gradient of images with masked tokens reaches.

mod support;

use once_for_both::batch::{Batch, Targets};
use once_for_both::models::VitConfig;
use once_for_both::schedule::LinearRamp;
use once_for_both::search::{PmimOptions, PmimReach, Search, SearchOptions};
use once_for_both::Error;
use support::tiny_run::{alone, batch, options, run, search_with, STEPS};
use support::{numbers, TestResult};

/// Masks half of the tokens; neither budget nor one-hot loss acts on α.
fn masking(images: f64, reach: PmimReach) -> SearchOptions {
    masking_share(0.5, images, reach)
}

/// Masks a share of the tokens.
fn masking_share(ratio: f64, images: f64, reach: PmimReach) -> SearchOptions {
    options().with(|own| {
        let mut pmim = PmimOptions::new(LinearRamp::new(ratio, ratio, 0));
        (pmim.images, pmim.reach) = (images, reach);
        own.pmim = Some(pmim);
        (own.budget.weight, own.one_hot.weight) = (0.0, 0.0);
        own.lambda = LinearRamp::new(0.5, 0.5, 0);
    })
}

/// Gradients of the scores and α of all dimensions.
fn reached(search: &Search<VitConfig>, batch: Batch) -> TestResult<Vec<f64>> {
    let gradients = search.gradients(&[batch])?.parameters()?;
    let mut all = Vec::new();
    for state in search.supernet().states() {
        for name in [state.score_name(), state.alpha_name()] {
            all.extend(numbers(gradients.get(&name).ok_or(name)?)?);
        }
    }
    Ok(all)
}

fn first_images(batch: &Batch, count: i64) -> TestResult<Batch> {
    let Targets::Classes(classes) = &batch.targets else { return Err("probabilities".into()) };
    Ok(Batch::classes(batch.images.f_narrow(0, 0, count)?, classes.f_narrow(0, 0, count)?))
}

#[test]
fn reconstruction_that_reaches_weights_only_has_no_gradient_in_scores_and_alpha() -> TestResult {
    let _alone = alone();
    // Whatever is masked and reconstructed in half of the images.
    let found = |ratio, reach| -> TestResult<Vec<f64>> {
        reached(&search_with(masking_share(ratio, 0.5, reach), 0.5)?, batch(0)?)
    };
    assert_eq!(found(0.5, PmimReach::Weights)?, found(0.9, PmimReach::Weights)?);
    assert_ne!(found(0.5, PmimReach::All)?, found(0.9, PmimReach::All)?);
    let search = search_with(masking(0.5, PmimReach::Weights), 0.5)?;
    let gradients = search.gradients(&[batch(0)?])?.parameters()?;
    for name in ["blocks.0.attn.qkv.weight", "blocks.1.mlp.fc2.weight"] {
        assert!(numbers(&gradients[name])?.iter().any(|g| *g != 0.0), "{name} has a gradient");
    }
    Ok(())
}

#[test]
fn scores_and_alpha_learn_from_the_images_without_masked_tokens_alone() -> TestResult {
    let _alone = alone();
    let half = search_with(masking(0.5, PmimReach::Weights), 0.5)?;
    let found = reached(&half, batch(0)?)?;
    let plain = search_with(masking(0.5, PmimReach::Weights).with(|o| o.pmim = None), 0.5)?;
    let expected = reached(&plain, first_images(&batch(0)?, 3)?)?;
    let largest = expected.iter().fold(0.0f64, |most, g| most.max(g.abs()));
    assert!(largest > 0.0);
    for (found, expected) in found.iter().zip(&expected) {
        // Half of the batch counts half.
        assert!((found - 0.5 * expected).abs() < 1e-5 * largest, "{found} {expected}");
    }
    Ok(())
}

#[test]
fn search_with_masked_tokens_in_a_quarter_of_the_images_ends_within_its_budget() -> TestResult {
    let _alone = alone();
    let own = options().with(|o| o.pmim = Some(PmimOptions::new(LinearRamp::new(0.5, 0.5, 0))));
    let mut search = search_with(own, 0.5)?;
    let losses = search.gradients(&[batch(0)?])?.losses;
    let reconstruction = losses.reconstruction.ok_or("two of six images have masked tokens")?;
    assert!(reconstruction.f_double_value(&[])? > 0.0);
    run(&mut search, STEPS)?;
    assert!(search.is_done());
    Ok(())
}

#[test]
fn options_written_before_reach_was_one_mean_the_papers() -> TestResult {
    let ramp = LinearRamp::new(0.05, 0.25, 10);
    let mut json = serde_json::to_value(PmimOptions::new(ramp))?;
    let object = json.as_object_mut().ok_or("no object")?;
    object.retain(|name, _| name == "mask_ratio");
    assert_eq!(serde_json::from_value::<PmimOptions>(json)?, PmimOptions::paper(ramp));
    Ok(())
}

#[test]
fn share_of_masked_images_out_of_range_is_refused_by_name() {
    for images in [0.0, 1.5, f64::NAN] {
        let refused = masking(images, PmimReach::All).check();
        assert!(
            matches!(&refused, Err(Error::Invalid { name, .. }) if name == "pmim.images"),
            "{refused:?}"
        );
    }
}

#[test]
fn masked_tokens_in_all_images_that_reach_weights_only_are_refused() {
    let refused = masking(1.0, PmimReach::Weights).check();
    assert!(
        matches!(&refused, Err(Error::Invalid { name, .. }) if name == "pmim.images"),
        "{refused:?}"
    );
}

#[test]
fn batch_of_one_image_is_seen_whole_where_masked_images_reach_weights_only() -> TestResult {
    let _alone = alone();
    let search = search_with(masking(0.9, PmimReach::Weights), 0.5)?;
    let found = reached(&search, first_images(&batch(0)?, 1)?)?;
    assert!(found.iter().any(|gradient| *gradient != 0.0));
    // 0.9 of two images are two.
    let found = reached(&search, first_images(&batch(0)?, 2)?)?;
    assert!(found.iter().any(|gradient| *gradient != 0.0));
    Ok(())
}
