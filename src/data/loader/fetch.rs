//! From an index to an image that can be transformed.

use super::job::Job;
use super::options::OnCorrupt;
use super::order::View;
use crate::data::random_stream::{RandomStream, StreamId};
use crate::data::transform::Rectangle;
use crate::data::{EncodedImage, Image, LabelledImage};
use crate::error::DecodeError;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// An image, and what its transform needs to go on.
pub(super) struct Fetched {
    /// Rows below `seen` may be missing.
    pub image: Image,
    /// The part that the transform drew.
    pub seen: Rectangle,
    /// Random numbers behind those that drew it.
    pub stream: RandomStream,
    pub class: usize,
}

/// Fetches the image of a view, or the next one that can be decoded.
///
/// `file` is memory that is kept from one image to the next.
pub(super) fn fetch(
    job: &Job,
    epoch: u64,
    view: View,
    file: &mut Vec<u8>,
    corrupt: &mut BTreeMap<usize, String>,
) -> Result<Fetched> {
    let mut index = view.index;
    loop {
        // Of the image that is shown, not of the one that it stands in for.
        let id = StreamId::Sample { index, repeat: view.repeat };
        let stream = RandomStream::of(job.options.seed, epoch, id);
        let limit = match (fetch_one(job, index, stream, file), job.options.on_corrupt) {
            (Err(Error::Image { name, .. }), OnCorrupt::Skip { limit }) => {
                corrupt.insert(index, name);
                limit
            }
            (fetched, _) => return fetched,
        };
        expect_few(corrupt, limit)?;
        index = (index + 1) % job.dataset.len();
        if index == view.index {
            // All are corrupt, though not more than the limit.
            return Err(too_many(corrupt, limit));
        }
    }
}

fn fetch_one(
    job: &Job,
    index: usize,
    mut stream: RandomStream,
    file: &mut Vec<u8>,
) -> Result<Fetched> {
    let fetched = match job.dataset.read(index, file)? {
        Some(class) => {
            let (image, seen) = decode(job, file, &mut stream)
                .map_err(|source| Error::Image { name: job.dataset.name(index), source })?;
            Fetched { image, seen, stream, class }
        }
        None => {
            let LabelledImage { image, class } = job.dataset.load(index)?;
            let seen = job.options.transform.seen(image.width(), image.height(), &mut stream);
            Fetched { image, seen, stream, class }
        }
    };
    let expected = job.dataset.channels();
    if fetched.image.channels() != expected || fetched.class >= job.dataset.classes() {
        return Err(Error::invalid(
            job.dataset.name(index),
            format!("{expected} channels, class less than {}", job.dataset.classes()),
            format!("{} channels, class {}", fetched.image.channels(), fetched.class),
        ));
    }
    Ok(fetched)
}

/// The image down to the last row that the transform sees, and what that is.
fn decode(
    job: &Job,
    file: &[u8],
    stream: &mut RandomStream,
) -> std::result::Result<(Image, Rectangle), DecodeError> {
    let encoded = EncodedImage::open(file)?;
    let seen = job.options.transform.seen(encoded.width(), encoded.height(), stream);
    Ok((encoded.decode_top(seen.top + seen.height)?, seen))
}

/// Checks that there are no more corrupt images than the limit.
pub(super) fn expect_few(corrupt: &BTreeMap<usize, String>, limit: usize) -> Result<()> {
    if corrupt.len() <= limit {
        return Ok(());
    }
    Err(too_many(corrupt, limit))
}

fn too_many(corrupt: &BTreeMap<usize, String>, limit: usize) -> Error {
    Error::CorruptImages { limit, names: corrupt.values().cloned().collect() }
}
