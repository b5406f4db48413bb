//! Queries and keys with a width of their own, apart from values.

use super::{attention_name, BlockConfig};
use crate::tensors::Weights;
use crate::{Error, Result};
use tch::{Kind, Tensor};

impl BlockConfig {
    /// Returns the block whose queries and keys have a width of their own: at first, that of values.
    pub(in crate::models) fn qk_v_apart(self) -> Self {
        Self { qk_dim: self.qk_dim.or(Some(self.head_dim)), ..self }
    }

    /// Replaces `attn.qkv` by `attn.qk` and `attn.v`, which make the same queries, keys and values, up to the order of the
    /// channels: those of each head are sorted by |q|·|k|, the lengths of their rows, the largest first, in queries and
    /// keys alike. So what the attention computes is unchanged, and channel j of all heads, which is one unit, has in
    /// each head the same rank.
    pub(in crate::models) fn split_qkv(&self, block: &str, weights: &mut Weights) -> Result<()> {
        if !self.has_attention() || self.qk_dim.is_some() {
            return Ok(());
        }
        let name = |own: &str| format!("{}.{own}", attention_name(block));
        let weight = weights.remove(&name("qkv.weight"));
        let weight = weight.ok_or_else(|| Error::missing("weight", name("qkv.weight")))?;
        let bias = weights.remove(&name("qkv.bias"));
        crate::autograd::no_grad(|| {
            let order = self.by_length(&weight)?;
            for (kind, own) in [("weight", Some(weight)), ("bias", bias)] {
                let Some(own) = own else { continue };
                let [qk, v] = self.split(&own, &order)?;
                weights.insert(name(&format!("qk.{kind}")), qk);
                weights.insert(name(&format!("v.{kind}")), v);
            }
            Ok(())
        })
    }

    /// Returns the rows of queries, and of keys, head by head, the channels of a head by the product of their lengths, the
    /// largest first: `[heads·channels]`, i64.
    fn by_length(&self, weight: &Tensor) -> Result<Tensor> {
        let rows = weight.f_to_kind(Kind::Float)?.f_view([3, self.heads, self.head_dim, -1])?;
        let squares = rows.f_square()?.f_sum_dim_intlist([-1i64].as_slice(), false, None)?;
        let products = squares.f_get(0)?.f_mul(&squares.f_get(1)?)?;
        let (_, order) = products.f_sort_stable(true, -1, true)?;
        let heads = Tensor::f_arange(self.heads, (Kind::Int64, weight.device()))?;
        let first = heads.f_mul_scalar(self.head_dim)?.f_unsqueeze(1)?;
        Ok(order.f_add(&first)?.f_flatten(0, 1)?)
    }

    /// Returns queries and keys, `[2, heads, channels, …]` in this order of rows, and values, `[heads·channels, …]`, of
    /// `[3·heads·channels, …]`.
    fn split(&self, own: &Tensor, order: &Tensor) -> Result<[Tensor; 2]> {
        let (inner, rest) = (self.attention_dim(), &own.size()[1..]);
        let shape = |axes: &[i64]| [axes, rest].concat();
        let both = own.f_narrow(0, 0, 2 * inner)?.f_view(&shape(&[2, inner])[..])?;
        let both = both.f_index_select(1, order)?;
        let qk = both.f_view(&shape(&[2, self.heads, self.head_dim])[..])?;
        Ok([qk, own.f_narrow(0, 2 * inner, inner)?.f_detach_copy()?])
    }
}
