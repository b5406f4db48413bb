//! What pulls the expected cost towards the budget.

use crate::cost::{Budget, CompiledPolynomial, CostModel};
use crate::space::{ActiveSet, Cells, SearchSpace};
use crate::Result;
use tch::{Device, Kind, Tensor};

/// w·e², e = (F(α) − F*)/F_0, F the cost at the expected sizes (paper eq. 9). Budgets are upper
/// limits: of several, the one that is exceeded most, or that is nearest, has the word.
#[derive(Debug)]
pub struct BudgetLoss {
    terms: Vec<BudgetTerm>,
    /// Units and heads of every cell, by dimension: `[2, cells]`.
    cell_sizes: Vec<Tensor>,
    one: Tensor,
    weight: f64,
}

#[derive(Debug)]
struct BudgetTerm {
    cost: CompiledPolynomial,
    limit: f64,
    dense: f64,
}

impl BudgetLoss {
    /// Lays the cost model out over a space. Has to be made anew when the space is narrowed.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] if the cost model names a dimension without a size.
    pub fn new(
        model: &CostModel,
        space: &SearchSpace,
        budgets: &[Budget],
        weight: f64,
        device: Device,
    ) -> Result<Self> {
        let mut terms = Vec::new();
        for budget in budgets {
            let polynomial = model.polynomial(budget.metric);
            let cost = CompiledPolynomial::new(polynomial, space, &model.dense, device)?;
            let dense = model.dense_cost(budget.metric)?;
            terms.push(BudgetTerm { cost, limit: budget.limit, dense });
        }
        let cell_sizes = space.dimensions.iter().map(|d| cell_sizes(&d.cells, device));
        let one = Tensor::f_ones([1], (Kind::Float, device))?;
        Ok(Self { terms, cell_sizes: cell_sizes.collect::<Result<_>>()?, one, weight })
    }

    /// The vector of expected sizes that compiled costs take: units and heads of every dimension
    /// in turn, then 1.
    pub(crate) fn expected_sizes(
        &self,
        alphas: &[Tensor],
        active: &[&ActiveSet],
    ) -> Result<Tensor> {
        let mut sizes = Vec::with_capacity(alphas.len() + 1);
        for ((alpha, active), cells) in alphas.iter().zip(active).zip(&self.cell_sizes) {
            sizes.push(
                cells.f_mv(
                    &active.probabilities(alpha)?.f_flatten(0, -1)?.f_to_kind(Kind::Float)?,
                )?,
            );
        }
        sizes.push(self.one.shallow_clone());
        Ok(Tensor::f_cat(&sizes, 0)?)
    }

    /// Expected cost under each budget, as a tensor that carries gradients to α.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an α has another shape than its cells.
    pub fn expected_costs(&self, alphas: &[Tensor], active: &[&ActiveSet]) -> Result<Vec<Tensor>> {
        let sizes = self.expected_sizes(alphas, active)?;
        self.terms.iter().map(|term| term.cost.evaluate(&sizes)).collect()
    }

    /// The loss, a scalar.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an α has another shape than its cells.
    pub fn loss(&self, alphas: &[Tensor], active: &[&ActiveSet]) -> Result<Tensor> {
        let mut excess: Option<Tensor> = None;
        for (cost, term) in self.expected_costs(alphas, active)?.iter().zip(&self.terms) {
            let own = cost.f_sub_scalar(term.limit)?.f_div_scalar(term.dense)?;
            excess = Some(excess.map_or(Ok(own.shallow_clone()), |most| most.f_maximum(&own))?);
        }
        let excess = match excess {
            Some(most) => most,
            None => self.one.f_zeros_like()?.f_sum(None)?,
        };
        Ok(excess.f_square()?.f_mul_scalar(self.weight)?)
    }
}

fn cell_sizes(cells: &Cells, device: Device) -> Result<Tensor> {
    let units = cells.sizes().map(|size| size.units() as f32);
    let heads = cells.sizes().map(|size| size.heads as f32);
    let rows: Vec<f32> = units.chain(heads).collect();
    Ok(Tensor::f_from_slice(&rows)?.f_view([2, -1])?.f_to_device(device)?)
}
