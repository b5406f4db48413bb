//! How much the latencies of two groups of layers have in common, before anything is measured.

use super::groups::Class;
use crate::space::Size;
use crate::Result;
use tch::{Kind, Tensor};

/// Variance of the part of a latency that depends on no size, relative to the dense network.
pub(super) const CONSTANT: f64 = 0.1;
/// Share of the dense latency that a class has at least, beside its share of the MACs.
const LEAST: f64 = 0.02;

/// Covariance of the latencies of two groups of a class, relative to the dense network: a product over
/// the axes of
///
///   1 + u·v + bend·min(u, v) + step·[u = v]
///
/// with u and v the lengths of the two groups along the axis, as shares of the dense length. The first
/// two terms are functions that are linear along every axis, as MACs are; the third those that bend; the
/// last those with a value of its own at every point, as where a width suits the device's registers. A branch of several
/// heads that may be removed has one more axis, 1 if it is there and 0 if not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kernel {
    pub(super) bend: f64,
    pub(super) step: f64,
}

impl Kernel {
    /// Returns the covariances of all pairs of `left` and `right`, `[left, right]`, f64.
    pub(super) fn between(&self, class: &Class, left: &Places, right: &Places) -> Result<Tensor> {
        let amplitude = (class.share + LEAST) / class.members.len() as f64;
        // In place, because the tensors of many networks are large.
        let mut product = Tensor::f_full(
            [left.count, right.count],
            amplitude * amplitude,
            (Kind::Double, tch::Device::Cpu),
        )?;
        for (left, right) in left.axes.iter().zip(&right.axes) {
            let (u, v) = (left.f_unsqueeze(1)?, right.f_unsqueeze(0)?);
            let mut factor = u.f_mul(&v)?;
            let _ = factor.f_add_scalar_(1)?;
            if self.bend != 0.0 {
                let _ = factor.f_add_(&u.f_minimum(&v)?.f_mul_scalar_(self.bend)?)?;
            }
            if self.step != 0.0 {
                let equal = u.f_eq_tensor(&v)?;
                let _ = factor.f_add_(&equal.f_to_kind(Kind::Double)?.f_mul_scalar_(self.step)?)?;
            }
            let _ = product.f_mul_(&factor)?;
        }
        Ok(product)
    }
}

/// Sizes of groups of a class.
#[derive(Debug)]
pub(super) struct Places {
    count: i64,
    /// Length of every group along each axis that has several points, as a share of the dense length, and whether a
    /// removable branch is there, f64.
    axes: Vec<Tensor>,
}

impl Places {
    /// Returns the places of groups: one size per dimension of the class each.
    pub(super) fn new(class: &Class, groups: &[Vec<Size>]) -> Result<Self> {
        let mut axes = Vec::new();
        for (at, grid) in class.grids.iter().enumerate() {
            let size = |own: &Vec<Size>| match class.needs[at] {
                Some(other) if own[other].is_removed() => grid.last(),
                _ => own[at],
            };
            let heads = |own: &Vec<Size>| size(own).heads;
            let channels = |own: &Vec<Size>| size(own).channels;
            axes.extend(along(&grid.heads, groups.iter().map(heads))?);
            axes.extend(along(&grid.channels, groups.iter().map(channels))?);
            // What a branch costs however small it is, such as its norm, is a step from 0 heads to any.
            if grid.heads[0] == 0 && grid.heads.len() > 2 {
                let present = |own: &Vec<Size>| i64::from(!own[at].is_removed());
                axes.extend(along(&[0, 1], groups.iter().map(present))?);
            }
        }
        Ok(Self { count: groups.len() as i64, axes })
    }

    /// Returns the places of some groups in a row.
    pub(super) fn part(&self, first: i64, count: i64) -> Result<Self> {
        let axes = self.axes.iter().map(|axis| axis.f_narrow(0, first, count));
        Ok(Self { count, axes: axes.collect::<std::result::Result<_, _>>()? })
    }
}

/// Returns lengths as shares of the dense one; nothing for an axis of a single point.
fn along(points: &[i64], lengths: impl Iterator<Item = i64>) -> Result<Option<Tensor>> {
    let [_, .., dense] = points else { return Ok(None) };
    let shares: Vec<f64> = lengths.map(|length| length as f64 / *dense as f64).collect();
    Ok(Some(Tensor::f_from_slice(&shares)?))
}
