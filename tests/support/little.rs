//! A search space small enough to work out by hand.

use super::{test_device, TestResult};
use once_for_both::cost::{CostModel, Polynomial};
use once_for_both::space::{
    ActiveSet, Candidates, Dimension, DimensionKind, SearchSpace, Size, Sizes,
};
use once_for_both::Result;

/// Units of a dimension, as a polynomial.
pub fn units(name: &str) -> Polynomial {
    Polynomial::units(name)
}

/// Sizes by name.
pub fn sizes(list: &[(&str, Size)]) -> Sizes {
    list.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
}

/// Embedding of 2 or 4, one attention of (1 or 2) × (1 or 2), one hidden of 1, 2 or 8:
/// MACs 2·e·a + 3·e·h + 5, parameters e + a + h.
pub fn little() -> TestResult<(SearchSpace, CostModel, Vec<ActiveSet>)> {
    let candidates = [
        ("e", DimensionKind::Embedding, Candidates::flat(4, vec![2, 4])?),
        ("a", DimensionKind::Attention, Candidates::grid(2, 2, vec![1, 2], vec![1, 2])?),
        ("h", DimensionKind::Hidden, Candidates::flat(8, vec![1, 2, 8])?),
    ];
    let dimensions: Vec<_> = candidates
        .into_iter()
        .map(|(name, kind, candidates)| Dimension::new(name, kind, candidates))
        .collect();
    let space = SearchSpace { dimensions };
    let model = CostModel::new(
        units("e") * units("a") * 2 + units("e") * units("h") * 3 + 5,
        units("e") + units("a") + units("h"),
        space.full_sizes(),
    );
    let active = space.dimensions.iter().map(|d| ActiveSet::all(&d.candidates, test_device()));
    let active = active.collect::<Result<_>>()?;
    Ok((space, model, active))
}

/// A space of one dimension, `d`, whose MACs are its units and whose parameters are its heads.
pub fn counting(candidates: &Candidates) -> TestResult<(SearchSpace, CostModel)> {
    let dimension = Dimension::new("d", DimensionKind::Attention, candidates.clone());
    let space = SearchSpace { dimensions: vec![dimension] };
    let model = CostModel::new(units("d"), Polynomial::heads("d"), space.full_sizes());
    Ok((space, model))
}
