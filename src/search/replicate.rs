//! The state of a search, sent from rank 0 to the other ranks, and the proof that all were started
//! alike.

use super::builder::SearchBuilder;
use super::checkpoint::{Checkpoints, Resumed, CHECKPOINTS};
use super::snapshot::State;
use super::step::Search;
use crate::components::Components;
use crate::device;
use crate::distributed::Collective;
use crate::error::DistributedError;
use crate::models::Architecture;
use crate::supernet::Weights;
use crate::tensors::to_bytes;
use crate::typed::{self, first_difference};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// What goes before the tensors: the state without them, and their names, shapes and kinds.
#[derive(Serialize, Deserialize)]
#[serde(bound = "A: Architecture")]
struct Header<A> {
    state: State<A>,
    tensors: Vec<(String, Vec<i64>, u8)>,
}

/// Kinds of the tensors of a state; a header has their numbers.
const KINDS: [Kind; 10] = [
    Kind::Float,
    Kind::Double,
    Kind::Half,
    Kind::BFloat16,
    Kind::Int64,
    Kind::Int,
    Kind::Uint8,
    Kind::Int8,
    Kind::Int16,
    Kind::Bool,
];

/// Replaces a contiguous tensor by that of rank 0, in place. Kinds that c10d does not send go as bytes.
fn receive(group: &dyn Collective, tensor: &Tensor) -> Result<()> {
    match tensor.kind() {
        Kind::Int16 | Kind::Bool => {
            group.broadcast(&tensor.f_view([-1])?.f_view_dtype(Kind::Uint8)?, 0)
        }
        _ => group.broadcast(tensor, 0),
    }
}

/// Returns the bytes of rank 0 on every rank.
fn bytes_of_main(group: &dyn Collective, own: &[u8]) -> Result<Vec<u8>> {
    let length = Tensor::f_from_slice(&[own.len() as i64])?;
    group.broadcast(&length, 0)?;
    let bytes = match group.is_main() {
        true => Tensor::f_from_slice(own)?,
        false => Tensor::f_zeros([length.f_int64_value(&[0])?], (Kind::Uint8, Device::Cpu))?,
    };
    group.broadcast(&bytes, 0)?;
    to_bytes(&bytes)
}

/// Refuses ranks that were given another value than rank 0, on every rank, with the first difference.
pub(crate) fn expect_alike(group: &dyn Collective, what: &str, own: &Value) -> Result<()> {
    if group.world_size() == 1 {
        return Ok(());
    }
    let own = own.to_string();
    let checksum = crc32fast::hash(own.as_bytes()).to_le_bytes();
    if group.all_gather(&checksum)?.iter().all(|other| *other == checksum) {
        return Ok(());
    }
    let all = group.all_gather(own.as_bytes())?;
    let parsed = all.iter().map(|json| typed::from_json(json));
    let values: Vec<Value> =
        parsed.collect::<Result<_, _>>().map_err(|error| Error::invalid(what, "JSON", error))?;
    for (rank, value) in values.iter().enumerate() {
        if *value != values[0] {
            let (name, actual, expected) = first_difference(what, value, &values[0]);
            let what = name.trim_start_matches('.').into();
            return Err(DistributedError::Differs { what, rank, expected, actual }.into());
        }
    }
    Ok(())
}

impl<A: Architecture> SearchBuilder<A> {
    /// Refuses ranks of other versions, architectures, search spaces, options, budgets or components, or on a device of
    /// another type.
    pub(super) fn expect_alike(&self) -> Result<()> {
        let group = &**self.group();
        expect_alike(group, "", &group.agree(self.given())?)
    }

    /// Returns what has to be the same on all ranks, as JSON.
    fn given(&self) -> Result<Value> {
        let (options, space) = self.checked()?;
        let json = |error| Error::invalid("options", "serialisable as JSON", error);
        Ok(serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "origin": self.origin(&space)?,
            "options": serde_json::to_value(&options).map_err(json)?,
            "budgets": serde_json::to_value(self.given_budgets()).map_err(json)?,
            "components": serde_json::to_value(self.component_ids()).map_err(json)?,
            "latency": serde_json::to_value(self.latency_parts().0).map_err(json)?,
            "device": device::type_of(self.running_on().1),
        }))
    }

    /// [`build_or_resume`](Self::build_or_resume) in several processes: rank 0 reads the run folder, and
    /// sends the state to the others.
    pub(super) fn build_or_receive(self, run_folder: &Path) -> Result<Resumed<A>> {
        let group = Arc::clone(self.group());
        let main = group.rank() == 0;
        let checkpoints = Checkpoints::new(run_folder.join(CHECKPOINTS), 1);
        let begun = match main {
            true => checkpoints.newest().map(|newest| newest.is_some()),
            false => Ok(false),
        };
        let begun = group.agree(begun)?;
        if !group.main_says(begun)? {
            return Ok(Resumed { search: self.build()?, skipped: Vec::new() });
        }
        self.expect_alike()?;
        let (components, device) = self.running_on();
        let resumed = match main {
            true => self.resume_alone(&checkpoints).map(Some),
            false => Ok(None),
        };
        let (own, skipped) = match group.agree(resumed)? {
            Some(Resumed { search, skipped }) => (Some(search), skipped),
            None => (None, Vec::new()),
        };
        Ok(Resumed { search: Search::from_main(own, &components, device, &group)?, skipped })
    }
}

impl<A: Architecture> Search<A> {
    /// Returns the search of rank 0 on every rank.
    pub(super) fn from_main(
        own: Option<Self>,
        components: &Components,
        device: Device,
        group: &Arc<dyn Collective>,
    ) -> Result<Self> {
        let sent = group.agree(own.as_ref().map(Self::sent).transpose())?;
        let (bytes, sent) = sent.unwrap_or_default();
        let read = typed::from_json(&bytes_of_main(&**group, &bytes)?);
        let Header { state, tensors } = group.agree(
            read.map_err(|error| Error::invalid("state of rank 0", "that of a search", error)),
        )?;
        let mut received = Weights::new();
        for (name, shape, kind) in tensors {
            let kind = KINDS.get(usize::from(kind)).copied().unwrap_or(Kind::Float);
            let tensor = match sent.get(&name) {
                Some(tensor) => tensor.f_detach()?.f_contiguous()?,
                None => Tensor::f_zeros(&shape[..], (kind, device))?,
            };
            receive(&**group, &tensor)?;
            received.insert(name, tensor);
        }
        let mut search = group.agree(match own {
            Some(search) => Ok(search),
            None => Self::restore(state, &received, components.clone(), device),
        })?;
        search.group = Arc::clone(group);
        search.expect_same_parameters()?;
        Ok(search)
    }

    /// Returns what the other ranks are sent: the header, as JSON, and the tensors.
    fn sent(&self) -> Result<(Vec<u8>, Weights)> {
        let tensors = self.tensors()?;
        let described = tensors.iter().map(|(name, tensor)| {
            let kind = KINDS.iter().position(|kind| *kind == tensor.kind());
            let kind = kind.ok_or_else(|| {
                let actual = format!("{:?}", tensor.kind());
                Error::invalid(format!("type of {name}"), format!("one of {KINDS:?}"), actual)
            })?;
            Ok((name.clone(), tensor.size(), kind as u8))
        });
        let header = Header { state: self.state()?, tensors: described.collect::<Result<_>>()? };
        let header = serde_json::to_vec(&header)
            .map_err(|error| Error::invalid("state", "serialisable as JSON", error))?;
        Ok((header, tensors))
    }
}
