//! ViT and its descendants, such as DeiT, CLIP's image tower and DINOv2; each block has its own
//! sizes.

mod config;
mod graph;
mod network;
mod options;
mod space;
mod tokens;
mod variables;

pub use config::VitConfig;
pub use network::VisionTransformer;
pub use options::{Pooling, PositionEmbedding};

use super::{family, Architecture, Graph, OutputTokens, PmimPorts, Shapes};
use crate::cost::CostModel;
use crate::space::{SearchSpace, Sizes};
use crate::tensors::Weights;
use crate::{Error, Result};
use tch::nn;

impl Architecture for VitConfig {
    type Network = VisionTransformer;
    const FAMILY: &'static str = "vit";

    fn build(&self, path: &nn::Path) -> Result<VisionTransformer> {
        self.check()?;
        VisionTransformer::new(path, self)
    }

    fn space(&self) -> Result<SearchSpace> {
        space::search_space(self)
    }

    fn cost_model(&self) -> CostModel {
        space::cost_model(self)
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        family::resized(self, sizes)
    }

    fn in_evaluation(&self) -> Self {
        Self { drop_path: 0.0, ..self.clone() }
    }

    fn pmim_ports(&self) -> Result<PmimPorts> {
        let ([rows, columns], [patch, width]) = (self.grid_size(), self.patch());
        // The decoder reconstructs squares.
        if patch != width {
            let expected = format!(
                "{patch}, the height of a patch, for masked image modeling; change it or set pmim to none"
            );
            return Err(Error::invalid("patch_width", expected, width));
        }
        Ok(PmimPorts {
            token_dimension: space::EMBEDDING.into(),
            token_width: self.embed_dim,
            feature_dimension: space::EMBEDDING.into(),
            feature_width: self.embed_dim,
            token_grid: [rows, columns],
            feature_rows: rows,
            feature_patch: patch,
            channels: self.in_channels,
        })
    }

    fn feature_dimension(&self) -> Option<String> {
        Some(space::EMBEDDING.into())
    }

    fn output_tokens(&self) -> Option<OutputTokens> {
        let class_token = self.class_token;
        let registers = self.prefix_tokens().saturating_sub(i64::from(class_token));
        (self.pooling == Pooling::Tokens).then_some(OutputTokens { class_token, registers })
    }

    fn variables(&self) -> Result<Shapes> {
        self.check()?;
        Ok(variables::shapes(self))
    }

    fn graph(&self) -> Result<Graph> {
        self.check()?;
        Ok(graph::graph(self))
    }

    fn python_loader(&self) -> Option<&'static str> {
        Some(concat!(include_str!("../load_subnet.py"), "\n\n", include_str!("load_subnet.py")))
    }

    fn standardised(&self, weights: &mut Weights) -> Result<Self> {
        family::standardised(self, weights)
    }

    fn qk_v_apart(&self) -> Result<Self> {
        family::qk_v_apart(self)
    }

    fn split_qkv(&self, weights: &mut Weights) -> Result<()> {
        family::split_qkv(self, weights)
    }
}
