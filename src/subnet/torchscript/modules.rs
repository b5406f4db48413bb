//! The tree of modules that dotted names of weights stand for.

/// A node: its own parameters, and the modules below.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Module {
    /// Number of its class; the root is 0.
    pub(super) class: usize,
    /// Names of its own parameters, and each one's place among all weights.
    pub(super) parameters: Vec<(String, usize)>,
    /// Names of the modules below, numbers in their order.
    pub(super) children: Vec<(String, Module)>,
}

impl Module {
    /// The tree of weights, given in the order their tensors are stored in.
    pub(super) fn tree<'a>(names: impl IntoIterator<Item = &'a String>) -> Self {
        let mut root = Self::default();
        for (place, name) in names.into_iter().enumerate() {
            let mut parts: Vec<&str> = name.split('.').collect();
            let leaf = parts.pop().unwrap_or_default();
            let owner = parts.into_iter().fold(&mut root, Self::child);
            owner.parameters.push((leaf.into(), place));
        }
        root.finish(0);
        root
    }

    /// All modules, each before those below it.
    pub(super) fn all(&self) -> Vec<&Self> {
        let below = self.children.iter().flat_map(|(_, child)| child.all());
        std::iter::once(self).chain(below).collect()
    }

    fn child(&mut self, name: &str) -> &mut Self {
        let known = self.children.iter().position(|(own, _)| own == name);
        let index = known.unwrap_or_else(|| {
            self.children.push((name.into(), Self::default()));
            self.children.len() - 1
        });
        &mut self.children[index].1
    }

    /// Puts blocks into their order (sorted as text, 10 comes before 2), and numbers the classes;
    /// returns the next free number.
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

    #[test]
    fn blocks_keep_their_order_and_parameters_their_place() {
        let names = ["blocks.10.w", "blocks.2.w", "cls", "norm.w"].map(String::from);
        let root = Module::tree(&names);
        assert_eq!(root.parameters, [("cls".into(), 2)]);
        let children = |module: &Module| module.children.iter().map(|c| c.0.clone()).collect();
        let top: Vec<String> = children(&root);
        assert_eq!(top, ["blocks", "norm"]);
        let blocks: Vec<String> = children(&root.children[0].1);
        assert_eq!(blocks, ["2", "10"]);
        let numbers: Vec<usize> = root.all().iter().map(|module| module.class).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
    }
}
