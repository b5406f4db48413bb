//! One module per golden file.

mod costs;
mod modules;
mod pmim;
mod vit;
