//! Options of a method that searches no sizes.

use once_for_both::search::SearchOptions;

/// Sizes that are known at the first step: their units fade out over `fade_out` steps, or a tenth of the
/// search, and all steps that are left fine-tune. All else is as in a search.
pub fn unsearched(total: u64, search: u64, fade_out: Option<u64>) -> SearchOptions {
    let steps = fade_out.map_or((search / 10).max(2), |steps| steps + 1);
    let ours = SearchOptions::new(total, search);
    SearchOptions::learned(total, steps).with(|own| {
        own.pmim = None;
        own.training.distillation = ours.training.distillation;
        own.lambda = ours.lambda;
        own.optimiser = ours.optimiser;
        own.optimiser.alpha_rate = Some(0.0);
        own.pruning.drop_share = 0.0;
        own.pruning.fade_out_steps = steps - 1;
    })
}
