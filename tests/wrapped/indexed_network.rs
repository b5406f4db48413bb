//! A recipe that reads its patches in a stored order and under a stored mask: buffers of integers and flags.

use super::recipe_network::{Built, Recipe, PATCHES};
use once_for_both::cost::CostModel;
use once_for_both::models::{Architecture, Logits, Network};
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use tch::{nn, Kind, Tensor};

/// Names and kinds of the buffers.
pub const BUFFERS: [(&str, Kind); 5] = [
    ("order", Kind::Int64),
    ("shown", Kind::Bool),
    ("bytes", Kind::Uint8),
    ("signs", Kind::Int8),
    ("shorts", Kind::Int16),
];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Indexed(pub Recipe);

#[derive(Debug)]
pub struct IndexedNetwork {
    recipe: Built,
    order: Tensor,
    shown: Tensor,
}

/// A variable that is not trained.
fn buffer(path: &nn::Path, name: &str, values: &Tensor) -> Result<Tensor> {
    let mut own = path.f_zeros_no_train(name, &values.size())?;
    own.f_set_data(&values.f_to_device(path.device())?)?;
    Ok(own)
}

impl Network for IndexedNetwork {
    fn forward(&self, images: &Tensor, train: bool) -> Result<Logits> {
        // Rows of the images, before they are cut into patches.
        let ordered = images.f_index_select(2, &self.order)?;
        self.recipe.forward(&ordered.f_mul(&self.shown.f_view([1, 1, -1, 1])?)?, train)
    }
}

impl Architecture for Indexed {
    type Network = IndexedNetwork;
    const FAMILY: &'static str = "indexed recipe";

    fn build(&self, path: &nn::Path) -> Result<IndexedNetwork> {
        let numbers = Tensor::f_arange(PATCHES, (Kind::Int64, tch::Device::Cpu))?;
        let mut buffers = Vec::new();
        for (name, kind) in BUFFERS {
            let values = match kind {
                Kind::Bool => numbers.f_ne(3)?,
                kind => numbers.f_flip([0])?.f_to_kind(kind)?,
            };
            buffers.push(buffer(path, name, &values)?);
        }
        let [order, shown] = [0, 1].map(|at: usize| buffers[at].shallow_clone());
        Ok(IndexedNetwork { recipe: self.0.build(path)?, order, shown })
    }

    fn space(&self) -> Result<SearchSpace> {
        self.0.space()
    }

    fn cost_model(&self) -> CostModel {
        self.0.cost_model()
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        self.0.resized(sizes).map(Self)
    }
}
