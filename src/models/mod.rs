//! Networks that can be searched: the traits [`Architecture`] and [`Network`], and the families ViT
//! (with DeiT) and Swin.

mod attention;
mod attention_pool;
mod block;
mod family;
pub mod graph;
mod heads;
mod layers;
pub(crate) mod limits;
mod options;
mod residual;
mod rotary;
mod stored;
mod swin;
mod vit;
mod windows;

pub use attention_pool::AttentionPool;
pub use block::BlockConfig;
pub use graph::Graph;
pub use options::{Activation, Mlp, Norm, QkvBias};
pub use rotary::Rope;
pub(crate) use stored::expect_readable;
pub use swin::{SwinConfig, SwinStage, SwinTransformer};
pub use vit::{Pooling, PositionEmbedding, VisionTransformer, VitConfig};
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

/// What a family without [`Architecture::qk_v_apart`] cannot do.
const QK_V_APART: &str = "queries and keys apart from values; leave the option qk_v_apart out";

/// Shapes of variables, by name.
pub type Shapes = BTreeMap<String, Vec<i64>>;

/// Logits of a batch.
#[derive(Debug)]
pub struct Logits {
    /// Logits of the head on class token or pooled features, `[B, classes]`; or features,
    /// `[B, tokens, C]`, of a network without classes
    /// ([`FeatureMatching`](crate::components::FeatureMatching)).
    pub class: Tensor,
    /// Logits of the head on the distillation token, `[B, classes]`, if the model has one.
    pub distillation: Option<Tensor>,
}

impl Logits {
    /// Returns the logits of a model with one head.
    pub fn single(class: Tensor) -> Self {
        Self { class, distillation: None }
    }

    /// Converts logits that were computed in half precision to f32.
    pub(crate) fn widened(self) -> Result<Self> {
        let distillation = self.distillation.as_ref().map(widened).transpose()?;
        Ok(Self { class: widened(&self.class)?, distillation })
    }

    /// Returns the logits to predict from: the mean of both heads, as DeiT does in evaluation.
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

/// The forward pass of a network.
pub trait Network {
    /// Returns the logits of `images`, `[B, C, H, W]`. `train` turns on dropout and stochastic
    /// depth.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images do not have the shape that the model takes.
    fn forward(&self, images: &Tensor, train: bool) -> Result<Logits>;

    /// Returns logits and the final features, those that the classifier reads, of all tokens:
    /// `[B, tokens, E]`. Distillation of features needs it, besides
    /// [`feature_dimension`](Architecture::feature_dimension).
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the model implements it.
    fn forward_features(&self, _images: &Tensor, _train: bool) -> Result<(Logits, Tensor)> {
        let model = std::any::type_name::<Self>().into();
        Err(Error::Unsupported { model, operation: "distillation of features" })
    }

    /// Returns logits and the final features of the patch tokens, `[B, N, E]`, with some patch
    /// tokens replaced by the mask token. PMIM needs it, besides
    /// [`pmim_ports`](Architecture::pmim_ports).
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the model implements it.
    fn forward_masked(
        &self,
        _images: &Tensor,
        _masked: &MaskedTokens,
        _train: bool,
    ) -> Result<(Logits, Tensor)> {
        let model = std::any::type_name::<Self>().into();
        Err(Error::Unsupported { model, operation: "masked image modeling" })
    }

    /// Returns the outputs of the network's parts in evaluation, with their names, in order; the
    /// logits are last. A failed verification names the first part that differs.
    ///
    /// The default returns none, and verification compares the logits alone.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images do not have the shape that the model takes.
    fn trace(&self, _images: &Tensor) -> Result<Vec<(String, Tensor)>> {
        Ok(Vec::new())
    }
}

/// A module of tch as a network: its input are images, its output logits.
///
/// A module of tch panics on input that it cannot take. Implement [`Network`] for a type of your
/// own to return an error instead.
#[derive(Debug)]
pub struct TchModule<M>(pub M);

impl<M: nn::ModuleT> Network for TchModule<M> {
    fn forward(&self, images: &Tensor, train: bool) -> Result<Logits> {
        Ok(Logits::single(self.0.forward_t(images, train)))
    }
}

/// Interface between masked image modeling (PMIM) and a family of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PmimPorts {
    /// Name of the dimension of the patch embeddings, which the mask token shares.
    pub token_dimension: String,
    /// Width of the mask token.
    pub token_width: i64,
    /// Name of the dimension of the final features, which the decoder reads.
    pub feature_dimension: String,
    /// Width of the final features.
    pub feature_width: i64,
    /// Rows and columns of the token mask.
    pub token_grid: [i64; 2],
    /// Rows of the grid of final features; `[B, N, E]` has its tokens row by row.
    pub feature_rows: i64,
    /// Side, in pixels, of the square that the decoder reconstructs from one final feature.
    pub feature_patch: i64,
    /// Channels of an image.
    pub channels: i64,
}

/// Tokens before the patch tokens in outputs `[B, tokens, C]`: a class token, then others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputTokens {
    /// Whether token 0 is a class token.
    pub class_token: bool,
    /// Number of the other tokens before the patch tokens: distillation token and registers.
    pub registers: i64,
}

/// Configuration of a network: its family's name, how it is built, its search space and its cost.
///
/// Implement it to search a network of your own (docs/wrapping.md);
/// [`self_check`](crate::check::self_check) finds wrong declarations. Pruning slices the weights by
/// the bindings of [`space`](Self::space) and builds the network at the sizes of
/// [`resized`](Self::resized). A network that cannot be built at other sizes leaves `resized` out:
/// it is searched with gates alone, and extracted into another family
/// ([`ExtractInto`](crate::subnet::ExtractInto)).
pub trait Architecture: Clone + Debug + Send + Serialize + DeserializeOwned {
    /// The network that [`build`](Self::build) returns.
    type Network: Network + Debug + Send + 'static;

    /// Name of the family, as artifacts and checkpoints store it.
    const FAMILY: &'static str;

    /// Builds the network, and adds its variables to `path`, freshly initialised.
    ///
    /// The network reads its variables in the forward pass: a search moves them to other memory, so a
    /// transpose, slice or copy that is made here and kept would stay behind.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a configuration that cannot be built.
    fn build(&self, path: &nn::Path) -> Result<Self::Network>;

    /// Returns the default search space: dimensions with candidates and bindings.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Candidates`] if a size is not positive.
    fn space(&self) -> Result<SearchSpace>;

    /// Returns MACs and parameters as polynomials in the sizes of the dimensions.
    fn cost_model(&self) -> CostModel;

    /// Returns the configuration with other sizes for some dimensions. A factor in the forward pass
    /// that depends on a size, such as 1/√(head dim) of attention, keeps its dense value: that is
    /// what the masked network computes with.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a dimension that the family does not have; [`Error::Unsupported`],
    /// the default, for a network that cannot be built at other sizes.
    fn resized(&self, _sizes: &Sizes) -> Result<Self> {
        Err(Error::Unsupported { model: Self::FAMILY.into(), operation: "other sizes" })
    }

    /// Returns the configuration without what acts in training alone, such as stochastic depth. A
    /// [`LatencyModel`](crate::latency::LatencyModel) is of this configuration: it holds for every network that has the same
    /// one. The default changes nothing.
    fn in_evaluation(&self) -> Self {
        self.clone()
    }

    /// Returns the interface to masked image modeling.
    ///
    /// # Errors
    /// [`Error::Unsupported`], the default, for a family without; [`Error::Invalid`] for a configuration that the decoder
    /// of masked image modeling does not fit.
    fn pmim_ports(&self) -> Result<PmimPorts> {
        let operation = "masked image modeling; set the option pmim to none";
        Err(Error::Unsupported { model: Self::FAMILY.into(), operation })
    }

    /// Returns the name of the dimension of the last axis of [`Network::forward_features`]; `None`
    /// (default) for networks without.
    fn feature_dimension(&self) -> Option<String> {
        None
    }

    /// Returns the tokens before the patch tokens in outputs `[B, tokens, C]`; `None` (default) for networks
    /// with other outputs, or where it is not known.
    fn output_tokens(&self) -> Option<OutputTokens> {
        None
    }

    /// Folds factors that [`resized`](Self::resized) kept at their dense value into `weights`, and
    /// returns the configuration of a standard network that computes the same. The default changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Missing`] if a weight is missing.
    fn standardised(&self, _weights: &mut Weights) -> Result<Self> {
        Ok(self.clone())
    }

    /// Returns the architecture whose attentions make queries and keys apart from values, as wide as these, which computes the
    /// same with the weights of [`split_qkv`](Self::split_qkv). Its search space has a width of queries and keys and
    /// another of values for every attention ([`BlockConfig::qk_dim`]).
    ///
    /// # Errors
    /// [`Error::Invalid`] where another option of the network forbids it; [`Error::Unsupported`], the default, for a family
    /// without.
    fn qk_v_apart(&self) -> Result<Self> {
        Err(Error::Unsupported { model: Self::FAMILY.into(), operation: QK_V_APART })
    }

    /// Turns weights of this network into those of [`qk_v_apart`](Self::qk_v_apart).
    ///
    /// # Errors
    /// [`Error::Missing`] and [`Error::Shape`] for a weight that is missing or of another shape, before any is changed;
    /// [`Error::Unsupported`], the default, for a family without.
    fn split_qkv(&self, _weights: &mut Weights) -> Result<()> {
        Err(Error::Unsupported { model: Self::FAMILY.into(), operation: QK_V_APART })
    }

    /// Returns names and shapes of the variables. The default builds the network; a family that
    /// computes them can refuse a wrong file before anything is allocated.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a configuration that cannot be built.
    fn variables(&self) -> Result<Shapes> {
        let store = nn::VarStore::new(Device::Cpu);
        self.build(&store.root())?;
        let shapes = store.variables().into_iter().map(|(name, tensor)| (name, tensor.size()));
        Ok(shapes.collect())
    }

    /// Returns the forward pass in evaluation as a graph, for export as TorchScript and ONNX.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the family implements it.
    fn graph(&self) -> Result<Graph> {
        let operation = "export as TorchScript or ONNX";
        Err(Error::Unsupported { model: Self::FAMILY.into(), operation })
    }

    /// Returns the text of a Python file that rebuilds the network from its artifact, where every
    /// artifact of the family has it as `load_subnet.py`; `None` (default) for a family without.
    fn python_loader(&self) -> Option<&'static str> {
        None
    }
}
