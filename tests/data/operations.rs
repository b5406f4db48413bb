use crate::assert_refused;
use crate::sets::{difference, noise, picture};
use crate::support::TestResult;
use approx::assert_abs_diff_eq;
use once_for_both::data::transform::{ColourJitter, ImageOperation, RandAugment};
use once_for_both::data::{Image, RandomStream};
use once_for_both::Error;
use std::collections::BTreeMap;

const FILL: [u8; 3] = [124, 116, 104];

/// Operations in the order of expected/operations.png, see make.py.
const GOLDEN: [ImageOperation; 23] = [
    ImageOperation::AutoContrast,
    ImageOperation::Equalize,
    ImageOperation::Invert,
    ImageOperation::Rotate(27.0),
    ImageOperation::Rotate(-12.5),
    ImageOperation::Posterize(1),
    ImageOperation::Posterize(3),
    ImageOperation::Solarize(26),
    ImageOperation::SolarizeAdd(99),
    ImageOperation::Colour(1.81),
    ImageOperation::Colour(0.19),
    ImageOperation::Contrast(1.81),
    ImageOperation::Contrast(0.19),
    ImageOperation::Brightness(1.81),
    ImageOperation::Brightness(0.19),
    ImageOperation::Sharpness(1.81),
    ImageOperation::Sharpness(0.19),
    ImageOperation::ShearX(0.27),
    ImageOperation::ShearX(-0.11),
    ImageOperation::ShearY(-0.27),
    ImageOperation::TranslateX(0.405),
    ImageOperation::TranslateX(-0.2),
    ImageOperation::TranslateY(0.405),
];

/// Largest allowed difference from timm's values: 1 where bicubic sums are rounded, else 0.
fn allowed(operation: ImageOperation) -> u8 {
    match operation {
        ImageOperation::Rotate(_)
        | ImageOperation::ShearX(_)
        | ImageOperation::ShearY(_)
        | ImageOperation::TranslateX(_)
        | ImageOperation::TranslateY(_) => 1,
        _ => 0,
    }
}

#[test]
fn image_operations_match_timm() -> TestResult {
    let (small, all) = (picture("expected/small.png")?, picture("expected/operations.png")?);
    let (width, height) = (small.width(), small.height());
    assert_eq!(all.height(), GOLDEN.len() * height);
    let mut failures = Vec::new();
    for (operation, expected) in GOLDEN.into_iter().zip(all.pixels().chunks(small.pixels().len())) {
        let expected = Image::new(width, height, 3, expected.to_vec())?;
        let mut actual = small.clone();
        operation.apply(&mut actual, &FILL)?;
        let (largest, mean) = difference(&actual, &expected)?;
        if largest > allowed(operation) {
            failures.push(format!("{operation:?}: largest difference {largest}, mean {mean:.3}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn image_operations_at_neutral_strength_change_nothing() -> TestResult {
    for channels in [1, 3] {
        let image = noise(17, 12, channels, 1);
        for operation in [
            ImageOperation::Rotate(0.0),
            ImageOperation::Posterize(8),
            ImageOperation::Solarize(256),
            ImageOperation::SolarizeAdd(0),
            ImageOperation::Colour(1.0),
            ImageOperation::Contrast(1.0),
            ImageOperation::Brightness(1.0),
            ImageOperation::Sharpness(1.0),
            ImageOperation::ShearX(0.0),
            ImageOperation::ShearY(0.0),
            ImageOperation::TranslateX(0.0),
            ImageOperation::TranslateY(0.0),
        ] {
            let mut same = image.clone();
            operation.apply(&mut same, &FILL[..channels])?;
            assert_eq!(same, image, "{operation:?}, {channels} channels");
        }
    }
    Ok(())
}

#[test]
fn image_operations_on_uniform_and_one_pixel_images_succeed() -> TestResult {
    for (width, height, channels) in [(1, 1, 3), (1, 9, 1), (2, 1, 3)] {
        let flat = Image::new(width, height, channels, vec![77; width * height * channels])?;
        for operation in GOLDEN {
            operation.apply(&mut flat.clone(), &FILL[..channels])?;
        }
        let mut equal = flat.clone();
        ImageOperation::Equalize.apply(&mut equal, &FILL[..channels])?;
        ImageOperation::AutoContrast.apply(&mut equal, &FILL[..channels])?;
        assert_eq!(equal, flat);
    }
    Ok(())
}

#[test]
fn posterize_to_zero_bits_is_black_and_invert_twice_is_the_identity() -> TestResult {
    let image = noise(8, 8, 3, 2);
    let mut black = image.clone();
    ImageOperation::Posterize(0).apply(&mut black, &FILL)?;
    assert!(black.pixels().iter().all(|&byte| byte == 0));
    let mut twice = image.clone();
    ImageOperation::Invert.apply(&mut twice, &FILL)?;
    ImageOperation::Invert.apply(&mut twice, &FILL)?;
    assert_eq!(twice, image);
    Ok(())
}

#[test]
fn fill_with_other_channels_than_the_image_is_an_error() {
    let refused = ImageOperation::Invert.apply(&mut noise(2, 2, 1, 0), &FILL);
    assert_refused!(refused, Error::Invalid { actual, .. } if actual == "3");
}

/// Name and strength of an operation.
fn parts(operation: ImageOperation) -> (String, Option<f64>) {
    let text = format!("{operation:?}");
    match text.split_once('(') {
        Some((name, strength)) => (name.into(), strength.trim_end_matches(')').parse().ok()),
        None => (text, None),
    }
}

#[test]
fn rand_augment_draws_have_the_distribution_of_rand_m9_mstd05_inc1() {
    let mut stream = RandomStream::new(5);
    let mut strengths: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let (images, mut total) = (30_000, 0);
    for _ in 0..images {
        let operations = RandAugment::default().draw(&mut stream);
        assert!(operations.len() <= 2);
        total += operations.len();
        for (name, strength) in operations.into_iter().map(parts) {
            strengths.entry(name).or_default().extend(strength.or(Some(0.0)));
        }
    }
    // Two draws at probability ½; all operations equally often.
    assert_abs_diff_eq!(f64::from(images), total as f64, epsilon = 600.0);
    assert_eq!(strengths.len(), 15);
    for (name, values) in &strengths {
        assert!((1800..2200).contains(&values.len()), "{name}: {}", values.len());
    }
    // Mean strength at magnitude 9 ± ½, and as many values below as above the centre.
    let about = |name: &str, centre: f64, scale: f64| {
        let values = &strengths[name];
        let (below, above): (Vec<f64>, Vec<f64>) = values.iter().partition(|&&v| v < centre);
        assert!((below.len() as f64 / values.len() as f64 - 0.5).abs() < 0.05, "{name}");
        let mean =
            |side: &[f64]| side.iter().map(|v| (v - centre).abs()).sum::<f64>() / side.len() as f64;
        for side in [mean(&below), mean(&above)] {
            assert!((side / scale - 0.9).abs() < 0.01, "{name}: {side} of {scale}");
        }
    };
    about("Rotate", 0.0, 30.0);
    about("ShearX", 0.0, 0.3);
    about("TranslateY", 0.0, 0.45);
    about("Contrast", 1.0, 0.9);
    // Bits are 4 − ⌊4·m/10⌋: 1 from magnitude 7.5 on, 0 at 10.
    assert!(strengths["Posterize"].iter().all(|bits| [0.0, 1.0, 2.0].contains(bits)));
    let solarize = &strengths["Solarize"];
    let mean = solarize.iter().sum::<f64>() / solarize.len() as f64;
    assert_abs_diff_eq!(mean, 26.0, epsilon = 2.0);
}

#[test]
fn colour_jitter_draws_factors_in_range_and_every_order_equally_often() {
    let mut stream = RandomStream::new(1);
    let mut orders = BTreeMap::new();
    for _ in 0..2000 {
        let operations = ColourJitter::uniform(0.4).draw(&mut stream).map(parts);
        for (name, factor) in &operations {
            let factor = factor.expect("a factor");
            assert!((0.6..=1.4).contains(&factor), "{name} {factor}");
        }
        *orders.entry(operations.map(|(name, _)| name)).or_insert(0) += 1;
    }
    assert_eq!(orders.len(), 6);
    assert!(orders.values().all(|&count| count > 230), "{orders:?}");
}
