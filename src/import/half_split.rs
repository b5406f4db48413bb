//! Rows of queries and keys whose rotated pairs are half a head apart, in the order that has the two of
//! a pair beside each other.

use crate::models::BlockConfig;
use crate::Result;
use tch::Tensor;

/// Returns a tensor of an attention, `layer` below `attn.`, with the channels i and i + head_dim/2 of a
/// head of queries and keys as its channels 2i and 2i + 1. Queries and keys in the same other order have
/// the same products.
pub(super) fn interleaved(block: &BlockConfig, layer: &str, tensor: &Tensor) -> Result<Tensor> {
    let (heads, rows) = (block.heads, tensor.size().first().copied().unwrap_or(0));
    let order = match layer {
        "qkv.weight" | "qkv.bias" => {
            let mut order = of_heads(2 * heads, block.head_dim);
            order.extend(order.len() as i64..rows);
            order
        }
        "q_bias" => of_heads(heads, block.head_dim),
        "q_norm.weight" | "q_norm.bias" | "k_norm.weight" | "k_norm.bias" => {
            of_heads(1, block.head_dim)
        }
        _ => return Ok(tensor.shallow_clone()),
    };
    if order.len() as i64 != rows {
        // Of another shape, which is refused by its name.
        return Ok(tensor.shallow_clone());
    }
    Ok(tensor.f_index_select(0, &Tensor::f_from_slice(&order)?)?)
}

/// The former place of every channel of this many heads.
fn of_heads(heads: i64, head_dim: i64) -> Vec<i64> {
    let half = head_dim / 2;
    let head =
        |head: i64| (0..half).flat_map(move |i| [i, i + half].map(|at| head * head_dim + at));
    (0..heads).flat_map(head).collect()
}
