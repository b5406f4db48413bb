//! Source code of attention.

use super::code::{path, weight_and_bias};
use super::layers::{layer_norm, rms_norm};
use crate::models::graph::{HeadNorms, HeadRotation, HeadSizes};
use crate::models::Norm;
use crate::Result;

/// Queries, keys and values by head, padded to one width, as lines and an expression of each. `inputs` are the results of the projections;
/// `tokens` are the axes of tokens after that of the batch, and `order` puts the parts first, and heads before tokens.
pub(super) fn parts(
    to: &str,
    inputs: &[String],
    sizes: HeadSizes,
    [tokens, order]: [&str; 2],
) -> (Vec<String>, [String; 3]) {
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    for (x, own) in inputs.iter().zip(sizes.projections()) {
        let (name, count, heads) = (format!("{to}_{}", own.name), own.parts, sizes.heads);
        let shape = format!("[batch, {tokens}, {count}, {heads}, {}]", own.channels);
        let made = match sizes.padded() - own.channels {
            0 => format!("torch.reshape({x}, {shape})"),
            more => format!("torch.constant_pad_nd(torch.reshape({x}, {shape}), [0, {more}])"),
        };
        lines.push(format!("    {name} = torch.permute({made}, {order})"));
        all.extend((0..count).map(|part| format!("torch.select({name}, 0, {part})")));
    }
    let mut all = all.into_iter();
    (lines, std::array::from_fn(|_| all.next().unwrap_or_default()))
}

/// Returns the expression of softmax(scale·q·kᵀ + bias)·v, without the padding of values.
pub(super) fn mixed([q, k, v]: [&str; 3], bias: &str, scale: f64, sizes: HeadSizes) -> String {
    let mixed = format!(
        "torch.scaled_dot_product_attention({q}, {k}, {v}, {bias}, 0., False, scale={scale:?})"
    );
    match sizes.head_dim < sizes.padded() {
        true => format!("torch.slice({mixed}, -1, 0, {})", sizes.head_dim),
        false => mixed,
    }
}

/// Returns the source lines of multi-head attention.
pub(super) fn lines(
    to: &str,
    inputs: &[String],
    sizes: HeadSizes,
    scale: f64,
    norms: Option<&HeadNorms>,
    rotation: Option<&HeadRotation>,
) -> Result<Vec<String>> {
    let (HeadSizes { heads, head_dim, .. }, width) = (sizes, sizes.queries());
    let (inner, x) = (heads * head_dim, inputs.first().map_or("", String::as_str));
    let layout = [&*format!("torch.size({x}, 1)"), "[2, 0, 3, 1, 4]"];
    let (mut lines, [mut q, mut k, v]) = parts(to, inputs, sizes, layout);
    if let Some(norms) = norms {
        q = normed(&q, "q_norm", norms, width)?;
        k = normed(&k, "k_norm", norms, width)?;
    }
    if let Some(rotation) = rotation {
        lines.extend(angles(to, x, rotation, heads)?);
        for (part, tensor) in [("q", &mut q), ("k", &mut k)] {
            lines.extend(rotated(to, part, tensor, [heads, width]));
            *tensor = format!("{to}_{part}_rotated");
        }
    }
    let mixed = mixed([&q, &k, &v], "None", scale, sizes);
    lines.extend([
        format!("    {to}_mixed = torch.transpose({mixed}, 1, 2)"),
        format!(
            "    {to} = torch.reshape({to}_mixed, [batch, torch.size({to}_mixed, 1), {inner}])"
        ),
    ]);
    Ok(lines)
}

/// Returns the source lines of the attention of one query to all tokens, on fused keys and values.
pub(super) fn latent_lines(
    to: &str,
    x: &str,
    query: &str,
    [heads, head_dim]: [i64; 2],
    scale: f64,
) -> Vec<String> {
    let shape = format!("[batch, torch.size({x}, 1), 2, {heads}, {head_dim}]");
    let part = |index| format!("torch.select({to}_kv, 0, {index})");
    let (k, v) = (part(0), part(1));
    let query = format!("torch.reshape({query}, [1, {heads}, 1, {head_dim}])");
    let mixed = format!(
        "torch.scaled_dot_product_attention({to}_q, {k}, {v}, None, 0., False, scale={scale:?})"
    );
    vec![
        format!("    {to}_kv = torch.permute(torch.reshape({x}, {shape}), [2, 0, 3, 1, 4])"),
        format!("    {to}_q = torch.expand({query}, [batch, -1, -1, -1])"),
        format!("    {to} = torch.reshape({mixed}, [batch, {}])", heads * head_dim),
    ]
}

/// Cosines and sines of the angles of every token, `[heads, tokens, pairs, 1]`.
fn angles(to: &str, x: &str, rotation: &HeadRotation, heads: i64) -> Result<Vec<String>> {
    let frequencies = path(&rotation.frequencies)?;
    let tokens = rotation.coordinates.len();
    let axis = |at: usize| {
        let numbers = rotation.coordinates.iter().map(|own| format!("{:?}", f64::from(own[at])));
        let numbers = numbers.collect::<Vec<_>>().join(", ");
        let constant = format!("torch.tensor([{numbers}], dtype=6, device=ops.prim.device({x}))");
        let frequencies = format!("torch.to(torch.select({frequencies}, 0, {at}), 6)");
        format!("torch.mul(torch.unsqueeze({constant}, 1), {frequencies})")
    };
    let shape = format!("[{tokens}, {heads}, -1, 1]");
    let summed = format!("torch.reshape(torch.add({}, {}), {shape})", axis(0), axis(1));
    Ok(vec![
        format!("    {to}_angles = torch.transpose({summed}, 0, 1)"),
        format!("    {to}_cos = torch.type_as(torch.cos({to}_angles), {x})"),
        format!("    {to}_sin = torch.type_as(torch.sin({to}_angles), {x})"),
    ])
}

/// Queries or keys after the rotation of their pairs.
fn rotated(to: &str, part: &str, x: &str, [heads, head_dim]: [i64; 2]) -> Vec<String> {
    let name = format!("{to}_{part}");
    let shape = format!("[batch, {heads}, torch.size({to}_angles, 1), {}, 2]", head_dim / 2);
    let half = |at: i64| format!("torch.slice({name}_pairs, -1, {at}, {})", at + 1);
    let (a, b) = (half(0), half(1));
    let term = |x: &str, angle: &str| format!("torch.mul({x}, {to}_{angle})");
    let first = format!("torch.sub({}, {})", term(&a, "cos"), term(&b, "sin"));
    let second = format!("torch.add({}, {})", term(&b, "cos"), term(&a, "sin"));
    let whole = format!("[batch, {heads}, torch.size({to}_angles, 1), {head_dim}]");
    vec![
        format!("    {name}_pairs = torch.reshape({x}, {shape})"),
        format!("    {name}_rotated = torch.reshape(torch.cat([{first}, {second}], -1), {whole})"),
    ]
}

/// Queries or keys after their norm.
fn normed(x: &str, which: &str, norms: &HeadNorms, head_dim: i64) -> Result<String> {
    let name = format!("{}.{which}", norms.name);
    Ok(match norms.norm {
        Norm::Layer => layer_norm(x, &weight_and_bias(&name)?, head_dim, norms.eps),
        Norm::Rms => rms_norm(x, &path(&format!("{name}.weight"))?, head_dim, norms.eps),
    })
}
