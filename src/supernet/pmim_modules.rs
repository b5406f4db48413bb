//! Variables of masked image modeling in a supernet: mask token and decoder (paper section 3.4).

use super::Supernet;
use crate::components::{MaskedTokens, PixelDecoder};
use crate::models::{Architecture, PmimPorts, Shapes};
use crate::space::{Binding, SearchSpace};
use crate::Result;
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

/// Returns names and shapes of mask token and decoder.
pub(super) fn shapes<A: Architecture>(architecture: &A) -> Result<Shapes> {
    let ports = architecture.pmim_ports()?;
    let decoder =
        PixelDecoder::shapes(ports.feature_width, ports.feature_patch, ports.channels).into_iter();
    let mut shapes: Shapes =
        decoder.map(|(name, shape)| (format!("{DECODER}.{name}"), shape)).collect();
    shapes.insert(TOKEN.into(), vec![1, 1, ports.token_width]);
    Ok(shapes)
}

/// Binds the mask token (gated) and the decoder's input channels (narrowed) to their dimensions.
pub(super) fn bind<A: Architecture>(architecture: &A, space: &mut SearchSpace) -> Result<()> {
    let ports = architecture.pmim_ports()?;
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
        let ports = architecture.pmim_ports()?;
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

impl<A: Architecture> Supernet<A> {
    /// Returns names and shapes of the variables of a supernet, without building it.
    ///
    /// # Errors
    /// Those of [`Architecture::variables`]; for `pmim`, those of [`Architecture::pmim_ports`].
    pub(crate) fn shapes(architecture: &A, pmim: bool) -> Result<Shapes> {
        let mut all = architecture.variables()?;
        if pmim {
            all.extend(shapes(architecture)?);
        }
        Ok(all)
    }

    /// Returns the search space without the bindings of mask token and decoder.
    pub(crate) fn declared_space(&self) -> SearchSpace {
        declared(self.space.clone())
    }
}

/// Returns a space without the bindings of mask token and decoder.
pub(crate) fn declared(mut space: SearchSpace) -> SearchSpace {
    for dimension in &mut space.dimensions {
        dimension.bindings.retain(|binding| !owns(&binding.variable));
    }
    space
}
