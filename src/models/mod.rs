//! Networks that can be searched: the traits a model joins through, ViT/DeiT and Swin.

mod block;
pub mod graph;
mod layers;
mod limits;
mod swin;
mod vit;
mod windows;

pub use block::BlockConfig;
pub use graph::Graph;
pub use swin::{StageConfig, SwinConfig, SwinTransformer};
pub use vit::{Pooling, VisionTransformer, VitConfig};
pub use windows::Windows;

use crate::components::MaskedTokens;
use crate::cost::CostModel;
use crate::space::{SearchSpace, Sizes};
use crate::tensors::{widened, Weights};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Debug;
use tch::{nn, Device, Tensor};

/// Shapes of variables, by name.
pub type Shapes = BTreeMap<String, Vec<i64>>;

/// What a classifier says about a batch.
#[derive(Debug)]
pub struct Logits {
    /// From the class token (or the pooled features), `[B, classes]`.
    pub class: Tensor,
    /// From the distillation token, `[B, classes]`, where the model has one.
    pub distillation: Option<Tensor>,
}

impl Logits {
    /// Logits of a model with one head.
    pub fn single(class: Tensor) -> Self {
        Self { class, distillation: None }
    }

    /// The logits in f32 where a network computed them in half precision.
    pub(crate) fn widened(self) -> Result<Self> {
        let distillation = self.distillation.as_ref().map(widened).transpose()?;
        Ok(Self { class: widened(&self.class)?, distillation })
    }

    /// The prediction: the mean of both heads, as DeiT does in evaluation.
    ///
    /// # Errors
    /// [`Error::Torch`] if the heads differ in shape.
    pub fn prediction(&self) -> Result<Tensor> {
        match &self.distillation {
            None => Ok(self.class.shallow_clone()),
            Some(other) => Ok(self.class.f_add(other)?.f_div_scalar(2.0)?),
        }
    }
}

/// The forward pass of a network under search.
pub trait Network {
    /// Logits of `images`, `[B, C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images are not what the model takes.
    fn forward(&self, images: &Tensor, train: bool) -> Result<Logits>;

    /// Logits, and the features of the patch tokens, `[B, N, E]`, where some patch tokens are
    /// hidden. Only PMIM asks for it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the model implements it.
    fn forward_masked(
        &self,
        _images: &Tensor,
        _hidden: &MaskedTokens,
        _train: bool,
    ) -> Result<(Logits, Tensor)> {
        let model = std::any::type_name::<Self>().into();
        Err(Error::Unsupported { model, operation: "masked image modeling" })
    }

    /// What `images` are on their way through the network in evaluation: named outputs of its
    /// parts, in order, the logits last. A failed verification names the first that differs.
    ///
    /// A model without one (the default: nothing) is compared by its logits only.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images are not what the model takes.
    fn trace(&self, _images: &Tensor) -> Result<Vec<(String, Tensor)>> {
        Ok(Vec::new())
    }
}

/// A module of tch as a network: images go in, logits of the classes come out.
///
/// tch's modules have no errors: one that is given what it cannot take panics. Where that can
/// happen, implement [`Network`] for a type of your own.
#[derive(Debug)]
pub struct TchModule<M>(pub M);

impl<M: nn::ModuleT> Network for TchModule<M> {
    fn forward(&self, images: &Tensor, train: bool) -> Result<Logits> {
        Ok(Logits::single(self.0.forward_t(images, train)))
    }
}

/// Where PMIM connects to a family of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PmimPorts {
    /// Dimension of the patch embedding, and so of the mask token.
    pub token_dimension: String,
    /// Width of the mask token.
    pub token_width: i64,
    /// Dimension of the final features.
    pub feature_dimension: String,
    /// Width of the final features.
    pub feature_width: i64,
    /// Rows and columns of patch tokens that can be hidden.
    pub token_grid: [i64; 2],
    /// Rows of the grid of final features.
    pub feature_rows: i64,
    /// Side in pixels of what one final feature has to paint.
    pub feature_patch: i64,
    /// Channels of an image.
    pub channels: i64,
}

/// A family of networks that differ in their sizes.
///
/// `build` at the given sizes is all that shrinking needs: the crate slices the weights. A network
/// that cannot be built at other sizes leaves [`resized`](Self::resized) out: it is searched with
/// gates alone, and becomes another one when it is extracted ([`crate::subnet::ExtractInto`]).
/// docs/wrapping.md has the details; [`crate::check::self_check`] finds wrong declarations.
pub trait Architecture: Clone + Debug + Send + Serialize + DeserializeOwned {
    /// The network it builds.
    type Network: Network + Debug + Send;

    /// Family name, as written into an artifact.
    const FAMILY: &'static str;

    /// Builds the network; variables go to `path` and are freshly initialised.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a description that cannot be built.
    fn build(&self, path: &nn::Path) -> Result<Self::Network>;

    /// The default search space: dimensions, candidates and bindings.
    ///
    /// # Errors
    /// [`Error::Candidates`] if a size is not positive.
    fn space(&self) -> Result<SearchSpace>;

    /// MACs and parameters as polynomials in the sizes of the dimensions.
    fn cost_model(&self) -> CostModel;

    /// The same network with some dimensions at other sizes. Where it computes with a size beside
    /// its weights (the scale of attention), it goes on with the dense one.
    ///
    /// # Errors
    /// [`Error::Unknown`] if a dimension is not one of the family's; [`Error::Unsupported`],
    /// always, for a network that cannot be built at other sizes.
    fn resized(&self, _sizes: &Sizes) -> Result<Self> {
        Err(Error::Unsupported { model: Self::FAMILY.into(), operation: "other sizes" })
    }

    /// Where PMIM connects; `None` for models without patch tokens.
    fn pmim_ports(&self) -> Option<PmimPorts> {
        None
    }

    /// Rewrites weights so that the network is a standard one of its family, and returns its
    /// description. A cut keeps the attention scale of the dense head dim; here it is folded.
    ///
    /// # Errors
    /// [`Error::Unknown`] if a weight is missing.
    fn standardised(&self, _weights: &mut Weights) -> Result<Self> {
        Ok(self.clone())
    }

    /// Names and shapes of the variables. The default builds the network to see them; a family
    /// that knows them without can refuse a wrong file before it allocates anything.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a description that cannot be built.
    fn variables(&self) -> Result<Shapes> {
        let store = nn::VarStore::new(Device::Cpu);
        self.build(&store.root())?;
        let shapes = store.variables().into_iter().map(|(name, tensor)| (name, tensor.size()));
        Ok(shapes.collect())
    }

    /// The evaluation as data, for export into other formats.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the family implements it.
    fn graph(&self) -> Result<Graph> {
        let operation = "export as TorchScript or ONNX";
        Err(Error::Unsupported { model: Self::FAMILY.into(), operation })
    }
}
