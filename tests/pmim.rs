//! PMIM against loops over pixels and tokens.

mod support;

use once_for_both::pmim::{
    random_token_mask, MaskRatioSchedule, MaskedTokens, PixelDecoder, PmimRegularizer, WindowNorm,
    WindowedPixels,
};
use once_for_both::Error;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{
    from_numbers, gradients, in_words, leaf, numbers, test_device, TestResult, Tolerance,
};
use tch::{nn, Tensor};

/// An image of whole sixteenths: exact in f32, and so are its sums and those of its squares.
#[derive(Debug, Clone)]
struct Images {
    shape: [i64; 4],
    pixels: Vec<f64>,
}

impl Images {
    fn tensor(&self) -> TestResult<Tensor> {
        from_numbers(&self.pixels, &self.shape)
    }

    /// One channel of one image.
    fn planes(&self) -> impl Iterator<Item = &[f64]> {
        self.pixels.chunks((self.shape[2] * self.shape[3]) as usize)
    }

    /// A pattern without structure, the same at every run.
    fn scattered(shape: [i64; 4]) -> Self {
        let count: i64 = shape.iter().product();
        let pixels = (0..count).map(|at| (at * 7919 + at * at * 31) % 257 % 17);
        Self { shape, pixels: pixels.map(|level| level as f64 / 16.0).collect() }
    }
}

fn images() -> impl Strategy<Value = Images> {
    (1..3i64, 1..3i64, 1..12i64, 1..12i64).prop_flat_map(|(batch, channels, height, width)| {
        let pixels = vec((0..17).prop_map(|level| f64::from(level) / 16.0), {
            (batch * channels * height * width) as usize
        });
        pixels.prop_map(move |pixels| Images { shape: [batch, channels, height, width], pixels })
    })
}

/// One pixel normalised in its window, from the definition.
fn slow_pixel(plane: &[f64], [height, width]: [i64; 2], window: i64, row: i64, column: i64) -> f64 {
    let half = window / 2;
    let near = |at: i64, end: i64| (at - half).max(0)..=(at + half).min(end - 1);
    let inside: Vec<f64> = near(row, height)
        .flat_map(|r| near(column, width).map(move |c| plane[(r * width + c) as usize]))
        .collect();
    let count = inside.len() as f64;
    let mean = inside.iter().sum::<f64>() / count;
    let square = inside.iter().map(|x| x * x).sum::<f64>() / count;
    let unbias = if inside.len() > 1 { count / (count - 1.0) } else { 1.0 };
    let variance = ((square - mean * mean) * unbias).max(0.0);
    (plane[(row * width + column) as usize] - mean) / (variance + 1e-6).sqrt()
}

fn slow_normalise(images: &Images, window: i64) -> Vec<f64> {
    let [_, _, height, width] = images.shape;
    let pixels = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
    let plane = |plane: &[f64]| -> Vec<f64> {
        let normal = pixels.clone();
        normal.map(|(r, c)| slow_pixel(plane, [height, width], window, r, c)).collect()
    };
    images.planes().flat_map(plane).collect()
}

#[test]
fn windows_of_all_sizes_over_images_of_all_shapes() -> TestResult {
    // E[x²] − μ² of numbers within [0, 1] is off by 1e-7 at most, and variances are about 0.1.
    let close = Tolerance { relative: 1e-5, absolute: 1e-5 };
    for shape in [[2, 3, 17, 9], [1, 2, 8, 31], [1, 1, 1, 7], [1, 1, 24, 24]] {
        let images = Images::scattered(shape);
        for window in [1, 5, 9, 47, WindowNorm::LARGEST] {
            let found = WindowNorm::new(window)?.normalise(&images.tensor()?)?;
            let what = format!("window {window} over {shape:?}");
            close.check_against(&what, &found, &slow_normalise(&images, window))?;
        }
    }
    Ok(())
}

#[test]
fn a_flat_image_has_nothing_to_say() -> TestResult {
    let flat = Images { shape: [1, 1, 12, 12], pixels: vec![0.5; 144] };
    let found = WindowNorm::new(9)?.normalise(&flat.tensor()?)?;
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
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn targets_are_normalised_pixel_by_pixel(images in images(), half in 0..8i64) {
        let window = 2 * half + 1;
        let found = WindowedPixels::new(window)?.targets(&in_words(images.tensor())?)?;
        // Windows of a few nearly equal pixels lose digits of their variance.
        let close = Tolerance { relative: 1e-3, absolute: 1e-3 };
        in_words(close.check_against("targets", &found, &slow_normalise(&images, window)))?;
    }

    #[test]
    fn the_loss_is_the_mean_over_hidden_pixels(
        (batch, channels) in (1..3usize, 1..4usize),
        (rows, columns) in (1..4usize, 1..4usize),
        (tall, wide) in (1..4usize, 1..4usize),
        noise in vec(-1.0..1.0f64, 2 * 2 * 3 * 12 * 12),
        flags in vec(any::<bool>(), 2 * 3 * 3),
    ) {
        let (height, width) = (rows * tall, columns * wide);
        let shape = [batch as i64, channels as i64, height as i64, width as i64];
        let count = batch * channels * height * width;
        let (target, guess) = (&noise[..count], &noise[noise.len() - count..]);
        let flags: Vec<f64> =
            flags[..batch * rows * columns].iter().copied().map(f64::from).collect();
        let hidden = |image: usize, row: usize, column: usize| {
            flags[(image * rows + row / tall) * columns + column / wide]
        };
        let (mut distance, mut pixels) = (0.0, 0.0);
        let mut slope = Vec::with_capacity(count);
        for image in 0..batch {
            for channel in 0..channels {
                for (row, column) in (0..height).flat_map(|r| (0..width).map(move |c| (r, c))) {
                    let at = ((image * channels + channel) * height + row) * width + column;
                    let mask = hidden(image, row, column);
                    distance += (target[at] - guess[at]).abs() * mask;
                    pixels += if channel == 0 { mask } else { 0.0 };
                    slope.push(mask * f64::from(guess[at] > target[at]) - mask * f64::from(guess[at] < target[at]));
                }
            }
        }
        let divisor = (pixels + 1e-5) * channels as f64;

        let (targets, prediction) =
            (in_words(from_numbers(target, &shape))?, leaf(&in_words(from_numbers(guess, &shape))?));
        let mask = in_words(from_numbers(&flags, &[batch as i64, (rows * columns) as i64]))?;
        let pixels = WindowedPixels::new(47)?;
        let loss = pixels.loss(&targets, &prediction, &mask, rows as i64)?;
        let close = Tolerance { relative: 1e-5, absolute: 1e-6 };
        in_words(close.check_against("loss", &loss, &[distance / divisor]))?;
        let slope: Vec<f64> = slope.iter().map(|sign| sign / divisor).collect();
        let found = in_words(gradients(&loss, &[&prediction]))?;
        in_words(close.check_against("gradient", &found[0], &slope))?;
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
            let hidden = image.iter().sum::<f64>();
            prop_assert!((0.0..1.0).contains(&(hidden - ratio * tokens as f64)));
        }
    }
}

#[test]
fn images_and_tokens_that_do_not_match_are_refused() -> TestResult {
    let pixels = WindowedPixels::new(3)?;
    let image = Images::scattered([2, 1, 4, 6]).tensor()?;
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
    Ok(())
}

#[test]
fn tokens_hide_in_every_image_and_differ_between_images() -> TestResult {
    tch::manual_seed(1);
    let mask = random_token_mask(32, 16, 0.25, test_device())?;
    let often = numbers(&mask.sum_dim_intlist([0i64].as_slice(), false, None))?;
    assert!(often.iter().all(|&times| times > 0.0 && times < 32.0), "{often:?}");
    for ratio in [-0.1, 1.0, f64::NAN] {
        assert_refused!(random_token_mask(1, 4, ratio, test_device()), Error::Invalid { .. });
    }
    Ok(())
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
