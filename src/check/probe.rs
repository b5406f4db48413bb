//! A network with random weights, and its logits with some of them changed.

use crate::models::{Architecture, Network};
use crate::randomness::{seed_torch, Purpose};
use crate::space::{Binding, Over, SearchSpace, Size};
use crate::tensors::Weights;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use tch::{nn, Kind, Tensor};

/// Allowed rounding error of logits in f32, as a share of their scale.
const TOLERANCE: f64 = 1e-4;

/// A network with random weights, and its logits on a batch of images.
#[derive(Debug)]
pub(super) struct Probe<'a, A: Architecture> {
    network: A::Network,
    variables: Weights,
    images: &'a Tensor,
    /// The random weights.
    pub(super) weights: Weights,
    logits: Tensor,
}

impl<'a, A: Architecture> Probe<'a, A> {
    /// Builds the network and draws its weights.
    pub(super) fn new(architecture: &A, space: &SearchSpace, images: &'a Tensor) -> Result<Self> {
        seed_torch(0, 0, Purpose::Check);
        let bindings = space.dimensions.iter().flat_map(|dimension| &dimension.bindings);
        let bound: BTreeSet<&str> = bindings.map(|binding| binding.variable.as_str()).collect();
        let mut probe = Self::build(architecture, images)?;
        for (name, variable) in &mut probe.variables {
            // Buffers without a binding, such as index tables, keep their values.
            match (variable.requires_grad(), bound.contains(name.as_str())) {
                (true, _) => draw(variable)?,
                (false, true) => draw_buffer(variable)?,
                (false, false) => {}
            }
        }
        probe.remember()?;
        let again = probe.forward()?;
        let (difference, scale) = (probe.distance(&again, &probe.logits)?, rms(&probe.logits)?);
        if !scale.is_finite() {
            let dimension = A::FAMILY.into();
            return Err(Error::NonFinite { name: "a logit".into(), dimension });
        }
        if difference > 0.0 && !is_rounding(difference) {
            let name = "difference of two forward passes in evaluation";
            return Err(Error::invalid(name, "0: nothing may be random in evaluation", difference));
        }
        probe.expect_movable()?;
        Ok(probe)
    }

    /// Refuses a network that keeps a view of a variable: a search moves variables to other memory
    /// ([`Supernet`](crate::supernet::Supernet)), and the view would stay behind.
    fn expect_movable(&mut self) -> Result<()> {
        let learned = |name: &&String| self.variables[*name].requires_grad();
        let names: Vec<String> = self.weights.keys().filter(learned).cloned().collect();
        let changed = |name: &String| Ok((name.clone(), self.weights[name].f_mul_scalar(1.5)?));
        let changed: Weights = names.iter().map(changed).collect::<Result<_>>()?;
        let before = self.logits(&changed)?;
        for name in &names {
            if let Some(variable) = self.variables.get_mut(name) {
                variable.f_set_data(&self.weights[name].f_detach_copy()?)?;
            }
        }
        if is_rounding(self.distance(&self.logits(&changed)?, &before)?) {
            return Ok(());
        }
        let mut without_effect = Vec::new();
        for (name, value) in changed {
            let logits = self.logits(&Weights::from([(name.clone(), value)]))?;
            if self.distance(&logits, &self.logits)? == 0.0 {
                without_effect.push(name);
            }
        }
        let expected = "none, because a search moves variables to other memory; make transposes, \
                        slices and copies in the forward pass, not in build";
        // Of a variable that is read partly by a view, a change still has an effect.
        let found = match without_effect.is_empty() {
            true => "some".into(),
            false => without_effect.join(", "),
        };
        Err(Error::invalid("variables of which the network keeps a view", expected, found))
    }

    /// Returns the logits with other weights of the same shapes.
    pub(super) fn logits_with(&self, weights: &Weights) -> Result<Tensor> {
        self.write(weights)?;
        self.forward()
    }

    /// Builds the network with its initial weights.
    pub(super) fn build(architecture: &A, images: &'a Tensor) -> Result<Self> {
        let store = nn::VarStore::new(images.device());
        let network = architecture.build(&store.root())?;
        let variables = store.variables().into_iter().collect();
        Ok(Self { network, variables, images, weights: Weights::new(), logits: Tensor::new() })
    }

    fn remember(&mut self) -> Result<()> {
        for (name, variable) in &self.variables {
            self.weights.insert(name.clone(), variable.f_detach_copy()?);
        }
        self.logits = self.forward()?;
        Ok(())
    }

    /// The images of the forward passes.
    pub(super) fn images(&self) -> &'a Tensor {
        self.images
    }

    /// Returns the shapes of all variables.
    pub(super) fn shapes(&self) -> BTreeMap<String, Vec<i64>> {
        self.variables.iter().map(|(name, variable)| (name.clone(), variable.size())).collect()
    }

    /// Whether a variable is trained, and therefore counts as parameters.
    pub(super) fn is_trained(&self, name: &str) -> bool {
        self.variables.get(name).is_some_and(Tensor::requires_grad)
    }

    /// Returns the number of all trained numbers.
    pub(super) fn trained(&self) -> usize {
        let trained = self.variables.values().filter(|own| own.requires_grad());
        trained.map(Tensor::numel).sum()
    }

    /// Returns the logits with some weights changed.
    pub(super) fn logits(&self, changed: &Weights) -> Result<Tensor> {
        self.write(changed)?;
        let logits = self.forward();
        let original = changed.keys().filter_map(|name| Some((name, self.weights.get(name)?)));
        self.write(original)?;
        logits
    }

    fn write<'w>(&self, weights: impl IntoIterator<Item = (&'w String, &'w Tensor)>) -> Result<()> {
        for (name, weight) in weights {
            if let Some(variable) = self.variables.get(name) {
                variable.shallow_clone().f_copy_(weight)?;
            }
        }
        Ok(())
    }

    fn forward(&self) -> Result<Tensor> {
        let logits = self.network.forward(self.images, false)?;
        let heads: Vec<Tensor> =
            [Some(logits.class), logits.distillation].into_iter().flatten().collect();
        Ok(Tensor::f_cat(&heads, -1)?.f_to_kind(Kind::Double)?)
    }

    /// Returns the [`distance`](Self::distance) of logits from those of the random weights.
    pub(super) fn difference(&self, logits: &Tensor) -> Result<f64> {
        self.distance(logits, &self.logits)
    }

    /// Returns the root mean square of a difference, as a share of that of the unchanged logits.
    pub(super) fn distance(&self, left: &Tensor, right: &Tensor) -> Result<f64> {
        let share = rms(&left.f_sub(right)?)? / rms(&self.logits)?;
        // NaN counts as infinitely far.
        Ok(if share.is_nan() { f64::INFINITY } else { share })
    }

    /// Returns the bound weights with zeros for all units beyond `size`.
    pub(super) fn zeroed<'b>(
        &self,
        bindings: impl IntoIterator<Item = &'b Binding>,
        full: Size,
        size: Size,
    ) -> Result<Weights> {
        let mut changed = Weights::new();
        for binding in bindings {
            let Some(weight) =
                changed.get(&binding.variable).or(self.weights.get(&binding.variable))
            else {
                continue;
            };
            let kept: Vec<f64> = match binding.over {
                Over::Units => (0..binding.entries(full))
                    .map(|entry| is_kept(binding.unit_of(entry, full.channels), full, size))
                    .collect(),
                Over::Heads => (0..full.heads).map(|head| f64::from(head < size.heads)).collect(),
            };
            let kept = Tensor::f_from_slice(&kept)?.f_to_kind(weight.kind())?;
            let kept = kept.f_view([1, -1, 1])?.f_to_device(weight.device())?;
            let zeroed = weight.f_reshape(binding.view(&weight.size()))?.f_mul(&kept)?;
            let zeroed = zeroed.f_reshape(weight.size())?;
            changed.insert(binding.variable.clone(), zeroed);
        }
        Ok(changed)
    }
}

/// Returns 1 for the first channels of the first heads, as many as in `size`, and 0 for others.
fn is_kept(unit: i64, full: Size, size: Size) -> f64 {
    let (head, channel) = (unit / full.channels, unit % full.channels);
    f64::from(head < size.heads && channel < size.channels)
}

/// Whether a difference, as a share of the logits' scale, is rounding error.
pub(super) fn is_rounding(difference: f64) -> bool {
    difference <= TOLERANCE
}

fn rms(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.f_square()?.f_mean(None)?.f_sqrt()?.f_double_value(&[])?)
}

/// Draws values of a buffer: positive, as a variance or a frequency is.
fn draw_buffer(variable: &mut Tensor) -> Result<()> {
    if variable.is_floating_point() {
        let _ = variable.f_uniform_(0.5, 1.5)?;
    }
    Ok(())
}

/// Draws weights with which every layer changes the logits: normal, with std 1/√inputs for
/// matrices and 0.5 otherwise.
fn draw(variable: &mut Tensor) -> Result<()> {
    if !variable.is_floating_point() {
        return Ok(());
    }
    let shape = variable.size();
    let inputs: i64 = shape.iter().skip(1).product();
    let std = match shape.first() {
        Some(2..) if shape.len() > 1 => 1.0 / (inputs.max(1) as f64).sqrt(),
        _ => 0.5,
    };
    let _ = variable.f_normal_(0.0, std)?;
    Ok(())
}
