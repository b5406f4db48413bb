//! Reference values of the components in plain `ndarray` f64, to read beside the paper and to test
//! against (feature `proptest`).
//!
//! Every function follows its definition loop by loop, without regard to speed. The tests compare
//! the tensor code of [`components`](crate::components) with it on random inputs; implementations
//! of your own can be compared in the same way (docs/property-testing.md).
//!
//! ```
//! use ndarray::arr2;
//! use once_for_both::{oracle::Units, space::Candidates};
//!
//! // Four units, of which one, two or all four are kept.
//! let candidates = Candidates::flat(4, vec![1, 2, 4])?;
//! let score = arr2(&[[0.1, 2.0, -1.0, 0.5]]);
//! let alpha = arr2(&[[0.0, 0.0, 0.0]]);
//! let units = Units::new(candidates, score, alpha, arr2(&[[true; 3]]))?;
//! // All three candidates keep the unit of highest score, two keep the second, one keeps the others.
//! let third = 1.0 / 3.0;
//! let sparsity = units.sparsity();
//! for (v, expected) in sparsity.iter().zip([third, 1.0, third, 2.0 * third]) {
//!     assert!((v - expected).abs() < 1e-12);
//! }
//! # Ok::<(), once_for_both::Error>(())
//! ```

mod one_hot_terms;
mod reference_pixels;
mod unit_arrays;

pub use one_hot_terms::{one_hot_loss, OneHotTerms};
pub use reference_pixels::{reconstruction_loss, windowed_pixels};
pub use unit_arrays::{ranks, BiMaskValues, ExpectedSize, Units};
