//! Reconstructions by masked image modeling: they leave training as it is, and become pictures.

use super::small_run::data;
use crate::assert_refused;
use crate::support::tiny_run::{
    alone, batch, options, run, search, search_with, without_times, STEPS,
};
use crate::support::{numbers, TestResult, Tolerance};
use once_for_both::components::{Reconstruction, WindowNorm};
use once_for_both::data::idx::{IdxImages, Split};
use once_for_both::data::{Dataset, Normalisation};
use once_for_both::report::Sample;
use once_for_both::Error;
use tch::{Device, Kind, Tensor};

#[test]
fn training_with_reconstructions_between_steps_is_bit_identical() -> TestResult {
    let _alone = alone();
    let (mut watched, mut unwatched) = (search(0.5)?, search(0.5)?);
    let images = batch(99)?.images;
    let events = run(&mut unwatched, STEPS)?;
    let mut seen = Vec::new();
    while !watched.is_done() {
        match watched.reconstruct(&images) {
            Ok(_) | Err(Error::Unsupported { .. }) => {}
            Err(other) => return Err(other.into()),
        }
        let until = watched.steps_done() + 1;
        seen.extend(run(&mut watched, until)?);
    }
    assert_eq!(without_times(&seen), without_times(&events));
    let weights = unwatched.supernet().raw_weights();
    for (name, weight) in watched.supernet().raw_weights() {
        assert!(weight.equal(&weights[&name]), "{name}");
    }
    Ok(())
}

#[test]
fn reconstruct_keeps_torch_generator_and_repeats_exactly() -> TestResult {
    let _alone = alone();
    let search = search(0.5)?;
    let images = batch(0)?.images;
    let draw = || Tensor::f_rand([8], (Kind::Float, Device::Cpu));
    once_for_both::randomness::seed(7);
    let undisturbed = draw()?;
    once_for_both::randomness::seed(7);
    let (first, second) = (search.reconstruct(&images)?, search.reconstruct(&images)?);
    assert!(draw()?.equal(&undisturbed));
    assert!(first.masked.equal(&second.masked) && first.reconstructed.equal(&second.reconstructed));
    Ok(())
}

#[test]
fn reconstruct_masking_with_ratio_masks_that_share_and_keeps_other_pixels() -> TestResult {
    let _alone = alone();
    let search = search(0.5)?;
    let images = batch(0)?.images;
    for (ratio, patches) in [(0.0, 0), (0.05, 1), (0.25, 4), (0.9, 15)] {
        let seen = search.reconstruct_masking(&images, ratio)?;
        assert_eq!(seen.masked.size(), images.size());
        let pixels =
            numbers(&seen.masked.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, None)?)?;
        assert!(pixels.iter().all(|&pixels| pixels == (patches * 16 * 3) as f64), "{pixels:?}");
        let difference = seen.reconstructed.f_sub(&images)?;
        let outside = difference.f_mul(&seen.masked.f_rsub_scalar(1.0)?)?;
        assert_eq!(outside.f_abs()?.f_max()?.f_double_value(&[])?, 0.0);
        assert!(patches == 0 || difference.f_abs()?.f_max()?.f_double_value(&[])? > 0.0);
    }
    let at_ratio = search.reconstruct(&images)?;
    assert_eq!(search.mask_ratio(), 0.05);
    assert!(at_ratio.masked.equal(&search.reconstruct_masking(&images, 0.05)?.masked));
    assert_refused!(search.reconstruct_masking(&images, 1.0), Error::Invalid { .. });
    assert_refused!(search.reconstruct(&images.f_narrow(3, 0, 8)?), Error::Shape { .. });
    Ok(())
}

#[test]
fn reconstruct_without_pmim_or_after_the_search_is_refused() -> TestResult {
    let _alone = alone();
    let images = batch(0)?.images;
    let without = search_with(options().with(|o| o.pmim = None), 0.5)?;
    assert_refused!(without.reconstruct(&images), Error::Unsupported { .. });
    let mut finished = search(0.5)?;
    finished.reconstruct(&images)?;
    while !finished.is_done() {
        let until = finished.steps_done() + 1;
        run(&mut finished, until)?;
    }
    assert_refused!(finished.reconstruct(&images), Error::Unsupported { .. });
    Ok(())
}

#[test]
fn window_norm_restore_of_normalised_images_returns_the_images() -> TestResult {
    let images = data()?.first(3)?;
    for window in [1, 9, 47] {
        let norm = WindowNorm::new(window)?;
        let restored = norm.restore(&images, &norm.normalise(&images)?)?;
        let close = Tolerance { relative: 1e-5, absolute: 1e-4 };
        close.check("restored", &restored, &images)?;
        assert_refused!(norm.restore(&images, &images.f_narrow(0, 0, 1)?), Error::Shape { .. });
    }
    Ok(())
}

#[test]
fn samples_of_data_set_images_have_their_bytes_and_grey_masked_patches() -> TestResult {
    let _alone = alone();
    let data = data()?;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let set = IdxImages::open_split(&folder, Split::Test)?;
    let images = data.first(2)?;
    let masked = images.f_zeros_like()?;
    let _ = masked.f_narrow(2, 0, 1)?.f_fill_(1.0)?;
    let seen = Reconstruction { reconstructed: images.f_zeros_like()?, images, masked };
    let label = |at| format!("image {at}");
    let samples = Sample::of(&seen, &data.pixels, label)?;
    for (at, sample) in samples.iter().enumerate() {
        let image = Dataset::load(&set, at)?.image;
        assert_eq!(sample.original, image);
        assert_eq!(sample.masked.pixels()[..28], [128; 28]);
        assert_eq!(sample.masked.pixels()[28..], image.pixels()[28..]);
        assert_eq!(sample.label, format!("image {at}"));
    }
    let wrong = [
        ("masked", seen.masked.f_narrow(2, 0, 3)?),
        ("reconstructed", seen.reconstructed.f_narrow(0, 0, 1)?),
    ];
    for (name, wrong) in wrong {
        let images = seen.images.shallow_clone();
        let [mut masked, mut reconstructed] =
            [&seen.masked, &seen.reconstructed].map(Tensor::shallow_clone);
        *(if name == "masked" { &mut masked } else { &mut reconstructed }) = wrong;
        let odd = Reconstruction { images, masked, reconstructed };
        let refused = Sample::of(&odd, &data.pixels, label);
        assert_refused!(refused, Error::Shape { name: ref culprit, .. } if culprit == name);
    }
    let colours = Normalisation::imagenet();
    assert_refused!(Sample::of(&seen, &colours, label), Error::Invalid { .. });
    Ok(())
}

#[test]
fn pictures_of_images_without_pixels_are_refused() -> TestResult {
    let empty = || Tensor::f_zeros([1, 1, 0, 4], (Kind::Float, Device::Cpu));
    let reconstruction =
        Reconstruction { images: empty()?, masked: empty()?, reconstructed: empty()? };
    let pixels = Normalisation { mean: vec![0.0], std: vec![1.0] };
    let refused = Sample::of(&reconstruction, &pixels, |_| String::new());
    assert_refused!(refused, Error::Invalid { name, .. } if name == "size of the images");
    Ok(())
}
