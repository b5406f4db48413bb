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

/// Kept width of a dimension without heads, in channels or neurons.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Width {
    /// 0 in a removed branch.
    Decided(i64),
    /// Expected width, Σ p · channels.
    Expected(f64),
    Unknown,
}

impl Width {
    /// The width; 0 if it is not known.
    pub(super) fn value(self) -> f64 {
        match self {
            Self::Decided(width) => width as f64,
            Self::Expected(width) => width,
            Self::Unknown => 0.0,
        }
    }

    pub(super) fn is_decided(self) -> bool {
        matches!(self, Self::Decided(_))
    }

    /// The width in words, without what says that it is expected.
    pub(super) fn label(self) -> String {
        match self {
            Self::Unknown => "?".into(),
            known => known.value().round().to_string(),
        }
    }

    /// The width in words; an expected one begins with ≈.
    pub(super) fn write(self) -> String {
        match self {
            Self::Expected(_) => format!("≈{}", self.label()),
            other => other.label(),
        }
    }
}

/// Kept sizes of the network: of the subnet, or expected.
pub(super) struct Kept {
    /// Embedding of each stage.
    pub(super) embed: Vec<Width>,
    pub(super) attention: Vec<Grid>,
    /// Channels of queries and keys that have a width of their own.
    pub(super) queries: Vec<Width>,
    pub(super) hidden: Vec<Width>,
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
        let (attention, width) = (vec![Grid::Unknown; blocks], vec![Width::Unknown; blocks]);
        let (queries, embed) = (width.clone(), vec![Width::Unknown; dense.stages.len()]);
        Self { embed, attention, queries, hidden: width, extracted: false }
    }

    pub(super) fn of(subnet: &NetworkFigures) -> Self {
        let grid =
            |block: &BlockSizes| Grid::Decided { heads: block.heads, head_dim: block.head_dim };
        let queries = |block: &BlockSizes| match block.heads {
            0 => Width::Decided(0),
            _ => block.qk_dim.map_or(Width::Unknown, Width::Decided),
        };
        let blocks = subnet.blocks();
        Self {
            embed: subnet.stages.iter().map(|stage| Width::Decided(stage.embed_dim)).collect(),
            attention: blocks.iter().map(grid).collect(),
            queries: blocks.iter().map(queries).collect(),
            hidden: blocks.iter().map(|block| Width::Decided(block.hidden_dim)).collect(),
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
            Some((_, width)) => Width::Decided(width),
            None => expected(name).map_or(Width::Unknown, Width::Expected),
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
            Grid::Decided { heads: 0, .. } => Width::Decided(0),
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
        self.attention.iter().any(attention) || self.hidden.contains(&Width::Decided(0))
    }

    /// CSS class of the filled part of a size.
    pub(super) fn class(&self, decided: bool) -> &'static str {
        if self.extracted || decided {
            "kept"
        } else {
            "kept open"
        }
    }
}
