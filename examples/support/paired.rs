//! Differences of two rows, paired over images.

/// Mean difference and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    pub mean: f64,
    /// Standard error of the mean from the images alone; `None` for a single image.
    pub error: Option<f64>,
}

impl Paired {
    /// Returns the mean difference of `pairs`, each the values of one seed on every image: left − right.
    /// `None` without a pair, without an image, or for other numbers of images.
    ///
    /// The differences d of one image are averaged over seeds first; the standard error is that of the mean
    /// over images, std(d) / √images. Other images would change the mean by about that much. What other
    /// seeds would change is not in it, except as it shows on single images: see the spread over seeds.
    pub fn of(pairs: &[(Vec<f64>, Vec<f64>)]) -> Option<Self> {
        let images = pairs.first()?.0.len();
        if images == 0 || pairs.iter().any(|(l, r)| l.len() != images || r.len() != images) {
            return None;
        }
        let difference = |image: usize| {
            let of_seeds = pairs.iter().map(|(left, right)| left[image] - right[image]);
            of_seeds.sum::<f64>() / pairs.len() as f64
        };
        let differences: Vec<f64> = (0..images).map(difference).collect();
        let mean = differences.iter().sum::<f64>() / images as f64;
        let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
        let n = images as f64;
        let error = (images > 1).then(|| (squares / (n - 1.0) / n).sqrt());
        Some(Self { mean, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paired_difference_of_hand_made_values_has_their_mean_and_error() {
        // Differences 1, 2, 3, 6: mean 3, variance (4 + 1 + 0 + 9) / 3 = 14/3, error √(14/3 / 4).
        let (left, right) = (vec![2.0, 4.0, 6.0, 10.0], vec![1.0, 2.0, 3.0, 4.0]);
        let paired = Paired::of(&[(left.clone(), right.clone())]);
        let paired = paired.expect("four images");
        assert_eq!(paired.mean, 3.0);
        let error = paired.error.expect("more than one image");
        assert!((error - (14.0f64 / 12.0).sqrt()).abs() < 1e-12, "{error}");
        let turned = Paired::of(&[(right, left)]).expect("four images");
        assert_eq!((turned.mean, turned.error), (-3.0, paired.error));
    }

    #[test]
    fn paired_difference_over_seeds_averages_each_image_first() {
        // Seeds differ by ±1 on every image and cancel out: differences 1, 3 of the two images.
        let pairs = [(vec![2.0, 4.0], vec![0.0, 0.0]), (vec![0.0, 2.0], vec![0.0, 0.0])];
        assert_eq!(Paired::of(&pairs), Some(Paired { mean: 2.0, error: Some(1.0) }));
    }

    #[test]
    fn paired_difference_of_a_row_to_itself_is_zero() {
        let row = vec![0.3, 1.5, 0.01];
        let paired = Paired::of(&[(row.clone(), row)]);
        assert_eq!(paired, Some(Paired { mean: 0.0, error: Some(0.0) }));
    }

    #[test]
    fn paired_difference_of_other_images_is_none() {
        assert_eq!(Paired::of(&[]), None);
        assert_eq!(Paired::of(&[(vec![], vec![])]), None);
        assert_eq!(Paired::of(&[(vec![1.0, 2.0], vec![1.0])]), None);
        let two = [(vec![1.0], vec![1.0]), (vec![1.0, 2.0], vec![1.0, 2.0])];
        assert_eq!(Paired::of(&two), None);
        let one = Paired::of(&[(vec![1.0], vec![0.5])]);
        assert_eq!(one, Some(Paired { mean: 0.5, error: None }));
    }
}
