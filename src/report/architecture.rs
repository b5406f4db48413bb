//! Drawing of the kept sizes, block by block, in the outline of the dense network.

use super::format::percent;
use super::html;
use super::kept::{same_blocks, Grid, Kept, Width};
use super::network_figures::{BlockSizes, NetworkFigures, StageSizes};
use super::page::Report;
use super::svg;
use crate::space::Size;

/// Free space on each side of a block's column, as a share of it.
const GAP: f64 = 0.1;

/// Section "Architecture"; empty for a network without blocks. Of a subnet without its dense network, the subnet alone.
pub(super) fn section(report: &Report) -> String {
    let outline = report.dense.as_ref().or(report.subnet.as_ref());
    let Some(dense) = outline.filter(|own| !own.blocks().is_empty()) else {
        return String::new();
    };
    let alone = report.dense.is_none();
    let search = report.stages.iter().rev().find(|stage| stage.searches());
    let kept = match (&report.subnet, search) {
        (Some(subnet), _) if same_blocks(subnet, dense) => Kept::of(subnet),
        (_, Some(stage)) => Kept::so_far(stage, dense),
        _ => Kept::unknown(dense),
    };
    let unknown = kept.embed.iter().all(|width| *width == Width::Unknown)
        && kept.attention.iter().all(|grid| *grid == Grid::Unknown);
    let how = match kept.extracted {
        _ if unknown => "Outline: dense network. No size is decided or expected yet.",
        true if alone => {
            "The subnet, block by block. In an attention, each row is a head, and its length the channels of a head."
        }
        true => {
            "Outline: dense network. Filled: the subnet, block by block. In an attention, each row \
             is a head, and its length the channels of a head."
        }
        false => {
            "Outline: dense network. Filled: expected size Σ p·size at the last logged step \
             (pale), or decided size (strong). In an attention, each row is a head; below: \
             expected size, heads · channels."
        }
    };
    let how = match kept.removes_branches() {
        true => format!("{how} 0: {}, the whole branch.", Size::REMOVED),
        false => how.into(),
    };
    let width = 30 * dense.blocks().len();
    let queries = dense.blocks().iter().any(|block| block.qk_dim.is_some()).then(|| {
        let of = |block: &BlockSizes| block.qk_dim.unwrap_or(block.head_dim);
        let side = ["Queries and keys", "channels of a head", ""];
        widths(dense, &kept, &kept.queries, of, side)
    });
    let side = ["MLP", "hidden neurons", "; bottom row: block"];
    let hidden = widths(dense, &kept, &kept.hidden, |block| block.hidden_dim, side);
    let above = [embedding(dense, &kept, alone), attention(dense, &kept)].concat();
    let bands = [above, queries.unwrap_or_default(), hidden].concat();
    let body = format!(
        "<div class=\"scroll\"><div class=\"bands\" style=\"min-width:{width}px\">{bands}</div>\
         </div>"
    );
    html::section(
        "Architecture",
        &how,
        &html::figure("architecture", "Kept units, by block", "", &body),
    )
}

/// One kind of dimension: name and dense size at the side, and the drawing.
fn band(name: &str, dense: &str, height: f64, description: &str, content: &str) -> String {
    let (name, dense) = (html::escape(name), html::escape(dense));
    let drawing = svg::drawing(height, "", [&name, description], content);
    format!("<div class=\"band\"><div class=\"side\"><b>{name}</b> {dense}</div>{drawing}</div>")
}

/// Dense size in words: "of 384" where it is the same in all blocks.
fn of_all<T: PartialEq>(sizes: &[T], write: impl Fn(&T) -> String) -> String {
    match sizes.split_first() {
        Some((first, rest)) if rest.iter().all(|size| size == first) => {
            format!("of {}", write(first))
        }
        _ => "of different sizes".into(),
    }
}

/// A bar for each stage, over its blocks.
fn embedding(dense: &NetworkFigures, kept: &Kept, alone: bool) -> String {
    let blocks = dense.blocks().len() as f64;
    let (mut content, mut all, mut first) = (String::new(), Vec::new(), 0);
    for (stage, size) in dense.stages.iter().zip(&kept.embed) {
        let share = size.value() / stage.embed_dim.max(1) as f64;
        let left = (first as f64 + GAP) / blocks;
        let width = (stage.blocks.len() as f64 - 2.0 * GAP).max(0.0) / blocks;
        content += &svg::rect("dense", [left, 1.0], [width, 14.0]);
        content +=
            &svg::rect(kept.class(size.is_decided()), [left, 1.0], [width * share.min(1.0), 14.0]);
        let words = match (size, dense.stages.len()) {
            (Width::Unknown, _) | (_, 2..) => size.write(),
            _ if alone => size.write(),
            _ => format!("{}, {}", size.write(), percent(share)),
        };
        content += &svg::text("size first", [left, 31.0], 0.0, &words);
        all.push(format!("{} of {}", size.write(), stage.embed_dim));
        first += stage.blocks.len();
    }
    let widths: Vec<String> =
        dense.stages.iter().map(|stage| stage.embed_dim.to_string()).collect();
    let widths = format!("channels, of {}", widths.join(", "));
    band("Embedding", &widths, 36.0, &all.join(", "), &content)
}

/// Numbers of all blocks; of several stages, that of the stage before: `1.0`.
fn numbers(dense: &NetworkFigures) -> Vec<String> {
    let several = dense.stages.len() > 1;
    let of = |(stage, own): (usize, &StageSizes)| {
        let number = move |block: usize| match several {
            true => format!("{stage}.{block}"),
            false => block.to_string(),
        };
        (0..own.blocks.len()).map(number).collect::<Vec<_>>()
    };
    dense.stages.iter().enumerate().flat_map(of).collect()
}

/// Left end and width of a block's column.
fn column(block: usize, blocks: usize) -> [f64; 2] {
    let width = 1.0 / blocks as f64;
    [(block as f64 + GAP) * width, (1.0 - 2.0 * GAP) * width]
}

fn attention(dense: &NetworkFigures, kept: &Kept) -> String {
    let own = dense.blocks();
    let (blocks, numbers) = (own.len(), numbers(dense));
    let most = own.iter().map(|block| block.heads).max().unwrap_or(1).max(1);
    let row = (84.0 / most as f64).clamp(3.0, 14.0);
    let floor = row * most as f64;
    let (mut content, mut words) = (String::new(), Vec::new());
    for (block, (sizes, grid)) in own.iter().zip(&kept.attention).enumerate() {
        let [x, width] = column(block, blocks);
        for head in 0..sizes.heads {
            let y = floor - row * (head + 1) as f64;
            let bar = if row > 6.0 { row - 2.0 } else { row - 1.0 };
            content += &svg::rect("dense", [x, y], [width, bar]);
            let filled = filled(*grid, head, sizes);
            if filled > 0.0 {
                content += &svg::rect(class_of(*grid, kept), [x, y], [width * filled, bar]);
            }
        }
        let (class, label) = match grid {
            Grid::Decided { heads: 0, .. } => ("size", "0".into()),
            Grid::Decided { heads, head_dim } => ("size", format!("{heads}×{head_dim}")),
            Grid::Expected(size) => ("size open", size.round().to_string()),
            Grid::Unknown => ("size open", "?".into()),
        };
        content += &svg::text(class, [x + width / 2.0, floor + 14.0], 0.0, &label);
        words.push(format!("block {}: {}", numbers[block], in_words(&label)));
    }
    let dense = of_all(&own, |block| format!("{}\u{a0}×\u{a0}{}", block.heads, block.head_dim));
    band(
        "Attention",
        &format!("heads × channels, {dense}"),
        floor + 22.0,
        &words.join(", "),
        &content,
    )
}

/// The label of a size in the text of a drawing. In its columns, which are too narrow for the word, a removed size is 0.
fn in_words(label: &str) -> String {
    match label {
        "0" => Size::REMOVED.to_string(),
        label => label.into(),
    }
}

/// Filled share of a head's row.
fn filled(grid: Grid, head: i64, dense: &BlockSizes) -> f64 {
    let share = match grid {
        Grid::Decided { heads, .. } if head >= heads => 0.0,
        Grid::Decided { head_dim, .. } => head_dim as f64 / dense.head_dim.max(1) as f64,
        Grid::Expected(size) => size / (dense.heads * dense.head_dim).max(1) as f64,
        Grid::Unknown => 0.0,
    };
    share.clamp(0.0, 1.0)
}

fn class_of(grid: Grid, kept: &Kept) -> &'static str {
    match grid {
        Grid::Decided { .. } => "kept",
        _ => kept.class(false),
    }
}

/// A column for each block, as tall as its width of one kind. `side`: name, what is counted, and a last word.
fn widths(
    dense: &NetworkFigures,
    kept: &Kept,
    sizes: &[Width],
    of: impl Fn(&BlockSizes) -> i64,
    [name, what, last]: [&str; 3],
) -> String {
    const HEIGHT: f64 = 84.0;
    let own: Vec<i64> = dense.blocks().iter().map(of).collect();
    let (blocks, numbers) = (own.len(), numbers(dense));
    let most = own.iter().copied().max().unwrap_or(1).max(1) as f64;
    let (mut content, mut words) = (String::new(), Vec::new());
    for (block, (all, size)) in own.iter().zip(sizes).enumerate() {
        let [x, width] = column(block, blocks);
        let tall = |size: f64| HEIGHT * (size / most).clamp(0.0, 1.0);
        let full = tall(*all as f64);
        let filled = kept.class(size.is_decided());
        let part = tall(size.value()).min(full);
        content += &svg::rect("dense", [x, 1.0 + HEIGHT - full], [width, full]);
        content += &svg::rect(filled, [x, 1.0 + HEIGHT - part], [width, part]);
        // Columns are too narrow for a ≈: an expected size has a paler colour.
        let label = size.label();
        let class = if filled == "kept" { "size" } else { "size open" };
        let middle = x + width / 2.0;
        content += &svg::text(class, [middle, HEIGHT + 15.0], 0.0, &label);
        if !last.is_empty() {
            content += &svg::text("tick", [middle, HEIGHT + 33.0], 0.0, &numbers[block]);
        }
        words.push(format!("block {}: {} of {all}", numbers[block], in_words(&label)));
    }
    let dense = of_all(&own, i64::to_string);
    let height = HEIGHT + if last.is_empty() { 22.0 } else { 38.0 };
    band(name, &format!("{what}, {dense}{last}"), height, &words.join(", "), &content)
}
