//! Variables of masked image modeling in a supernet: mask token and decoder (paper section 3.4).

use crate::components::{MaskedTokens, PixelDecoder};
use crate::models::{Architecture, PmimPorts};
use crate::space::{Binding, SearchSpace};
use crate::{Error, Result};
use tch::{nn, Tensor};

const TOKEN: &str = "pmim.mask_token";
const DECODER: &str = "pmim.decoder";

/// Returns whether a variable belongs to masked image modeling, not to the network.
pub(super) fn owns(name: &str) -> bool {
    name.starts_with("pmim.")
}

/// Mask token and pixel decoder of a supernet.
#[derive(Debug)]
pub struct PmimModules {
    token: Tensor,
    decoder: PixelDecoder,
    ports: PmimPorts,
}

fn ports<A: Architecture>(architecture: &A) -> Result<PmimPorts> {
    let model = A::FAMILY.into();
    architecture
        .pmim_ports()
        .ok_or(Error::Unsupported { model, operation: "masked image modeling" })
}

/// Binds the mask token (gated) and the decoder's input channels (narrowed) to their dimensions.
pub(super) fn bind<A: Architecture>(architecture: &A, space: &mut SearchSpace) -> Result<()> {
    let ports = ports(architecture)?;
    for dimension in &mut space.dimensions {
        if dimension.name == ports.token_dimension {
            dimension.bindings.push(Binding::gated(TOKEN, 2));
        }
        if dimension.name == ports.feature_dimension {
            dimension.bindings.push(Binding::narrowed(format!("{DECODER}.weight"), 1));
        }
    }
    Ok(())
}

impl PmimModules {
    pub(super) fn new<A: Architecture>(root: &nn::Path, architecture: &A) -> Result<Self> {
        let ports = ports(architecture)?;
        let normal = nn::Init::Randn { mean: 0.0, stdev: 0.02 };
        let path = root / "pmim";
        let decoder = &path / "decoder";
        Ok(Self {
            token: path.f_var("mask_token", &[1, 1, ports.token_width], normal)?,
            decoder: PixelDecoder::new(
                &decoder,
                ports.feature_width,
                ports.feature_patch,
                ports.channels,
            )?,
            ports,
        })
    }

    /// Rows and columns of the grid of tokens that can be masked.
    pub fn token_grid(&self) -> [i64; 2] {
        self.ports.token_grid
    }

    pub(super) fn masked_tokens<'a>(&'a self, mask: &'a Tensor) -> MaskedTokens<'a> {
        MaskedTokens { mask, token: &self.token }
    }

    pub(super) fn decode(&self, features: &Tensor) -> Result<Tensor> {
        self.decoder.decode(features, self.ports.feature_rows)
    }
}
