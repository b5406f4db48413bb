//! What can be removed: dimensions, their candidate sizes, and where they sit in the weights.

mod active;
mod candidates;
mod dimension;

pub use active::ActiveSet;
pub use candidates::{Candidates, Size};
pub use dimension::{Binding, Dimension, DimensionKind, Over, Role};

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sizes of dimensions by name.
pub type Sizes = BTreeMap<String, Size>;

/// The dimensions of one search.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchSpace {
    /// Dimensions, in the order of the model.
    pub dimensions: Vec<Dimension>,
}

impl SearchSpace {
    /// A space with nothing to search: a session over it is plain training.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The dimension with this name.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names there are.
    pub fn dimension_mut(&mut self, name: &str) -> Result<&mut Dimension> {
        match self.dimensions.iter().position(|dimension| dimension.name == name) {
            Some(at) => Ok(&mut self.dimensions[at]),
            None => {
                let known = self.dimensions.iter().map(|dimension| &dimension.name);
                Err(Error::unknown("dimension", name, known))
            }
        }
    }

    /// The same space with some of its dimensions only: the others stay as they are.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names there are.
    pub fn only(mut self, names: &[&str]) -> Result<Self> {
        names.iter().try_for_each(|name| self.dimension_mut(name).map(drop))?;
        self.dimensions.retain(|dimension| names.contains(&dimension.name.as_str()));
        Ok(self)
    }

    /// The same space without some of its dimensions: these stay as they are.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names there are.
    pub fn without(mut self, names: &[&str]) -> Result<Self> {
        names.iter().try_for_each(|name| self.dimension_mut(name).map(drop))?;
        self.dimensions.retain(|dimension| !names.contains(&dimension.name.as_str()));
        Ok(self)
    }

    /// The same space with a smallest size for one dimension.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names there are; [`Error::Candidates`] if no candidate is as large.
    pub fn at_least(mut self, name: &str, least: Size) -> Result<Self> {
        let dimension = self.dimension_mut(name)?;
        dimension.candidates = dimension.candidates.at_least(least)?;
        Ok(self)
    }

    /// Full sizes of all dimensions.
    pub fn full_sizes(&self) -> Sizes {
        self.dimensions
            .iter()
            .map(|dimension| (dimension.name.clone(), dimension.candidates.full()))
            .collect()
    }

    /// Holds the declaration against the variables of a model.
    ///
    /// # Errors
    /// [`Error::UnknownVariable`], [`Error::BindingAxis`] or [`Error::BoundTwice`], naming the
    /// dimension and the variable; [`Error::Invalid`] for two dimensions of one name.
    pub fn validate(&self, shapes: &BTreeMap<String, Vec<i64>>) -> Result<()> {
        let mut bound: BTreeMap<(&str, usize), &str> = BTreeMap::new();
        let mut names = BTreeMap::new();
        for dimension in &self.dimensions {
            if names.insert(&dimension.name, ()).is_some() {
                return Err(Error::invalid("dimension name", "unique", &dimension.name));
            }
            for binding in &dimension.bindings {
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
            "narrowed, because a gate is one number per unit, not per head",
            format!("{:?}", binding.role).to_lowercase(),
        ));
    }
    for (name, repetitions) in [("outer", binding.outer), ("inner", binding.inner)] {
        if !(1..=shape.iter().product::<i64>().max(1)).contains(&repetitions) {
            let name = format!("{name} of {} in {}", binding.variable, dimension.name);
            return Err(Error::invalid(name, "at least 1, and within the variable", repetitions));
        }
    }
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
