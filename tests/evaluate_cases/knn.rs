//! Weighted k-nearest neighbours against a plain count.

use super::draw;
use crate::assert_refused;
use crate::support::{from_numbers, test_device, TestResult};
use once_for_both::evaluate::{Knn, Labelled};
use once_for_both::{Error, Result};
use tch::{Kind, Tensor};

/// Shares of test images whose class is first, and among the first five, by a plain count in f64.
fn oracle(knn: Knn, width: usize, train: (&[f64], &[i64]), test: (&[f64], &[i64])) -> [f64; 2] {
    let cosine = |l: &[f64], r: &[f64]| {
        let dot = |l: &[f64], r: &[f64]| l.iter().zip(r).map(|(l, r)| l * r).sum::<f64>();
        dot(l, r) / (dot(l, l) * dot(r, r)).sqrt()
    };
    let mut right = [0.0; 2];
    for (image, &class) in test.0.chunks(width).zip(test.1) {
        let all = train.0.chunks(width).map(|own| cosine(image, own)).zip(train.1);
        let mut all: Vec<(f64, i64)> = all.map(|(cosine, &class)| (cosine, class)).collect();
        all.sort_by(|l, r| r.0.total_cmp(&l.0));
        let mut votes = std::collections::BTreeMap::<i64, f64>::new();
        for (cosine, class) in &all[..knn.neighbours as usize] {
            *votes.entry(*class).or_default() += (cosine / knn.temperature).exp();
        }
        let mut votes: Vec<(i64, f64)> = votes.into_iter().collect();
        votes.sort_by(|l, r| r.1.total_cmp(&l.1));
        for (most, right) in [1, 5].into_iter().zip(&mut right) {
            *right += f64::from(votes.iter().take(most).any(|vote| vote.0 == class));
        }
    }
    right.map(|right| right / test.1.len() as f64)
}

fn accuracy(
    knn: Knn,
    width: i64,
    train: (&[f64], &[i64]),
    test: (&[f64], &[i64]),
) -> TestResult<Result<[f64; 2]>> {
    let tensors = |(features, classes): (&[f64], &[i64])| -> TestResult<[Tensor; 2]> {
        let features = from_numbers(features, &[features.len() as i64 / width, width])?;
        Ok([features, Tensor::f_from_slice(classes)?.f_to_device(test_device())?])
    };
    let ([features, classes], [own, truth]) = (tensors(train)?, tensors(test)?);
    let train = Labelled { features: &features, classes: &classes };
    let found = knn.accuracy(train, Labelled { features: &own, classes: &truth });
    Ok(found.map(|found| [found.top1, found.top5]))
}

#[test]
fn neighbours_vote_as_in_a_plain_count() -> TestResult {
    for seed in 0..30 {
        let classes = |count: usize, seed: u64| -> Vec<i64> {
            draw(seed, count).iter().map(|x| ((x + 1.0) * 3.5) as i64 % 7).collect()
        };
        let (train, test) = (draw(seed, 40 * 5), draw(seed + 100, 11 * 5));
        let (mut known, truth) = (classes(40, seed + 200), classes(11, seed + 300));
        known[0] = 6;
        let knn = Knn { neighbours: 1 + seed as i64, ..Knn::default() };
        let (train, test) = ((&train[..], &known[..]), (&test[..], &truth[..]));
        assert_eq!(accuracy(knn, 5, train, test)??, oracle(knn, 5, train, test), "seed {seed}");
    }
    Ok(())
}

#[test]
fn accuracy_does_not_depend_on_the_scale_of_the_features() -> TestResult {
    let [features, own] = [(1, 40), (2, 30)].map(|(seed, count)| {
        Tensor::from_slice(&draw(seed, count * 5)).view([count as i64, 5]).to_device(test_device())
    });
    let classes = |count: i64| Tensor::arange(count, (Kind::Int64, test_device())).remainder(3);
    let (classes, truth) = (classes(40), classes(30));
    let scaled = |kind: Kind, by: f64| -> Result<f64> {
        let [features, own] = [&features, &own].map(|part| (part * by).to_kind(kind));
        let train = Labelled { features: &features, classes: &classes };
        let test = Labelled { features: &own, classes: &truth };
        Ok(Knn { neighbours: 5, ..Knn::default() }.accuracy(train, test)?.top1)
    };
    let expected = scaled(Kind::Double, 1.0)?;
    assert!(expected > 0.0);
    for (kind, by) in
        [(Kind::Float, 1e25), (Kind::Float, 1e-25), (Kind::Double, 1e200), (Kind::Double, 1e-200)]
    {
        assert_eq!(scaled(kind, by)?, expected, "{kind:?}, {by:e}");
    }
    Ok(())
}

#[test]
fn edges_of_neighbours_are_counted() -> TestResult {
    let knn = Knn { neighbours: 2, temperature: 0.07 };
    // One class alone.
    assert_eq!(accuracy(knn, 1, (&[1.0, 2.0], &[0, 0]), (&[3.0], &[0]))??, [1.0, 1.0]);
    // As many votes: the class of the lower index is first.
    let tie = (&[1.0, 1.0][..], &[0, 1][..]);
    assert_eq!(accuracy(knn, 1, tie, (&[1.0, 1.0], &[0, 1]))??, [0.5, 1.0]);
    // A class without a vote is not predicted, though there are fewer than five.
    let train = (&[1.0, 0.0, 1.0, 0.1, 0.0, 1.0][..], &[0, 0, 1][..]);
    assert_eq!(accuracy(knn, 2, train, (&[1.0, 0.0], &[1]))??, [0.0, 0.0]);
    // Votes with the smallest temperature do not overflow.
    let cold = Knn { neighbours: 3, temperature: 1e-3 };
    assert_eq!(accuracy(cold, 2, train, (&[0.0, 1.0], &[1]))??, [1.0, 1.0]);
    Ok(())
}

#[test]
fn features_and_classes_that_do_not_fit_are_refused_by_name() -> TestResult {
    let knn = Knn { neighbours: 2, temperature: 0.07 };
    let train = (&[1.0, 2.0][..], &[0, 1][..]);
    for (own, width, train, test, name) in [
        (Knn { neighbours: 3, ..knn }, 1, train, (&[1.0][..], &[0][..]), "neighbours"),
        (Knn { neighbours: 0, ..knn }, 1, train, (&[1.0], &[0]), "neighbours"),
        (Knn { temperature: 0.0, ..knn }, 1, train, (&[1.0], &[0]), "temperature"),
        (knn, 1, train, (&[], &[]), "shape of the test features"),
        (knn, 1, (&[], &[]), (&[1.0], &[0]), "shape of the training features"),
        (knn, 1, (&[1.0, 2.0], &[0, -1]), (&[1.0], &[0]), "class of a training image"),
        (knn, 1, train, (&[1.0], &[2]), "class of a test image"),
    ] {
        let refused = accuracy(own, width, train, test)?;
        assert_refused!(refused, Error::Invalid { name: ref own, .. } if own == name);
    }
    let nan = accuracy(knn, 1, (&[1.0, f64::NAN], &[0, 1]), (&[1.0], &[0]))?;
    assert_refused!(nan, Error::NonFinite { ref dimension, .. } if dimension == "training features");
    let fewer = accuracy(knn, 1, (&[1.0, 2.0], &[0]), (&[1.0], &[0]))?;
    assert_refused!(fewer, Error::Shape { ref name, .. } if name == "training classes");
    Ok(())
}
