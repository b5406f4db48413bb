//! Shares of batches: what several processes load is what one loads.

use crate::loading::bits;
use crate::sets::Generated;
use crate::support::tiny_run::alone;
use crate::support::{test_device, TestResult};
use once_for_both::batch::{Batch, Targets};
use once_for_both::data::{
    Augmentation, Dataset, ImageSet, Loader, LoaderOptions, Order, ShuffledBatches,
};
use once_for_both::distributed::Share;
use once_for_both::Error;
use std::sync::Arc;
use tch::{Kind, Tensor};

const RANKS: usize = 2;

fn loader(images: usize, options: LoaderOptions, share: Share) -> TestResult<Loader> {
    let set: Arc<dyn Dataset> = Arc::new(Generated::of(images));
    Ok(Loader::new(set, options, test_device())?.share(share)?)
}

/// The images of a batch at some places.
fn at(batch: &Batch, places: impl IntoIterator<Item = usize>) -> TestResult<Batch> {
    let places: Vec<i64> = places.into_iter().map(|place| place as i64).collect();
    let places = Tensor::f_from_slice(&places)?.f_to_device(batch.images.device())?;
    let select = |all: &Tensor| all.f_index_select(0, &places);
    let targets = match &batch.targets {
        Targets::Classes(all) => Targets::Classes(select(all)?),
        Targets::Probabilities(all) => Targets::Probabilities(select(all)?),
        Targets::Values(all) => Targets::Values(select(all)?),
        Targets::Unlabelled => Targets::Unlabelled,
    };
    Ok(Batch { images: select(&batch.images)?, targets })
}

/// Repeated augmentation, erasing, mixup and cutmix.
#[test]
fn batches_of_all_ranks_are_those_of_one_process_bit_for_bit() -> TestResult {
    let options = LoaderOptions::deit(16, 8).seed(42).workers(2);
    let mut whole = loader(23, options.clone(), Share::WHOLE)?;
    for rank in 0..RANKS {
        let share = Share::new(rank, RANKS)?;
        let mut own = loader(23, options.clone(), share)?;
        assert_eq!(own.steps_per_epoch(), whole.steps_per_epoch());
        for step in [0, 1, 5, 3] {
            let expected = at(&whole.at(step)?, share.places(8)?)?;
            assert_eq!(bits(&own.at(step)?)?, bits(&expected)?, "rank {rank}, step {step}");
        }
    }
    Ok(())
}

#[test]
fn batches_in_memory_of_all_ranks_are_those_of_one_process_bit_for_bit() -> TestResult {
    let _alone = alone();
    let images = Tensor::f_randint(256, [20, 1, 8, 8], (Kind::Int64, test_device()))?;
    let labels = Tensor::f_arange(20, (Kind::Int64, test_device()))?.f_remainder(5)?;
    let set = ImageSet::new(images.f_to_kind(Kind::Uint8)?, labels, 5)?;
    let batches = || ShuffledBatches::new(&set, 6, 1, Augmentation { pad: 2, flip: true });
    let mut whole = batches()?;
    for rank in 0..RANKS {
        let share = Share::new(rank, RANKS)?;
        let mut own = batches()?.share(share)?;
        for step in [0, 4, 2] {
            let expected = at(&whole.at(step)?, share.places(6)?)?;
            assert_eq!(bits(&own.at(step)?)?, bits(&expected)?, "rank {rank}, step {step}");
        }
    }
    Ok(())
}

/// The last batch has one image, which rank 0 has.
#[test]
fn evaluation_of_all_ranks_has_every_image_once() -> TestResult {
    let options = LoaderOptions::evaluation(16, 4);
    let mut whole = loader(5, options.clone(), Share::WHOLE)?;
    for rank in 0..RANKS {
        let share = Share::new(rank, RANKS)?;
        let mut own = loader(5, options.clone(), share)?;
        for (step, images) in [(0, 4), (1, 1)] {
            let expected = at(&whole.at(step)?, share.judged(images))?;
            assert_eq!(bits(&own.at(step)?)?, bits(&expected)?, "rank {rank}, step {step}");
        }
    }
    Ok(())
}

#[test]
fn top1_of_a_share_counts_its_images_and_refuses_a_share_without_any() -> TestResult {
    let predict = |images: &Tensor| {
        assert!(images.size()[0] > 0, "predict got an empty batch");
        Ok(Tensor::f_ones([images.size()[0], 4], (Kind::Float, images.device()))?)
    };
    // Class 0 is predicted: of the images 0 to 4, those of rank 0 are 0, 2, 4, and of rank 1 are 1, 3.
    let top1 = |images, rank| -> TestResult<_> {
        let share = Share::new(rank, RANKS)?;
        Ok(loader(images, LoaderOptions::evaluation(16, 4), share)?.top1(predict))
    };
    assert_eq!((top1(5, 0)??, top1(5, 1)??), (2.0 / 3.0, 0.0));
    match top1(1, 1)? {
        Err(Error::Invalid { name, actual, .. }) => {
            assert!(name.contains("share of this process") && actual == "0", "{name}, {actual}");
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

#[test]
fn batch_that_ranks_cannot_share_is_refused() -> TestResult {
    let share = Share::new(1, RANKS)?;
    let refused = |batch| -> TestResult<String> {
        let options = LoaderOptions::deit(16, batch);
        let refused = loader(23, options, share).err().ok_or("accepted")?;
        Ok(refused.to_string())
    };
    assert!(refused(7)?.ends_with("got 7, expected a multiple of 2"));
    // Mixup mixes image i with image 5 - i: three images a rank would part a pair.
    assert!(refused(6)?.ends_with("got 6, expected a multiple of 4, for mixup and cutmix"));
    let sequential = LoaderOptions { order: Order::Sequential, ..LoaderOptions::deit(16, 8) };
    let refused = loader(23, sequential.clone(), share).err().ok_or("accepted")?.to_string();
    assert!(
        refused.starts_with(
            "order of a loader that mixes and shares its batches: got Order::Sequential"
        ),
        "{refused}"
    );
    loader(23, sequential, Share::WHOLE)?;
    let rank = Share::new(2, RANKS).err().ok_or("accepted")?.to_string();
    assert_eq!(rank, "rank: got 2, expected below 2");
    Ok(())
}
