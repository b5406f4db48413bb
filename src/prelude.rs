//! The items that most programs use: `use once_for_both::prelude::*;`

pub use crate::batch::{Batch, BatchSource, Targets};
pub use crate::components::{
    AdaptiveOneHotLoss, BiMask, Classification, ComponentId, Components, Contrastive,
    ContrastiveLoss, FeatureMatching, FunctionTask, Importance, PmimRegularizer, Task, Teacher,
    UnitImportance,
};
pub use crate::cost::{Budget, Metric};
pub use crate::models::{Architecture, Network, SwinConfig, VitConfig};
pub use crate::precision::Precision;
pub use crate::search::{Event, Listener, Outcome, Search, SearchOptions};
pub use crate::space::{Binding, Candidates, Dimension, DimensionKind, SearchSpace, Size, Sizes};
pub use crate::subnet::{Export, Extracted, Subnet, SubnetExtractor};
