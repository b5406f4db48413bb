//! A network from disk as a teacher.

use super::Subnet;
use crate::loss::Teacher;
use crate::models::Architecture;
use crate::Result;
use std::rc::Rc;
use tch::Tensor;

/// A network to learn from, under a name for checkpoints to recognise it by.
#[derive(Debug)]
pub struct SubnetTeacher<A: Architecture> {
    /// Its name, such as the path it was read from.
    pub name: String,
    /// The network, which may have several pupils.
    pub network: Rc<Subnet<A>>,
}

impl<A: Architecture> Clone for SubnetTeacher<A> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), network: Rc::clone(&self.network) }
    }
}

impl<A: Architecture> Teacher for SubnetTeacher<A> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        self.network.predict(images)
    }
}
