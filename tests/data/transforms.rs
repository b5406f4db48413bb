use crate::assert_refused;
use crate::sets::{difference, noise, picture};
use crate::support::{in_words, TestResult};
use approx::assert_abs_diff_eq;
use once_for_both::data::transform::{
    flip_horizontal, ColourJitter, EvalTransform, RandAugment, RandomCrop, RandomErasing,
    Rectangle, Resizer, TrainTransform, Transform,
};
use once_for_both::data::{Image, RandomStream};
use once_for_both::Error;
use proptest::prelude::*;

const FILL: [u8; 3] = [124, 116, 104];

fn evaluate(image: &Image, size: usize, share: f64) -> TestResult<Image> {
    let transform = Transform::Eval(EvalTransform { size, share });
    let mut stream = RandomStream::new(0);
    Ok(transform.apply(image, &FILL, &mut stream, &mut Resizer::default())?.image)
}

/// Measured difference: at most 1, mean 0.2. Both round to bytes between two passes; Pillow's first
/// pass is horizontal, that of fast_image_resize vertical.
#[test]
fn eval_transform_matches_torchvision() -> TestResult {
    let photo = picture("expected/photo.png")?;
    for size in [64, 96] {
        let expected = picture(&format!("expected/evaluation_{size}.png"))?;
        let (largest, mean) = difference(&evaluate(&photo, size, 0.875)?, &expected)?;
        println!("{size}: {largest} at most, mean {mean:.4}");
        assert!(largest <= 1 && mean < 0.25, "{size}: {largest} at most, mean {mean}");
    }
    Ok(())
}

#[test]
fn resizer_crop_matches_torchvision() -> TestResult {
    let photo = picture("expected/photo.png")?;
    for (name, crop) in [
        ("smaller", Rectangle { left: 37, top: 21, width: 151, height: 120 }),
        ("larger", Rectangle { left: 200, top: 3, width: 40, height: 31 }),
    ] {
        let actual = Resizer::default().crop(&photo, crop, 64, 64)?;
        let expected = picture(&format!("expected/crop_{name}.png"))?;
        let (largest, mean) = difference(&actual, &expected)?;
        println!("{name}: {largest} at most, mean {mean:.4}");
        assert!(largest <= 1 && mean < 0.25, "{name}: {largest} at most, mean {mean}");
    }
    Ok(())
}

#[test]
fn resizer_crop_beyond_the_image_is_an_error() {
    let crop = Rectangle { left: 5, top: 0, width: 6, height: 4 };
    let refused = Resizer::default().crop(&noise(10, 10, 3, 0), crop, 4, 4);
    assert_refused!(refused, Error::Invalid { name, .. } if name == "crop");
}

#[test]
fn flip_horizontal_reverses_every_row() -> TestResult {
    for (width, channels) in [(1, 3), (4, 3), (5, 1), (7, 3)] {
        let image = noise(width, 3, channels, 9);
        let mut flipped = image.clone();
        flip_horizontal(&mut flipped);
        for (at, byte) in flipped.pixels().iter().enumerate() {
            let (pixel, channel) = (at / channels, at % channels);
            let (x, y) = (pixel % width, pixel / width);
            let from = (y * width + (width - 1 - x)) * channels + channel;
            assert_eq!(*byte, image.pixels()[from]);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn resize_to_the_same_size_is_the_identity(
        size in 1_usize..24, channels in prop_oneof![Just(1_usize), Just(3)], seed in 0_usize..99,
    ) {
        let image = noise(size, size, channels, seed);
        prop_assert_eq!(&in_words(evaluate(&image, size, 1.0))?, &image);
        let crop = Rectangle { left: 0, top: 0, width: size, height: size };
        let cropped = Resizer::default().crop(&image, crop, size, size);
        prop_assert_eq!(&in_words(cropped.map_err(Into::into))?, &image);
    }

    #[test]
    fn eval_transform_of_any_image_size_has_the_requested_size(
        width in 1_usize..90, height in 1_usize..90, size in 1_usize..40, share in 0.3_f64..=1.0,
    ) {
        let image = in_words(evaluate(&noise(width, height, 3, 0), size, share))?;
        prop_assert_eq!((image.width(), image.height()), (size, size));
    }

    #[test]
    fn random_crops_are_inside_the_image(width in 1_usize..700, height in 1_usize..700, seed: u64) {
        let crop = RandomCrop::default().draw(width, height, &mut RandomStream::new(seed));
        prop_assert!(crop.width >= 1 && crop.left + crop.width <= width, "{:?}", crop);
        prop_assert!(crop.height >= 1 && crop.top + crop.height <= height, "{:?}", crop);
    }

    #[test]
    fn erased_rectangles_are_inside_the_image(
        width in 1_usize..80, height in 1_usize..80, small: bool, seed: u64,
    ) {
        let erasing = RandomErasing { probability: 1.0, ..RandomErasing::default() };
        let least = RandomErasing { area: (1e-3, 2e-3), min_aspect: 0.1, ..erasing };
        let erasing = if small { least } else { erasing };
        if let Some(erased) = erasing.draw(width, height, 3, &mut RandomStream::new(seed)) {
            let Rectangle { left, top, width: columns, height: rows } = erased.rectangle;
            prop_assert!((1..width).contains(&columns) && left + columns <= width);
            prop_assert!((1..height).contains(&rows) && top + rows <= height);
            prop_assert_eq!(erased.noise.len(), 3 * columns * rows);
        }
    }
}

#[test]
fn random_crops_have_torchvisions_mean_area_and_aspect_ratios() {
    let (crop, mut stream) = (RandomCrop::default(), RandomStream::new(3));
    let (width, height, draws) = (500, 400, 4000);
    let (mut area, mut wide) = (0.0, 0);
    for _ in 0..draws {
        let drawn = crop.draw(width, height, &mut stream);
        let share = (drawn.width * drawn.height) as f64 / (width * height) as f64;
        let aspect = drawn.width as f64 / drawn.height as f64;
        assert!((0.079..=1.0).contains(&share), "{share}");
        assert!((0.73..=1.36).contains(&aspect), "{aspect}");
        area += share / f64::from(draws);
        wide += u32::from(aspect > 1.0);
    }
    // Measured with torchvision for this image size: the largest areas often do not fit.
    assert_abs_diff_eq!(area, 0.4507, epsilon = 0.02);
    assert_abs_diff_eq!(f64::from(wide) / f64::from(draws), 0.567, epsilon = 0.03);
}

#[test]
fn random_crop_that_never_fits_is_central() {
    for (width, height, expected) in [
        (1000, 10, Rectangle { left: 493, top: 0, width: 13, height: 10 }),
        (10, 1000, Rectangle { left: 0, top: 493, width: 10, height: 13 }),
    ] {
        let crop = RandomCrop { area: (0.9, 1.0), ..RandomCrop::default() };
        assert_eq!(crop.draw(width, height, &mut RandomStream::new(0)), expected);
    }
}

#[test]
fn random_erasing_has_the_requested_frequency_and_area() {
    let (erasing, mut stream) = (RandomErasing::default(), RandomStream::new(11));
    let (mut count, mut area) = (0, 0.0);
    let (mut sum, mut squares, mut numbers) = (0.0, 0.0, 0.0);
    for _ in 0..4000 {
        let Some(erased) = erasing.draw(64, 64, 1, &mut stream) else { continue };
        let Rectangle { width, height, .. } = erased.rectangle;
        count += 1;
        area += (width * height) as f64 / 4096.0;
        numbers += erased.noise.len() as f64;
        sum += erased.noise.iter().copied().map(f64::from).sum::<f64>();
        squares += erased.noise.iter().map(|n| f64::from(n * n)).sum::<f64>();
    }
    assert!((900..1100).contains(&count), "{count}");
    let area = area / f64::from(count);
    assert!((0.15..0.19).contains(&area), "{area}");
    assert_abs_diff_eq!(sum / numbers, 0.0, epsilon = 0.01);
    assert_abs_diff_eq!(squares / numbers, 1.0, epsilon = 0.01);
}

#[test]
fn train_transform_with_equal_seeds_gives_equal_images() -> TestResult {
    let transform = Transform::Train(TrainTransform {
        jitter: Some(ColourJitter::uniform(0.4)),
        ..TrainTransform::deit(32)
    });
    let image = noise(60, 50, 3, 4);
    let mut results = Vec::new();
    for seed in [1, 1, 2] {
        let mut stream = RandomStream::new(seed);
        results.push(transform.apply(&image, &FILL, &mut stream, &mut Resizer::default())?);
    }
    assert_eq!(results[0], results[1]);
    assert_ne!(results[0].image, results[2].image);
    Ok(())
}

#[test]
fn transform_options_out_of_range_are_errors_that_name_the_option() {
    let deit = TrainTransform::deit(224);
    let crop = |area, aspect| TrainTransform { crop: RandomCrop { area, aspect }, ..deit.clone() };
    let augment =
        |rand_augment| TrainTransform { rand_augment: Some(rand_augment), ..deit.clone() };
    let erase = |erasing| TrainTransform { erasing: Some(erasing), ..deit.clone() };
    let default = (RandAugment::default(), RandomErasing::default());
    for (name, training) in [
        ("transform.size", TrainTransform { size: 0, ..deit.clone() }),
        ("transform.flip", TrainTransform { flip: 1.5, ..deit.clone() }),
        ("transform.crop.area.0", crop((0.0, 1.0), (0.75, 1.3))),
        ("transform.crop.area", crop((0.5, 0.4), (0.75, 1.3))),
        ("transform.crop.aspect", crop((0.5, 1.0), (2.0, 1.3))),
        ("transform.rand_augment.magnitude", augment(RandAugment { magnitude: 11.0, ..default.0 })),
        (
            "transform.rand_augment.magnitude_std",
            augment(RandAugment { magnitude_std: -1.0, ..default.0 }),
        ),
        (
            "transform.rand_augment.probability",
            augment(RandAugment { probability: f64::NAN, ..default.0 }),
        ),
        ("transform.rand_augment.layers", augment(RandAugment { layers: usize::MAX, ..default.0 })),
        ("transform.erasing.probability", erase(RandomErasing { probability: -0.1, ..default.1 })),
        ("transform.erasing.area.1", erase(RandomErasing { area: (0.5, 1.1), ..default.1 })),
        ("transform.erasing.min_aspect", erase(RandomErasing { min_aspect: 0.0, ..default.1 })),
        (
            "transform.jitter.contrast",
            TrainTransform {
                jitter: Some(ColourJitter { contrast: -1.0, ..ColourJitter::uniform(0.4) }),
                ..deit.clone()
            },
        ),
    ] {
        let refused = Transform::Train(training).validate();
        assert_refused!(refused, Error::Invalid { name: culprit, .. } if culprit == name);
    }
    for share in [1.1, 0.0, f64::NAN] {
        let evaluation = Transform::Eval(EvalTransform { size: 224, share });
        assert_refused!(evaluation.validate(), Error::Invalid { name, .. } if name == "transform.share");
        let image = Image::new(4, 3, 3, vec![0; 36]).unwrap_or_else(|error| panic!("{error}"));
        let (mut stream, mut resizer) = (RandomStream::new(0), Resizer::default());
        let applied = evaluation.apply(&image, &[0; 3], &mut stream, &mut resizer);
        assert_refused!(applied, Error::Invalid { name, .. } if name == "transform.share");
    }
    // Resizing would make an image of four million rows.
    let thin = Image::new(1, 16384, 3, vec![0; 3 * 16384]).unwrap_or_else(|e| panic!("{e}"));
    let evaluation = Transform::Eval(EvalTransform { size: 224, share: 0.875 });
    let applied =
        evaluation.apply(&thin, &[0; 3], &mut RandomStream::new(0), &mut Resizer::default());
    assert_refused!(applied, Error::Invalid { actual, .. } if actual == "256 × 4194304");
}
