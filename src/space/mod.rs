//! The search space: the dimensions that can shrink, their candidate sizes, and the weight axes
//! that they index.
//!
//! A [`Dimension`] is a set of coupled prunable units, for example the channels of the embedding.
//! Its [`Candidates`] are the sizes it may end with. Each of its [`Binding`]s names one axis of one
//! variable that has an entry for every unit. An [`ActiveSet`] says which candidates a search has
//! not dropped yet.

mod active;
mod active_sets;
mod candidates;
mod dimension;

pub use active::ActiveSet;
pub use active_sets::{ActiveSets, CandidateTable, DimensionGroup};
pub use candidates::{Candidates, Size};
pub(crate) use dimension::heads_of;
pub use dimension::{Binding, Dimension, DimensionKind, Over, Role};

use crate::range::{Range, SHARE};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sizes of dimensions, by the dimension's name.
pub type Sizes = BTreeMap<String, Size>;

/// All dimensions of a search.
///
/// [`Architecture::space`](crate::models::Architecture::space) returns the space of a network; the
/// methods here restrict it.
///
/// ```
/// use once_for_both::models::{Architecture, VitConfig};
/// use once_for_both::space::Size;
///
/// # fn main() -> once_for_both::Result<()> {
/// let vit = VitConfig::uniform(32, 2, 2).input(16, 3, 8).classes(10);
/// let space = vit.space()?.without(&["embed"])?.at_least("blocks.0.mlp", Size::flat(64))?;
/// assert!(space.dimensions.iter().all(|dimension| dimension.name != "embed"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchSpace {
    /// The dimensions, in the order of the network's layers.
    pub dimensions: Vec<Dimension>,
}

impl SearchSpace {
    /// Returns a space without dimensions: a search over it is plain training.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the dimension with this name.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the existing names if there is none.
    pub fn dimension_mut(&mut self, name: &str) -> Result<&mut Dimension> {
        match self.dimensions.iter().position(|dimension| dimension.name == name) {
            Some(at) => Ok(&mut self.dimensions[at]),
            None => {
                let known = self.dimensions.iter().map(|dimension| &dimension.name);
                Err(Error::unknown("dimension", name, known))
            }
        }
    }

    /// Returns the space with only the named dimensions; the sizes of all others stay fixed.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the existing names if a dimension is not in the space.
    pub fn only(mut self, names: &[&str]) -> Result<Self> {
        names.iter().try_for_each(|name| self.dimension_mut(name).map(drop))?;
        self.dimensions.retain(|dimension| names.contains(&dimension.name.as_str()));
        Ok(self)
    }

    /// Returns the space without the named dimensions; their sizes stay fixed.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the existing names if a dimension is not in the space.
    pub fn without(mut self, names: &[&str]) -> Result<Self> {
        names.iter().try_for_each(|name| self.dimension_mut(name).map(drop))?;
        self.dimensions.retain(|dimension| !names.contains(&dimension.name.as_str()));
        Ok(self)
    }

    /// Returns the space without the candidates of dimension `name` that have fewer heads or fewer
    /// channels than `least`. Where a unit is a pair of channels, channels are counted, not pairs.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the existing names if the dimension is not in the space;
    /// [`Error::Candidates`] if no candidate is left.
    pub fn at_least(mut self, name: &str, least: Size) -> Result<Self> {
        let dimension = self.dimension_mut(name)?;
        let unit = dimension.channels_per_unit();
        let channels = least.channels.saturating_add(unit - 1).div_euclid(unit);
        dimension.candidates = dimension.candidates.at_least(Size { channels, ..least })?;
        Ok(self)
    }

    /// Returns the space without the candidates of the dimensions of a kind that have less than this share of the dense
    /// channels (of a head, or of a flat dimension). [`Size::REMOVED`] is no candidate then.
    ///
    /// ```
    /// use once_for_both::models::{Architecture, VitConfig};
    /// use once_for_both::space::DimensionKind;
    ///
    /// # fn main() -> once_for_both::Result<()> {
    /// let space = VitConfig::deit_small().space()?.at_least_share(DimensionKind::Hidden, 0.25)?;
    /// let hidden = space.dimensions.iter().find(|own| own.kind == DimensionKind::Hidden);
    /// assert_eq!(hidden.map(|own| own.candidates.widths()[0]), Some(384));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for a share outside [0, 1].
    pub fn at_least_share(mut self, kind: DimensionKind, share: f64) -> Result<Self> {
        SHARE.check("least share of the channels", share)?;
        let own = |own: &&mut Dimension| own.kind == kind && !own.candidates.full().is_removed();
        for dimension in self.dimensions.iter_mut().filter(own) {
            let channels = (share * dimension.candidates.channels() as f64).ceil() as i64;
            dimension.candidates = dimension.candidates.at_least(Size { heads: 1, channels })?;
        }
        Ok(self)
    }

    /// Returns the space in which the channels (of a head, or of a flat dimension) of the dimensions of a kind are rounded up
    /// to multiples of `factor`, at most to the dense number ([`Candidates::multiple_of`]).
    /// Where a unit is a pair of channels, channels are counted, not pairs. Tensor cores want multiples of 8 in half
    /// precision.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a factor below 1 or above 2²⁰.
    pub fn multiple_of(mut self, kind: DimensionKind, factor: i64) -> Result<Self> {
        for dimension in self.dimensions.iter_mut().filter(|dimension| dimension.kind == kind) {
            let unit = dimension.channels_per_unit();
            dimension.candidates = dimension.candidates.channels_multiple_of(factor, unit)?;
        }
        Ok(self)
    }

    /// Returns the space in which a branch (an attention or an MLP) may be removed: every dimension that the architecture
    /// can be built without ([`Dimension::removable`]) gets the candidate [`Size::REMOVED`].
    ///
    /// ```
    /// use once_for_both::models::{Architecture, VitConfig};
    /// use once_for_both::space::Size;
    ///
    /// # fn main() -> once_for_both::Result<()> {
    /// let space = VitConfig::deit_tiny().space()?.removable_branches();
    /// let removable = space.dimensions.iter().filter(|own| own.candidates.removable());
    /// // 12 MLPs and 12 attentions but the first, which stays.
    /// assert_eq!(removable.count(), 23);
    /// # Ok(())
    /// # }
    /// ```
    pub fn removable_branches(mut self) -> Self {
        for dimension in self.dimensions.iter_mut().filter(|own| own.removable) {
            dimension.candidates = dimension.candidates.clone().with_removal();
        }
        self
    }

    /// Returns the dense sizes of all dimensions.
    pub fn full_sizes(&self) -> Sizes {
        self.dimensions
            .iter()
            .map(|dimension| (dimension.name.clone(), dimension.candidates.full()))
            .collect()
    }

    /// Checks every binding against the variables of a network. Where a branch has been removed, bindings of variables
    /// that went with it are passed over.
    ///
    /// # Shapes
    /// `shapes`: the shape of every variable, by name.
    ///
    /// # Errors
    /// [`Error::UnknownVariable`] if a bound variable does not exist, [`Error::BindingAxis`] if the
    /// bound axis has another length, [`Error::BoundTwice`] if two dimensions bind one axis;
    /// [`Error::Invalid`] for two dimensions of one name, repetitions out of range, a gate over heads, a role of
    /// embeddings in another dimension, or a candidate without units in a dimension that is not removable.
    pub fn validate(&self, shapes: &BTreeMap<String, Vec<i64>>) -> Result<()> {
        let mut bound: BTreeMap<(&str, usize), &str> = BTreeMap::new();
        let mut names = BTreeMap::new();
        let removed = self.dimensions.iter().any(|own| own.candidates.full().is_removed());
        for dimension in &self.dimensions {
            if names.insert(&dimension.name, ()).is_some() {
                return Err(Error::invalid("dimension name", "unique", &dimension.name));
            }
            if dimension.candidates.removable() && !dimension.removable {
                let name = format!("candidates of {}", dimension.name);
                let expected = "sizes of at least one unit; the architecture does not declare the dimension removable";
                return Err(Error::invalid(name, expected, Size::REMOVED));
            }
            for binding in &dimension.bindings {
                if removed && !shapes.contains_key(&binding.variable) {
                    continue;
                }
                check_binding(dimension, binding, shapes)?;
                let axis = (binding.variable.as_str(), binding.axis);
                if let Some(first) = bound.insert(axis, &dimension.name) {
                    return Err(Error::BoundTwice {
                        variable: binding.variable.clone(),
                        axis: binding.axis,
                        first: first.into(),
                        second: dimension.name.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn check_binding(
    dimension: &Dimension,
    binding: &Binding,
    shapes: &BTreeMap<String, Vec<i64>>,
) -> Result<()> {
    let shape = shapes.get(&binding.variable).ok_or_else(|| Error::UnknownVariable {
        dimension: dimension.name.clone(),
        variable: binding.variable.clone(),
    })?;
    if binding.role != Role::Narrowed && binding.over == Over::Heads {
        return Err(Error::invalid(
            format!("role of {} in {}", binding.variable, dimension.name),
            "narrowed, because there is one gate per unit, not per head",
            role_name(binding.role),
        ));
    }
    let is_of_embedding = matches!(binding.role, Role::GatedNorm | Role::Written | Role::Scaled);
    if is_of_embedding && dimension.kind != DimensionKind::Embedding {
        let name = format!("role of {} in {}", binding.variable, dimension.name);
        let expected = "gated or narrowed; if a norm runs over the units, declare the dimension as an embedding, because pruning \
                        changes what the norm computes";
        return Err(Error::invalid(name, expected, role_name(binding.role)));
    }
    if binding.half_split
        && (binding.over == Over::Heads || dimension.kind != DimensionKind::Attention)
    {
        let name = format!("half_split of {} in {}", binding.variable, dimension.name);
        let expected = "false: the units of an attention alone are pairs of channels";
        return Err(Error::invalid(name, expected, true));
    }
    let entries = shape.iter().fold(1i64, |all, &own| all.saturating_mul(own)).max(1);
    for (name, repetitions) in [("outer", binding.outer), ("inner", binding.inner)] {
        let name = format!("{name} of {} in {}", binding.variable, dimension.name);
        Range::closed(1, entries).check(name, repetitions)?;
    }
    expect_length(dimension, binding, shape)
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Gated => "gated",
        Role::GatedNorm => "gated_norm",
        Role::Written => "written",
        Role::Scaled => "scaled",
        Role::Narrowed => "narrowed",
    }
}

/// Refuses a variable of this shape whose bound axis does not have the length that the binding gives it.
///
/// # Errors
/// [`Error::BindingAxis`].
pub(crate) fn expect_length(dimension: &Dimension, binding: &Binding, shape: &[i64]) -> Result<()> {
    let expected = binding.length(&dimension.candidates);
    let actual = shape.get(binding.axis).copied().unwrap_or(0);
    if actual == expected {
        return Ok(());
    }
    Err(Error::BindingAxis {
        dimension: dimension.name.clone(),
        variable: binding.variable.clone(),
        axis: binding.axis,
        expected,
        actual,
    })
}
