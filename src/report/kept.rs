//! Kept sizes of a network: of the subnet, decided, or expected.

use super::network_figures::{BlockSizes, NetworkFigures, StageSizes};
use super::stage::Stage;
use crate::search::Event;

/// Kept size of one attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Grid {
    Decided {
        heads: i64,
        head_dim: i64,
    },
    /// Expected size, Σ p · heads · channels.
    Expected(f64),
    Unknown,
}

/// Kept sizes of the network: of the subnet, or expected.
pub(super) struct Kept {
    /// Embedding of each stage.
    pub(super) embed: Vec<Option<f64>>,
    pub(super) attention: Vec<Grid>,
    /// Channels of queries and keys that have a width of their own; 0 in a removed attention.
    pub(super) queries: Vec<Option<f64>>,
    pub(super) hidden: Vec<Option<f64>>,
    pub(super) extracted: bool,
}

/// Whether both have as many stages of as many blocks.
pub(super) fn same_blocks(subnet: &NetworkFigures, dense: &NetworkFigures) -> bool {
    let counts = |own: &NetworkFigures| -> Vec<usize> {
        own.stages.iter().map(|stage| stage.blocks.len()).collect()
    };
    counts(subnet) == counts(dense)
}

impl Kept {
    pub(super) fn unknown(dense: &NetworkFigures) -> Self {
        let blocks = dense.blocks().len();
        let (attention, width) = (vec![Grid::Unknown; blocks], vec![None; blocks]);
        let (queries, embed) = (width.clone(), vec![None; dense.stages.len()]);
        Self { embed, attention, queries, hidden: width, extracted: false }
    }

    pub(super) fn of(subnet: &NetworkFigures) -> Self {
        let grid =
            |block: &BlockSizes| Grid::Decided { heads: block.heads, head_dim: block.head_dim };
        let queries = |block: &BlockSizes| match block.heads {
            0 => Some(0.0),
            _ => block.qk_dim.map(|own| own as f64),
        };
        let blocks = subnet.blocks();
        Self {
            embed: subnet.stages.iter().map(|stage| Some(stage.embed_dim as f64)).collect(),
            attention: blocks.iter().map(grid).collect(),
            queries: blocks.iter().map(queries).collect(),
            hidden: blocks.iter().map(|block| Some(block.hidden_dim as f64)).collect(),
            extracted: true,
        }
    }

    /// Sizes of a search: decided ones, otherwise those expected at the last logged step.
    pub(super) fn so_far(stage: &Stage, dense: &NetworkFigures) -> Self {
        let expected = |name: &str| {
            let dimension = stage.last_of_search()?.dimensions.get(name)?;
            Some(dimension.expected).filter(|size| size.is_finite())
        };
        let decided = |name: &str| {
            stage.events.iter().rev().find_map(|event| match event {
                Event::Decided { dimension, heads, channels, .. } if dimension == name => {
                    Some((*heads, *channels))
                }
                _ => None,
            })
        };
        let width = |name: &str| match decided(name) {
            Some((_, width)) => Some(width as f64),
            None => expected(name),
        };
        let grid = |block: &String| {
            let name = format!("{block}.attn");
            match (decided(&name), expected(&name)) {
                (Some((heads, head_dim)), _) => Grid::Decided { heads, head_dim },
                (None, Some(size)) => Grid::Expected(size),
                (None, None) => Grid::Unknown,
            }
        };
        let queries = |block: &String| match grid(block) {
            Grid::Decided { heads: 0, .. } => Some(0.0),
            _ => width(&format!("{block}.attn.qk")),
        };
        let names = |own: &StageSizes| -> Vec<String> {
            (0..own.blocks.len()).map(|block| format!("{}blocks.{block}", own.prefix)).collect()
        };
        let blocks: Vec<String> = dense.stages.iter().flat_map(names).collect();
        Self {
            embed: dense.stages.iter().map(|stage| width(&stage.embedding)).collect(),
            attention: blocks.iter().map(grid).collect(),
            queries: blocks.iter().map(queries).collect(),
            hidden: blocks.iter().map(|block| width(&format!("{block}.mlp"))).collect(),
            extracted: false,
        }
    }

    /// Whether the size of an attention or an MLP is decided to be 0.
    pub(super) fn removes_branches(&self) -> bool {
        let attention = |own: &Grid| matches!(own, Grid::Decided { heads: 0, .. });
        self.attention.iter().any(attention) || self.hidden.contains(&Some(0.0))
    }

    /// CSS class of the filled part.
    pub(super) fn class(&self) -> &'static str {
        if self.extracted {
            "kept"
        } else {
            "kept open"
        }
    }

    /// Formats a size; an expected one begins with ≈.
    pub(super) fn write(&self, size: Option<f64>) -> String {
        match size {
            None => "?".into(),
            Some(size) if size.fract() == 0.0 => format!("{size}"),
            Some(size) => format!("≈{}", size.round()),
        }
    }
}

impl Kept {
    /// CSS class of a width: a whole number is taken for a decided width.
    pub(super) fn class_of_size(&self, size: Option<f64>) -> &'static str {
        match size {
            Some(size) if size.fract() == 0.0 => "kept",
            _ => self.class(),
        }
    }
}
