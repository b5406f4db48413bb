//! PMIM against the oracle, tokens and decoder against loops.

mod support;

use ndarray::Array4;
use once_for_both::components::{
    random_token_mask, MaskRatioSchedule, MaskedTokens, PixelDecoder, PmimRegularizer, WindowNorm,
    WindowedPixels,
};
use once_for_both::oracle::{reconstruction_loss, windowed_pixels};
use once_for_both::strategies::reconstructions;
use once_for_both::Error;
use proptest::prelude::*;
use support::{
    array, from_numbers, gradients, in_words, leaf, numbers, test_device, TestResult, Tolerance,
};
use tch::nn;

/// A pattern without structure, the same at every run.
fn scattered([batch, channels, height, width]: [usize; 4]) -> Array4<f64> {
    let mut at = 0i64;
    Array4::from_shape_simple_fn((batch, channels, height, width), || {
        at += 1;
        ((at * 7919 + at * at * 31) % 257 % 17) as f64 / 16.0
    })
}

/// How far a target may lie from the oracle: an f32 number x carries an error of 6e-8·|x|, which
/// a window divides by its deviation; a nearly flat window by 1e-3 at the least.
fn pixels(images: &Array4<f64>, expected: &Array4<f64>) -> Tolerance {
    let largest = images.iter().fold(0.0, |largest: f64, pixel| largest.max(pixel.abs()));
    let scale = expected.iter().fold(1.0, |scale: f64, t| scale.max(t.abs()));
    Tolerance { relative: 1e-5, absolute: 1e-5 * scale + 1e-3 * largest }
}

#[test]
fn windows_of_all_sizes_over_images_of_all_shapes() -> TestResult {
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

/// E[x²] − μ² cancels where an image is bright and even; without its mean it does not.
#[test]
fn bright_images_of_low_contrast_keep_their_digits() -> TestResult {
    for base in [2.2, 100.0] {
        let images = scattered([1, 2, 24, 24]).mapv(|x| base + 0.01 * x);
        // What the f32 image itself holds, not what was rounded on the way into it.
        let images = images.mapv(|x| f64::from(x as f32));
        let found = WindowNorm::new(9)?.normalise(&array(&images)?)?;
        let close = Tolerance { relative: 1e-4, absolute: 1e-4 };
        close.check_array("bright", &found, &windowed_pixels(&images, 9)?)?;
    }
    Ok(())
}

#[test]
fn a_flat_image_has_nothing_to_say() -> TestResult {
    let flat = Array4::from_elem((1, 1, 12, 12), 0.5);
    let found = WindowNorm::new(9)?.normalise(&array(&flat)?)?;
    Tolerance { relative: 0.0, absolute: 1e-3 }.check_against("flat", &found, &[0.0; 144])
}

#[test]
fn windows_that_have_no_centre_are_refused() {
    for window in [-1, 0, 2, 46, WindowNorm::LARGEST + 2] {
        assert_refused!(WindowNorm::new(window), Error::Invalid { .. });
        assert_refused!(WindowedPixels::new(window), Error::Invalid { .. });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn targets_are_the_oracle(case in reconstructions(), half in 0..8i64) {
        let window = 2 * half + 1;
        let found = WindowedPixels::new(window)?.targets(&in_words(array(&case.images))?)?;
        let expected = windowed_pixels(&case.images, window)?;
        in_words(pixels(&case.images, &expected).check_array("targets", &found, &expected))?;
    }

    #[test]
    fn the_loss_is_the_oracle_and_its_gradient_a_sign(case in reconstructions()) {
        let (targets, prediction) =
            (in_words(array(&case.images))?, leaf(&in_words(array(&case.prediction))?));
        let mask = in_words(array(&case.token_mask))?;
        let loss = WindowedPixels::new(47)?.loss(&targets, &prediction, &mask, case.rows as i64)?;
        let expected =
            reconstruction_loss(&case.images, &case.prediction, &case.token_mask, case.rows)?;
        let close = Tolerance { relative: 1e-5, absolute: 1e-6 };
        in_words(close.check_number("loss", loss.double_value(&[]), expected))?;

        let (_, channels, height, width) = case.images.dim();
        let columns = case.token_mask.ncols() / case.rows;
        let hidden = |image: usize, row: usize, column: usize| {
            let token = row / (height / case.rows) * columns + column / (width / columns);
            case.token_mask[(image, token)]
        };
        let pixels = case.token_mask.sum() * (height * width / case.token_mask.ncols()) as f64;
        let slope = Array4::from_shape_fn(case.images.dim(), |at| {
            let distance: f64 = case.prediction[at] - case.images[at];
            let sign = if distance == 0.0 { 0.0 } else { distance.signum() };
            hidden(at.0, at.2, at.3) * sign / (pixels + 1e-5) / channels as f64
        });
        let found = in_words(gradients(&loss, &[&prediction]))?;
        in_words(close.check_array("gradient", &found[0], &slope))?;
    }

    #[test]
    fn every_image_hides_its_share_of_tokens(
        batch in 1..5i64,
        tokens in 1..50i64,
        ratio in 0.0..0.999f64,
    ) {
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
fn images_and_tokens_that_do_not_match_are_refused() -> TestResult {
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
fn tokens_hide_in_every_image_and_differ_between_images() -> TestResult {
    tch::manual_seed(1);
    let mask = random_token_mask(32, 16, 0.25, test_device())?;
    let often = numbers(&mask.sum_dim_intlist([0i64].as_slice(), false, None))?;
    assert!(often.iter().all(|&times| times > 0.0 && times < 32.0), "{often:?}");
    // 0.07 · 100 is 7.000000000000001.
    let seven = random_token_mask(1, 100, 0.07, test_device())?;
    assert_eq!(seven.sum(None).double_value(&[]), 7.0);
    Ok(())
}

#[test]
fn mask_ratios_outside_the_interval_are_refused() {
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
fn hidden_tokens_are_replaced_and_others_left_alone() -> TestResult {
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
fn the_decoder_paints_each_patch_from_its_own_feature() -> TestResult {
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
fn the_mask_ratio_rises_over_the_warm_up() {
    let schedule = MaskRatioSchedule::paper(10);
    for (step, ratio) in [(0, 0.05), (5, 0.15), (10, 0.25), (1000, 0.25)] {
        assert!((schedule.at(step) - ratio).abs() < 1e-12, "{step}");
    }
    assert!(schedule.check().is_ok());
    assert_eq!(MaskRatioSchedule::paper(0).at(0), 0.25);
    assert_refused!(MaskRatioSchedule { end: 1.0, ..schedule }.check(), Error::Invalid { .. });
}
