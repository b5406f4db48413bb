//! What an import has to know about a family of networks.

use super::{Assumption, Naming};
use crate::models::{Activation, Architecture, BlockConfig};
use crate::tensors::Weights;
use crate::Result;
use tch::Tensor;

/// A family of networks that weights can be imported into.
///
/// Implemented by [`VitConfig`](crate::models::VitConfig) and
/// [`SwinConfig`](crate::models::SwinConfig); implement it for an [`Architecture`] of your own to
/// import checkpoints into it. Every item has a default: an empty `impl` imports checkpoints that
/// use the network's own variable names, and refuses every difference in shape.
///
/// ```
/// use once_for_both::import::{Naming, Pretrained, Translation};
/// # use once_for_both::cost::CostModel;
/// # use once_for_both::models::{Architecture, TchModule};
/// # use once_for_both::space::{SearchSpace, Sizes};
/// # #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
/// # struct MyVit;
/// # impl Architecture for MyVit {
/// #     type Network = TchModule<tch::nn::Linear>;
/// #     const FAMILY: &'static str = "my_vit";
/// #     fn build(&self, path: &tch::nn::Path) -> once_for_both::Result<Self::Network> {
/// #         Ok(TchModule(tch::nn::linear(path / "classifier", 4, 2, Default::default())))
/// #     }
/// #     fn space(&self) -> once_for_both::Result<SearchSpace> { Ok(SearchSpace::empty()) }
/// #     fn cost_model(&self) -> CostModel {
/// #         CostModel::new(0.into(), 0.into(), Sizes::new())
/// #     }
/// # }
///
/// impl Pretrained for MyVit {
///     const HEADS: &'static [&'static str] = &["classifier"];
///
///     fn translate(_naming: Naming, name: &str) -> Translation {
///         // The checkpoint was saved from inside another module.
///         match name.strip_prefix("backbone.") {
///             Some("mask_token") => Translation::Unused,
///             Some(variable) => Translation::Variable(variable.into()),
///             None => Translation::Unknown,
///         }
///     }
/// }
/// ```
pub trait Pretrained: Architecture {
    /// Layers that classify, by the part of their variables' names before the last dot. They are
    /// initialised afresh where the checkpoint has another number of classes, or no such layer.
    const HEADS: &'static [&'static str] = &[];

    /// Parts that a checkpoint may have without the network, and the network without the
    /// checkpoint: names of variables, or of layers. A ViT's are its distillation token and head.
    const OPTIONAL: &'static [&'static str] = &[];

    /// Weight of the patch projection, `[E, channels, P, P]`, which is adapted to another number
    /// of input channels. `None`: other input channels are refused.
    const PATCH_PROJECTION: Option<&'static str> = None;

    /// Returns the naming convention of a checkpoint; `None` if its names are none of the family's.
    ///
    /// The default is [`Naming::Other`]: one convention, which [`translate`](Self::translate)
    /// knows. [`Naming::recognise`] tells those of timm and transformers apart.
    fn naming(_checkpoint: &Weights) -> Option<Naming> {
        Some(Naming::Other)
    }

    /// Returns what a tensor of this name in a checkpoint stands for. Default: the variable of the
    /// same name.
    fn translate(_naming: Naming, name: &str) -> Translation {
        Translation::Variable(name.into())
    }

    /// Returns the variable that a part of `variable` is by itself, where the checkpoint has only
    /// some of its parts, such as biases of queries and values where keys have none. `None`
    /// (default): such a checkpoint is refused.
    fn part_alone(_variable: &str, _part: &str) -> Option<String> {
        None
    }

    /// Returns whether the network computes a variable from its configuration, such as the
    /// frequencies of rotary positions, where a checkpoint has no tensor for it. Default: none.
    fn is_computed(_variable: &str) -> bool {
        false
    }

    /// Returns whether a tensor of a checkpoint is of a part that this network does without, although others of its
    /// family have it, such as a pooling where the outputs are features of every token. It is left out, and reported
    /// as skipped. Default: none.
    fn is_left_out(&self, _variable: &str) -> bool {
        false
    }

    /// Returns a tensor, which has the variable's shape, in the order of rows that the network has.
    /// Default: as it is. A checkpoint with a tensor for a variable that
    /// [`is_computed`](Self::is_computed) is one of the network's own, and left as it is.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::Error::Torch) if the tensor cannot be reordered.
    fn arranged(&self, _variable: &str, tensor: Tensor) -> Result<Tensor> {
        Ok(tensor)
    }

    /// Returns the table of absolute positions, which is interpolated to another resolution.
    /// `None` (default): another resolution is refused where it changes a shape.
    fn position_table(&self) -> Option<PositionTable> {
        None
    }

    /// Returns the properties of the network that no tensor of a checkpoint shows, for the report.
    /// Default: none.
    fn assumptions(&self, _naming: Naming) -> Vec<Assumption> {
        vec![]
    }
}

/// A table of absolute positions, `[1, prefix + rows · columns, E]`, as the network has it.
///
/// The checkpoint's table has rows for all prefix tokens that it has a tensor for, for the first of
/// them, or for none: the number of its rows decides, as its patches are a square, or as many as the network's. A row of a token that
/// has no row in the network is added to the token, which computes the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionTable {
    /// Name of the variable.
    pub variable: &'static str,
    /// Tokens that may have rows before the patches: the names of their variables, `[1, R, E]`, in
    /// the order of the rows.
    pub prefix_tokens: &'static [&'static str],
    /// Rows before the patches that the network has.
    pub prefix: i64,
    /// Rows and columns of the grid of patches.
    pub grid: [i64; 2],
}

/// What a tensor of a checkpoint stands for, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Translation {
    /// The whole of the variable with this name in the network.
    Variable(String),
    /// The whole of a variable, which has this many more axes of length 1 in front.
    Unsqueezed {
        /// Name of the variable in the network.
        variable: String,
        /// Axes to add.
        axes: usize,
    },
    /// The whole of the variable with this name in the network, a matrix, transposed.
    Transposed(String),
    /// Rows of several variables, one after the other, such as query, key and value of a fused
    /// projection of which the network has the first apart. Each has a share of the rows.
    Split(Vec<(String, i64)>),
    /// Some rows of a variable that the checkpoint stores in several tensors of one shape, such as
    /// query, key and value of a fused projection. They are concatenated along axis 0.
    Part {
        /// Name of the variable in the network.
        variable: String,
        /// Which of `parts` the tensor is.
        part: &'static str,
        /// All parts, in the order of their rows.
        parts: &'static [&'static str],
    },
    /// A tensor that the network's function does not use, such as a pooler or the mask token of
    /// pretraining: it is left out without a loss, and reported as [`unused`](super::ImportReport::unused).
    Unused,
    /// A constant that the network computes from its sizes, such as relative position indices: it
    /// is left out without a loss.
    Computed,
    /// None of the family's names: the import is refused.
    Unknown,
}

/// The parts of a fused attention projection, in the order of its rows.
pub(super) const QKV: &[&str] = &["query", "key", "value"];

/// Translates a layer of a transformer block in transformers' files, or in its classes since
/// version 5. `block` is the block's name in the network.
pub(super) fn block_variable(block: &str, layer: &str, parameter: &str) -> Option<Translation> {
    let qkv = |part| {
        let variable = format!("{block}.attn.qkv.{parameter}");
        Some(Translation::Part { variable, part, parts: QKV })
    };
    let own = match layer {
        "attention.attention.query" | "attention.self.query" | "attention.q_proj" => {
            return qkv("query")
        }
        "attention.attention.key" | "attention.self.key" | "attention.k_proj" => return qkv("key"),
        "attention.attention.value" | "attention.self.value" | "attention.v_proj" => {
            return qkv("value")
        }
        "layernorm_before" => "norm1",
        "layernorm_after" => "norm2",
        "attention.output.dense" | "attention.o_proj" => "attn.proj",
        "intermediate.dense" | "mlp.fc1" => "mlp.fc1",
        "output.dense" | "mlp.fc2" => "mlp.fc2",
        _ => return None,
    };
    Some(Translation::Variable(format!("{block}.{own}.{parameter}")))
}

/// What no tensor shows of transformer blocks, and of the images they were trained on.
pub(super) fn of_blocks<'a>(
    blocks: impl IntoIterator<Item = &'a BlockConfig>,
    activation: Activation,
) -> Vec<Assumption> {
    let (mut heads, mut scales) = (vec![], vec![]);
    for block in blocks {
        heads.push(block.heads.to_string());
        scales.push(format!("1/sqrt({})", block.scale_dim));
    }
    vec![
        Assumption::new("heads", by_block(heads)),
        Assumption::new("attention scale", by_block(scales)),
        Assumption::new("activation", activation.words()),
        Assumption::new("rows of qkv", "queries, keys, values; in each, head after head"),
        Assumption::new("normalisation of images", "as its author did; no tensor shows it"),
    ]
}

/// One value for all blocks, or the values of all.
fn by_block(mut values: Vec<String>) -> String {
    let all = values.join(", ");
    values.dedup();
    match &values[..] {
        [value] => format!("{value} in every block"),
        _ => format!("{all}, by block"),
    }
}
