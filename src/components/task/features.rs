//! Feature matching: the relative squared error of outputs that are no logits from a teacher's, and random
//! errors to estimate losses with.

use super::{Task, TaskInputs, TeacherRole};
use crate::components::ComponentId;
use crate::error::expect_shape;
use crate::models::{Architecture, OutputTokens};
use crate::randomness::for_images;
use crate::range::{Range, SHARE};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use tch::{Kind, Tensor};

const REGISTERS: Range<i64> = Range::closed(0, 1 << 20);

/// Feature matching: the outputs of the network are features, and those of a teacher their target, without
/// labels. The teacher is the dense network itself, or another one
/// ([`Distillation::teacher`](crate::components::Distillation)).
///
/// The loss is ‖s − t‖²/‖t‖² of the student's s and the teacher's t, mean over images and tokens
/// ([`relative_error`]). A network of features of every token is made with
/// [`Pooling::Tokens`](crate::models::Pooling::Tokens).
///
/// ```
/// use once_for_both::models::Pooling;
/// use once_for_both::prelude::*;
///
/// # fn main() -> once_for_both::Result<()> {
/// let vit = VitConfig::uniform(32, 2, 2).input(16, 3, 8).classes(32).pooling(Pooling::Tokens);
/// let weights = Search::training(vit.clone(), 1).build()?.supernet().raw_weights();
/// let task = FeatureMatching::of(&vit);
/// let search = Search::of(vit).weights(&weights).task(task);
/// let search = search.budget(Budget::macs_share(0.5)).steps(60, 40).build()?;
/// # assert_eq!(search.components().task.id().name, "feature_matching");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeatureMatching {
    /// Whether token 0 of outputs `[B, tokens, C]` is a class token. Without one, all tokens count the same,
    /// and `class_share` has no effect. Outputs `[B, C]` have no tokens.
    pub class_token: bool,
    /// Share of the class token in the loss, in [0, 1]; the other tokens have the rest in equal parts.
    pub class_share: f64,
    /// Number of tokens before the patch tokens, behind the class token, that are not compared: registers.
    pub registers: i64,
    /// Size of random errors of the outputs, as a share of their norm, whose gradient is added while
    /// losses are estimated ([`Decisions::Estimated`](crate::search::Decisions::Estimated)), in
    /// [0, 1]; 0: none; 0.01 is enough. A student that meets its target has no gradient, and every
    /// candidate would be estimated to cost nothing; the squared gradient of random errors is, in
    /// expectation, the second-order rise of the loss (Gauss–Newton).
    pub probe: f64,
}

impl Default for FeatureMatching {
    /// Half of the loss from the class token; random errors of 0.01; no registers.
    fn default() -> Self {
        Self { class_token: true, class_share: 0.5, registers: 0, probe: 0.01 }
    }
}

impl FeatureMatching {
    /// Name in its id.
    pub(crate) const NAME: &'static str = "feature_matching";

    /// The default for the tokens of a network: whether it has a class token, and its registers.
    ///
    /// ```
    /// use once_for_both::components::FeatureMatching;
    /// use once_for_both::models::{Pooling, VitConfig};
    ///
    /// let mut vit = VitConfig::uniform(32, 2, 2).input(16, 3, 8).classes(32).pooling(Pooling::Tokens);
    /// (vit.class_token, vit.registers) = (false, 4);
    /// let task = FeatureMatching::of(&vit);
    /// assert_eq!((task.class_token, task.registers), (false, 4));
    /// ```
    pub fn of<A: Architecture>(network: &A) -> Self {
        match network.output_tokens() {
            Some(OutputTokens { class_token, registers }) => {
                Self { class_token, registers, ..Self::default() }
            }
            None => Self::default(),
        }
    }

    /// Returns the mean over the compared tokens of `[B, tokens]`: `class` times that of token 0 and
    /// `others` times the mean of the others.
    fn weighted(&self, values: &Tensor, [class, others]: [f64; 2]) -> Result<Tensor> {
        let [_, tokens] = <[i64; 2]>::try_from(values.size()).unwrap_or([0, 1]);
        let own = i64::from(self.class_token);
        if values.dim() == 1 || tokens == 1 {
            return Ok(values.f_reshape([-1])?);
        }
        let patches = self.patches(tokens)?;
        let rest = values.f_narrow(1, own + self.registers, patches)?;
        let rest = rest.f_mean_dim([1i64].as_slice(), false, None)?.f_mul_scalar(others)?;
        match own {
            0 => Ok(rest),
            _ => Ok(values.f_select(1, 0)?.f_mul_scalar(class)?.f_add(&rest)?),
        }
    }

    /// Returns the number of patch tokens among so many.
    fn patches(&self, tokens: i64) -> Result<i64> {
        let prefix = i64::from(self.class_token) + self.registers;
        if tokens > prefix {
            return Ok(tokens - prefix);
        }
        let expected = format!("above {prefix}, the class token and task.registers");
        Err(Error::invalid("tokens of the outputs of the task feature_matching", expected, tokens))
    }

    /// Returns the shares of class token and other tokens.
    fn shares(&self) -> [f64; 2] {
        let class = if self.class_token { self.class_share } else { 0.0 };
        [class, 1.0 - class]
    }

    /// Returns a term of value 0 with the gradient of random errors of the outputs, drawn from libtorch's
    /// generator; `None` for a probe of 0.
    ///
    /// Of L = Σ_t w_t·‖s_t − t_t‖²/‖t_t‖², w_t the share of token t, it is the part that is linear in the
    /// errors ε_t = probe·‖t_t‖·ξ_t/√(C·w_t), ξ standard normal of C channels: its gradient g has
    /// E\[(gᵀδ)²\] ∝ Σ_t w_t·‖J_t·δ‖²/‖t_t‖², which is the rise of L by a step δ from the target.
    fn probe_term(&self, student: &Tensor, teacher: &Tensor) -> Result<Option<Tensor>> {
        if self.probe == 0.0 {
            return Ok(None);
        }
        let moved = student.f_sub(&student.f_detach()?)?;
        let mut shape = student.size();
        let errors = for_images(shape[0], |images| {
            shape[0] = images;
            Ok(Tensor::f_randn(&shape[..], (Kind::Float, student.device()))?)
        })?;
        let products = moved.f_mul(&errors)?;
        let products = products.f_sum_dim_intlist([-1i64].as_slice(), false, None)?;
        let products = products.f_div(&scale(teacher)?.f_sqrt()?)?;
        let channels = student.size().last().copied().unwrap_or(1);
        // weighted() takes the mean over the other tokens: √(w/n) of each is √(w·n) of the mean.
        let count = match products.size()[..] {
            [_, tokens] if tokens > 1 => self.patches(tokens)? as f64,
            _ => 1.0,
        };
        let [class, others] = self.shares();
        let shares = [class.sqrt(), (others * count).sqrt()];
        let factor = 2.0 * self.probe / (channels as f64).sqrt();
        let term = self.weighted(&products, shares)?.f_mean(None)?;
        Ok(Some(term.f_mul_scalar(factor)?))
    }
}

impl Task for FeatureMatching {
    fn id(&self) -> ComponentId {
        let id = ComponentId::new(Self::NAME).with("class_token", self.class_token);
        let id = id.with("class_share", self.class_share).with("registers", self.registers);
        id.with("probe", self.probe)
    }

    fn losses(&self, inputs: &TaskInputs) -> Result<Tensor> {
        let outputs = inputs.outputs;
        if !(2..=3).contains(&outputs.dim()) {
            let expected = "[B, C] or [B, tokens, C]; flatten a grid of features to tokens";
            let actual = format!("{:?}", outputs.size());
            return Err(Error::invalid("shape of the features of the task", expected, actual));
        }
        let error = relative_error(outputs, inputs.expect_teacher()?)?;
        self.weighted(&error, self.shares())
    }

    fn loss(&self, inputs: &TaskInputs) -> Result<Tensor> {
        let loss = self.losses(inputs)?.f_mean(None)?;
        let probe = match (inputs.estimates, inputs.teacher) {
            (true, Some(teacher)) => self.probe_term(inputs.outputs, teacher)?,
            _ => None,
        };
        match probe {
            Some(probe) => Ok(loss.f_add(&probe)?),
            None => Ok(loss),
        }
    }

    fn teacher(&self) -> TeacherRole {
        TeacherRole::Target
    }

    fn check_tokens(&self, tokens: OutputTokens) -> Result<()> {
        let OutputTokens { class_token, registers } = tokens;
        let expected = |own: &dyn Display| {
            format!("{own} of the network; make the task by FeatureMatching::of")
        };
        if self.class_token != class_token {
            return Err(Error::invalid(
                "task.class_token",
                expected(&class_token),
                self.class_token,
            ));
        }
        if self.registers != registers {
            return Err(Error::invalid("task.registers", expected(&registers), self.registers));
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        SHARE.check("task.class_share", self.class_share)?;
        REGISTERS.check("task.registers", self.registers)?;
        SHARE.check("task.probe", self.probe)
    }
}

/// Returns the relative squared error of features, ‖s − t‖²/‖t‖² of the student's s and the teacher's t, of
/// every token; features of all zeros have no relative error.
///
/// # Shapes
/// `student`, `teacher`: `[…, C]`. Result: `[…]`, f32.
///
/// # Errors
/// [`Error::Shape`] if student and teacher differ in shape.
pub fn relative_error(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    expect_shape("relative error", "features of the teacher", teacher, &student.size())?;
    let [student, teacher] = [student, teacher].map(|own| own.f_to_kind(Kind::Float));
    let teacher = teacher?.f_detach()?;
    Ok(squared_norm(&student?.f_sub(&teacher)?)?.f_div(&scale(&teacher)?)?)
}

fn squared_norm(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_square()?.f_sum_dim_intlist([-1i64].as_slice(), false, None)?)
}

/// ‖t‖² of the teacher's features.
fn scale(teacher: &Tensor) -> Result<Tensor> {
    Ok(squared_norm(teacher)?.f_clamp_min(1e-12)?)
}
