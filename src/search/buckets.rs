//! Gradients summed over all ranks while the backward pass goes on.
//!
//! The backward pass reaches the last layers first. As soon as the gradients of a bucket of leaves are
//! complete, their sum over the ranks begins, and goes on while the pass computes the rest (Li et al.
//! 2020, "PyTorch Distributed", arXiv 2006.15704, section 3.2).

use super::model_gradients::LOSSES;
use super::step::Search;
use crate::autograd::{expect_graph, no_grad};
use crate::batch::Batch;
use crate::distributed::{backward, Collective, Pending};
use crate::models::Architecture;
use crate::{Error, Result};
use std::sync::{Arc, PoisonError};
use tch::{Kind, Tensor};

/// Bytes of a bucket: few enough calls, and an early start.
const BYTES: usize = 25 << 20;

/// Leaves in the order in which rank 0's backward pass completes them, in buckets that all ranks sum in
/// this order.
#[derive(Debug)]
pub(super) struct Buckets {
    /// Names and elements of all leaves: after pruning the buckets are others, as in a resumed search.
    leaves: Vec<(String, usize)>,
    /// Whether tokens were masked: only then have decoder and mask token gradients. Sums over three and more ranks are
    /// rounded by the place in a bucket, so that buckets have to be those of a resumed search.
    masked: bool,
    members: Vec<Vec<usize>>,
}

impl Buckets {
    /// Divides leaves into buckets, in an order that all ranks have from rank 0. Leaves without a gradient
    /// come last.
    fn agree(
        group: &dyn Collective,
        leaves: Vec<(String, usize)>,
        masked: bool,
        order: &[usize],
    ) -> Result<Self> {
        let own: Vec<u8> = order.iter().flat_map(|at| (*at as u64).to_le_bytes()).collect();
        let all = group.all_gather(&own)?;
        let numbers = all[0].as_chunks::<8>().0.iter();
        let mut order: Vec<usize> = numbers.map(|own| u64::from_le_bytes(*own) as usize).collect();
        let others: Vec<usize> = (0..leaves.len()).filter(|at| !order.contains(at)).collect();
        order.extend(others);
        let (mut members, mut bytes) = (vec![Vec::new()], 0);
        for at in order.into_iter().filter(|at| *at < leaves.len()) {
            if bytes >= BYTES {
                members.push(Vec::new());
                bytes = 0;
            }
            bytes += leaves[at].1 * size_of::<f32>();
            if let Some(last) = members.last_mut() {
                last.push(at);
            }
        }
        Ok(Self { leaves, masked, members })
    }
}

/// A sum in progress.
struct Begun {
    /// Numbers and shapes of its leaves, in order.
    leaves: Vec<(usize, Vec<i64>)>,
    /// Their gradients side by side.
    flat: Tensor,
    pending: Box<dyn Pending>,
}

/// Sums of one backward pass.
struct Sums<'a> {
    group: &'a dyn Collective,
    kind: Kind,
    buckets: Option<Arc<Buckets>>,
    /// Gradients that are complete and not yet in a sum.
    gradients: Vec<Option<Tensor>>,
    /// Leaves in the order of completion.
    order: Vec<usize>,
    /// Begun sums, in the order of the buckets.
    begun: Vec<Begun>,
    /// Number of the next bucket.
    next: usize,
    failed: Option<Error>,
}

impl Sums<'_> {
    /// Takes a gradient, and begins the sums of all next buckets that are complete.
    fn ready(&mut self, leaf: usize, gradient: Tensor) {
        self.order.push(leaf);
        self.gradients[leaf] = Some(gradient);
        let Some(buckets) = self.buckets.clone() else { return };
        while let Some(members) = buckets.members.get(self.next) {
            let complete = members.iter().all(|at| self.gradients[*at].is_some());
            if !complete || self.failed.is_some() {
                return;
            }
            self.failed = self.begin(members).err();
        }
    }

    /// Begins the sum of the gradients that the next bucket has: the same on all ranks.
    fn begin(&mut self, members: &[usize]) -> Result<()> {
        self.next += 1;
        let (mut leaves, mut parts) = (Vec::new(), Vec::new());
        for &leaf in members {
            let Some(gradient) = self.gradients[leaf].take() else { continue };
            leaves.push((leaf, gradient.size()));
            parts.push(gradient.f_detach()?.f_reshape([-1])?.f_to_kind(self.kind)?);
        }
        if !parts.is_empty() {
            let flat = Tensor::f_cat(&parts, 0)?;
            let pending = self.group.start_all_reduce(&flat)?;
            self.begun.push(Begun { leaves, flat, pending });
        }
        Ok(())
    }

    /// Waits for all sums; returns them by leaf, undefined where there is none.
    fn finish(mut self, buckets: &Buckets) -> Result<Vec<Tensor>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        for members in buckets.members.iter().skip(self.next) {
            self.begin(members)?;
        }
        let mut sums: Vec<Tensor> = self.gradients.iter().map(|_| Tensor::new()).collect();
        for Begun { leaves, flat, pending } in self.begun {
            pending.wait()?;
            let mut first = 0;
            for (leaf, shape) in leaves {
                let length = shape.iter().product();
                sums[leaf] = flat.f_narrow(0, first, length)?.f_view(&shape[..])?;
                first += length;
            }
        }
        Ok(sums)
    }
}

impl<A: Architecture> Search<A> {
    /// Returns whether the gradients of a step can be summed while its backward pass goes on: where the
    /// step has a single one.
    pub(super) fn sums_early(&self, batches: &[Batch], parts: usize) -> bool {
        !self.share().is_whole() && batches.len() == 1 && parts == 1
    }

    /// Returns the gradients of a scalar in the leaves, summed over all ranks; an undefined tensor where
    /// it does not depend on one. `masked`: whether tokens of the images are masked.
    pub(super) fn summed_gradients(
        &self,
        loss: &Tensor,
        masked: bool,
        names: &[String],
        leaves: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        let mut known = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = leaves.iter().map(Tensor::numel);
        let sizes: Vec<(String, usize)> = names.iter().cloned().zip(sizes).collect();
        let buckets = known.take().filter(|own| own.masked == masked && own.leaves == sizes);
        let mut sums = Sums {
            group: self.group(),
            kind: self.options.training.exchange.kind(),
            gradients: leaves.iter().map(|_| None).collect(),
            order: Vec::new(),
            begun: Vec::new(),
            next: 0,
            failed: None,
            buckets: buckets.clone(),
        };
        expect_graph(LOSSES, loss)?;
        backward(loss, leaves, |leaf, gradient| sums.ready(leaf, gradient))?;
        let buckets = match buckets {
            Some(buckets) => buckets,
            None => Arc::new(Buckets::agree(self.group(), sizes, masked, &sums.order)?),
        };
        *known = Some(Arc::clone(&buckets));
        no_grad(|| sums.finish(&buckets))
    }
}
