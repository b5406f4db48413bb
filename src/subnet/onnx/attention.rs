//! Attention as ONNX nodes.

use super::builder::Attribute::{Int, Ints};
use super::builder::Builder;
use super::layers::{layer_norm, rms_norm};
use crate::models::graph::{HeadNorms, HeadRotation, HeadSizes};
use crate::models::{Norm, Windows};
use crate::Result;

/// Bias of window attention: the relative position bias, `[heads, tokens, tokens]`; for shifted
/// windows plus the mask between regions, `[windows, heads, tokens, tokens]`.
pub(super) fn bias(
    builder: &mut Builder,
    to: &str,
    windows: Windows,
    table: &str,
) -> Result<String> {
    let (count, tokens) = (windows.count(), windows.tokens());
    let rows = builder.numbers(&[tokens, tokens], &windows.relative_position_index());
    let table = builder.weight(table)?;
    let axis = [Int("axis", 0)];
    let biases = builder.node("Gather", &[&table, &rows], format!("{to}.biases"), &axis);
    let order = [Ints("perm", &[2, 0, 1])];
    let bias = builder.node("Transpose", &[&biases], format!("{to}.bias"), &order);
    if windows.shift == 0 {
        return Ok(bias);
    }
    let regions = windows.regions();
    let from = builder.numbers(&[count, 1, tokens, 1], &regions);
    let onto = builder.numbers(&[count, 1, 1, tokens], &regions);
    let same = builder.node("Equal", &[&from, &onto], format!("{to}.same"), &[]);
    let (zero, apart) = (builder.scalar(0.0), builder.scalar(Windows::MASKED));
    let separation =
        builder.node("Where", &[&same, &zero, &apart], format!("{to}.separation"), &[]);
    Ok(builder.node("Add", &[&bias, &separation], format!("{to}.separated"), &[]))
}

/// Multi-head attention within windows: [`attention`] with an axis of windows after the batch.
pub(super) fn window_attention(
    builder: &mut Builder,
    to: &str,
    inputs: &[&str],
    windows: Windows,
    bias: &str,
    sizes: HeadSizes,
    scale: f64,
) -> String {
    let (count, tokens) = (windows.count(), windows.tokens());
    let [q, k, v] = parts(builder, to, inputs, sizes, (&[count, tokens], &[3, 0, 1, 4, 2, 5]));
    let exchanged = [0, 1, 2, 4, 3];
    let mixed = mix(builder, to, [&q, &k, &v], &exchanged, scale, Some(bias));
    let order = [Ints("perm", &[0, 1, 3, 2, 4])];
    let ordered = builder.node("Transpose", &[&mixed], format!("{to}.tokens"), &order);
    let shape = builder.integers(&[0, count * tokens, sizes.heads * sizes.head_dim]);
    builder.node("Reshape", &[&ordered, &shape], to, &[])
}

/// Multi-head attention on the results of the projections: `[B, N, heads · channels]`.
pub(super) fn attention(
    builder: &mut Builder,
    to: &str,
    inputs: &[&str],
    sizes: HeadSizes,
    scale: f64,
    norms: Option<&HeadNorms>,
    rotation: Option<&HeadRotation>,
) -> Result<String> {
    // [parts, B, heads, N, channels]
    let [mut q, mut k, v] = parts(builder, to, inputs, sizes, (&[0], &[2, 0, 3, 1, 4]));
    if let Some(norms) = norms {
        q = normed(builder, &format!("{to}.q_normed"), &q, "q_norm", norms)?;
        k = normed(builder, &format!("{to}.k_normed"), &k, "k_norm", norms)?;
    }
    if let Some(rotation) = rotation {
        let angles = angles(builder, to, rotation, sizes.heads)?;
        let queries = [sizes.heads, sizes.queries()];
        q = rotated(builder, &format!("{to}.q_rotated"), &q, &angles, queries);
        k = rotated(builder, &format!("{to}.k_rotated"), &k, &angles, queries);
    }
    let mixed = mix(builder, to, [&q, &k, &v], &[0, 1, 3, 2], scale, None);
    let order = [Ints("perm", &[0, 2, 1, 3])];
    let tokens = builder.node("Transpose", &[&mixed], format!("{to}.tokens"), &order);
    let shape = builder.integers(&[0, 0, sizes.heads * sizes.head_dim]);
    Ok(builder.node("Reshape", &[&tokens, &shape], to, &[]))
}

/// Attention of one learned latent to all tokens, on fused keys and values:
/// `[B, N, 2 · heads · channels]` → `[B, heads · channels]`.
pub(super) fn latent_attention(
    builder: &mut Builder,
    to: &str,
    x: &str,
    [latent, query]: [&String; 2],
    [heads, head_dim]: [i64; 2],
    scale: f64,
) -> Result<String> {
    let latent = builder.weight(latent)?;
    let matrix = builder.transposed(&format!("{query}.weight"))?;
    let bias = builder.weight(&format!("{query}.bias"))?;
    let product = builder.node("MatMul", &[&latent, &matrix], format!("{to}.product"), &[]);
    let q = builder.node("Add", &[&product, &bias], format!("{to}.query"), &[]);
    let shape = builder.integers(&[1, heads, 1, head_dim]);
    let q = builder.node("Reshape", &[&q, &shape], format!("{to}.of_latent"), &[]);
    // Expanded to the batch size: onnxruntime does not broadcast one query to 0 images.
    let range = [Int("start", 0), Int("end", 1)];
    let batch = builder.node("Shape", &[x], format!("{to}.batch"), &range);
    let rest = builder.integers(&[heads, 1, head_dim]);
    let shape = builder.node("Concat", &[&batch, &rest], format!("{to}.shape"), &[Int("axis", 0)]);
    let q = builder.node("Expand", &[&q, &shape], format!("{to}.q"), &[]);
    let shape = builder.integers(&[0, 0, 2, heads, head_dim]);
    let split = builder.node("Reshape", &[x, &shape], format!("{to}.split"), &[]);
    // [2, B, heads, N, channels]
    let order = [Ints("perm", &[2, 0, 3, 1, 4])];
    let kv = builder.node("Transpose", &[&split], format!("{to}.kv"), &order);
    let [k, v] = [("k", 0), ("v", 1)].map(|(part, index)| {
        let index = builder.index(index);
        builder.node("Gather", &[&kv, &index], format!("{to}.{part}"), &[Int("axis", 0)])
    });
    let mixed = mix(builder, to, [&q, &k, &v], &[0, 1, 3, 2], scale, None);
    let shape = builder.integers(&[0, heads * head_dim]);
    Ok(builder.node("Reshape", &[&mixed, &shape], to, &[]))
}

/// Queries or keys after their norm.
fn normed(
    builder: &mut Builder,
    to: &str,
    x: &str,
    which: &str,
    norms: &HeadNorms,
) -> Result<String> {
    let parameters = format!("{}.{which}", norms.name);
    match norms.norm {
        Norm::Layer => layer_norm(builder, to, x, &parameters, norms.eps),
        Norm::Rms => rms_norm(builder, to, x, &parameters, norms.eps),
    }
}

/// Cosines and sines of the angles of every token, `[heads, tokens, pairs, 1]`.
fn angles(
    builder: &mut Builder,
    to: &str,
    rotation: &HeadRotation,
    heads: i64,
) -> Result<[String; 2]> {
    let frequencies = builder.weight(&rotation.frequencies)?;
    let tokens = rotation.coordinates.len() as i64;
    let mut parts = vec![];
    for axis in 0..2 {
        let coordinates: Vec<f32> = rotation.coordinates.iter().map(|own| own[axis]).collect();
        let coordinates = builder.floats(&[tokens, 1], &coordinates);
        let index = builder.integers(&[axis as i64]);
        let along = [Int("axis", 0)];
        let own =
            builder.node("Gather", &[&frequencies, &index], format!("{to}.bands{axis}"), &along);
        parts.push(builder.node("Mul", &[&coordinates, &own], format!("{to}.part{axis}"), &[]));
    }
    let sum = builder.node("Add", &[&parts[0], &parts[1]], format!("{to}.sum"), &[]);
    let shape = builder.integers(&[tokens, heads, -1, 1]);
    let split = builder.node("Reshape", &[&sum, &shape], format!("{to}.by_head"), &[]);
    let order = [Ints("perm", &[1, 0, 2, 3])];
    let angles = builder.node("Transpose", &[&split], format!("{to}.angles"), &order);
    Ok(["Cos", "Sin"].map(|of| builder.node(of, &[&angles], format!("{to}.{of}"), &[])))
}

/// Queries or keys after the rotation of their pairs.
fn rotated(
    builder: &mut Builder,
    to: &str,
    x: &str,
    [cos, sin]: &[String; 2],
    [heads, head_dim]: [i64; 2],
) -> String {
    let shape = builder.integers(&[0, heads, 0, head_dim / 2, 2]);
    let pairs = builder.node("Reshape", &[x, &shape], format!("{to}.pairs"), &[]);
    let [a, b] = [0, 1].map(|at| {
        let [start, end, axis] = [at, at + 1, -1].map(|number| builder.integers(&[number]));
        let name = format!("{to}.half{at}");
        builder.node("Slice", &[&pairs, &start, &end, &axis], name, &[])
    });
    let mut step = |operator: &str, inputs: [&str; 2], name: &str| {
        builder.node(operator, &inputs, format!("{to}.{name}"), &[])
    };
    let (a_cos, b_sin) = (step("Mul", [&a, cos], "a_cos"), step("Mul", [&b, sin], "b_sin"));
    let (b_cos, a_sin) = (step("Mul", [&b, cos], "b_cos"), step("Mul", [&a, sin], "a_sin"));
    let first = step("Sub", [&a_cos, &b_sin], "first");
    let second = step("Add", [&b_cos, &a_sin], "second");
    let last = [Int("axis", -1)];
    let both = builder.node("Concat", &[&first, &second], format!("{to}.both"), &last);
    let shape = builder.integers(&[0, heads, 0, head_dim]);
    builder.node("Reshape", &[&both, &shape], to, &[])
}

/// Adds the biases of queries and values, and zeros in the place of those of keys.
pub(super) fn add_query_value_bias(
    builder: &mut Builder,
    to: &str,
    x: &str,
    query: &str,
    value: &str,
) -> Result<String> {
    let (query, value, zero) =
        (builder.weight(query)?, builder.weight(value)?, builder.scalar(0.0));
    let none = builder.node("Mul", &[&query, &zero], format!("{to}.no_bias"), &[]);
    let axis = [Int("axis", 0)];
    let bias = builder.node("Concat", &[&query, &none, &value], format!("{to}.bias"), &axis);
    Ok(builder.node("Add", &[x, &bias], to, &[]))
}

/// Queries, keys and values by head, of the results of the projections. `tokens` are the axes of tokens after that of the
/// batch, and `order` puts the parts first, and heads before tokens.
fn parts(
    builder: &mut Builder,
    to: &str,
    inputs: &[&str],
    sizes: HeadSizes,
    (tokens, order): (&[i64], &[i64]),
) -> [String; 3] {
    let mut all = Vec::new();
    for (x, own) in inputs.iter().zip(sizes.projections()) {
        let name = format!("{to}.{}.by_head", own.name);
        let shape = [&[0], tokens, &[own.parts, sizes.heads, own.channels]].concat();
        let shape = builder.integers(&shape);
        let split = builder.node("Reshape", &[x, &shape], format!("{name}.split"), &[]);
        let ordered = builder.node("Transpose", &[&split], name, &[Ints("perm", order)]);
        all.extend((0..own.parts).map(|part| (ordered.clone(), part)));
    }
    let mut all = all.into_iter();
    ["q", "k", "v"].map(|part| {
        let (from, index) = all.next().unwrap_or_default();
        let index = builder.index(index);
        builder.node("Gather", &[&from, &index], format!("{to}.{part}"), &[Int("axis", 0)])
    })
}

/// softmax(scale·q·kᵀ + bias)·v; `exchanged` is the permutation that transposes the last two axes of
/// k.
fn mix(
    builder: &mut Builder,
    to: &str,
    [q, k, v]: [&str; 3],
    exchanged: &[i64],
    scale: f64,
    bias: Option<&str>,
) -> String {
    let exchanged = [Ints("perm", exchanged)];
    let k = builder.node("Transpose", &[k], format!("{to}.k_transposed"), &exchanged);
    let products = builder.node("MatMul", &[q, &k], format!("{to}.products"), &[]);
    let scale = builder.scalar(scale);
    let mut logits = builder.node("Mul", &[&products, &scale], format!("{to}.scaled"), &[]);
    if let Some(bias) = bias {
        logits = builder.node("Add", &[&logits, bias], format!("{to}.biased"), &[]);
    }
    let last = [Int("axis", -1)];
    let shares = builder.node("Softmax", &[&logits], format!("{to}.shares"), &last);
    builder.node("MatMul", &[&shares, v], format!("{to}.mixed"), &[])
}
