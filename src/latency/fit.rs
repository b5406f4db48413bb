//! Tables from measured networks, by Gaussian process regression.
//!
//! The latency of a network is a constant plus a sum over its groups of layers. With a Gaussian prior on
//! the constant and on the function of every class ([`Kernel`]), and N measured networks, the posterior
//! mean of any group at any sizes is a sum of N covariances, from one N × N inverse. Noise, bends and
//! steps are chosen among a few values by the error of every network predicted from all others, which
//! the same inverse gives in closed form (Rasmussen and Williams 2006, section 5.4.2).

use super::groups::Class;
use super::kernel::{Kernel, Places, CONSTANT};
use super::monotone::table_values;
use crate::cost::{Table, TableCost, TableTerm};
use crate::space::{SearchSpace, Size};
use crate::Result;
use tch::{Device, Kind, Tensor};

/// Values among which the variance of bends, of steps, and the noise of a measured ratio are chosen.
const BENDS: [f64; 3] = [0.0, 0.03, 0.3];
const STEPS: [f64; 5] = [0.0, 3e-4, 3e-3, 0.03, 0.2];
const NOISES: [f64; 6] = [0.002, 0.005, 0.012, 0.03, 0.08, 0.2];

/// A measured network.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Size of every dimension of the space.
    pub(super) sizes: Vec<Size>,
    /// Latency as a share of that of the dense network.
    pub(super) ratio: f64,
}

/// Returns the cost of the measured networks, where the dense network takes `dense_ms` milliseconds. It is exact there, and
/// does not fall where a dimension grows.
pub(super) fn fit(
    space: &SearchSpace,
    classes: &[Class],
    measured: &[Measured],
    dense_ms: f64,
) -> Result<TableCost> {
    let places = classes.iter().map(|class| places(class, measured));
    let places = places.collect::<Result<Vec<Places>>>()?;
    let posterior = best(classes, &places, measured)?;
    let mut tables = Vec::new();
    for (class, places) in classes.iter().zip(&places) {
        let values = posterior.values(class, places, dense_ms)?;
        tables.push(Table { grids: class.grids.clone(), values: table_values(class, &values) });
    }
    let name = |at: &usize| space.dimensions[*at].name.clone();
    let terms = classes.iter().enumerate().flat_map(|(table, class)| {
        class
            .members
            .iter()
            .map(move |group| TableTerm { table, dimensions: group.iter().map(name).collect() })
    });
    let terms: Vec<TableTerm> = terms.collect();
    let full = space.full_sizes();
    let rest =
        |tables: &[Table]| TableCost::new(0.0, tables.to_vec(), terms.clone())?.evaluate(&full);
    let excess = posterior.constant(dense_ms)? + rest(&tables)? - dense_ms;
    meet_dense(classes, &mut tables, excess);
    let constant = dense_ms - rest(&tables)?;
    TableCost::new(constant, tables, terms)
}

/// Lowers the latency of the dense network by `excess`, or raises it by −`excess`: multiplies the positive values at dense
/// sizes by 1 − excess / their sum, and lowers what is then above them to them. Often the dense network alone is faster than
/// the fit to all others, because its sizes suit the device: then what is a little smaller is predicted to be no faster, and
/// what is much smaller keeps its fit. An excess of more than half of that sum is left to the constant.
fn meet_dense(classes: &[Class], tables: &mut [Table], excess: f64) {
    let dense = |table: &Table| table.values.last().copied().unwrap_or(0.0).max(0.0);
    let each = classes.iter().zip(&*tables);
    let sum: f64 = each.map(|(class, own)| class.members.len() as f64 * dense(own)).sum();
    if excess.abs() > sum / 2.0 {
        return;
    }
    for table in tables.iter_mut().filter(|own| dense(own) > 0.0) {
        let most = (1.0 - excess / sum) * dense(table);
        table.values.iter_mut().for_each(|value| *value = value.min(most));
        table.values.last_mut().into_iter().for_each(|value| *value = most);
    }
}

/// Returns the places of all groups of a class in all networks, network by network.
fn places(class: &Class, measured: &[Measured]) -> Result<Places> {
    let of = |network: &Measured, group: &Vec<usize>| -> Vec<Size> {
        group.iter().map(|&at| network.sizes[at]).collect()
    };
    let groups =
        measured.iter().flat_map(|own| class.members.iter().map(move |group| of(own, group)));
    Places::new(class, &groups.collect::<Vec<_>>())
}

/// Returns all combinations of points of a class, those of the last dimension side by side.
fn points(class: &Class) -> Vec<Vec<Size>> {
    class.grids.iter().fold(vec![Vec::new()], |all, grid| {
        let with = |own: Vec<Size>| {
            grid.sizes().map(move |size| [own.as_slice(), &[size]].concat()).collect::<Vec<_>>()
        };
        all.into_iter().flat_map(with).collect()
    })
}

/// Weights of the measured networks in every prediction.
struct Posterior {
    kernel: Kernel,
    /// `[N]`, f64.
    weights: Tensor,
    /// Mean square of the relative errors of networks predicted from all others.
    error: f64,
}

/// Returns the posterior with the smallest error.
fn best(classes: &[Class], places: &[Places], measured: &[Measured]) -> Result<Posterior> {
    let ratios: Vec<f64> = measured.iter().map(|own| own.ratio).collect();
    let ratios = Tensor::f_from_slice(&ratios)?;
    let mut best = Posterior {
        kernel: Kernel { bend: 0.0, step: 0.0 },
        weights: ratios.f_zeros_like()?,
        error: f64::INFINITY,
    };
    for (bend, step) in BENDS.iter().flat_map(|bend| STEPS.map(|step| (*bend, step))) {
        let kernel = Kernel { bend, step };
        let covariance = covariance(&kernel, classes, places, measured.len() as i64, PAIRS)?;
        for noise in NOISES {
            let own = Posterior::new(kernel, &covariance, &ratios, noise)?;
            if own.error < best.error {
                best = own;
            }
        }
    }
    Ok(best)
}

/// Pairs of groups whose covariances are in memory at a time: 32 MB a tensor.
const PAIRS: i64 = 1 << 22;

/// Returns the covariances of all pairs of networks, `[N, N]`, f64; those of about `together` pairs of groups at a time.
fn covariance(
    kernel: &Kernel,
    classes: &[Class],
    places: &[Places],
    networks: i64,
    together: i64,
) -> Result<Tensor> {
    let like = (Kind::Double, Device::Cpu);
    let sum = Tensor::f_full([networks, networks], CONSTANT, like)?;
    for (class, places) in classes.iter().zip(places) {
        let members = class.members.len() as i64;
        let rows = (together / (members * networks * members)).clamp(1, networks.max(1));
        for first in (0..networks).step_by(rows as usize) {
            let rows = rows.min(networks - first);
            let left = places.part(first * members, rows * members)?;
            let pairs = kernel.between(class, &left, places)?;
            let pairs = pairs.f_view([rows, members, networks, members])?;
            let pairs = pairs.f_sum_dim_intlist([1i64, 3].as_slice(), false, None)?;
            let _ = sum.f_narrow(0, first, rows)?.f_add_(&pairs)?;
        }
    }
    Ok(sum)
}

impl Posterior {
    fn new(kernel: Kernel, covariance: &Tensor, ratios: &Tensor, noise: f64) -> Result<Self> {
        let variances = ratios.f_mul_scalar(noise)?.f_square()?;
        let inverse = Tensor::f_linalg_inv(&covariance.f_add(&variances.f_diag(0)?)?)?;
        let weights = inverse.f_mv(ratios)?;
        let left_out = weights.f_div(&inverse.f_diagonal(0, 0, 1)?)?.f_div(ratios)?;
        let error = f64::try_from(left_out.f_square()?.f_mean(None)?)?;
        Ok(Self { kernel, weights, error })
    }

    /// Returns the expected constant, where the latency of the dense network is `dense_ms`.
    fn constant(&self, dense_ms: f64) -> Result<f64> {
        Ok(CONSTANT * dense_ms * f64::try_from(self.weights.f_sum(Kind::Double)?)?)
    }

    /// Returns the expected latency of a group of a class at all its points, where that of the dense network is
    /// `dense_ms`.
    fn values(&self, class: &Class, places: &Places, dense_ms: f64) -> Result<Vec<f64>> {
        let own = Places::new(class, &points(class))?;
        let members = class.members.len() as i64;
        let weights = self.weights.f_repeat_interleave_self_int(members, 0, None)?;
        let values = self.kernel.between(class, &own, places)?.f_mv(&weights)?;
        Ok(Vec::try_from(values.f_mul_scalar(dense_ms)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Grid;

    #[test]
    fn covariance_in_parts_is_that_of_all_pairs_at_once() -> Result<()> {
        let grid = Grid { heads: vec![1], channels: vec![1, 2, 3] };
        let members = vec![vec![0], vec![1]];
        let class = Class { grids: vec![grid], needs: vec![None], members, share: 0.5 };
        let sizes: Vec<_> = (0..14).map(|at| vec![Size::flat(1 + at % 3)]).collect();
        let places = [Places::new(&class, &sizes)?];
        for (bend, step) in [(0.0, 0.0), (0.5, 0.25)] {
            let of = |together| {
                let kernel = Kernel { bend, step };
                covariance(&kernel, std::slice::from_ref(&class), &places, 7, together)
            };
            let [whole, parts] = [of(PAIRS)?, of(2 * 2 * 7 * 2)?];
            let difference = f64::try_from((whole - parts).f_abs()?.f_max()?)?;
            assert!(difference < 1e-15, "{difference}");
        }
        Ok(())
    }

    /// Two classes, of two groups and of one.
    fn met(values: [[f64; 3]; 2], excess: f64) -> Vec<Vec<f64>> {
        let grid = Grid { heads: vec![1], channels: vec![1, 2, 3] };
        let class = |members| Class {
            grids: vec![grid.clone()],
            needs: vec![None],
            members: vec![vec![0]; members],
            share: 0.5,
        };
        let table = |own: [f64; 3]| Table { grids: vec![grid.clone()], values: own.into() };
        let mut tables = values.map(table);
        meet_dense(&[class(2), class(1)], &mut tables, excess);
        tables.map(|own| own.values).into()
    }

    #[test]
    fn fast_dense_network_lowers_values_at_dense_sizes_and_what_is_above_them() {
        let tables = met([[1.0, 3.75, 4.0], [0.0, 1.0, 2.0]], 1.0);
        assert_eq!(tables, [[1.0, 3.6, 3.6], [0.0, 1.0, 1.8]]);
    }

    #[test]
    fn slow_dense_network_raises_values_at_dense_sizes_alone() {
        let tables = met([[1.0, 4.0, 4.0], [0.0, 1.0, 2.0]], -1.0);
        assert_eq!(tables, [[1.0, 4.0, 4.4], [0.0, 1.0, 2.2]]);
    }

    #[test]
    fn tables_without_latency_at_dense_sizes_keep_their_values() {
        assert_eq!(
            met([[-2.0, -1.5, -1.0], [0.0, 1.0, 2.0]], 0.5),
            [[-2.0, -1.5, -1.0], [0.0, 1.0, 1.5]]
        );
        let values = [[1.0, 2.0, 4.0], [0.0, 1.0, 2.0]];
        assert_eq!(met(values, 6.0), values, "left to the constant");
    }
}
