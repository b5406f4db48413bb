//! Groups of dimensions that meet in one layer, and which of the groups are equal.

use crate::cost::{CostModel, Grid, Polynomial, SizeOf, Term};
use crate::range::Range;
use crate::space::{Candidates, Dimension, SearchSpace, Sizes};
use crate::Result;
use std::collections::{BTreeMap, BTreeSet};

/// Points of one table.
const POINTS: Range<usize> = Range::closed(1, 1 << 16);

/// Groups of dimensions, as indices into a search space, that depend on their sizes alike.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Class {
    /// Points of every dimension of a group.
    pub(super) grids: Vec<Grid>,
    /// For every dimension that is not removable, the place of a removable one that multiplies it in every term: where that
    /// is removed, its size changes no cost, as that of queries and keys without their attention.
    pub(super) needs: Vec<Option<usize>>,
    /// Dimensions of every group.
    pub(super) members: Vec<Vec<usize>>,
    /// Share of the dense cost that these groups have together.
    pub(super) share: f64,
}

/// Returns the classes of groups of dimensions that a term of MACs or parameters multiplies with each
/// other. A group within another is left out; a dimension in no term is a group of its own.
///
/// Groups are equal if their candidates are, and the terms of MACs and parameters over their dimensions, with all other
/// sizes at their dense values.
///
/// # Errors
/// [`Error::Unknown`](crate::Error::Unknown) if the cost model names a dimension without a dense size.
pub(super) fn classes(model: &CostModel, space: &SearchSpace) -> Result<Vec<Class>> {
    let mut classes: BTreeMap<String, Class> = BTreeMap::new();
    let dense = &model.dense;
    let costs = [model.macs.over(space, dense)?, model.params.over(space, dense)?];
    let groups = groups(&costs, space);
    for group in &groups {
        let own: Vec<&Dimension> = group.iter().map(|&at| &space.dimensions[at]).collect();
        let grids: Vec<Grid> = own.iter().map(|own| grid(&own.candidates)).collect();
        let points = grids.iter().map(Grid::len).fold(1, usize::saturating_mul);
        let names = || own.iter().map(|own| own.name.as_str()).collect::<Vec<_>>().join(" × ");
        POINTS.check(format!("combinations of the candidates of {}", names()), points)?;
        let needs = needs(&costs, &own);
        let signature = signature(&costs, &own, &needs);
        let new = || Class { grids, needs, members: Vec::new(), share: 0.0 };
        classes.entry(signature).or_insert_with(new).members.push(group.clone());
    }
    let mut classes: Vec<Class> = classes.into_values().collect();
    classes.sort_by(|left, right| left.members.cmp(&right.members));
    let weights: Vec<f64> =
        classes.iter().map(|class| weight(&costs[0], dense, space, class)).collect();
    let sum: f64 = weights.iter().sum();
    for (class, weight) in classes.iter_mut().zip(&weights) {
        class.share = if sum > 0.0 { weight / sum } else { 1.0 / weights.len() as f64 };
    }
    Ok(classes)
}

fn groups(costs: &[Polynomial; 2], space: &SearchSpace) -> Vec<Vec<usize>> {
    let number = |name: &str| space.dimensions.iter().position(|own| own.name == name);
    let mut sets: BTreeSet<BTreeSet<usize>> =
        (0..space.dimensions.len()).map(|at| BTreeSet::from([at])).collect();
    for term in costs.iter().flat_map(Polynomial::terms) {
        sets.insert(term.factors.iter().filter_map(|own| number(&own.dimension)).collect());
    }
    let within =
        |set: &BTreeSet<usize>| sets.iter().any(|other| other != set && set.is_subset(other));
    let largest = sets.iter().filter(|set| !set.is_empty() && !within(set));
    largest.map(|set| set.iter().copied().collect()).collect()
}

/// Returns the candidates, and the dense size.
fn grid(candidates: &Candidates) -> Grid {
    let with = |points: &[i64], dense: i64| -> Vec<i64> {
        points.iter().copied().chain([dense]).collect::<BTreeSet<i64>>().into_iter().collect()
    };
    let removed = candidates.removable().then_some(0);
    let heads = with(candidates.head_counts(), candidates.heads());
    Grid {
        heads: removed.into_iter().chain(heads).collect(),
        channels: with(candidates.widths(), candidates.channels()),
    }
}

/// Returns for every dimension of a group the place of a removable one that is in all terms with it. A dimension in no
/// term has none: what its size changes is not known. Nor has a removable one: its own removal is a size that counts.
fn needs(costs: &[Polynomial; 2], group: &[&Dimension]) -> Vec<Option<usize>> {
    let terms = || costs.iter().flat_map(Polynomial::terms);
    let has = |term: &Term, own: &Dimension| term.factors.iter().any(|f| f.dimension == own.name);
    let need = |own: &&Dimension| {
        if own.candidates.removable() || !terms().any(|term| has(term, own)) {
            return None;
        }
        group.iter().position(|other| {
            let together = |term: &Term| !has(term, own) || has(term, other);
            other.name != own.name && other.candidates.removable() && terms().all(together)
        })
    };
    group.iter().map(need).collect()
}

/// Returns text that is equal for equal groups.
fn signature(costs: &[Polynomial; 2], group: &[&Dimension], needs: &[Option<usize>]) -> String {
    let place = |name: &str| group.iter().position(|own| own.name == name);
    let mut text = format!(
        "{needs:?} {:?}",
        group.iter().map(|own| (own.kind, &own.candidates)).collect::<Vec<_>>()
    );
    for polynomial in costs {
        let mut terms = Vec::new();
        for term in polynomial.terms() {
            let factors = term.factors.iter().map(|own| Some((place(&own.dimension)?, own.over)));
            if let Some(factors) = factors.collect::<Option<Vec<_>>>() {
                terms.push(format!("{} {factors:?}", term.coefficient));
            }
        }
        terms.sort();
        text += &format!("; {terms:?}");
    }
    text
}

/// Returns the dense MACs of all terms within the groups of a class; a constant is within none.
fn weight(macs: &Polynomial, dense: &Sizes, space: &SearchSpace, class: &Class) -> f64 {
    let of = |group: &Vec<usize>| -> f64 {
        let own = |name: &str| group.iter().any(|&at| space.dimensions[at].name == name);
        let within = |term: &&Term| {
            !term.factors.is_empty() && term.factors.iter().all(|factor| own(&factor.dimension))
        };
        let size =
            |factor: &SizeOf| dense.get(&factor.dimension).map_or(1.0, |&size| factor.at(size));
        let value = |term: &Term| term.coefficient * term.factors.iter().map(size).product::<f64>();
        macs.terms().iter().filter(within).map(value).sum()
    };
    class.members.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Architecture, AttentionPool, Pooling, VitConfig};
    use crate::space::DimensionKind;

    fn space() -> Result<SearchSpace> {
        let flat = |name: &str, kind| -> Result<Dimension> {
            Ok(Dimension::new(name, kind, Candidates::flat(8, vec![4, 8])?))
        };
        let branch = Candidates::grid(2, 8, vec![1, 2], vec![4, 8])?;
        let branch = Dimension::new("branch", DimensionKind::Attention, branch).removable();
        let dimensions = vec![
            flat("embed", DimensionKind::Embedding)?,
            branch,
            flat("inner", DimensionKind::Hidden)?,
            flat("unused", DimensionKind::Hidden)?,
        ];
        Ok(SearchSpace { dimensions }.removable_branches())
    }

    fn needs_of(terms: Polynomial) -> Result<Vec<Option<usize>>> {
        let space = space()?;
        let costs = [terms, Polynomial::from(0.0)];
        Ok(needs(&costs, &space.dimensions.iter().collect::<Vec<_>>()))
    }

    #[test]
    fn layers_that_differ_in_fixed_sizes_alone_are_of_two_classes() -> Result<()> {
        let vit = VitConfig::uniform(32, 3, 4).input(16, 3, 4).classes(5);
        let hidden = vit.blocks[0].hidden_dim;
        // An MLP as wide as those of the blocks, for one token in place of 16.
        let pool = AttentionPool::new(32, 4, hidden);
        let vit = VitConfig { class_token: false, ..vit.pooling(Pooling::Attention(pool)) };
        let space = vit.space()?.without(&["embed", "attn_pool.embed"])?;
        let classes = classes(&vit.cost_model(), &space)?;
        let of = |name: &str| {
            let at = space.dimensions.iter().position(|own| own.name == name);
            classes.iter().find(|own| own.members.iter().flatten().any(|own| Some(*own) == at))
        };
        let [blocks, pool] = ["blocks.1.mlp", "attn_pool.mlp"].map(of);
        let members = |own: Option<&Class>| own.map_or(0, |own| own.members.len());
        assert_eq!([members(blocks), members(pool)], [3, 1]);
        let share = |own: Option<&Class>| own.map_or(0.0, |own| own.share);
        // 3 · 16 tokens, and one.
        assert!((share(blocks) / share(pool) - 48.0).abs() < 1e-9);
        Ok(())
    }

    #[test]
    fn need_of_a_dimension_is_the_branch_in_all_its_terms() -> Result<()> {
        let product = |branch: Polynomial| {
            branch * Polynomial::units("inner") * Polynomial::units("embed")
                + Polynomial::units("embed")
        };
        // Without the branch, a term with its units and one with its presence are both 0.
        for branch in [Polynomial::units("branch"), Polynomial::branch("branch")] {
            assert_eq!(needs_of(product(branch))?, [None, None, Some(1), None]);
        }
        let alone = product(Polynomial::units("branch")) + Polynomial::units("inner");
        assert_eq!(needs_of(alone)?, [None; 4]);
        Ok(())
    }
}
