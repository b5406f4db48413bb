//! What a search refuses before anything is built.

use super::builder::SearchBuilder;
use super::options::SearchOptions;
use super::teaching::expect_teacher;
use crate::cost::{expect_projectable, Budget, CostLimit};
use crate::models::Architecture;
use crate::space::SearchSpace;
use crate::{Error, Result};

impl<A: Architecture> SearchBuilder<A> {
    /// Checks, without building anything, what [`build`](Self::build) would refuse in options,
    /// components, search space and budgets.
    ///
    /// # Errors
    /// Those of [`build`](Self::build), except those of weights and bindings.
    pub fn check(&self) -> Result<()> {
        self.feasible().map(drop)
    }

    /// The options, the space that is searched under them, and budgets that it meets.
    pub(super) fn feasible(&self) -> Result<(SearchOptions, SearchSpace, Vec<CostLimit>)> {
        let (options, space) = self.checked()?;
        let model = self.cost_model(&space)?;
        let resolve = |budget: &Budget| {
            let limit = budget.resolve(&model)?;
            limit.check(&model, &space)?;
            Ok(limit)
        };
        options.budget.keep_feasible.iter().try_for_each(|budget| resolve(budget).map(drop))?;
        let limits: Vec<CostLimit> = self.budgets.iter().map(resolve).collect::<Result<_>>()?;
        if !space.dimensions.is_empty() {
            expect_projectable(&model, &space, &limits)?;
            if options.pmim.is_some() {
                expect_tokens_to_mask(self.architecture.pmim_ports()?.token_grid)?;
            }
        }
        Ok((options, space, limits))
    }

    /// The options, and the space that is searched under them.
    pub(super) fn checked(&self) -> Result<(SearchOptions, SearchSpace)> {
        let options = self.options.clone().ok_or_else(|| {
            Error::invalid("steps of the search", "given: call steps or options", "none")
        })?;
        options.check()?;
        self.components.check(&self.architecture)?;
        expect_teacher(&self.components, options.training.distillation)?;
        if options.search_steps == 0 {
            if options.training.freeze_weights {
                let expected = "false without a search, in which nothing else is learned";
                return Err(Error::invalid("training.freeze_weights", expected, true));
            }
            return Ok((options, SearchSpace::empty()));
        }
        let space = match &self.space {
            Some(space) => space.clone(),
            None => self.architecture.space()?,
        };
        if !space.dimensions.is_empty() && self.budgets.is_empty() {
            return Err(Error::invalid("number of budgets", "at least one for a search", 0));
        }
        Ok((options, space))
    }
}

/// Refuses a grid of one token: at least one of an image stays visible, so that none would ever be masked.
fn expect_tokens_to_mask([rows, columns]: [i64; 2]) -> Result<()> {
    if rows * columns > 1 {
        return Ok(());
    }
    let expected = "at least 2 tokens for masked image modeling; set pmim to none, or take larger \
                    images";
    Err(Error::invalid("token grid", expected, format!("{rows} × {columns}")))
}
