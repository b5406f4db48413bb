//! A look at masked image modeling changes nothing, and shows what there is.

use super::run::data;
use crate::assert_refused;
use crate::support::tiny_run::{
    alone, batch, options, run, session, session_with, without_times, STEPS,
};
use crate::support::{numbers, TestResult, Tolerance};
use once_for_both::components::WindowNorm;
use once_for_both::data::Normalisation;
use once_for_both::models::VitConfig;
use once_for_both::report::Sample;
use once_for_both::search::{Method, Search, SearchOptions};
use once_for_both::Error;
use tch::{Device, Kind, Tensor};

#[test]
fn training_goes_on_as_if_nobody_had_looked() -> TestResult {
    let _alone = alone();
    let (mut watched, mut alone) = (session(0.5)?, session(0.5)?);
    let images = batch(99)?.images;
    let events = run(&mut alone, STEPS)?;
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
    let weights = alone.supernet().raw_weights();
    for (name, weight) in watched.supernet().raw_weights() {
        assert!(weight.equal(&weights[&name]), "{name}");
    }
    Ok(())
}

#[test]
fn the_generator_of_the_process_is_left_alone() -> TestResult {
    let _alone = alone();
    let session = session(0.5)?;
    let images = batch(0)?.images;
    let draw = || Tensor::f_rand([8], (Kind::Float, Device::Cpu));
    tch::manual_seed(7);
    let undisturbed = draw()?;
    tch::manual_seed(7);
    let (first, second) = (session.reconstruct(&images)?, session.reconstruct(&images)?);
    assert!(draw()?.equal(&undisturbed));
    // And a second look at the same state sees the same.
    assert!(first.hidden.equal(&second.hidden) && first.painted.equal(&second.painted));
    Ok(())
}

#[test]
fn as_many_patches_are_hidden_as_asked_for_and_the_rest_is_the_image() -> TestResult {
    let _alone = alone();
    let session = session(0.5)?;
    let images = batch(0)?.images;
    for (ratio, hidden) in [(0.0, 0), (0.05, 1), (0.25, 4), (0.9, 15)] {
        let seen = session.reconstruct_hiding(&images, ratio)?;
        assert_eq!(seen.hidden.size(), images.size());
        let pixels =
            numbers(&seen.hidden.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, None)?)?;
        assert!(pixels.iter().all(|&pixels| pixels == (hidden * 16 * 3) as f64), "{pixels:?}");
        let difference = seen.painted.f_sub(&images)?;
        let outside = difference.f_mul(&seen.hidden.f_rsub_scalar(1.0)?)?;
        assert_eq!(outside.f_abs()?.f_max()?.f_double_value(&[])?, 0.0);
        assert!(hidden == 0 || difference.f_abs()?.f_max()?.f_double_value(&[])? > 0.0);
    }
    let at_ratio = session.reconstruct(&images)?;
    assert_eq!(session.mask_ratio(), 0.05);
    assert!(at_ratio.hidden.equal(&session.reconstruct_hiding(&images, 0.05)?.hidden));
    assert_refused!(session.reconstruct_hiding(&images, 1.0), Error::Invalid { .. });
    assert_refused!(session.reconstruct(&images.f_narrow(3, 0, 8)?), Error::Shape { .. });
    Ok(())
}

#[test]
fn without_masked_image_modeling_there_is_nothing_to_see() -> TestResult {
    let _alone = alone();
    let images = batch(0)?.images;
    let without = SearchOptions { pmim: None, ..options() };
    let never: Search<VitConfig> = session_with(without, 0.5, Method::of)?;
    assert_refused!(never.reconstruct(&images), Error::Unsupported { .. });
    let mut over = session(0.5)?;
    over.reconstruct(&images)?;
    while !over.is_done() {
        let until = over.steps_done() + 1;
        run(&mut over, until)?;
    }
    assert_refused!(over.reconstruct(&images), Error::Unsupported { .. });
    Ok(())
}

#[test]
fn restoring_undoes_normalising() -> TestResult {
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
fn pictures_have_the_bytes_of_the_data_set() -> TestResult {
    let _alone = alone();
    let data = data()?;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let set = once_for_both::data::idx::IdxImages::open_split(
        &folder,
        once_for_both::data::idx::Split::Test,
    )?;
    let images = data.first(2)?;
    let hidden = images.f_zeros_like()?;
    let _ = hidden.f_narrow(2, 0, 1)?.f_fill_(1.0)?;
    let seen = once_for_both::components::Reconstruction {
        painted: images.f_zeros_like()?,
        images,
        hidden,
    };
    let samples = Sample::of(&seen, &data.pixels, |at| format!("number {at}"))?;
    for (name, wrong) in
        [("hidden", seen.hidden.narrow(2, 0, 3)), ("painted", seen.painted.narrow(0, 0, 1))]
    {
        let [mut hidden, mut painted] = [&seen.hidden, &seen.painted].map(Tensor::shallow_clone);
        *(if name == "hidden" { &mut hidden } else { &mut painted }) = wrong;
        let images = seen.images.shallow_clone();
        let odd = once_for_both::components::Reconstruction { images, hidden, painted };
        let refused = Sample::of(&odd, &data.pixels, |at| format!("number {at}"));
        assert_refused!(refused, Error::Shape { name: ref culprit, .. } if culprit == name);
    }
    for (at, sample) in samples.iter().enumerate() {
        let image = once_for_both::data::Dataset::load(&set, at)?.image;
        assert_eq!(sample.original, image);
        assert_eq!(sample.hidden.pixels()[..28], [128; 28]);
        assert_eq!(sample.hidden.pixels()[28..], image.pixels()[28..]);
        assert_eq!(sample.label, format!("number {at}"));
    }
    let colours = Normalisation::imagenet();
    assert_refused!(Sample::of(&seen, &colours, |_| String::new()), Error::Invalid { .. });
    Ok(())
}
