//! The module tree that the dotted names of weights form.

use crate::tensors::Weights;

/// Tensor of a module.
#[derive(Debug, PartialEq)]
pub(super) struct Attribute {
    /// Name within its module.
    pub(super) name: String,
    /// Index among all weights.
    pub(super) place: usize,
    /// Whether it is a buffer: a tensor of integers or flags.
    pub(super) is_buffer: bool,
}

/// Module with its own tensors and child modules.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Module {
    /// Number of the class; 0 for the root.
    pub(super) class: usize,
    /// Its own parameters and buffers.
    pub(super) attributes: Vec<Attribute>,
    /// Names and modules of the children; numeric names in numeric order.
    pub(super) children: Vec<(String, Module)>,
}

impl Module {
    /// Returns the tree of these weights, whose storages are in their order.
    pub(super) fn tree(weights: &Weights) -> Self {
        let mut root = Self::default();
        for (place, (name, weight)) in weights.iter().enumerate() {
            let mut parts: Vec<&str> = name.split('.').collect();
            let name = parts.pop().unwrap_or_default().into();
            let owner = parts.into_iter().fold(&mut root, Self::child);
            let is_buffer = !weight.is_floating_point();
            owner.attributes.push(Attribute { name, place, is_buffer });
        }
        root.finish(0);
        root
    }

    /// Returns all modules, each before its children.
    pub(super) fn all(&self) -> Vec<&Self> {
        let below = self.children.iter().flat_map(|(_, child)| child.all());
        std::iter::once(self).chain(below).collect()
    }

    /// Returns the child of this name, which is added if there is none.
    fn child(&mut self, name: &str) -> &mut Self {
        let known = self.children.iter().position(|(own, _)| own == name);
        let index = known.unwrap_or_else(|| {
            self.children.push((name.into(), Self::default()));
            self.children.len() - 1
        });
        &mut self.children[index].1
    }

    /// Sorts the children, numeric names by number, and numbers the classes from `class`. Returns the
    /// next free number.
    fn finish(&mut self, class: usize) -> usize {
        self.class = class;
        self.children.sort_by_cached_key(|(name, _)| {
            (name.parse::<u64>().unwrap_or(u64::MAX), name.clone())
        });
        self.children.iter_mut().fold(class + 1, |next, (_, child)| child.finish(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn tree_of_weight_names_has_blocks_in_numeric_order_and_parameters_by_index() {
        let names = ["blocks.10.w", "blocks.2.w", "cls", "norm.w"].map(String::from);
        let weights = names.into_iter().map(|name| (name, Tensor::from(1.0))).collect();
        let root = Module::tree(&weights);
        assert_eq!(root.attributes, [Attribute { name: "cls".into(), place: 2, is_buffer: false }]);
        let children = |module: &Module| module.children.iter().map(|c| c.0.clone()).collect();
        let top: Vec<String> = children(&root);
        assert_eq!(top, ["blocks", "norm"]);
        let blocks: Vec<String> = children(&root.children[0].1);
        assert_eq!(blocks, ["2", "10"]);
        let numbers: Vec<usize> = root.all().iter().map(|module| module.class).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    }
}
