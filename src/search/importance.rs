//! Scores that are not learned follow what the step has shown.

use super::session::Session;
use super::step::StepGradients;
use crate::error::expect_shape;
use crate::mask::Observation;
use crate::models::Architecture;
use crate::Result;
use tch::Tensor;

impl<A: Architecture> Session<A> {
    /// Asks the importance for the scores of every undecided dimension. Where it has an answer,
    /// the score's gradient is dropped: the optimiser has nothing to say then. A step that is
    /// skipped (`go` is 0) leaves the scores.
    pub(super) fn follow_importance(
        &mut self,
        step: &mut StepGradients,
        go: &Tensor,
    ) -> Result<()> {
        let weights = self.supernet.raw_weights();
        let dimensions = self.supernet.declared_space().dimensions;
        for (at, state) in self.supernet.states_mut().iter_mut().enumerate() {
            if state.active.decided().is_some() {
                continue;
            }
            let seen = Observation {
                dimension: &dimensions[at],
                score: &state.score,
                weights: &weights,
                gate: &step.gates[at],
                gate_gradient: &step.gate_gradients[at],
            };
            let Some(score) = tch::no_grad(|| self.method.importance.follow(seen))? else {
                continue;
            };
            expect_shape("importance", &state.name, &score, &state.score.size())?;
            tch::no_grad(|| {
                let score = score.f_where_self(&go.f_gt(0.5)?, &state.score)?;
                state.score.f_copy_(&score)
            })?;
            step.parameters.remove(&state.score_name());
        }
        Ok(())
    }
}
