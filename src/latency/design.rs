//! Which networks are measured.

use super::groups::Class;
use crate::cost::Grid;
use crate::space::{SearchSpace, Size};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// A network to measure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    /// Size of every dimension of the space.
    pub(super) sizes: Vec<Size>,
    /// Whether it is left out of the fit, to estimate its error.
    pub(super) held_out: bool,
}

/// One network of so many is held out.
const EVERY: usize = 5;

/// Dimensions that have the same place in groups of one class, with their points.
struct Role {
    dimensions: Vec<usize>,
    points: Vec<Size>,
    /// Points in random order, over and over.
    order: Vec<usize>,
}

/// Returns `count` networks, or as many as are wanted at least: the smallest; each role at its smallest
/// with all others dense, and dense with all others smallest; then networks whose equal layers are equal
/// in turn with networks of random sizes. One in five, of random sizes, is held out.
pub(super) fn design(
    space: &SearchSpace,
    classes: &[Class],
    count: usize,
    seed: u64,
) -> Vec<Planned> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut roles = roles(space, classes);
    let ends = |own: &Role| [own.points[0], own.points[own.points.len() - 1]];
    let all = |roles: &[Role], of: &dyn Fn(usize) -> Size| {
        let mut sizes = vec![Size::flat(1); space.dimensions.len()];
        for (at, role) in roles.iter().enumerate() {
            role.dimensions.iter().for_each(|&own| sizes[own] = of(at));
        }
        sizes
    };
    let mut fitted = vec![all(&roles, &|at| ends(&roles[at])[0])];
    for one in 0..roles.len() {
        for end in 0..2 {
            fitted.push(all(&roles, &|at| ends(&roles[at])[if at == one { end } else { 1 - end }]));
        }
    }
    while fitted.len() < count {
        let drawn: Vec<Size> = roles.iter_mut().map(|role| role.next(&mut random)).collect();
        fitted.push(all(&roles, &|at| drawn[at]));
        fitted.push(scattered(&roles, space, &mut random));
    }
    fitted.dedup();
    let mut planned = Vec::new();
    for sizes in fitted {
        planned.push(Planned { sizes, held_out: false });
        if planned.len() % EVERY == EVERY - 1 {
            let sizes = scattered(&roles, space, &mut random);
            planned.push(Planned { sizes, held_out: true });
        }
    }
    planned.truncate(count.max(2 * roles.len() + 3));
    planned
}

impl Role {
    /// Returns the next point: every point comes once before one comes twice.
    fn next(&mut self, random: &mut ChaCha8Rng) -> Size {
        if self.order.is_empty() {
            self.order = (0..self.points.len()).collect();
            self.order.shuffle(random);
        }
        self.points[self.order.pop().unwrap_or(0)]
    }
}

/// Draws a size for every dimension: around a share of its points that is drawn once for the network, so that
/// networks of all latencies come up.
fn scattered(roles: &[Role], space: &SearchSpace, random: &mut ChaCha8Rng) -> Vec<Size> {
    let share: f64 = random.random();
    let spread: f64 = random.random();
    let mut sizes = vec![Size::flat(1); space.dimensions.len()];
    for role in roles {
        let last = role.points.len() - 1;
        for &own in &role.dimensions {
            let at = share + spread * (random.random::<f64>() - 0.5);
            sizes[own] = role.points[(at.clamp(0.0, 1.0) * last as f64).round() as usize];
        }
    }
    sizes
}

fn roles(space: &SearchSpace, classes: &[Class]) -> Vec<Role> {
    // The first place of every dimension, by class and position.
    let mut places: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (class, own) in classes.iter().enumerate() {
        for (position, at) in own.members.iter().flat_map(|group| group.iter().enumerate()) {
            places.entry(*at).or_insert((class, position));
        }
    }
    let mut roles: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for at in 0..space.dimensions.len() {
        if let Some(place) = places.get(&at) {
            roles.entry(*place).or_default().push(at);
        }
    }
    let role = |((class, position), dimensions): ((usize, usize), Vec<usize>)| Role {
        dimensions,
        points: by_units(&classes[class].grids[position]),
        order: Vec::new(),
    };
    roles.into_iter().map(role).collect()
}

/// Returns the points of a grid by units, then by heads.
fn by_units(grid: &Grid) -> Vec<Size> {
    let mut points: Vec<Size> = grid.sizes().collect();
    points.sort_by_key(|size| (size.units(), size.heads));
    points.dedup();
    points
}
