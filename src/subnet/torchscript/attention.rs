//! Source code of attention.

use super::code::{path, weight_and_bias};
use super::layers::{layer_norm, rms_norm};
use crate::models::graph::HeadNorms;
use crate::models::Norm;
use crate::Result;

/// Returns the source lines of multi-head attention on a fused qkv.
pub(super) fn lines(
    to: &str,
    x: &str,
    [heads, head_dim]: [i64; 2],
    scale: f64,
    norms: Option<&HeadNorms>,
) -> Result<Vec<String>> {
    let inner = heads * head_dim;
    let shape = format!("[batch, torch.size({x}, 1), 3, {heads}, {head_dim}]");
    let part = |index| format!("torch.select({to}_qkv, 0, {index})");
    let (mut q, mut k, v) = (part(0), part(1), part(2));
    if let Some(norms) = norms {
        q = normed(&q, "q_norm", norms, head_dim)?;
        k = normed(&k, "k_norm", norms, head_dim)?;
    }
    let mixed = format!(
        "torch.scaled_dot_product_attention({q}, {k}, {v}, None, 0., False, scale={scale:?})"
    );
    Ok(vec![
        format!("    {to}_qkv = torch.permute(torch.reshape({x}, {shape}), [2, 0, 3, 1, 4])"),
        format!("    {to}_mixed = torch.transpose({mixed}, 1, 2)"),
        format!(
            "    {to} = torch.reshape({to}_mixed, [batch, torch.size({to}_mixed, 1), {inner}])"
        ),
    ])
}

/// Queries or keys after their norm.
fn normed(x: &str, which: &str, norms: &HeadNorms, head_dim: i64) -> Result<String> {
    let name = format!("{}.{which}", norms.name);
    Ok(match norms.norm {
        Norm::Layer => layer_norm(x, &weight_and_bias(&name)?, head_dim, norms.eps),
        Norm::Rms => rms_norm(x, &path(&format!("{name}.weight"))?, head_dim, norms.eps),
    })
}
