//! Source code of activations and norms.

use crate::models::Activation;

/// Activation of an MLP.
pub(super) fn activate(x: &str, activation: Activation) -> String {
    match activation {
        Activation::Gelu => format!("torch.gelu({x})"),
        Activation::GeluTanh => format!("torch.gelu({x}, approximate=\"tanh\")"),
        Activation::QuickGelu => format!("torch.mul({x}, torch.sigmoid(torch.mul({x}, 1.702)))"),
        Activation::Relu => format!("torch.relu({x})"),
    }
}

/// LayerNorm over the last axis; `parameters` are the expressions of weight and bias.
pub(super) fn layer_norm(x: &str, parameters: &str, width: i64, eps: f64) -> String {
    format!("torch.layer_norm({x}, [{width}], {parameters}, {eps:?})")
}

/// RMSNorm over the last axis.
pub(super) fn rms_norm(x: &str, weight: &str, width: i64, eps: f64) -> String {
    format!("torch.rms_norm({x}, [{width}], {weight}, {eps:?})")
}
