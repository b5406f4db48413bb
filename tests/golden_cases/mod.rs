//! One module per golden file, and one for the comparison itself.

mod comparison;
mod costs;
mod modules;
mod networks;
mod pmim;
mod search_trace;
mod swin;
mod vit;
