//! Masked image modeling: targets and loss against the oracle, mask and decoder against loops.

mod support;

use ndarray::Array4;
use once_for_both::components::{
    masked_pixels, random_token_mask, MaskedTokens, PixelDecoder, PmimRegularizer, WindowNorm,
    WindowedPixels,
};
use once_for_both::oracle::{reconstruction_loss, windowed_pixels};
use once_for_both::schedule::LinearRamp;
use once_for_both::search::{PmimOptions, SearchOptions};
use once_for_both::strategies::{reconstructions, ReconstructionCase};
use once_for_both::Error;
use proptest::prelude::*;
use support::tiny_run::alone;
use support::{
    array, from_numbers, gradients, in_words, leaf, numbers, test_device, TestResult, Tolerance,
};
use tch::nn;

/// Irregular pixels in [0, 1], the same in every run.
fn scattered([batch, channels, height, width]: [usize; 4]) -> Array4<f64> {
    let mut at = 0i64;
    Array4::from_shape_simple_fn((batch, channels, height, width), || {
        at += 1;
        ((at * 7919 + at * at * 31) % 257 % 17) as f64 / 16.0
    })
}

/// Allowed difference of a target from the oracle: the f32 error of a pixel, 6e-8·|x|, divided by
/// the deviation of its window, which is at least 1e-3.
fn pixel_tolerance(images: &Array4<f64>, expected: &Array4<f64>) -> Tolerance {
    let largest = images.iter().fold(0.0, |largest: f64, pixel| largest.max(pixel.abs()));
    let scale = expected.iter().fold(1.0, |scale: f64, t| scale.max(t.abs()));
    Tolerance { relative: 1e-5, absolute: 1e-5 * scale + 1e-3 * largest }
}

/// The token mask at the patch of a pixel.
fn mask_at(
    case: &ReconstructionCase,
    (image, _, row, column): (usize, usize, usize, usize),
) -> f64 {
    let (_, _, height, width) = case.images.dim();
    let columns = case.token_mask.ncols() / case.rows;
    let token = row / (height / case.rows) * columns + column / (width / columns);
    case.token_mask[(image, token)]
}

#[test]
fn window_norm_of_any_window_and_image_shape_matches_the_oracle() -> TestResult {
    let close = Tolerance { relative: 1e-5, absolute: 1e-5 };
    for shape in [[2, 3, 17, 9], [1, 2, 8, 31], [1, 1, 1, 7], [1, 1, 24, 24], [1, 1, 1, 1]] {
        let images = scattered(shape);
        for window in [1, 5, 9, 47, WindowNorm::LARGEST] {
            let found = WindowNorm::new(window)?.normalise(&array(&images)?)?;
            let what = format!("window {window} over {shape:?}");
            close.check_array(&what, &found, &windowed_pixels(&images, window)?)?;
        }
    }
    Ok(())
}

/// E[x²] − μ² cancels where an image is bright and has little contrast.
#[test]
fn window_norm_of_bright_image_with_low_contrast_matches_the_oracle() -> TestResult {
    for base in [2.2, 100.0] {
        let images = scattered([1, 2, 24, 24]).mapv(|x| base + 0.01 * x);
        // Rounded to f32 first: the oracle gets the same pixels as the tensor.
        let images = images.mapv(|x| f64::from(x as f32));
        let found = WindowNorm::new(9)?.normalise(&array(&images)?)?;
        let close = Tolerance { relative: 1e-4, absolute: 1e-4 };
        close.check_array("bright", &found, &windowed_pixels(&images, 9)?)?;
    }
    Ok(())
}

#[test]
fn window_norm_of_constant_image_is_zero() -> TestResult {
    let flat = Array4::from_elem((1, 1, 12, 12), 0.5);
    let found = WindowNorm::new(9)?.normalise(&array(&flat)?)?;
    Tolerance { relative: 0.0, absolute: 1e-3 }.check_against("flat", &found, &[0.0; 144])
}

#[test]
fn window_norm_with_even_or_out_of_range_window_is_refused() {
    for window in [-1, 0, 2, 46, WindowNorm::LARGEST + 2] {
        assert_refused!(WindowNorm::new(window), Error::Invalid { .. });
        assert_refused!(WindowedPixels::new(window), Error::Invalid { .. });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn targets_of_windowed_pixels_match_the_oracle(case in reconstructions(), half in 0..8i64) {
        let window = 2 * half + 1;
        let found = WindowedPixels::new(window)?.targets(&in_words(array(&case.images))?)?;
        let expected = windowed_pixels(&case.images, window)?;
        in_words(pixel_tolerance(&case.images, &expected).check_array("targets", &found, &expected))?;
    }

    #[test]
    fn reconstruction_loss_matches_the_oracle_and_its_gradient_is_a_sign(case in reconstructions()) {
        let (targets, prediction) =
            (in_words(array(&case.images))?, leaf(&in_words(array(&case.prediction))?));
        let mask = in_words(array(&case.token_mask))?;
        let loss = WindowedPixels::new(47)?.loss(&targets, &prediction, &mask, case.rows as i64)?;
        let expected =
            reconstruction_loss(&case.images, &case.prediction, &case.token_mask, case.rows)?;
        let close = Tolerance { relative: 1e-5, absolute: 1e-6 };
        in_words(close.check_number("loss", loss.double_value(&[]), expected))?;

        let (_, channels, height, width) = case.images.dim();
        let pixels = case.token_mask.sum() * (height * width / case.token_mask.ncols()) as f64;
        let expected = Array4::from_shape_fn(case.images.dim(), |at| {
            let distance: f64 = case.prediction[at] - case.images[at];
            let sign = if distance == 0.0 { 0.0 } else { distance.signum() };
            mask_at(&case, at) * sign / (pixels + 1e-5) / channels as f64
        });
        let found = in_words(gradients(&loss, &[&prediction]))?;
        in_words(close.check_array("gradient", &found[0], &expected))?;
    }

    #[test]
    fn masked_pixels_of_any_token_mask_are_those_of_masked_patches(case in reconstructions()) {
        let (batch, _, height, width) = case.images.dim();
        let shape = [batch, height, width].map(|side| side as i64);
        let mask = in_words(array(&case.token_mask))?;
        let found = masked_pixels(&mask, case.rows as i64, shape)?;
        let expected = Array4::from_shape_fn((batch, 1, height, width), |at| mask_at(&case, at));
        in_words(Tolerance::relative(0.0).check_array("mask of pixels", &found, &expected))?;
    }

    #[test]
    fn random_token_mask_masks_the_ratio_of_every_image(
        batch in 1..5i64,
        tokens in 1..50i64,
        ratio in 0.0..0.999f64,
    ) {
        let _alone = alone();
        let mask = in_words(numbers(&random_token_mask(batch, tokens, ratio, test_device())?))?;
        prop_assert!(mask.iter().all(|&flag| flag == 0.0 || flag == 1.0));
        for image in mask.chunks(tokens as usize) {
            // Rounded up, but one token stays visible.
            let hidden = image.iter().sum::<f64>();
            let most = tokens as f64 - 1.0;
            prop_assert!(hidden <= most);
            let above = hidden - ratio * tokens as f64;
            prop_assert!(hidden == most || (-1e-8..1.0).contains(&above));
        }
    }
}

#[test]
fn reconstruction_loss_of_images_and_tokens_that_do_not_match_is_refused() -> TestResult {
    let pixels = WindowedPixels::new(3)?;
    let image = array(&scattered([2, 1, 4, 6]))?;
    let mask = |batch: i64, tokens: i64| {
        from_numbers(&vec![1.0; (batch * tokens) as usize], &[batch, tokens])
    };
    assert!(pixels.loss(&image, &image, &mask(2, 6)?, 2).is_ok());
    for (batch, tokens, rows) in [(1, 6, 2), (2, 6, 0), (2, 6, -2), (2, 6, 4), (2, 6, 3), (2, 8, 2)]
    {
        let refused = pixels.loss(&image, &image, &mask(batch, tokens)?, rows);
        assert_refused!(refused, Error::Invalid { .. });
    }
    let turned = image.transpose(2, 3);
    assert_refused!(pixels.loss(&image, &turned, &mask(2, 6)?, 2), Error::Shape { .. });
    let flat = image.flatten(2, 3);
    assert_refused!(pixels.targets(&flat), Error::Invalid { ref actual, .. } if actual == "3");
    assert_refused!(
        pixels.loss(&image, &image, &mask(2, 6)?.flatten(0, 1), 2),
        Error::Invalid { .. }
    );
    let (tokens, token) =
        (from_numbers(&[0.0; 8], &[1, 4, 2])?, from_numbers(&[0.0; 2], &[1, 1, 2])?);
    let few = mask(1, 3)?;
    let short = MaskedTokens { mask: &few, token: &token };
    assert_refused!(short.apply(&tokens), Error::Shape { ref name, .. } if name == "token mask");
    let (whole, wide) = (mask(1, 4)?, from_numbers(&[0.0; 3], &[1, 1, 3])?);
    let other = MaskedTokens { mask: &whole, token: &wide };
    assert_refused!(other.apply(&tokens), Error::Shape { ref name, .. } if name == "mask token");
    Ok(())
}

#[test]
fn masked_pixels_of_uneven_token_grid_are_refused() -> TestResult {
    let mask = from_numbers(&[1.0; 12], &[2, 6])?;
    assert_eq!(masked_pixels(&mask, 2, [2, 4, 6])?.size(), [2, 1, 4, 6]);
    for (rows, shape) in [(0, [2, 4, 6]), (4, [2, 4, 6]), (2, [1, 4, 6]), (2, [2, 5, 6])] {
        let name = "shape of token_mask";
        let refused = masked_pixels(&mask, rows, shape);
        assert_refused!(refused, Error::Invalid { name: ref found, .. } if found == name);
    }
    Ok(())
}

#[test]
fn random_token_mask_differs_between_images() -> TestResult {
    let _alone = alone();
    once_for_both::randomness::seed(1);
    let mask = random_token_mask(32, 16, 0.25, test_device())?;
    let times_masked = numbers(&mask.sum_dim_intlist([0i64].as_slice(), false, None))?;
    assert!(times_masked.iter().all(|&times| times > 0.0 && times < 32.0), "{times_masked:?}");
    // In f64, 0.07 · 100 is 7.000000000000001.
    let seven = random_token_mask(1, 100, 0.07, test_device())?;
    assert_eq!(seven.sum(None).double_value(&[]), 7.0);
    Ok(())
}

#[test]
fn random_token_mask_with_ratio_outside_0_and_1_is_refused() {
    for ratio in [-0.1, 1.0, f64::NAN] {
        assert_refused!(random_token_mask(1, 4, ratio, test_device()), Error::Invalid { .. });
    }
    for (batch, tokens) in [(0, 4), (-1, 4), (1, 0)] {
        assert_refused!(
            random_token_mask(batch, tokens, 0.5, test_device()),
            Error::Invalid { .. }
        );
    }
}

#[test]
fn masked_tokens_are_replaced_and_others_unchanged() -> TestResult {
    let x = from_numbers(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], &[2, 2, 2])?;
    let token = leaf(&from_numbers(&[-1.0, 0.1], &[1, 1, 2])?);
    let mask = from_numbers(&[0.0, 1.0, 1.0, 0.0], &[2, 2])?;
    let hidden = MaskedTokens { mask: &mask, token: &token }.apply(&x)?;
    let expected = from_numbers(&[1.0, 2.0, -1.0, 0.1, -1.0, 0.1, 7.0, 8.0], &[2, 2, 2])?;
    Tolerance::relative(0.0).check("tokens", &hidden, &expected)?;
    let slope = gradients(&hidden.sum(None), &[&token])?;
    Tolerance::relative(0.0).check_against("slope", &slope[0], &[2.0, 2.0])
}

#[test]
fn pixel_decoder_computes_each_patch_from_its_own_feature() -> TestResult {
    let _alone = alone();
    let (features, patch, channels) = (3usize, 2usize, 2usize);
    let (batch, rows, columns) = (2usize, 2usize, 3usize);
    let store = nn::VarStore::new(test_device());
    let decoder = PixelDecoder::new(&store.root(), features as i64, patch as i64, channels as i64)?;
    let variables = store.variables();
    let (weight, bias) = (numbers(&variables["weight"])?, numbers(&variables["bias"])?);
    let x: Vec<f64> = (0..batch * rows * columns * features).map(|at| (at as f64).sin()).collect();
    let (height, width) = (rows * patch, columns * patch);
    let mut expected = Vec::new();
    for image in 0..batch {
        for channel in 0..channels {
            for (row, column) in (0..height).flat_map(|r| (0..width).map(move |c| (r, c))) {
                let token = (image * rows + row / patch) * columns + column / patch;
                let output = (channel * patch + row % patch) * patch + column % patch;
                let product = (0..features).map(|feature| {
                    weight[output * features + feature] * x[token * features + feature]
                });
                expected.push(bias[output] + product.sum::<f64>());
            }
        }
    }
    let tokens = from_numbers(&x, &[batch as i64, (rows * columns) as i64, features as i64])?;
    let painted = decoder.decode(&tokens, rows as i64)?;
    assert_eq!(painted.size(), [batch as i64, channels as i64, height as i64, width as i64]);
    Tolerance { relative: 1e-5, absolute: 1e-6 }.check_against("pixels", &painted, &expected)?;
    assert_refused!(decoder.decode(&tokens.narrow(2, 0, 2), 2), Error::Shape { .. });
    Ok(())
}

#[test]
fn mask_ratio_of_the_paper_rises_from_0_05_to_0_25() -> TestResult {
    let options = SearchOptions::paper(100, 50);
    let ratio = options.pmim.ok_or("the paper's options have PMIM")?.mask_ratio;
    assert_eq!((ratio.start, ratio.end), (0.05, 0.25));
    let ramp = LinearRamp { steps: 10, ..ratio };
    for (step, ratio) in [(0, 0.05), (5, 0.15), (10, 0.25), (1000, 0.25)] {
        assert!((ramp.at(step) - ratio).abs() < 1e-12, "step {step}: {}", ramp.at(step));
    }
    Ok(())
}

#[test]
fn mask_ratio_of_one_is_refused_by_the_options() {
    let options = SearchOptions::learned(100, 50).with(|o| {
        o.pmim = Some(PmimOptions::new(LinearRamp::new(0.05, 1.0, 10)));
    });
    assert_refused!(
        options.check(),
        Error::Invalid { ref name, .. } if name == "pmim.mask_ratio.end"
    );
}
