//! Plain networks with their weights, also as distillation teachers.

use super::Precision;
use crate::batch::check_images;
use crate::components::{ComponentId, Teacher, TeacherOutputs};
use crate::error::expect_shape;
use crate::models::{Architecture, Network};
use crate::tensors::{convert, to_bytes, Weights};
use crate::{Error, Result};
use tch::{nn, Device, Tensor};

/// Plain network with its weights: an extracted subnet, or any network without gates.
#[derive(Debug)]
pub struct Subnet<A: Architecture> {
    architecture: A,
    network: A::Network,
    weights: Weights,
    device: Device,
    precision: Precision,
}

impl<A: Architecture> Subnet<A> {
    /// Builds an f32 network and copies `weights` into it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Unknown`] or [`Error::Shape`] if a weight is missing, unexpected
    /// or of another shape; nothing is copied then.
    pub fn new(architecture: A, weights: &Weights, device: Device) -> Result<Self> {
        Self::with_precision(architecture, weights, device, Precision::F32)
    }

    /// Builds a network that computes in `precision`, and copies `weights` into it. Variables of integers or flags keep
    /// their type.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_precision(
        architecture: A,
        weights: &Weights,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        Self::with_checked(architecture, weights, device, precision, |_| Ok(()))
    }

    /// [`with_precision`](Self::with_precision), but checks the variables of the network before a weight is copied.
    pub(super) fn with_checked(
        architecture: A,
        weights: &Weights,
        device: Device,
        precision: Precision,
        check: impl FnOnce(&Weights) -> Result<()>,
    ) -> Result<Self> {
        let store = nn::VarStore::new(device);
        let network = architecture.build(&store.root())?;
        let own: Weights = store.variables().into_iter().collect();
        if let Some(name) = weights.keys().find(|name| !own.contains_key(*name)) {
            return Err(Error::unknown("weight", name, own.keys()));
        }
        for (name, target) in &own {
            let missing = || Error::missing("weight", name);
            let source = weights.get(name).ok_or_else(missing)?;
            expect_shape("load subnet", name, source, &target.size())?;
        }
        check(&own)?;
        convert(own.values(), precision.kind())?;
        crate::autograd::no_grad(|| {
            own.iter().try_for_each(|(name, target)| target.shallow_clone().f_copy_(&weights[name]))
        })?;
        Ok(Self { architecture, network, weights: own, device, precision })
    }

    /// Returns the network whose attentions make queries and keys apart from values, and which computes the same
    /// ([`Architecture::qk_v_apart`]).
    ///
    /// # Errors
    /// Those of [`Architecture::qk_v_apart`].
    pub fn qk_v_apart(&self) -> Result<Self> {
        let own = self.weights.iter();
        let mut weights = own.map(|(name, own)| (name.clone(), own.shallow_clone())).collect();
        self.architecture.split_qkv(&mut weights)?;
        let architecture = self.architecture.qk_v_apart()?;
        Self::with_precision(architecture, &weights, self.device, self.precision)
    }

    /// Returns the configuration of the network.
    pub fn architecture(&self) -> &A {
        &self.architecture
    }

    /// Returns the network.
    pub fn network(&self) -> &A::Network {
        &self.network
    }

    /// Returns the weights, by variable name.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Returns the device of the weights.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns the type of the floating-point weights, in which the network computes.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Returns the logits of `images`, computed in evaluation mode and in the network's precision.
    ///
    /// # Shapes
    /// `images`: `[B, C, H, W]`. Result: `[B, classes]`, or features `[B, tokens, C]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images are not what the network takes; [`Error::Invalid`] for images on another device, or
    /// not of floating point.
    pub fn predict(&self, images: &Tensor) -> Result<Tensor> {
        let images = self.taken(images)?;
        crate::autograd::no_grad(|| self.network.forward(&images, false)?.prediction())
    }

    /// Returns images in the network's precision.
    fn taken(&self, images: &Tensor) -> Result<Tensor> {
        check_images(images, self.device)?;
        Ok(images.f_to_kind(self.precision.kind())?)
    }

    /// Returns logits and, if `features` are asked for and the network has a
    /// [`feature_dimension`](Architecture::feature_dimension), features.
    pub(crate) fn outputs(&self, images: &Tensor, features: bool) -> Result<TeacherOutputs> {
        if !features || self.architecture.feature_dimension().is_none() {
            return Ok(TeacherOutputs { logits: self.predict(images)?, features: None });
        }
        let images = self.taken(images)?;
        crate::autograd::no_grad(|| {
            let (logits, features) = self.network.forward_features(&images, false)?;
            Ok(TeacherOutputs { logits: logits.prediction()?, features: Some(features) })
        })
    }
}

/// A [`Subnet`] as a distillation teacher.
#[derive(Debug)]
pub struct SubnetTeacher<A: Architecture> {
    name: String,
    checksum: Option<String>,
    network: Subnet<A>,
}

impl<A: Architecture> SubnetTeacher<A> {
    /// Returns a teacher with `name` in its [`ComponentId`], for example the path of its weights: a
    /// search resumes only with a teacher of the same name.
    pub fn new(name: impl Into<String>, network: Subnet<A>) -> Self {
        Self { name: name.into(), checksum: None, network }
    }

    /// Adds a checksum of the weights to the id: a search resumes only with a teacher of the same weights. One that began
    /// with a teacher of the same name without a checksum resumes, too.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch refuses to read the weights.
    pub fn with_checksum(mut self) -> Result<Self> {
        self.checksum = Some(format!("{:08X}", checksum(self.network.weights())?));
        Ok(self)
    }
}

/// CRC-32 of names and values of weights.
fn checksum(weights: &Weights) -> Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    for (name, weight) in weights {
        hasher.update(name.as_bytes());
        hasher.update(&to_bytes(weight)?);
    }
    Ok(hasher.finalize())
}

impl<A: Architecture> Teacher for SubnetTeacher<A> {
    fn id(&self) -> ComponentId {
        let id = ComponentId::new("subnet").with("network", self.name.as_str());
        match &self.checksum {
            Some(checksum) => id.with(ComponentId::CHECKSUM, checksum.as_str()),
            None => id,
        }
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        self.network.predict(images)
    }

    fn outputs(&self, images: &Tensor) -> Result<TeacherOutputs> {
        self.network.outputs(images, true)
    }
}
