//! The semantics once more, in plain `ndarray` f64: to read beside the paper, and to test against.
//!
//! Every function is written from its definition, loop by loop, without regard to speed. The
//! tensor code of [`mask`](crate::mask), [`loss`](crate::loss) and [`pmim`](crate::pmim) has to
//! say the same on any input; whoever replaces a part can hold theirs against this one.
//!
//! ```
//! use ndarray::arr2;
//! use once_for_both::{oracle::Units, space::Candidates};
//!
//! // Four units of which one, two or all four stay.
//! let candidates = Candidates::flat(4, vec![1, 2, 4])?;
//! let score = arr2(&[[0.1, 2.0, -1.0, 0.5]]);
//! let alpha = arr2(&[[0.0, 0.0, 0.0]]);
//! let units = Units::new(candidates, score, alpha, arr2(&[[true; 3]]))?;
//! // The best unit always stays, the second with two candidates of three, the others with one.
//! let third = 1.0 / 3.0;
//! let sparsity = units.sparsity();
//! for (v, expected) in sparsity.iter().zip([third, 1.0, third, 2.0 * third]) {
//!     assert!((v - expected).abs() < 1e-12);
//! }
//! # Ok::<(), once_for_both::Error>(())
//! ```

mod one_hot;
mod pmim;
mod units;

pub use one_hot::{one_hot_loss, OneHot};
pub use pmim::{reconstruction_loss, windowed_pixels};
pub use units::{ranks, BiMaskValues, ExpectedSize, Units};
