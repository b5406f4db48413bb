//! The parts of a search that are code, not data: each can be replaced.

use super::options::SearchOptions;
use crate::loss::{AdaptiveOneHotLoss, Teacher};
use crate::mask::{BiMask, Importance, RankedBiMask};
use crate::pmim::{PmimRegularizer, WindowNorm, WindowedPixels};
use crate::Result;
use std::rc::Rc;

/// Where scores come from, how units are weighed, how the decision is forced, what hidden patches
/// should look like, and whom to learn from.
///
/// ```no_run
/// # use once_for_both::{search::{Method, SearchOptions}, mask::UnitImportance, Result};
/// # fn main() -> Result<()> {
/// let options = SearchOptions::new(300, 200);
/// let importance = UnitImportance::Taylor { mean: 2.0, std: 0.5, momentum: 0.9 };
/// let method = Method { importance: Box::new(importance), ..Method::of(&options)? };
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Method {
    /// Where scores come from.
    pub importance: Box<dyn Importance>,
    /// How units are weighed.
    pub bi_mask: Rc<dyn BiMask>,
    /// How the decision is forced.
    pub one_hot: Box<dyn AdaptiveOneHotLoss>,
    /// What hidden patches should look like; asked only where the options hide tokens.
    pub reconstruction: Box<dyn PmimRegularizer>,
    /// Whom to learn from; asked only where the options distil.
    pub teacher: Option<Box<dyn Teacher>>,
}

impl Method {
    /// The parts that options describe.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if an option is out of range.
    pub fn of(options: &SearchOptions) -> Result<Self> {
        options.check()?;
        let window = options.pmim.map_or(WindowNorm::PAPER, |pmim| pmim.window);
        Ok(Self {
            importance: Box::new(options.importance),
            bi_mask: Rc::new(RankedBiMask),
            one_hot: Box::new(options.one_hot.loss),
            reconstruction: Box::new(WindowedPixels::new(window)?),
            teacher: None,
        })
    }

    /// All parts in words: what a checkpoint was made with has to be what it is resumed with.
    pub(super) fn describe(&self) -> String {
        format!("{self:?}")
    }
}
