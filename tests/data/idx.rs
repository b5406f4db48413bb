use crate::assert_refused;
use crate::support::{numbers, test_device, TestResult};
use once_for_both::batch::Targets;
use once_for_both::data::idx::{IdxImages, Split};
use once_for_both::data::transform::{EvalTransform, Transform};
use once_for_both::data::{Dataset, ImageSet, Loader, LoaderOptions, Normalisation};
use once_for_both::Error;
use std::path::Path;
use std::sync::Arc;
use tch::{Kind, Tensor};

fn example_images() -> TestResult<IdxImages> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    Ok(IdxImages::open_split(&folder, Split::Test)?)
}

#[test]
fn idx_images_as_dataset_return_image_and_class_by_index() -> TestResult {
    let set = example_images()?;
    let data: &dyn Dataset = &set;
    assert_eq!((data.len(), data.classes(), data.channels()), (1000, 10, 1));
    let sample = data.load(7)?;
    assert_eq!((sample.image.width(), sample.image.height()), (28, 28));
    assert_eq!(sample.image.pixels(), &set.images().values[7 * 784..8 * 784]);
    assert_eq!(sample.class, usize::from(set.labels()[7]));
    assert!(data.name(7).contains("image 7"));
    assert_refused!(data.load(1000), Error::Invalid { .. });
    Ok(())
}

#[test]
fn loader_batches_equal_those_of_image_set() -> TestResult {
    let set = example_images()?;
    let options = LoaderOptions {
        // The whole image at its own size: no resize.
        transform: Transform::Eval(EvalTransform { size: 28, share: 1.0 }),
        normalisation: Normalisation { mean: vec![0.28], std: vec![0.35] },
        ..LoaderOptions::evaluation(28, 300).workers(2)
    };
    let mut loader = Loader::new(Arc::new(set.clone()), options, test_device())?;
    let memory = ImageSet::from_idx(set, 10, test_device())?.normalised(0.28, 0.35)?;
    assert_eq!(loader.steps_per_epoch(), 4);
    for (step, count) in [300, 300, 300, 100].into_iter().enumerate() {
        let first = 300 * step as i64;
        let indices = Tensor::f_arange_start(first, first + count, (Kind::Int64, test_device()))?;
        let (images, labels) = memory.select(&indices)?;
        let batch = loader.at(step as u64)?;
        assert_eq!(batch.images.size(), [count, 1, 28, 28]);
        let difference = (batch.images.f_sub(&images)?).f_abs()?.f_max()?.f_double_value(&[])?;
        assert!(difference < 1e-6, "{difference}");
        let Targets::Classes(classes) = batch.targets else {
            return Err("got probabilities, expected classes".into());
        };
        assert_eq!(numbers(&classes)?, numbers(&labels)?);
    }
    Ok(())
}

#[test]
fn loader_top1_counts_every_image_once() -> TestResult {
    let set = example_images()?;
    let share = set.labels().iter().filter(|&&label| label == 3).count() as f64 / 1000.0;
    let options = LoaderOptions {
        normalisation: Normalisation { mean: vec![0.3], std: vec![0.3] },
        ..LoaderOptions::evaluation(16, 300).workers(2)
    };
    let mut loader = Loader::new(Arc::new(set), options, test_device())?;
    let always_three = |images: &Tensor| -> once_for_both::Result<Tensor> {
        let batch = images.size()[0];
        let three = Tensor::f_full([batch], 3, (Kind::Int64, test_device()))?;
        Ok(three.f_one_hot(10)?)
    };
    for _ in 0..2 {
        assert_eq!(loader.top1(always_three)?, share);
    }
    Ok(())
}

#[test]
fn select_of_indices_out_of_range_or_of_another_kind_is_an_error_in_plain_words() -> TestResult {
    let memory = ImageSet::from_idx(example_images()?, 10, test_device())?;
    for (values, got) in [([0_i64, 1000], "0..=1000"), ([-1, 3], "-1..=3")] {
        let indices = Tensor::f_from_slice(&values)?;
        assert_refused!(memory.select(&indices), Error::Invalid { actual, .. } if actual == got);
        assert_refused!(memory.subset(&indices), Error::Invalid { actual, .. } if actual == got);
    }
    let floats = Tensor::f_from_slice(&[0.5_f32])?;
    assert_refused!(memory.select(&floats), Error::Invalid { actual, .. } if actual == "[1], Float");
    Ok(())
}
