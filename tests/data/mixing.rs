use crate::assert_refused;
use crate::support::{numbers, TestResult, Tolerance};
use approx::assert_abs_diff_eq;
use once_for_both::batch::Targets;
use once_for_both::data::transform::Rectangle;
use once_for_both::data::{Mix, Mixing, RandomStream};
use once_for_both::Error;
use tch::{Device, Kind, Tensor};

const SIZE: usize = 6;

/// Batch whose image i has the value i everywhere.
fn images(batch: i64) -> TestResult<Tensor> {
    let size = SIZE as i64;
    let numbers = Tensor::f_arange(batch, (Kind::Float, Device::Cpu))?.f_view([batch, 1, 1, 1])?;
    Ok(numbers.f_expand([batch, 3, size, size], false)?.f_contiguous()?)
}

fn targets(mix: Mix, classes: &[i64], smoothing: f64) -> TestResult<Tensor> {
    let classes = Tensor::f_from_slice(classes)?;
    match mix.targets(&classes, 4, SIZE, smoothing)? {
        Targets::Probabilities(probabilities) => Ok(probabilities),
        Targets::Classes(_) | Targets::Values(_) | Targets::Unlabelled => {
            Err("expected probabilities".into())
        }
    }
}

#[test]
fn mixup_weighs_images_and_targets_by_lambda() -> TestResult {
    let mix = Mix::Mixup(0.7);
    let mixed = mix.images(images(4)?)?;
    // λ·i + (1 − λ)·(3 − i)
    for (i, expected) in [0.9, 1.3, 1.7, 2.1].into_iter().enumerate() {
        let image = numbers(&mixed.f_select(0, i as i64)?)?;
        assert!(image.iter().all(|value| (value - expected).abs() < 1e-6), "{i}: {image:?}");
    }
    let expected = [0.7, 0.0, 0.0, 0.3, 0.0, 0.7, 0.3, 0.0, 0.0, 0.3, 0.7, 0.0, 0.3, 0.0, 0.0, 0.7];
    let close = Tolerance { relative: 1e-6, absolute: 1e-7 };
    close.check_against("targets", &targets(mix, &[0, 1, 2, 3], 0.0)?, &expected)
}

/// As in timm, the rectangle extends by half its side, rounded down, to both sides of its centre.
#[test]
fn cutmix_rectangles_have_even_sides_and_timms_mean_area() -> TestResult {
    let mixing = Mixing { mixup: 0.0, cutmix: 1.0, ..Mixing::deit() };
    let (size, draws) = (32, 20_000);
    let (mut area, mut inner) = (0.0, 0);
    for seed in 0..draws {
        let Mix::Cutmix(cut) = mixing.draw(size, &mut RandomStream::new(seed)) else {
            return Err("expected cutmix".into());
        };
        area += (cut.width * cut.height) as f64 / (size * size) as f64 / draws as f64;
        // Not clipped by the border.
        if cut.left > 0 && cut.left + cut.width < size {
            inner += 1;
            assert!(cut.width.is_multiple_of(2), "{cut:?}");
        }
    }
    assert!(inner > 100);
    // Mean over λ uniform in [0, 1] and all centres.
    let expected: f64 = (0..1000)
        .map(|step| {
            let side = (size as f64 * (1.0 - (step as f64 + 0.5) / 1000.0).sqrt()) as usize;
            let length =
                |centre: usize| (centre + side / 2).min(size) - centre.saturating_sub(side / 2);
            let mean = (0..size).map(length).sum::<usize>() as f64 / size as f64;
            mean * mean / (size * size) as f64 / 1000.0
        })
        .sum();
    assert_abs_diff_eq!(area, expected, epsilon = 0.01);
    Ok(())
}

#[test]
fn cutmix_replaces_the_rectangle_and_weighs_targets_by_its_area() -> TestResult {
    let cut = Rectangle { left: 2, top: 1, width: 3, height: 2 };
    let mix = Mix::Cutmix(cut);
    let mixed = mix.images(images(4)?)?;
    for i in 0..4 {
        for y in 0..SIZE {
            for x in 0..SIZE {
                let inside = (2..5).contains(&x) && (1..3).contains(&y);
                let expected = if inside { 3 - i } else { i };
                let value = mixed.f_double_value(&[i, 1, y as i64, x as i64])?;
                assert_eq!(value, expected as f64, "image {i}, {x}, {y}");
            }
        }
    }
    assert_eq!(mix.lambda(SIZE), 1.0 - 6.0 / 36.0);
    let row = numbers(&targets(mix, &[2, 0], 0.0)?.f_select(0, 0)?)?;
    assert_abs_diff_eq!(row[2], 30.0 / 36.0, epsilon = 1e-6);
    assert_abs_diff_eq!(row[0], 6.0 / 36.0, epsilon = 1e-6);
    Ok(())
}

#[test]
fn unmixed_batch_has_smoothed_targets_and_unchanged_images() -> TestResult {
    let same = Mix::None.images(images(3)?)?;
    assert_eq!(numbers(&same)?, numbers(&images(3)?)?);
    // 1 − s + s/classes for the class, s/classes elsewhere.
    let expected = [0.025, 0.925, 0.025, 0.025];
    let close = Tolerance::relative(1e-6);
    close.check_against("targets", &targets(Mix::None, &[1], 0.1)?, &expected)
}

#[test]
fn mixed_targets_sum_to_one() -> TestResult {
    let mut stream = RandomStream::new(0);
    for _ in 0..50 {
        let mix = Mixing::deit().draw(SIZE, &mut stream);
        let sums =
            targets(mix, &[0, 3, 3, 1, 2], 0.1)?.f_sum_dim_intlist(-1_i64, false, Kind::Double)?;
        for sum in numbers(&sums)? {
            assert!((sum - 1.0).abs() < 1e-6, "{mix:?}: {sum}");
        }
    }
    Ok(())
}

#[test]
fn deit_mixing_draws_mixup_and_cutmix_equally_often() {
    let (mut mixups, mut cutmixes, mut lambdas) = (0, 0, 0.0);
    let mut stream = RandomStream::new(7);
    for _ in 0..4000 {
        let mix = Mixing::deit().draw(224, &mut stream);
        assert!((0.0..=1.0).contains(&mix.lambda(224)));
        match mix {
            Mix::Mixup(lambda) => {
                mixups += 1;
                lambdas += lambda;
            }
            Mix::Cutmix(Rectangle { left, top, width, height }) => {
                cutmixes += 1;
                assert!(left + width <= 224 && top + height <= 224);
            }
            Mix::None => panic!("expected every batch to be mixed"),
        }
    }
    assert!((1850..2150).contains(&mixups) && mixups + cutmixes == 4000);
    let mean = lambdas / f64::from(mixups);
    assert!((0.48..0.52).contains(&mean), "{mean}");
}

#[test]
fn mixing_with_alpha_or_probability_zero_disables_that_part() {
    let mut stream = RandomStream::new(1);
    for _ in 0..100 {
        let mixup = Mixing { cutmix: 0.0, ..Mixing::deit() }.draw(32, &mut stream);
        assert!(matches!(mixup, Mix::Mixup(_)));
        let cutmix = Mixing { mixup: 0.0, ..Mixing::deit() }.draw(32, &mut stream);
        assert!(matches!(cutmix, Mix::Cutmix(_)));
        let none = Mixing { probability: 0.0, ..Mixing::deit() }.draw(32, &mut stream);
        assert_eq!(none, Mix::None);
    }
}

#[test]
fn mixing_options_out_of_range_are_errors_that_name_the_option() {
    for (culprit, mixing) in [
        ("mixing.mixup", Mixing { mixup: -1.0, ..Mixing::deit() }),
        ("mixing.cutmix", Mixing { cutmix: f64::NAN, ..Mixing::deit() }),
        ("mixing.mixup and mixing.cutmix", Mixing { mixup: 0.0, cutmix: 0.0, ..Mixing::deit() }),
        ("mixing.probability", Mixing { probability: 2.0, ..Mixing::deit() }),
        ("mixing.switch", Mixing { switch: -0.5, ..Mixing::deit() }),
        ("mixing.label_smoothing", Mixing { label_smoothing: 1.5, ..Mixing::deit() }),
    ] {
        assert_refused!(mixing.validate(), Error::Invalid { name, .. } if name == culprit);
    }
}
