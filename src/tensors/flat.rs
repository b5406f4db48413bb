//! Tensors side by side in one buffer, so that one operator acts on all of them.
//!
//! A ViT has hundreds of variables, most of them small. An optimiser that launches a dozen operators a
//! variable spends more time on launches than a GPU spends on the step; on one buffer it launches a
//! dozen in all.

use super::Weights;
use crate::error::expect_shape;
use crate::Result;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Elements to whose multiples the start of every tensor is rounded up: 256 bytes of f32, as CUDA
/// allocates, so that matrix kernels find the alignment they are fast with.
const ALIGNMENT: i64 = 64;

/// Elements to whose multiples the start of every section is rounded up, and the rows in which norms
/// are summed: f32 sums of more elements lose digits.
const SECTION: i64 = 4096;

/// Place of one tensor in a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Name of the tensor.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its first element in the buffer.
    pub start: i64,
}

impl Segment {
    /// Number of elements.
    pub fn length(&self) -> i64 {
        self.shape.iter().product()
    }

    /// First element after it.
    pub fn end(&self) -> i64 {
        self.start + self.length()
    }
}

/// Names, shapes and places of tensors in one buffer. Between two tensors there may be a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    segments: Vec<Segment>,
    index: BTreeMap<String, usize>,
    length: i64,
}

impl Layout {
    /// Returns the layout of tensors in this order, given as name and shape. Names are distinct.
    pub fn new<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [i64])>) -> Self {
        let mut layout = Self::default();
        tensors.into_iter().for_each(|(name, shape)| layout.push(name, shape, 1));
        layout
    }

    /// Adds a tensor whose start is a multiple of `row` elements, so that the buffer can be viewed as a
    /// matrix with rows of this length.
    pub(crate) fn push(&mut self, name: &str, shape: &[i64], row: i64) {
        let segment = Segment {
            name: name.into(),
            shape: shape.into(),
            start: next_multiple(self.length, least_common_multiple(row, ALIGNMENT)),
        };
        self.length = segment.end();
        self.index.insert(name.into(), self.segments.len());
        self.segments.push(segment);
    }

    /// Begins a section: the next tensor starts at a multiple of 4096 elements.
    pub(crate) fn begin_section(&mut self) {
        self.length = next_multiple(self.length, SECTION);
    }

    /// Returns the places of all tensors, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns the place of a tensor.
    pub fn get(&self, name: &str) -> Option<&Segment> {
        self.index.get(name).map(|&at| &self.segments[at])
    }

    /// Number of elements of a buffer, with gaps.
    pub fn length(&self) -> i64 {
        next_multiple(self.length, SECTION)
    }

    /// Returns the ranges of elements over which `key` is equal, in order, without those where it is
    /// `None`. A gap belongs to the tensor before it; a range ends with its last tensor.
    pub fn runs<K: PartialEq>(&self, key: impl Fn(&Segment) -> Option<K>) -> Vec<(K, Range<i64>)> {
        let mut runs: Vec<(K, Range<i64>)> = Vec::new();
        let mut open = false;
        for segment in &self.segments {
            let Some(own) = key(segment) else {
                open = false;
                continue;
            };
            match runs.last_mut().filter(|(last, _)| open && *last == own) {
                Some((_, range)) => range.end = segment.end(),
                None => runs.push((own, segment.start..segment.end())),
            }
            open = true;
        }
        runs
    }
}

/// Tensors in one buffer.
#[derive(Debug)]
pub struct FlatTensors {
    layout: Arc<Layout>,
    data: Tensor,
}

impl FlatTensors {
    /// Returns tensors of zeros.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if the device is out of memory.
    pub fn zeros(layout: &Arc<Layout>, kind: Kind, device: Device) -> Result<Self> {
        let data = Tensor::f_zeros([layout.length()], (kind, device))?;
        Ok(Self { layout: Arc::clone(layout), data })
    }

    /// Returns copies, as f32, of the tensors that `tensor` returns for each segment, with zeros where
    /// it returns `None`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if one has another shape than its segment.
    pub fn gather<T: Borrow<Tensor>>(
        layout: &Arc<Layout>,
        device: Device,
        mut tensor: impl FnMut(&Segment) -> Option<T>,
    ) -> Result<Self> {
        let tensors: Vec<Option<T>> = layout.segments.iter().map(&mut tensor).collect();
        let given = || tensors.iter().flatten().map(Borrow::borrow);
        let kind = given().next().map_or(Kind::Float, Tensor::kind);
        let zeros = Zeros::new(layout, &tensors, kind, device)?;
        let mut parts = Vec::with_capacity(2 * tensors.len() + 1);
        let mut end = 0;
        for (segment, tensor) in layout.segments.iter().zip(&tensors) {
            let Some(tensor) = tensor else { continue };
            let tensor = tensor.borrow();
            expect_shape("flat tensors", &segment.name, tensor, &segment.shape)?;
            zeros.fill(&mut parts, segment.start - end)?;
            parts.push(tensor.f_detach()?.f_reshape([-1])?);
            end = segment.end();
        }
        zeros.fill(&mut parts, layout.length() - end)?;
        if parts.is_empty() {
            return Self::zeros(layout, Kind::Float, device);
        }
        let data = crate::autograd::no_grad(|| Tensor::f_cat(&parts, 0)?.f_to_kind(Kind::Float))?;
        Ok(Self { layout: Arc::clone(layout), data })
    }

    /// Names, shapes and places.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The whole buffer, one axis.
    pub fn data(&self) -> &Tensor {
        &self.data
    }

    /// Range of all elements, if there are any.
    pub(crate) fn whole(&self) -> Option<Range<i64>> {
        (self.layout.length() > 0).then(|| 0..self.layout.length())
    }

    /// Returns the elements of a range, which share memory with the buffer.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] for a range beyond the buffer.
    pub fn range(&self, range: &Range<i64>) -> Result<Tensor> {
        Ok(self.data.f_narrow(0, range.start, range.end - range.start)?)
    }

    /// Returns the elements of a range as rows of `row` elements.
    pub(crate) fn rows(&self, range: &Range<i64>, row: i64) -> Result<Tensor> {
        Ok(self.range(range)?.f_view([-1, row])?)
    }

    /// Returns the tensor of a segment, which shares memory with the buffer.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] for a segment of another layout.
    pub fn tensor(&self, segment: &Segment) -> Result<Tensor> {
        Ok(self.range(&(segment.start..segment.end()))?.f_view(&segment.shape[..])?)
    }

    /// Returns the tensor of a name, which shares memory with the buffer; `None` for an unknown name.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if libtorch fails.
    pub fn get(&self, name: &str) -> Result<Option<Tensor>> {
        self.layout.get(name).map(|segment| self.tensor(segment)).transpose()
    }

    /// Returns all tensors by name; they share memory with the buffer.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] if libtorch fails.
    pub fn tensors(&self) -> Result<Weights> {
        let segments = self.layout.segments.iter();
        segments.map(|own| Ok((own.name.clone(), self.tensor(own)?))).collect()
    }

    /// Returns the Euclidean norms of the rows of ranges of elements; the norm of these is that of all.
    /// Each range begins with the first tensor of a section and ends where a section does: what lies before it in its
    /// section is zeros.
    pub(crate) fn row_norms(
        &self,
        ranges: impl IntoIterator<Item = Range<i64>>,
    ) -> Result<Vec<Tensor>> {
        let norms = ranges.into_iter().map(|range| {
            let (start, end) = (range.start / SECTION * SECTION, next_multiple(range.end, SECTION));
            let rows = self.rows(&(start..end), SECTION)?;
            Ok(rows.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), false)?)
        });
        norms.collect()
    }
}

/// Zeros between the tensors of a buffer.
struct Zeros {
    longest: Option<Tensor>,
}

impl Zeros {
    fn new<T>(layout: &Layout, tensors: &[Option<T>], kind: Kind, device: Device) -> Result<Self> {
        let (mut longest, mut end) = (0, 0);
        for (segment, _) in layout.segments.iter().zip(tensors).filter(|(_, own)| own.is_some()) {
            longest = longest.max(segment.start - end);
            end = segment.end();
        }
        longest = longest.max(layout.length() - end);
        let zeros = (longest > 0).then(|| Tensor::f_zeros([longest], (kind, device)));
        Ok(Self { longest: zeros.transpose()? })
    }

    fn fill(&self, parts: &mut Vec<Tensor>, length: i64) -> Result<()> {
        if let Some(zeros) = self.longest.as_ref().filter(|_| length > 0) {
            parts.push(zeros.f_narrow(0, 0, length)?);
        }
        Ok(())
    }
}

/// Splits a range into blocks of whole rows of `row` elements that stay in a CPU's cache over a few
/// operators. A GPU takes the whole range: there every operator costs a launch.
pub(crate) fn blocks(
    range: &Range<i64>,
    row: i64,
    device: Device,
) -> impl Iterator<Item = Range<i64>> {
    let (start, end) = (range.start, range.end);
    let length = match device {
        Device::Cpu => ((1 << 18) / row).max(1) * row,
        _ => (end - start).max(1),
    };
    (start..end).step_by(length as usize).map(move |at| at..(at + length).min(end))
}

fn next_multiple(number: i64, of: i64) -> i64 {
    (number + of - 1) / of * of
}

fn least_common_multiple(left: i64, right: i64) -> i64 {
    let (mut a, mut b) = (left.max(1), right);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    left.max(1) / a * right
}

#[cfg(test)]
mod tests;
