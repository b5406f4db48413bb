//! Swin Transformers: attention within windows, and an embedding of its own for each stage.

mod config;
mod graph;
mod network;
mod space;
mod variables;
mod window;

pub use config::{SwinConfig, SwinStage};
pub use network::SwinTransformer;

use super::{family, Architecture, Graph, PmimPorts, Shapes};
use crate::cost::CostModel;
use crate::space::{SearchSpace, Sizes};
use crate::tensors::Weights;
use crate::{Error, Result};
use tch::nn;

impl Architecture for SwinConfig {
    type Network = SwinTransformer;
    const FAMILY: &'static str = "swin";

    fn build(&self, path: &nn::Path) -> Result<SwinTransformer> {
        self.check()?;
        SwinTransformer::new(path, self)
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
        let Some(last) = self.stages.len().checked_sub(1) else {
            return Err(Error::invalid("stages", "at least one", 0));
        };
        let (grid, merged) = (self.grid(last), self.merged(last));
        let side = self.patch_size.saturating_mul(merged);
        // Of a padded grid, the last tokens have fewer pixels than the decoder reconstructs.
        if self.grid(0) % merged != 0 {
            let expected = format!(
                "a multiple of patch_size·2^(stages−1) = {side} for masked image modeling; change it or set pmim to none"
            );
            return Err(Error::invalid("image_size", expected, self.image_size));
        }
        Ok(PmimPorts {
            token_dimension: space::embedding_name(0),
            token_width: self.stages[0].embed_dim,
            feature_dimension: space::embedding_name(last),
            feature_width: self.stages[last].embed_dim,
            token_grid: [grid, grid],
            feature_rows: grid,
            feature_patch: side,
            channels: self.in_channels,
        })
    }

    fn feature_dimension(&self) -> Option<String> {
        self.stages.len().checked_sub(1).map(space::embedding_name)
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
