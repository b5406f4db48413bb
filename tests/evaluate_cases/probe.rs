//! The linear probe against Gaussian elimination in plain loops.

use super::draw;
use crate::assert_refused;
use crate::support::{from_numbers, test_device, TestResult};
use once_for_both::evaluate::{Accuracy, Labelled, LinearProbe};
use once_for_both::{Error, Result};
use tch::{Kind, Tensor};

type Images<'a> = (&'a [f64], &'a [i64]);

fn accuracy(
    penalty: Option<f64>,
    width: i64,
    train: Images,
    test: Images,
) -> TestResult<Result<Accuracy>> {
    accuracy_in(Kind::Double, penalty, width, train, test)
}

fn accuracy_in(
    kind: Kind,
    penalty: Option<f64>,
    width: i64,
    train: Images,
    test: Images,
) -> TestResult<Result<Accuracy>> {
    let tensors = |(features, classes): Images| -> TestResult<[Tensor; 2]> {
        let features =
            Tensor::f_from_slice(features)?.f_view([features.len() as i64 / width, width])?;
        let features = features.f_to_kind(kind)?.f_to_device(test_device())?;
        Ok([features, Tensor::f_from_slice(classes)?.f_to_device(test_device())?])
    };
    let ([features, classes], [own, truth]) = (tensors(train)?, tensors(test)?);
    let train = Labelled { features: &features, classes: &classes };
    let test = Labelled { features: &own, classes: &truth };
    Ok(LinearProbe { penalty }.accuracy(train, test))
}

/// Solves a·x = b by Gaussian elimination with pivots.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for at in 0..n {
        let pivot =
            (at..n).max_by(|&l, &r| a[l][at].abs().total_cmp(&a[r][at].abs())).unwrap_or(at);
        a.swap(at, pivot);
        b.swap(at, pivot);
        let (above, below) = a.split_at_mut(at + 1);
        let top = &above[at];
        for (offset, row) in below.iter_mut().enumerate() {
            let factor = row[at] / top[at];
            row.iter_mut().zip(top).for_each(|(value, top)| *value -= factor * top);
            b[at + 1 + offset] -= factor * b[at];
        }
    }
    for at in (0..n).rev() {
        let rest: f64 = (at + 1..n).map(|column| a[at][column] * b[column]).sum();
        b[at] = (b[at] - rest) / a[at][at];
    }
    b
}

/// Numbers of test images whose class is first, and among the first five.
fn oracle(penalty: f64, width: usize, train: Images, test: Images) -> [i64; 2] {
    let count = train.1.len() as f64;
    let rows: Vec<&[f64]> = train.0.chunks(width).collect();
    let mean: Vec<f64> =
        (0..width).map(|c| rows.iter().map(|row| row[c]).sum::<f64>() / count).collect();
    let deviation =
        |c: usize| (rows.iter().map(|row| (row[c] - mean[c]).powi(2)).sum::<f64>() / count).sqrt();
    let deviations: Vec<f64> = (0..width).map(deviation).collect();
    let standard = |row: &[f64]| -> Vec<f64> {
        (0..width).map(|c| (row[c] - mean[c]) / deviations[c]).collect()
    };
    let rows: Vec<Vec<f64>> = rows.into_iter().map(standard).collect();
    let gram: Vec<Vec<f64>> = (0..width)
        .map(|l| {
            let entry = |r: usize| rows.iter().map(|row| row[l] * row[r]).sum::<f64>() / count;
            (0..width).map(|r| entry(r) + if l == r { penalty } else { 0.0 }).collect()
        })
        .collect();
    let most = train.1.iter().copied().max().unwrap_or(0);
    let known: Vec<i64> = (0..=most).filter(|class| train.1.contains(class)).collect();
    let weights: Vec<(i64, f64, Vec<f64>)> = known
        .into_iter()
        .map(|class| {
            let own = || rows.iter().zip(train.1).filter(move |(_, own)| **own == class);
            let sums = (0..width).map(|c| own().map(|(row, _)| row[c]).sum::<f64>() / count);
            (class, own().count() as f64 / count, solve(gram.clone(), sums.collect()))
        })
        .collect();
    let mut right = [0; 2];
    for (image, &truth) in test.0.chunks(width).map(standard).zip(test.1) {
        let score = |(class, share, own): &(i64, f64, Vec<f64>)| {
            (*class, share + own.iter().zip(&image).map(|(w, x)| w * x).sum::<f64>())
        };
        let mut scores: Vec<(i64, f64)> = weights.iter().map(score).collect();
        scores.sort_by(|l, r| r.1.total_cmp(&l.1));
        for (most, right) in [1, 5].into_iter().zip(&mut right) {
            *right += i64::from(scores.iter().take(most).any(|own| own.0 == truth));
        }
    }
    right
}

/// Images of classes whose features differ in mean, with noise.
fn drawn(seed: u64, count: usize, width: usize) -> (Vec<f64>, Vec<i64>) {
    let classes: Vec<i64> =
        draw(seed, count).iter().map(|x| ((x + 1.0) * 3.5) as i64 % 7).collect();
    let noise = draw(seed + 1000, count * width);
    let value = |(at, noise): (usize, &f64)| {
        let class = classes[at / width] as usize;
        let scale = 10f64.powi((at % width) as i32 - 2);
        scale * (noise + ((class * 7 + at % width * 3) % 5) as f64 / 5.0)
    };
    let features = noise.iter().enumerate().map(value).collect();
    (features, classes)
}

#[test]
fn probe_of_a_penalty_predicts_as_gaussian_elimination() -> TestResult {
    for seed in 0..20 {
        let (train, test) = (drawn(seed, 60, 4), drawn(seed + 100, 31, 4));
        let (mut train, mut test) = (train, test);
        // A class of the highest index, so that every test class is known.
        train.1[0] = 6;
        // A class without a training image is not predicted.
        train.1.iter_mut().filter(|own| **own == 3).for_each(|own| *own = 4);
        test.1[0] = 3;
        let [train, test] = [(&train.0[..], &train.1[..]), (&test.0[..], &test.1[..])];
        for penalty in [1e-6, 0.1, 10.0] {
            let found = accuracy(Some(penalty), 4, train, test)??;
            let right = oracle(penalty, 4, train, test).map(|own| own as f64 / 31.0);
            assert_eq!([found.top1, found.top5], right, "seed {seed}, penalty {penalty}");
        }
    }
    Ok(())
}

#[test]
fn penalty_is_the_one_that_predicts_the_most_held_out_images() -> TestResult {
    let mut chosen = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let ((features, mut classes), test) = (drawn(seed, 60, 4), drawn(seed + 100, 31, 4));
        classes[0] = 6;
        let (mut seen, mut parts) = ([0; 7], [(vec![], vec![]), (vec![], vec![])]);
        for (row, &class) in features.chunks(4).zip(&classes) {
            seen[class as usize] += 1;
            let part = &mut parts[usize::from(seen[class as usize] % 5 == 0)];
            part.0.extend_from_slice(row);
            part.1.push(class);
        }
        let [fitted, held_out] = &parts;
        let [fitted, held_out] = [fitted, held_out].map(|own| (&own.0[..], &own.1[..]));
        let tried = (-6..=2).rev().map(|power| 10f64.powi(power));
        let mut best = (-1, 0.0);
        for penalty in tried {
            let [right, _] = oracle(penalty, 4, fitted, held_out);
            if right > best.0 {
                best = (right, penalty);
            }
        }
        chosen.insert(best.1.to_bits());
        let [train, test] = [(&features[..], &classes[..]), (&test.0[..], &test.1[..])];
        let found = accuracy(None, 4, train, test)??;
        assert_eq!(found, accuracy(Some(best.1), 4, train, test)??, "seed {seed}");
    }
    assert!(chosen.len() > 2, "penalties chosen: {}", chosen.len());
    Ok(())
}

#[test]
fn edges_of_the_probe_are_counted() -> TestResult {
    // Constant features: the most frequent class, whatever rounding leaves of them.
    let train = (&[0.1; 9][..], &[0, 1, 1][..]);
    let found = accuracy(Some(1e-9), 3, train, (&[0.1, 0.1, 5.0], &[1]))??;
    assert_eq!([found.top1, found.top5], [1.0, 1.0]);
    // One class, one image, more channels than images.
    let found = accuracy(Some(1.0), 4, (&[1.0, 2.0, 3.0, 4.0], &[0]), (&[0.0; 4], &[0]))??;
    assert_eq!((found.top1, found.images), (1.0, 1));
    // Half precision is computed in f64, and sums of squares of large numbers do not overflow.
    for (kind, scale) in [(Kind::BFloat16, 1e30), (Kind::Half, 1e4), (Kind::Float, 1e38)] {
        let train = [1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 0.8].map(|x: f64| x * scale);
        let test = [scale, 0.2 * scale, 0.1 * scale, scale];
        let found = accuracy_in(kind, Some(0.01), 2, (&train, &[0, 0, 1, 1]), (&test, &[0, 1]))??;
        assert_eq!(found.top1, 1.0, "{kind:?}");
    }
    Ok(())
}

#[test]
fn input_that_does_not_fit_the_probe_is_refused_by_name() -> TestResult {
    let train = (&[1.0, 2.0][..], &[0, 1][..]);
    for (penalty, width, train, test, name) in [
        (Some(0.0), 1, train, (&[1.0][..], &[0][..]), "penalty"),
        (Some(f64::NAN), 1, train, (&[1.0], &[0]), "penalty"),
        (None, 1, train, (&[1.0], &[0]), "most training images of a class"),
        (Some(1.0), 1, train, (&[], &[]), "shape of the test features"),
        (Some(1.0), 1, (&[], &[]), (&[1.0], &[0]), "shape of the training features"),
        (Some(1.0), 1, (&[1.0, 2.0], &[0, -1]), (&[1.0], &[0]), "class of a training image"),
        (Some(1.0), 1, train, (&[1.0], &[2]), "class of a test image"),
    ] {
        let refused = accuracy(penalty, width, train, test)?;
        assert_refused!(refused, Error::Invalid { name: ref own, .. } if own == name);
    }
    for wrong in [f64::NAN, 1e300] {
        let refused = accuracy(Some(1.0), 1, (&[1.0, wrong], &[0, 1]), (&[1.0], &[0]))?;
        assert_refused!(refused, Error::NonFinite { ref dimension, .. } if dimension == "training features");
    }
    let wide = Labelled {
        features: &from_numbers(&[1.0, 2.0, 3.0, 4.0], &[2, 2])?,
        classes: &Tensor::f_from_slice(&[0i64, 1])?,
    };
    let narrow = Labelled {
        features: &from_numbers(&[1.0], &[1, 1])?,
        classes: &Tensor::f_from_slice(&[0i64])?,
    };
    let refused = LinearProbe { penalty: Some(1.0) }.accuracy(wide, narrow);
    assert_refused!(refused, Error::Shape { ref name, .. } if name == "test features");
    Ok(())
}
