//! Reading and decoding of one image, with the skipping of corrupt ones.

use super::options::OnCorrupt;
use super::order::View;
use super::worker::Job;
use crate::data::random_stream::{RandomStream, StreamId};
use crate::data::transform::Rectangle;
use crate::data::{EncodedImage, Image, LabelledImage};
use crate::error::DecodeError;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Decoded image with the state of its transform.
pub(super) struct Fetched {
    /// Index of the image, after the replacement of corrupt ones.
    pub index: usize,
    /// Image; rows below `region` may be missing.
    pub image: Image,
    /// Region drawn by the transform.
    pub region: Rectangle,
    /// Random stream, after the region was drawn.
    pub stream: RandomStream,
    pub class: usize,
}

/// Fetches the image of a view. A corrupt image is added to `corrupt` and replaced by the next
/// index that can be decoded, if the options say so.
///
/// `file` is a buffer that is reused for every image.
pub(super) fn fetch(
    job: &Job,
    epoch: u64,
    view: View,
    file: &mut Vec<u8>,
    corrupt: &mut BTreeMap<usize, String>,
) -> Result<Fetched> {
    let mut index = view.index;
    loop {
        // The stream of the replacement itself, not of the corrupt image.
        let id = StreamId::Sample { index, repeat: view.repeat };
        let stream = RandomStream::of(job.options.seed, epoch, id);
        let limit = match (fetch_one(job, index, stream, file), job.options.on_corrupt) {
            (Err(Error::Image { name, .. }), OnCorrupt::Skip { limit }) => {
                corrupt.insert(index, name);
                limit
            }
            (fetched, _) => return fetched,
        };
        check_limit(corrupt, limit)?;
        index = (index + 1) % job.dataset.len();
        if index == view.index {
            return Err(all_corrupt(corrupt));
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
            let (image, region) = decode(job, file, &mut stream)
                .map_err(|source| Error::Image { name: job.dataset.name(index), source })?;
            Fetched { index, image, region, stream, class }
        }
        None => {
            let LabelledImage { image, class } = job.dataset.load(index)?;
            let region = job.options.transform.region(image.width(), image.height(), &mut stream);
            Fetched { index, image, region, stream, class }
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

/// Decodes a file down to the last row of the region that the transform draws.
fn decode(
    job: &Job,
    file: &[u8],
    stream: &mut RandomStream,
) -> std::result::Result<(Image, Rectangle), DecodeError> {
    let encoded = EncodedImage::open_within(file, job.dataset.max_pixels())?;
    let region = job.options.transform.region(encoded.width(), encoded.height(), stream);
    Ok((encoded.decode_top(region.top + region.height)?, region))
}

/// Checks that the number of corrupt images does not exceed the limit.
pub(super) fn check_limit(corrupt: &BTreeMap<usize, String>, limit: usize) -> Result<()> {
    if corrupt.len() <= limit {
        return Ok(());
    }
    Err(Error::CorruptImages { limit, names: corrupt.values().cloned().collect() })
}

/// The error of a data set whose images are all corrupt, and not more than the limit.
fn all_corrupt(corrupt: &BTreeMap<usize, String>) -> Error {
    let first = corrupt.values().next().map_or("", String::as_str);
    let actual = format!("none of {}, the first of which is {first}", corrupt.len());
    let expected = "at least 1; see what is wrong with each by inspect_images (`deit_s inspect`)";
    Error::invalid("images of the data set that can be decoded", expected, actual)
}
