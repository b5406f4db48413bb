//! What moves in a step: weights, scores, α, and their averages.

use super::event::Phase;
use super::options::Order;
use super::session::Session;
use crate::models::Architecture;
use crate::supernet::{Parameter, ParameterKind, Weights};
use crate::{Error, Result};
use tch::Tensor;

impl<A: Architecture> Session<A> {
    /// Takes weights and scores into the moving average, if there is one.
    pub(super) fn take_average(&mut self) -> Result<()> {
        let Some(average) = &mut self.average else { return Ok(()) };
        let parameters = self.supernet.parameters();
        let averaged = parameters.iter().filter(|p| p.kind != ParameterKind::Alpha);
        average.update(averaged.map(|p| (&p.name, &p.value)))
    }

    /// Exchanges weights and scores with their moving average, for evaluation or extraction; a
    /// second call puts them back. Materialises what is then present.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the session keeps no average, or before its first step.
    pub fn exchange_average(&mut self) -> Result<()> {
        let Some(average) = self.average.as_ref().filter(|average| average.updates() > 0) else {
            let expected = "an average of at least one step (option average)";
            return Err(Error::invalid("moving average", expected, "none"));
        };
        tch::no_grad(|| {
            for mut parameter in self.supernet.parameters() {
                let Some(mean) = average.values().get(&parameter.name) else { continue };
                let present = parameter.value.f_detach_copy()?;
                parameter.value.f_copy_(mean)?;
                mean.shallow_clone().f_copy_(&present)?;
            }
            Ok::<(), Error>(())
        })?;
        self.materialise()
    }

    pub(super) fn update(
        &mut self,
        parameters: Vec<Parameter>,
        gradients: &Weights,
        go: &Tensor,
    ) -> Result<()> {
        let options = self.options.optimiser;
        let weight_rate = options.weight_rate.at(self.step);
        for mut parameter in parameters {
            if self.waits(parameter.kind) {
                continue;
            }
            let Some(gradient) = gradients.get(&parameter.name) else { continue };
            let (rate, mut group) = match parameter.kind {
                ParameterKind::Weight | ParameterKind::Reconstruction => {
                    (weight_rate, options.weights)
                }
                ParameterKind::Score => (self.score_rate(weight_rate), options.weights),
                ParameterKind::Alpha => (options.alpha_rate, options.alpha),
            };
            if !parameter.decays() {
                group.weight_decay = 0.0;
            }
            let (name, value) = (&parameter.name, &mut parameter.value);
            self.optimiser.update(name, value, gradient, go, rate, &group)?;
        }
        Ok(())
    }

    /// Whether parameters of a kind stay what they are in this step.
    fn waits(&self, kind: ParameterKind) -> bool {
        let stage = match (self.phase, self.options.order) {
            (Phase::Search, Order::ImportanceFirst { steps }) => Some(self.step < steps),
            _ => None,
        };
        match kind {
            ParameterKind::Weight => self.options.freeze_weights,
            ParameterKind::Reconstruction => false,
            ParameterKind::Score => stage == Some(false),
            ParameterKind::Alpha => stage == Some(true),
        }
    }

    /// Once the units are chosen, a score is a plain scale and moves like a weight.
    fn score_rate(&self, weight_rate: f64) -> f64 {
        match self.phase {
            Phase::Search => self.options.optimiser.score_rate,
            Phase::Finetune => weight_rate,
        }
    }
}
