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

/// Networks to measure, in order.
#[derive(Debug)]
pub(super) struct Design {
    pub(super) networks: Vec<Planned>,
    /// Number of the first ones that are measured in any case: they contain those at the ends of every dimension.
    pub(super) least: usize,
}

/// Returns `count` networks, or as many as are wanted at least: the smallest; each role at its smallest
/// with all others dense, and dense with all others smallest, but for the branch that it needs, which is there; then
/// networks whose equal layers are equal in turn with networks of random sizes. One in five, and at least one, of random
/// sizes, is held out.
///
/// Where the branch that a dimension needs is removed, the dimension has its dense size: all its sizes are one network.
pub(super) fn design(space: &SearchSpace, classes: &[Class], count: usize, seed: u64) -> Design {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut roles, needs) = (roles(space, classes), Needs::of(space, classes));
    let mut fitted = ends(&roles, space, &needs);
    let last = fitted.len() - 1;
    // One is held out after every four of the fitted ones.
    let least = last + last / (EVERY - 1) + 1;
    while fitted.len() < count {
        let drawn: Vec<Size> = roles.iter_mut().map(|role| role.next(&mut random)).collect();
        fitted.push(needs.met(all(&roles, space, |at| drawn[at])));
        fitted.push(needs.met(scattered(&roles, space, &mut random)));
    }
    fitted.dedup();
    let mut planned = Vec::new();
    for sizes in fitted {
        planned.push(Planned { sizes, held_out: false });
        if planned.len() % EVERY == EVERY - 1 {
            let sizes = needs.met(scattered(&roles, space, &mut random));
            planned.push(Planned { sizes, held_out: true });
        }
    }
    planned.truncate(count.max(least));
    if !planned.iter().any(|own| own.held_out) {
        let sizes = needs.met(scattered(&roles, space, &mut random));
        planned.push(Planned { sizes, held_out: true });
    }
    Design { networks: planned, least }
}

/// Returns the smallest network, and those of each role at one end of its points with all others at the other, each once.
fn ends(roles: &[Role], space: &SearchSpace, needs: &Needs) -> Vec<Vec<Size>> {
    let ends = |own: &Role| [own.points[0], own.points[own.points.len() - 1]];
    let mut networks = vec![needs.met(all(roles, space, |at| ends(&roles[at])[0]))];
    for (one, role) in roles.iter().enumerate() {
        for end in 0..2 {
            let size = |at| ends(&roles[at])[if at == one { end } else { 1 - end }];
            let mut sizes = all(roles, space, size);
            role.dimensions.iter().for_each(|&own| needs.supply(own, &mut sizes));
            let sizes = needs.met(sizes);
            if !networks.contains(&sizes) {
                networks.push(sizes);
            }
        }
    }
    networks
}

/// Returns the sizes of all dimensions, given one for every role.
fn all(roles: &[Role], space: &SearchSpace, of: impl Fn(usize) -> Size) -> Vec<Size> {
    let mut sizes = vec![Size::flat(1); space.dimensions.len()];
    for (at, role) in roles.iter().enumerate() {
        role.dimensions.iter().for_each(|&own| sizes[own] = of(at));
    }
    sizes
}

/// For every dimension of a space, the dimension without which its size changes no cost ([`Class::needs`]).
struct Needs<'a> {
    space: &'a SearchSpace,
    needed: Vec<Option<usize>>,
}

impl<'a> Needs<'a> {
    fn of(space: &'a SearchSpace, classes: &[Class]) -> Self {
        let mut needed = vec![None; space.dimensions.len()];
        for class in classes {
            for group in &class.members {
                for (&own, need) in group.iter().zip(&class.needs) {
                    needed[own] = need.map(|place| group[place]);
                }
            }
        }
        Self { space, needed }
    }

    /// Gives the branch that a dimension needs, if it is removed, its smallest other size.
    fn supply(&self, own: usize, sizes: &mut [Size]) {
        if let Some(branch) = self.needed[own].filter(|&branch| sizes[branch].is_removed()) {
            sizes[branch] = self.space.dimensions[branch].candidates.least();
        }
    }

    /// Returns the sizes with the dense one for every dimension whose needed branch is removed.
    fn met(&self, mut sizes: Vec<Size>) -> Vec<Size> {
        for (own, needed) in self.needed.iter().enumerate() {
            if needed.is_some_and(|branch| sizes[branch].is_removed()) {
                sizes[own] = self.space.dimensions[own].candidates.full();
            }
        }
        sizes
    }
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

#[cfg(test)]
mod tests {
    use super::super::groups::classes;
    use super::*;
    use crate::models::{Architecture, SwinConfig, VitConfig};
    use crate::Result;

    #[test]
    fn networks_at_the_ends_of_every_dimension_are_planned_and_measured_however_few_are_wanted(
    ) -> Result<()> {
        let swin = SwinConfig::tiny().qk_v_apart()?;
        let space = swin.space()?;
        let classes = classes(&swin.cost_model(), &space)?;
        for space in [space.clone(), space.removable_branches()] {
            let (roles, needs) = (roles(&space, &classes), Needs::of(&space, &classes));
            let ends = ends(&roles, &space, &needs);
            assert!(ends.len() > 24, "{}", ends.len());
            for count in [1, 24] {
                let Design { networks, least } = design(&space, &classes, count, 3);
                let measured = &networks[..least];
                for end in &ends {
                    assert!(measured.iter().any(|own| !own.held_out && own.sizes == *end));
                }
                assert!(measured.iter().any(|own| own.held_out));
            }
        }
        Ok(())
    }

    #[test]
    fn networks_to_measure_vary_queries_and_keys_only_where_their_attention_is() -> Result<()> {
        let vit = VitConfig::uniform(32, 3, 4).input(16, 3, 4).classes(5).qk_v_apart()?;
        let space = vit.space()?.removable_branches();
        let at = |name: &str| space.dimensions.iter().position(|own| own.name == name);
        let networks = design(&space, &classes(&vit.cost_model(), &space)?, 60, 3).networks;
        let (least, mut removed, mut ends) = (space.dimensions[0].candidates.least(), 0, 0);
        for block in 1..3 {
            let name = format!("blocks.{block}.attn");
            let (Some(attention), Some(own)) = (at(&name), at(&format!("{name}.qk"))) else {
                return Err(crate::Error::missing("dimension", name));
            };
            let full = space.dimensions[own].candidates.full();
            let smallest = space.dimensions[attention].candidates.least();
            for network in &networks {
                if network.sizes[attention].is_removed() {
                    assert_eq!(network.sizes[own], full);
                    removed += 1;
                }
                let [embed, branch] = [network.sizes[0], network.sizes[attention]];
                let end = embed == least && branch == smallest && network.sizes[own] == full;
                ends += usize::from(end);
            }
        }
        assert!(removed > 0 && ends > 0, "{removed} {ends}");
        // No network of the ends is another.
        let ends = &networks[..networks.len().min(12)];
        for (number, network) in ends.iter().enumerate() {
            let sizes = |own: &Planned| own.sizes.clone();
            assert!(!ends[..number].iter().any(|own| sizes(own) == sizes(network)), "{number}");
        }
        Ok(())
    }
}
