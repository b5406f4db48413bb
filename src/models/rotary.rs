//! Rotary position embedding of queries and keys over the grid of patches.

use crate::Result;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use tch::{nn, Tensor};

/// Name of its variable below that of an attention.
pub(super) const VARIABLE: &str = "rope";

/// Axial rotary position embedding (Su et al. 2021; Fang et al. 2023, EVA-02).
///
/// The channels 2i and 2i + 1 of a head are a pair, which is rotated in queries and keys by the angle
/// y·f + x·g: (a, b) → (a·cos − b·sin, b·cos + a·sin). (y, x) are the coordinates of the patch. Half of
/// the pairs has frequencies f of rows, the other half g of columns, and the other one is zero. Tokens
/// before the patches are not rotated.
///
/// The frequencies of every pair are a variable of each attention, `attn.rope`, `[2, heads · pairs]`,
/// which is not trained: pruning removes pairs, and those that are kept keep their frequencies.
///
/// Networks whose pairs are the channels i and i + head_dim/2 (`rotate_half`: DINOv3, transformers) are
/// the same function with their rows of queries and keys in another order; the import reorders them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rope {
    /// Coordinates in patches, scaled to a grid of `reference` patches a side; frequencies
    /// base^(−4i/head_dim): EVA-02 (timm's `rope_type="cat"`).
    Grid {
        /// Base of the frequencies, timm's `rope_temperature`.
        base: f64,
        /// Side of the reference grid in patches, timm's `ref_feat_shape`.
        reference: i64,
    },
    /// Coordinates of patch centres within −1..1; frequencies 2π·base^(−4i/head_dim): DINOv3.
    Normalised {
        /// Base of the periods, transformers' `rope_theta`.
        base: f64,
    },
}

impl Rope {
    /// Returns the base of the frequencies.
    pub fn base(self) -> f64 {
        match self {
            Self::Grid { base, .. } | Self::Normalised { base } => base,
        }
    }

    /// Returns what it is in words.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Grid { base, reference } => {
                format!("of a grid of {reference} x {reference} patches, base {base}")
            }
            Self::Normalised { base } => format!("within -1..1, base {base}"),
        }
    }

    /// Returns the coordinate of each row, or column, of a grid of this side.
    fn axis(self, side: i64) -> Vec<f32> {
        let all = (0..side.max(0)).map(|at| at as f32);
        match self {
            // In f32, in the order of the operations in timm.
            Self::Grid { reference, .. } => {
                all.map(|at| at / side as f32 * reference as f32).collect()
            }
            Self::Normalised { .. } => {
                all.map(|at| 2.0 * ((at + 0.5) / side as f32) - 1.0).collect()
            }
        }
    }

    /// Returns the frequencies of the pairs of a head of this many channels: half of them of rows, the
    /// others of columns.
    fn frequencies(self, head_dim: i64) -> Vec<f64> {
        let half = (head_dim / 4).max(1);
        let frequency = |at: i64| self.base().powf(-((at % half) as f64) / half as f64);
        let scale = match self {
            Self::Grid { .. } => 1.0,
            Self::Normalised { .. } => 2.0 * PI,
        };
        (0..head_dim / 2).map(|at| scale * frequency(at)).collect()
    }
}

/// A rotary position embedding over a grid of patches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rotary {
    pub(super) rope: Rope,
    /// Tokens before the patches.
    pub(super) prefix: i64,
    /// Rows and columns of the grid of patches.
    pub(super) grid: [i64; 2],
}

impl Rotary {
    /// Returns the coordinates (y, x) of all tokens, row by row: 0 for those before the patches.
    pub(super) fn coordinates(&self) -> Vec<[f32; 2]> {
        let [rows, columns] = self.grid.map(|side| self.rope.axis(side));
        let mut all = vec![[0.0; 2]; self.prefix.max(0) as usize];
        all.extend(rows.iter().flat_map(|&y| columns.iter().map(move |&x| [y, x])));
        all
    }
}

/// Returns name and shape of the frequencies of an attention of this name.
pub(super) fn variable(attention: &str, heads: i64, head_dim: i64) -> (String, Vec<i64>) {
    (format!("{attention}.{VARIABLE}"), vec![2, heads.saturating_mul(head_dim / 2)])
}

/// The rotation of queries and keys of one attention.
#[derive(Debug)]
pub(super) struct Rotation {
    /// `[2, heads · pairs]`.
    frequencies: Tensor,
    /// `[tokens, 2]`, f32.
    coordinates: Tensor,
    heads: i64,
}

impl Rotation {
    /// Adds the frequencies at the path of an attention.
    pub(super) fn new(
        path: &nn::Path,
        rotary: Rotary,
        [heads, head_dim]: [i64; 2],
    ) -> Result<Self> {
        let pairs = rotary.rope.frequencies(head_dim);
        let rows = pairs.len() / 2;
        let of_axis = |range: std::ops::Range<usize>| {
            pairs.iter().enumerate().map(move |(at, f)| if range.contains(&at) { *f } else { 0.0 })
        };
        let head: Vec<f32> =
            of_axis(0..rows).chain(of_axis(rows..pairs.len())).map(|f| f as f32).collect();
        let head = Tensor::f_from_slice(&head)?.f_view([2, 1, pairs.len() as i64])?;
        let all = head.f_repeat([1, heads, 1])?.f_view([2, heads * pairs.len() as i64])?;
        let mut frequencies = path.f_zeros_no_train(VARIABLE, &all.size())?;
        crate::autograd::no_grad(|| frequencies.f_copy_(&all))?;
        let flat = rotary.coordinates().concat();
        let coordinates = Tensor::f_from_slice(&flat)?.f_view([-1, 2])?;
        Ok(Self { frequencies, coordinates: coordinates.f_to_device(path.device())?, heads })
    }

    /// Returns cosines and sines, each `[heads, tokens, pairs, 1]`.
    pub(super) fn angles(&self, kind: tch::Kind) -> Result<[Tensor; 2]> {
        let frequencies = self.frequencies.f_to_kind(self.coordinates.kind())?;
        // One of the two products is zero, so that the sum is exact.
        let part = |axis: i64| {
            let coordinates = self.coordinates.f_narrow(1, axis, 1)?;
            coordinates.f_mul(&frequencies.f_select(0, axis)?)
        };
        let angles = part(0)?.f_add(&part(1)?)?;
        let tokens = angles.size()[0];
        let angles = angles.f_view([tokens, self.heads, -1, 1])?.f_transpose(0, 1)?;
        Ok([angles.f_cos()?.f_to_kind(kind)?, angles.f_sin()?.f_to_kind(kind)?])
    }
}

/// Rotates the pairs of queries or keys, `[B, heads, tokens, head_dim]`, by angles `[heads, tokens, pairs, 1]`.
pub(super) fn rotate(x: &Tensor, [cos, sin]: &[Tensor; 2]) -> Result<Tensor> {
    let shape = x.size();
    let pairs = x.f_unflatten(-1, [-1i64, 2].as_slice())?;
    let (a, b) = (pairs.f_narrow(-1, 0, 1)?, pairs.f_narrow(-1, 1, 1)?);
    let first = a.f_mul(cos)?.f_sub(&b.f_mul(sin)?)?;
    let second = b.f_mul(cos)?.f_add(&a.f_mul(sin)?)?;
    Ok(Tensor::f_cat(&[first, second], -1)?.f_view(&shape[..])?)
}
