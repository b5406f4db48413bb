//! A plain network as a distillation teacher.

use super::Subnet;
use crate::components::{ComponentId, Teacher};
use crate::models::Architecture;
use crate::Result;
use tch::Tensor;

/// A plain network as a distillation teacher.
#[derive(Debug)]
pub struct SubnetTeacher<A: Architecture> {
    name: String,
    network: Subnet<A>,
}

impl<A: Architecture> SubnetTeacher<A> {
    /// A teacher that a checkpoint recognises by `name`, the path it was read from for example.
    pub fn new(name: impl Into<String>, network: Subnet<A>) -> Self {
        Self { name: name.into(), network }
    }
}

impl<A: Architecture> Teacher for SubnetTeacher<A> {
    fn id(&self) -> ComponentId {
        ComponentId::new("subnet").with("name", self.name.as_str())
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        self.network.predict(images)
    }
}
