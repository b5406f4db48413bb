use crate::assert_refused;
use crate::sets::{noise, Generated, CLASSES};
use crate::support::{numbers, test_device, TestResult, Tolerance};
use once_for_both::batch::{Batch, Targets};
use once_for_both::data::transform::{RandomErasing, TrainTransform, Transform};
use once_for_both::data::{
    Dataset, Image, LabelledImage, Loader, LoaderOptions, Mixing, Normalisation, OnCorrupt, Order,
};
use once_for_both::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use tch::Device;

fn deit(batch: usize, workers: usize) -> LoaderOptions {
    LoaderOptions::deit(16, batch).seed(42).workers(workers)
}

fn loader(set: Generated, options: LoaderOptions) -> TestResult<Loader> {
    Ok(Loader::new(Arc::new(set), options, test_device())?)
}

/// Bits of all images and targets of a batch.
pub fn bits(batch: &Batch) -> TestResult<Vec<u64>> {
    let (Targets::Classes(targets) | Targets::Probabilities(targets)) = &batch.targets else {
        panic!("a loader's batch has labels");
    };
    let mut all = numbers(&batch.images)?;
    all.extend(numbers(targets)?);
    Ok(all.into_iter().map(f64::to_bits).collect())
}

fn classes(batch: &Batch) -> TestResult<Vec<usize>> {
    let Targets::Classes(classes) = &batch.targets else {
        return Err("got probabilities, expected classes".into());
    };
    Ok(numbers(classes)?.into_iter().map(|class| class as usize).collect())
}

/// Without mixing, erasing and RandAugment, so that images can be recognised.
fn plain(options: LoaderOptions) -> LoaderOptions {
    let transform = Transform::Train(TrainTransform::plain(16));
    LoaderOptions { mixing: None, transform, ..options }
}

#[test]
fn batches_with_any_number_of_workers_are_equal() -> TestResult {
    let mut expected = Vec::new();
    for workers in [1, 2, 5] {
        let mut loader = loader(Generated::of(23), deit(4, workers))?;
        assert_eq!(loader.steps_per_epoch(), 5);
        // Three epochs, to cross their borders.
        let batches: Vec<_> =
            (0..15).map(|step| bits(&loader.at(step)?)).collect::<TestResult<_>>()?;
        if expected.is_empty() {
            expected = batches;
        } else {
            assert_eq!(batches, expected, "{workers} workers");
        }
    }
    assert_ne!(expected[0], expected[5]);
    Ok(())
}

#[test]
fn loader_started_at_a_later_step_returns_the_same_batches() -> TestResult {
    let mut whole = loader(Generated::of(23), deit(4, 2))?;
    let batches: Vec<_> = (0..12).map(|step| bits(&whole.at(step)?)).collect::<TestResult<_>>()?;
    for first in [1, 4, 7] {
        let mut resumed = loader(Generated::of(23), deit(4, 3))?;
        for (step, expected) in (0..).zip(&batches).skip(first) {
            assert_eq!(&bits(&resumed.at(step)?)?, expected, "{step} from {first}");
        }
    }
    // The same loader, back and forth.
    for step in [11, 0, 1, 5, 5, 3] {
        assert_eq!(bits(&whole.at(step as u64)?)?, batches[step], "{step}");
    }
    Ok(())
}

#[test]
fn batches_of_different_seeds_differ() -> TestResult {
    let first = |seed| bits(&loader(Generated::of(9), deit(4, 1).seed(seed))?.at(0)?);
    assert_ne!(first(1)?, first(2)?);
    Ok(())
}

#[test]
fn shuffled_epoch_contains_every_image_once_in_a_new_order() -> TestResult {
    let options = plain(LoaderOptions { order: Order::Shuffled { repeats: 1 }, ..deit(6, 2) });
    let mut loader = loader(Generated::of(24), options)?;
    let mut orders = Vec::new();
    for epoch in 0..2 {
        let mut seen = Vec::new();
        for step in 0..4 {
            seen.extend(classes(&loader.at(4 * epoch + step)?)?);
        }
        let count = |class| seen.iter().filter(|&&other| other == class).count();
        assert_eq!([0, 1, 2, 3].map(count), [24 / CLASSES; CLASSES]);
        orders.push(seen);
    }
    assert_ne!(orders[0], orders[1]);
    Ok(())
}

#[test]
fn epoch_of_shuffled_shards_contains_every_image_once_in_a_new_order() -> TestResult {
    let set = Generated {
        shards: Some((0..12).map(|shard| 4 * shard..4 * shard + 4).collect()),
        ..Generated::of(48)
    };
    let order = Order::Shards { buffer: 4, repeats: 1 };
    let mut loader = loader(set, plain(LoaderOptions { order, ..deit(6, 2) }))?;
    let mut orders = Vec::new();
    for epoch in 0..2 {
        let mut images = Vec::new();
        for step in 0..8 {
            images.extend(classes(&loader.at(8 * epoch + step)?)?);
        }
        let count = |class| images.iter().filter(|&&other| other == class).count();
        assert_eq!([0, 1, 2, 3].map(count), [48 / CLASSES; CLASSES]);
        orders.push(images);
    }
    assert_ne!(orders[0], orders[1]);
    Ok(())
}

#[test]
fn shards_with_a_gap_an_overlap_or_too_few_images_are_refused() -> TestResult {
    for shards in [
        vec![],
        vec![0..2, 2..5],
        vec![0..3, 4..6],
        vec![0..4, 3..6],
        vec![3..6, 0..3],
        vec![0..2, 2..7],
    ] {
        let set = Generated { shards: Some(shards), ..Generated::of(6) };
        let order = Order::Shards { buffer: 2, repeats: 1 };
        let refused =
            Loader::new(Arc::new(set), LoaderOptions { order, ..deit(2, 1) }, Device::Cpu);
        assert_refused!(refused, Error::Invalid { name, .. } if name == "shards of the data set");
    }
    Ok(())
}

#[test]
fn repeated_augmentation_yields_three_different_consecutive_views_of_each_image() -> TestResult {
    let options = plain(LoaderOptions { order: Order::Shuffled { repeats: 3 }, ..deit(9, 2) });
    let mut loader = loader(Generated::of(30), options)?;
    assert_eq!(loader.steps_per_epoch(), 3);
    let batch = loader.at(0)?;
    for copies in classes(&batch)?.chunks(3) {
        assert!(copies.iter().all(|class| *class == copies[0]));
    }
    let image = |at| numbers(&batch.images.f_select(0, at)?);
    assert_ne!(image(0)?, image(1)?);
    assert_ne!(image(1)?, image(2)?);
    Ok(())
}

#[test]
fn sequential_epoch_contains_all_images_in_order() -> TestResult {
    let options = LoaderOptions::evaluation(16, 4).workers(3);
    let mut loader = loader(Generated::of(10), options)?;
    assert_eq!(loader.steps_per_epoch(), 3);
    // The first epoch twice, then the second: all have the same images.
    for first in [0, 0, 3] {
        let mut seen = Vec::new();
        for step in first..first + 3 {
            seen.extend(classes(&loader.at(step)?)?);
        }
        assert_eq!(seen, (0..10).map(|index| index % CLASSES).collect::<Vec<_>>());
    }
    Ok(())
}

#[test]
fn erased_pixels_are_standard_normal_after_normalisation() -> TestResult {
    let erasing = RandomErasing { probability: 1.0, area: (0.2, 0.3), ..RandomErasing::default() };
    let transform =
        |erasing| Transform::Train(TrainTransform { erasing, ..TrainTransform::plain(32) });
    let with = |erasing| {
        let options = LoaderOptions { transform: transform(erasing), ..plain(deit(8, 1)) };
        loader(Generated::of(8), options)
    };
    let [clean, erased] = [None, Some(erasing)].map(with);
    let (clean, erased) = (clean?.at(0)?.images, erased?.at(0)?.images);
    let changed = erased.f_ne_tensor(&clean)?;
    let share = changed.f_to_kind(tch::Kind::Float)?.f_mean(None)?.f_double_value(&[])?;
    assert!((0.15..0.35).contains(&share), "{share}");
    let noise = numbers(&erased.f_masked_select(&changed)?)?;
    let mean = noise.iter().sum::<f64>() / noise.len() as f64;
    assert!(mean.abs() < 0.1, "{mean}");
    Ok(())
}

#[test]
fn images_are_normalised_per_channel() -> TestResult {
    let set = Generated::of(3);
    let sample = set.load(2)?;
    let side = sample.image.width().min(sample.image.height());
    let options = |mean: [f64; 3], std: [f64; 3]| LoaderOptions {
        normalisation: Normalisation { mean: mean.to_vec(), std: std.to_vec() },
        ..LoaderOptions::evaluation(side, 3).workers(1)
    };
    let bytes = loader(set.clone(), options([0.0; 3], [1.0 / 255.0; 3]))?.at(0)?.images;
    let (mean, std) = ([0.1, 0.5, 0.9], [0.2, 0.3, 0.6]);
    let images = loader(set, options(mean, std))?.at(0)?.images;
    for channel in 0..3 {
        let expected = (bytes.f_select(1, channel)?.f_div_scalar(255.0)?)
            .f_sub_scalar(mean[channel as usize])?
            .f_div_scalar(std[channel as usize])?;
        let close = Tolerance { relative: 1e-5, absolute: 1e-5 };
        close.check("channel", &images.f_select(1, channel)?, &expected)?;
    }
    Ok(())
}

#[test]
fn batch_on_the_test_device_equals_that_on_the_cpu() -> TestResult {
    // Erasing and mixing are applied on the device, to bytes that it normalises.
    for mixing in [None, Some(Mixing::deit())] {
        let options = LoaderOptions { mixing, ..deit(6, 2) };
        let mut host = Loader::new(Arc::new(Generated::of(24)), options.clone(), Device::Cpu)?;
        let mut device = loader(Generated::of(24), options)?;
        for step in 0..4 {
            let (expected, batch) = (host.at(step)?, device.at(step)?);
            assert_eq!(batch.images.device(), test_device());
            let close = Tolerance { relative: 1e-5, absolute: 1e-5 };
            close.check("images", &batch.images.f_to_device(Device::Cpu)?, &expected.images)?;
            match (batch.targets, expected.targets) {
                (Targets::Classes(ours), Targets::Classes(theirs))
                | (Targets::Probabilities(ours), Targets::Probabilities(theirs)) => {
                    close.check("targets", &ours.f_to_device(Device::Cpu)?, &theirs)?;
                }
                other => return Err(format!("targets differ in kind: {other:?}").into()),
            }
        }
    }
    Ok(())
}

#[test]
fn top1_of_mixed_batches_is_an_error() -> TestResult {
    let mut loader = loader(Generated::of(8), deit(4, 1))?;
    let refused = loader.top1(|images| Ok(images.shallow_clone()));
    assert_refused!(refused, Error::Invalid { name, .. } if name == "mixing of an evaluation");
    Ok(())
}

#[test]
fn corrupt_images_are_skipped_named_and_replaced_by_the_next_index() -> TestResult {
    let corrupt = [3, 4, 11].into();
    let options = LoaderOptions { order: Order::Sequential, ..plain(deit(6, 2)) };
    let mut loader = loader(Generated { corrupt, ..Generated::of(12) }, options)?;
    assert!(loader.corrupt_images().is_empty());
    let mut seen = classes(&loader.at(0)?)?;
    seen.extend(classes(&loader.at(1)?)?);
    // Images 3 and 4 are replaced by 5, the last image by the first.
    assert_eq!(seen, [0, 1, 2, 5, 5, 5, 6, 7, 8, 9, 10, 0].map(|index| index % CLASSES));
    let names: BTreeMap<usize, String> =
        [3, 4, 11].map(|index| (index, format!("picture {index}"))).into();
    assert_eq!(loader.corrupt_images(), &names);
    Ok(())
}

#[test]
fn corrupt_images_beyond_the_limit_are_an_error_at_the_same_step_for_any_number_of_workers(
) -> TestResult {
    for workers in [1, 4] {
        let on_corrupt = OnCorrupt::Skip { limit: 2 };
        let options =
            LoaderOptions { order: Order::Sequential, on_corrupt, ..plain(deit(3, workers)) };
        let set = Generated { corrupt: [0, 4, 8].into(), ..Generated::of(12) };
        let mut loader = loader(set, options)?;
        loader.at(0)?;
        loader.at(1)?;
        assert_refused!(
            loader.at(2),
            Error::CorruptImages { limit: 2, names } if names == ["picture 0", "picture 4", "picture 8"]
        );
    }
    Ok(())
}

/// The second batch alone has more than the limit.
#[test]
fn error_of_too_many_corrupt_images_names_those_of_earlier_batches() -> TestResult {
    let on_corrupt = OnCorrupt::Skip { limit: 2 };
    let options = LoaderOptions { order: Order::Sequential, on_corrupt, ..plain(deit(6, 2)) };
    let set = Generated { corrupt: [1, 3, 6, 8, 10].into(), ..Generated::of(12) };
    let mut loader = loader(set, options)?;
    loader.at(0)?;
    let expected = [1, 3, 6, 8, 10].map(|index| format!("picture {index}"));
    assert_refused!(loader.at(1), Error::CorruptImages { limit: 2, names } if names == expected);
    Ok(())
}

#[test]
fn corrupt_images_of_an_earlier_loader_count_towards_the_limit() -> TestResult {
    let options = LoaderOptions {
        on_corrupt: OnCorrupt::Skip { limit: 2 },
        ..LoaderOptions::evaluation(8, 4)
    };
    let corrupt = [0, 4, 8].into();
    let mut own = loader(Generated { corrupt, ..Generated::of(12) }, options)?;
    own.add_corrupt_images([(8, "picture 8".into())].into())?;
    own.at(0)?;
    let refused = own.at(1).map(drop);
    assert_refused!(refused, Error::CorruptImages { limit: 2, ref names } if names.len() == 3);
    let said = refused.map_err(|error| error.to_string()).err().ok_or("accepted")?;
    assert!(said.contains("data.corrupt_images"), "{said}");
    assert!(own.add_corrupt_images([(9, "picture 9".into())].into()).is_err());
    Ok(())
}

#[test]
fn data_set_with_only_corrupt_images_is_an_error() -> TestResult {
    let refused = |limit| {
        let set = Generated { corrupt: (0..5).collect(), ..Generated::of(5) };
        let options = LoaderOptions { on_corrupt: OnCorrupt::Skip { limit }, ..deit(2, 2) };
        loader(set, options).map(|mut loader| loader.at(0).map(drop))
    };
    assert_refused!(refused(2)?, Error::CorruptImages { limit: 2, .. });
    for limit in [5, 100] {
        let error = refused(limit)?.err().ok_or("decoded")?.to_string();
        let expected = "images of the data set that can be decoded: got none of 5, the first of \
                        which is picture 0, expected at least 1; see what is wrong with each by \
                        inspect_images (`deit_s inspect`)";
        assert_eq!(error, expected, "{limit}");
    }
    Ok(())
}

#[test]
fn first_corrupt_image_of_an_evaluation_is_an_error() -> TestResult {
    let set = Generated { corrupt: [5].into(), ..Generated::of(8) };
    let mut loader = loader(set, LoaderOptions::evaluation(16, 4).workers(2))?;
    loader.at(0)?;
    assert_refused!(loader.at(1), Error::Image { name, .. } if name == "picture 5");
    // The batch before it is still available.
    loader.at(0)?;
    Ok(())
}

#[test]
fn unreadable_image_is_an_io_error_and_not_skipped() -> TestResult {
    let set = Generated { unreadable: Some(1), ..Generated::of(6) };
    let options = LoaderOptions { order: Order::Sequential, ..deit(6, 1) };
    assert_refused!(loader(set, options)?.at(0), Error::Io { .. });
    Ok(())
}

/// Data set whose images are grey although `channels` is 3.
struct Grey;

impl Dataset for Grey {
    fn len(&self) -> usize {
        4
    }

    fn classes(&self) -> usize {
        2
    }

    fn channels(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        format!("grey {index}")
    }

    fn load(&self, _: usize) -> once_for_both::Result<LabelledImage> {
        Ok(LabelledImage { image: noise(8, 8, 1, 0), class: 0 })
    }
}

#[test]
fn image_with_other_channels_than_its_data_set_is_an_error() -> TestResult {
    let options = LoaderOptions::evaluation(8, 2).workers(1);
    let mut loader = Loader::new(Arc::new(Grey), options, Device::Cpu)?;
    assert_refused!(loader.at(1), Error::Invalid { name, .. } if name == "grey 2");
    Ok(())
}

#[test]
fn panic_of_a_worker_is_an_error_of_its_step() -> TestResult {
    let set = Generated { panics: Some(5), ..Generated::of(9) };
    let options = LoaderOptions { order: Order::Sequential, ..deit(3, 2) };
    let mut loader = loader(set, options)?;
    loader.at(0)?;
    assert_refused!(
        loader.at(1),
        Error::Worker { step: 1, reason } if reason.contains("picture 5 panics")
    );
    loader.at(0)?;
    Ok(())
}

#[test]
fn dropped_loader_has_ended_its_workers() -> TestResult {
    let set = Arc::new(Generated::of(50));
    let mut loader = Loader::new(set.clone(), deit(2, 4), Device::Cpu)?;
    loader.at(3)?;
    assert!(Arc::strong_count(&set) > 1);
    drop(loader);
    // No thread holds the data set any more.
    assert_eq!(Arc::strong_count(&set), 1);
    Ok(())
}

#[test]
fn loader_options_round_trip_through_json() -> TestResult {
    for options in [deit(64, 3), LoaderOptions::evaluation(224, 50)] {
        let text = serde_json::to_string(&options)?;
        assert_eq!(serde_json::from_str::<LoaderOptions>(&text)?, options);
    }
    Ok(())
}

#[test]
fn loader_options_out_of_range_are_errors_that_name_the_option() {
    let normalise =
        |mean: [f64; 3], std: &[f64]| Normalisation { mean: mean.to_vec(), std: std.to_vec() };
    for (culprit, options) in [
        ("batch", deit(0, 1)),
        ("batch", deit(11, 1)),
        ("workers", deit(2, 0)),
        ("prefetch", LoaderOptions { prefetch: usize::MAX, ..deit(2, 1) }),
        (
            "order.shuffled.repeats",
            LoaderOptions { order: Order::Shuffled { repeats: 0 }, ..deit(2, 1) },
        ),
        (
            "normalisation.mean",
            LoaderOptions { normalisation: normalise([2.0; 3], &[1.0; 3]), ..deit(2, 1) },
        ),
        (
            "normalisation.std",
            LoaderOptions { normalisation: normalise([0.5; 3], &[1.0, 0.0, 1.0]), ..deit(2, 1) },
        ),
        (
            "values of normalisation.std",
            LoaderOptions { normalisation: normalise([0.5; 3], &[1.0]), ..deit(2, 1) },
        ),
        ("transform.size", LoaderOptions::evaluation(0, 2)),
        (
            "mixing.mixup",
            LoaderOptions { mixing: Some(Mixing { mixup: -1.0, ..Mixing::deit() }), ..deit(2, 1) },
        ),
    ] {
        let refused = Loader::new(Arc::new(Generated::of(10)), options, Device::Cpu);
        assert_refused!(refused, Error::Invalid { name, .. } if name == culprit);
    }
    let empty =
        Loader::new(Arc::new(Generated::of(0)), LoaderOptions::evaluation(16, 2), Device::Cpu);
    assert_refused!(empty, Error::Invalid { name, .. } if name == "images of the data set");
}

#[test]
fn image_too_narrow_for_evaluation_is_an_error_that_names_it() -> TestResult {
    struct Narrow;
    impl Dataset for Narrow {
        fn len(&self) -> usize {
            1
        }

        fn classes(&self) -> usize {
            1
        }

        fn channels(&self) -> usize {
            3
        }

        fn name(&self, _: usize) -> String {
            "ape/line.png".into()
        }

        fn load(&self, _: usize) -> Result<LabelledImage> {
            Ok(LabelledImage { image: Image::new(60_000, 1, 3, vec![7; 180_000])?, class: 0 })
        }
    }
    let options = LoaderOptions::evaluation(224, 1).workers(1);
    let refused = Loader::new(Arc::new(Narrow), options, Device::Cpu)?.at(0);
    assert_refused!(refused, Error::Invalid { name, .. } if name.ends_with("of ape/line.png"));
    Ok(())
}
