//! Source code of window partition and window attention.

use super::attention::{mixed, parts};
use crate::models::graph::HeadSizes;
use crate::models::Windows;

/// Window partition: tokens in grid order → tokens in window order, rolled by the shift, and padded.
pub(super) fn partition(x: &str, windows: Windows) -> String {
    let Windows { grid, side, shift } = windows;
    let (along, padded) = (windows.per_side(), windows.padded());
    let width = width(x);
    let tokens = format!("torch.reshape({x}, [batch, {grid}, {grid}, {width}])");
    let rolled = pad(roll(tokens, -shift), windows.padding());
    let split =
        format!("torch.reshape({rolled}, [batch, {along}, {side}, {along}, {side}, {width}])");
    let ordered = format!("torch.permute({split}, [0, 1, 3, 2, 4, 5])");
    format!("torch.reshape({ordered}, [batch, {}, {width}])", padded * padded)
}

/// Window reverse: tokens in window order → tokens in grid order, without the padding.
pub(super) fn reverse(x: &str, windows: Windows) -> String {
    let Windows { grid, side, shift } = windows;
    let (along, padded) = (windows.per_side(), windows.padded());
    let width = width(x);
    let split = format!("torch.reshape({x}, [batch, {along}, {along}, {side}, {side}, {width}])");
    let ordered = format!("torch.permute({split}, [0, 1, 3, 2, 4, 5])");
    let mut tokens = format!("torch.reshape({ordered}, [batch, {padded}, {padded}, {width}])");
    if windows.padding() > 0 {
        tokens = format!("torch.slice(torch.slice({tokens}, 1, 0, {grid}), 2, 0, {grid})");
    }
    format!("torch.reshape({}, [batch, {}, {width}])", roll(tokens, shift), grid * grid)
}

/// Patch merging: the channels of every 2 × 2 tokens of a grid.
pub(super) fn merge(x: &str, grid: i64, width: i64) -> String {
    let (odd, half) = (grid % 2, (grid + 1) / 2);
    let mut tokens = x.to_owned();
    if odd > 0 {
        tokens = pad(format!("torch.reshape({x}, [batch, {grid}, {grid}, {width}])"), odd);
    }
    let pairs = format!("torch.reshape({tokens}, [batch, {half}, 2, {half}, 2, {width}])");
    let merged = format!("torch.permute({pairs}, [0, 1, 3, 4, 2, 5])");
    format!("torch.reshape({merged}, [batch, {}, {}])", half * half, 4 * width)
}

/// Appends rows and columns of zeros to a grid of tokens.
fn pad(tokens: String, by: i64) -> String {
    match by {
        0 => tokens,
        by => format!("torch.constant_pad_nd({tokens}, [0, 0, 0, {by}, 0, {by}])"),
    }
}

/// Returns the expression of the width of tokens. -1 would be ambiguous for 0 images.
fn width(x: &str) -> String {
    format!("torch.size({x}, 2)")
}

/// Rolls rows and columns of a grid of tokens.
fn roll(tokens: String, by: i64) -> String {
    match by {
        0 => tokens,
        by => format!("torch.roll({tokens}, [{by}, {by}], [1, 2])"),
    }
}

/// Returns the source lines of multi-head attention within windows.
pub(super) fn attention(
    to: &str,
    inputs: &[String],
    windows: Windows,
    table: &str,
    sizes: HeadSizes,
    scale: f64,
) -> Vec<String> {
    let (count, tokens, HeadSizes { heads, head_dim, .. }) =
        (windows.count(), windows.tokens(), sizes);
    let layout = [&*format!("{count}, {tokens}"), "[3, 0, 1, 4, 2, 5]"];
    let (mut lines, [q, k, v]) = parts(to, inputs, sizes, layout);
    let x = inputs.first().map_or("", String::as_str);
    lines.extend(bias(to, x, windows, table, heads));
    let mixed = mixed([&q, &k, &v], &format!("{to}_bias"), scale, sizes);
    lines.push(format!("    {to}_mixed = {mixed}"));
    lines.push(format!(
        "    {to} = torch.reshape(torch.transpose({to}_mixed, 2, 3), [batch, {}, {}])",
        count * tokens,
        heads * head_dim
    ));
    lines
}

/// Returns the source lines of the bias of window attention: the relative position bias, `[heads,
/// tokens, tokens]`; for shifted windows plus the mask between regions, `[windows, heads, tokens,
/// tokens]`.
///
/// To keep constants small, both are computed from one number per token: the table row of two tokens
/// is the difference of their numbers plus a constant, and the mask is where the numbers of two
/// regions differ.
fn bias(to: &str, x: &str, windows: Windows, table: &str, heads: i64) -> Vec<String> {
    let tokens = windows.tokens();
    let rows = windows.relative_position_index();
    // First column of the distance matrix: from every token to token 0.
    let numbers: Vec<i64> = rows.iter().step_by(tokens as usize).copied().collect();
    let mut lines = vec![
        format!("    {to}_numbers = {}", constant(&numbers, x)),
        format!("    {to}_rows = {}", pairs("sub", &format!("{to}_numbers"), [1, 0])),
        format!("    {to}_index = torch.flatten(torch.add({to}_rows, {}))", rows[0]),
        format!(
            "    {to}_table = torch.reshape(torch.index_select({table}, 0, {to}_index), \
             [{tokens}, {tokens}, {heads}])"
        ),
        format!("    {to}_bias = torch.permute({to}_table, [2, 0, 1])"),
    ];
    if windows.shift > 0 {
        let Windows { side, .. } = windows;
        let (along, count) = (windows.per_side(), windows.count());
        let bands = constant(&windows.bands(), x);
        let grid = format!(
            "torch.add(torch.mul(torch.unsqueeze({to}_bands, 1), 3), \
             torch.unsqueeze({to}_bands, 0))"
        );
        let split = format!("torch.reshape({grid}, [{along}, {side}, {along}, {side}])");
        let ordered = format!("torch.permute({split}, [0, 2, 1, 3])");
        let apart = pairs("ne", &format!("{to}_regions"), [2, 1]);
        lines.extend([
            format!("    {to}_bands = {bands}"),
            format!("    {to}_regions = torch.reshape({ordered}, [{count}, {tokens}])"),
            format!("    {to}_apart = torch.type_as({apart}, {to}_bias)"),
            format!(
                "    {to}_separation = torch.mul(torch.unsqueeze({to}_apart, 1), {:?})",
                Windows::MASKED
            ),
            format!("    {to}_bias = torch.add({to}_bias, {to}_separation)"),
        ]);
    }
    lines
}

/// Applies an operation to all pairs of entries of a tensor.
fn pairs(operation: &str, numbers: &str, [left, right]: [i64; 2]) -> String {
    let axis = |axis| format!("torch.unsqueeze({numbers}, {axis})");
    format!("torch.{operation}({}, {})", axis(left), axis(right))
}

/// Returns an i64 tensor constant on the device of `x`.
fn constant(numbers: &[i64], x: &str) -> String {
    format!("torch.tensor({numbers:?}, dtype=4, device=ops.prim.device({x}))")
}
