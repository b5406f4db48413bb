//! Groups of dimensions that meet in one layer, and which of the groups are equal.

use crate::cost::{CostModel, Grid, Polynomial, SizeOf, Term};
use crate::range::Range;
use crate::space::{Candidates, Dimension, SearchSpace};
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
/// Groups are equal if their candidates are, and the terms of MACs and parameters over their dimensions.
pub(super) fn classes(model: &CostModel, space: &SearchSpace) -> Result<Vec<Class>> {
    let mut classes: BTreeMap<String, Class> = BTreeMap::new();
    let groups = groups(model, space);
    for group in &groups {
        let own: Vec<&Dimension> = group.iter().map(|&at| &space.dimensions[at]).collect();
        let grids: Vec<Grid> = own.iter().map(|own| grid(&own.candidates)).collect();
        let points = grids.iter().map(Grid::len).fold(1, usize::saturating_mul);
        let names = || own.iter().map(|own| own.name.as_str()).collect::<Vec<_>>().join(" × ");
        POINTS.check(format!("combinations of the candidates of {}", names()), points)?;
        let needs = needs(model, &own);
        let signature = signature(model, &own, &needs);
        let new = || Class { grids, needs, members: Vec::new(), share: 0.0 };
        classes.entry(signature).or_insert_with(new).members.push(group.clone());
    }
    let mut classes: Vec<Class> = classes.into_values().collect();
    classes.sort_by(|left, right| left.members.cmp(&right.members));
    let weights: Vec<f64> = classes.iter().map(|class| weight(model, space, class)).collect();
    let sum: f64 = weights.iter().sum();
    for (class, weight) in classes.iter_mut().zip(&weights) {
        class.share = if sum > 0.0 { weight / sum } else { 1.0 / weights.len() as f64 };
    }
    Ok(classes)
}

fn groups(model: &CostModel, space: &SearchSpace) -> Vec<Vec<usize>> {
    let number = |name: &str| space.dimensions.iter().position(|own| own.name == name);
    let mut sets: BTreeSet<BTreeSet<usize>> =
        (0..space.dimensions.len()).map(|at| BTreeSet::from([at])).collect();
    for term in [&model.macs, &model.params].into_iter().flat_map(Polynomial::terms) {
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
fn needs(model: &CostModel, group: &[&Dimension]) -> Vec<Option<usize>> {
    let terms = || [&model.macs, &model.params].into_iter().flat_map(Polynomial::terms);
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
fn signature(model: &CostModel, group: &[&Dimension], needs: &[Option<usize>]) -> String {
    let place = |name: &str| group.iter().position(|own| own.name == name);
    let mut text = format!(
        "{needs:?} {:?}",
        group.iter().map(|own| (own.kind, &own.candidates)).collect::<Vec<_>>()
    );
    for polynomial in [&model.macs, &model.params] {
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

/// Returns the dense MACs of all terms within the groups of a class.
fn weight(model: &CostModel, space: &SearchSpace, class: &Class) -> f64 {
    let of = |group: &Vec<usize>| -> f64 {
        let own = |name: &str| group.iter().any(|&at| space.dimensions[at].name == name);
        let within = |term: &&Term| term.factors.iter().all(|factor| own(&factor.dimension));
        let size = |factor: &SizeOf| {
            model.dense.get(&factor.dimension).map_or(1.0, |&size| factor.at(size))
        };
        let value = |term: &Term| term.coefficient * term.factors.iter().map(size).product::<f64>();
        model.macs.terms().iter().filter(within).map(value).sum()
    };
    class.members.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{DimensionKind, Sizes};

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
        let model = CostModel::new(terms, Polynomial::from(0.0), Sizes::new());
        Ok(needs(&model, &space.dimensions.iter().collect::<Vec<_>>()))
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
