//! Variables and dimensions of a transformer block, and the names of its parts.

use super::{attention_name, hidden_name, linear, norm, queries_name, BlockConfig};
use crate::models::options::BlockStyle;
use crate::models::{rotary, Shapes};
use crate::space::{Binding, Candidates, Dimension, DimensionKind, Size};
use crate::Result;

impl BlockConfig {
    /// Adds names and shapes of the block's variables over an embedding of this width.
    pub(in crate::models) fn variables(
        &self,
        block: &str,
        width: i64,
        style: &BlockStyle,
        shapes: &mut Shapes,
    ) {
        let removed = [(self.has_attention(), "attn.proj"), (self.has_mlp(), "mlp.fc2")];
        for (_, last) in removed.into_iter().filter(|(exists, _)| !exists) {
            shapes.insert(format!("{block}.{last}.bias"), vec![width]);
        }
        if self.has_attention() {
            self.attention_variables(block, width, style, shapes);
        }
        if self.has_mlp() {
            norm(shapes, &format!("{block}.norm2"), width, style.norm);
            linear(shapes, &format!("{block}.mlp.fc1"), width, style.mlp.parts() * self.hidden_dim);
            linear(shapes, &format!("{block}.mlp.fc2"), self.hidden_dim, width);
        }
        if style.layer_scale.is_some() {
            for scale in ["ls1", "ls2"] {
                shapes.insert(format!("{block}.{scale}.gamma"), vec![width]);
            }
        }
    }

    fn attention_variables(
        &self,
        block: &str,
        width: i64,
        style: &BlockStyle,
        shapes: &mut Shapes,
    ) {
        let (inner, attention) = (self.attention_dim(), attention_name(block));
        norm(shapes, &format!("{block}.norm1"), width, style.norm);
        for mut own in self.qkv_variables(style) {
            own.outputs.extend(own.is_weight.then_some(width));
            shapes.insert(format!("{attention}.{}", own.name), own.outputs);
        }
        for own in style.qk_norms() {
            shapes.insert(format!("{attention}.{own}"), vec![self.head_dim]);
        }
        if style.rotary.is_some() {
            shapes.extend([rotary::variable(&attention, self.heads, self.head_dim)]);
        }
        linear(shapes, &format!("{attention}.proj"), inner, width);
    }

    /// Returns the dimensions of the block of this name: heads × channels; channels of queries and keys, where they are
    /// apart from values; hidden neurons. A branch that has been removed has none. The MLP is removable, and so is the
    /// attention unless it `stays`.
    ///
    /// A norm of queries and keys is over the channels of a head, which then all stay: only heads
    /// are pruned. Of channels that are rotated in pairs, the units are the pairs.
    pub(in crate::models) fn dimensions(
        &self,
        block: &str,
        style: &BlockStyle,
        stays: bool,
    ) -> Result<Vec<Dimension>> {
        let mut dimensions = Vec::new();
        if self.has_attention() {
            let attention = self.attention(block, style)?;
            dimensions.push(Dimension { removable: !stays, ..attention });
            dimensions.extend(self.queries(block, style)?);
        }
        if self.has_mlp() {
            dimensions.push(self.hidden(block, style)?.removable());
        }
        Ok(dimensions)
    }

    /// Returns the dimension of the attention. Of queries and keys that are apart from values, it has the heads.
    fn attention(&self, block: &str, style: &BlockStyle) -> Result<Dimension> {
        let (name, unit) = (attention_name(block), style.unit());
        let units = self.attention_size(style);
        let mut candidates = Candidates::attention_of_units(units, unit)?;
        if style.qk_norm.is_some() {
            candidates = candidates.at_least(Size { heads: 1, ..units })?;
        }
        let mut attention = Dimension::new(&name, DimensionKind::Attention, candidates);
        for own in self.qkv_variables(style) {
            let variable = format!("{name}.{}", own.name);
            attention = attention.bind(match own.has_axes() {
                true => Binding::narrowed(variable, 1).over_heads(),
                false => Binding::gated(variable, 0).outer(own.parts).inner(unit),
            });
        }
        let columns = Binding::narrowed(format!("{name}.proj.weight"), 1).inner(unit);
        let mut attention = attention.bind(columns);
        if style.rotary.is_some() {
            let frequencies = format!("{name}.{}", rotary::VARIABLE);
            attention = attention.bind(Binding::narrowed(frequencies, 1));
        }
        Ok(attention)
    }

    /// Returns the dimension of the channels of queries and keys, where they are apart from values: unit j is channel j of
    /// every head, in queries and in keys.
    fn queries(&self, block: &str, style: &BlockStyle) -> Result<Option<Dimension>> {
        let Some(channels) = self.qk_dim else { return Ok(None) };
        let candidates = Candidates::attention(1, channels)?;
        let mut queries = Dimension::new(queries_name(block), DimensionKind::Attention, candidates);
        for own in self.qkv_variables(style).into_iter().filter(|own| own.has_axes()) {
            let variable = format!("{}.{}", attention_name(block), own.name);
            queries = queries.bind(Binding::gated(variable, 2));
        }
        Ok(Some(queries))
    }

    /// Returns the dimension of the hidden neurons of the block of this name.
    pub(in crate::models) fn hidden(&self, block: &str, style: &BlockStyle) -> Result<Dimension> {
        let (name, parts) = (hidden_name(block), style.mlp.parts());
        let candidates = Candidates::hidden(self.hidden_dim)?;
        Ok(Dimension::new(&name, DimensionKind::Hidden, candidates)
            .bind(Binding::gated(format!("{name}.fc1.weight"), 0).outer(parts))
            .bind(Binding::gated(format!("{name}.fc1.bias"), 0).outer(parts))
            .bind(Binding::narrowed(format!("{name}.fc2.weight"), 1)))
    }

    /// Returns the names of the norms that the block has.
    pub(in crate::models) fn norms(&self, block: &str) -> impl Iterator<Item = String> {
        self.of_branches(block, [&["norm1"], &["norm2"]])
    }

    /// Returns the axes of variables that read the embedding.
    pub(in crate::models) fn readers(&self, block: &str) -> impl Iterator<Item = Binding> {
        let reader = |name: String, axis| Binding::narrowed(name, axis);
        let attention = self.head_sizes().projections().into_iter();
        let attention = attention.filter(|_| self.has_attention()).map(|own| {
            reader(format!("{}.{}.weight", attention_name(block), own.name), own.outputs.len())
        });
        let mlp = self.has_mlp().then(|| reader(format!("{block}.mlp.fc1.weight"), 1));
        attention.chain(mlp).collect::<Vec<_>>().into_iter()
    }

    /// Returns the names of the variables that write into the embedding: of a removed branch, its constant.
    pub(in crate::models) fn writers(&self, block: &str) -> impl Iterator<Item = String> {
        let weights = self.of_branches(block, [&["attn.proj.weight"], &["mlp.fc2.weight"]]);
        weights.chain(["attn.proj.bias", "mlp.fc2.bias"].map(|own| format!("{block}.{own}")))
    }

    /// Returns names of attention and MLP, as far as the block has them.
    fn of_branches(
        &self,
        block: &str,
        [attention, mlp]: [&[&str]; 2],
    ) -> impl Iterator<Item = String> {
        let attention = attention.iter().filter(|_| self.has_attention());
        let mlp = mlp.iter().filter(|_| self.has_mlp());
        let names: Vec<String> = attention.chain(mlp).map(|own| format!("{block}.{own}")).collect();
        names.into_iter()
    }
}
