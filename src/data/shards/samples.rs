//! Samples: consecutive members of one key, an image and its class.

use super::scan::{name, Stop, BLOCK};
use crate::error::ShardError;
use std::io::Read;
use tar::Entry;

/// Extensions of images, without regard to case.
const IMAGES: [&[u8]; 3] = [b"jpg", b"jpeg", b"png"];
/// Extension of classes.
const CLASS: &[u8] = b"cls";
/// Largest accepted class.
pub(super) const MOST_CLASS: u32 = (1 << 20) - 1;
/// Longest accepted text of a class.
const LONGEST_CLASS: u64 = 32;

/// Image of a shard. 16 bytes, because a data set has millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    /// Position of the image's data, in blocks.
    pub block: u32,
    /// Length of the image in bytes.
    pub length: u32,
    pub class: u32,
    /// Blocks before the data that the header has, with its extensions.
    pub header_blocks: u32,
}

impl Member {
    /// Position of the image's data in the shard.
    pub fn position(&self) -> u64 {
        u64::from(self.block) * BLOCK
    }

    /// Position after the image's data.
    pub fn end(&self) -> u64 {
        self.position() + u64::from(self.length)
    }

    /// Position of the image's header, or of the extension before it.
    pub fn header_position(&self) -> u64 {
        u64::from(self.block.saturating_sub(self.header_blocks)) * BLOCK
    }
}

/// Samples of a shard, collected in the order of its members.
#[derive(Default)]
pub(super) struct Samples {
    members: Vec<Member>,
    current: Option<Sample>,
    dotted_images: DottedImages,
}

/// Images of the latest key that has images with another dot in their name, such as `photo_1.5x.jpg`.
#[derive(Default)]
struct DottedImages {
    key: Vec<u8>,
    /// What is between the key and the extension: `5x`.
    middles: Vec<Vec<u8>>,
}

/// Class with another dot in its name: a second label, or the class of an image with such a name.
struct DottedClass {
    middle: Vec<u8>,
    name: String,
}

/// Sample under construction, with the names of its members.
struct Sample {
    key: Vec<u8>,
    /// The image, without its class.
    image: Option<(Member, String)>,
    class: Option<(u32, String)>,
    dotted_classes: Vec<DottedClass>,
}

impl Samples {
    /// Adds a file whose header, with its extensions, begins at `start`. Files of other extensions
    /// are ignored. An error for a class with another dot in its name, if an image has the same name.
    pub fn add<R: Read>(&mut self, start: u64, entry: &mut Entry<'_, R>) -> Result<(), Stop> {
        let path = entry.path_bytes().into_owned();
        let Some((key, extension)) = split(&path) else { return Ok(()) };
        let extension = extension.to_ascii_lowercase();
        if IMAGES.contains(&&*extension) {
            let new = (image(start, entry)?, name(entry));
            set(&mut self.sample(key)?.image, new, key, "image")?;
        } else if extension == CLASS {
            let new = (class(entry)?, name(entry));
            set(&mut self.sample(key)?.class, new, key, "class")?;
        } else if let Some((middle, extension)) = split_last(&extension) {
            if extension == CLASS {
                self.add_dotted_class(key, middle, name(entry))?;
            } else if IMAGES.contains(&extension) {
                self.add_dotted_image(key, middle)?;
            }
        }
        Ok(())
    }

    fn add_dotted_class(
        &mut self,
        key: &[u8],
        middle: &[u8],
        name: String,
    ) -> Result<(), ShardError> {
        let images = &self.dotted_images;
        if images.key == key && images.middles.iter().any(|own| own == middle) {
            return Err(dotted(name, key));
        }
        let class = DottedClass { middle: middle.to_vec(), name };
        self.sample(key)?.dotted_classes.push(class);
        Ok(())
    }

    /// Remembers an image that is ignored, as an error for the class with the same name.
    fn add_dotted_image(&mut self, key: &[u8], middle: &[u8]) -> Result<(), ShardError> {
        let sample = self.current.as_ref().filter(|sample| sample.key == key);
        let mut classes = sample.into_iter().flat_map(|sample| &sample.dotted_classes);
        if let Some(class) = classes.find(|class| class.middle == middle) {
            return Err(dotted(class.name.clone(), key));
        }
        if self.dotted_images.key != key {
            self.dotted_images = DottedImages { key: key.to_vec(), middles: Vec::new() };
        }
        self.dotted_images.middles.push(middle.to_vec());
        Ok(())
    }

    /// The sample of `key`. Another one before it has to be complete.
    fn sample(&mut self, key: &[u8]) -> Result<&mut Sample, ShardError> {
        if self.current.as_ref().is_some_and(|sample| sample.key != key) {
            self.complete()?;
        }
        let new =
            || Sample { key: key.to_vec(), image: None, class: None, dotted_classes: Vec::new() };
        Ok(self.current.get_or_insert_with(new))
    }

    fn complete(&mut self) -> Result<(), ShardError> {
        let Some(sample) = self.current.take() else { return Ok(()) };
        let Sample { key, image, class, dotted_classes } = sample;
        let missing = |part| match dotted_classes.first() {
            Some(class) => dotted(class.name.clone(), &key),
            None => ShardError::Missing { key: text(&key), part },
        };
        let (image, _) = image.ok_or_else(|| missing("image"))?;
        let (class, _) = class.ok_or_else(|| missing("class"))?;
        self.members.push(Member { class, ..image });
        Ok(())
    }

    /// Returns the samples, at least one.
    pub fn finish(mut self) -> Result<Vec<Member>, ShardError> {
        self.complete()?;
        match self.members.is_empty() {
            true => Err(ShardError::Empty),
            false => Ok(self.members),
        }
    }
}

/// Sets a part of the sample of `key` that has none yet.
fn set<T>(
    place: &mut Option<(T, String)>,
    new: (T, String),
    key: &[u8],
    part: &'static str,
) -> Result<(), ShardError> {
    if let Some((_, first)) = place.take() {
        return Err(ShardError::Twice { key: text(key), part, first, second: new.1 });
    }
    *place = Some(new);
    Ok(())
}

/// Splits a member's name at the first dot of its base name, as WebDataset does: key and extension.
/// `None` if there is no such dot, or the base name begins with it.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let base = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let dot = path[base..].iter().position(|&byte| byte == b'.').filter(|&dot| dot > 0)?;
    Some((&path[..base + dot], &path[base + dot + 1..]))
}

/// Splits an extension at its last dot: `5x.cls` into `5x` and `cls`. `None` if there is no dot.
fn split_last(extension: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = extension.iter().rposition(|&byte| byte == b'.')?;
    Some((&extension[..dot], &extension[dot + 1..]))
}

fn dotted(member: String, key: &[u8]) -> ShardError {
    ShardError::DottedName { member, key: text(key) }
}

fn image<R: Read>(start: u64, entry: &Entry<'_, R>) -> Result<Member, ShardError> {
    let (position, length) = (entry.raw_file_position(), entry.size());
    let too_long =
        |what, found, most| ShardError::TooLong { member: name(entry), what, found, most };
    let most = u64::from(u32::MAX);
    let length = u32::try_from(length).map_err(|_| too_long("length", length, most))?;
    let blocks = |bytes: u64| u32::try_from(bytes / BLOCK);
    let block = blocks(position).map_err(|_| too_long("position", position, most * BLOCK))?;
    // Not larger than the position.
    let header_blocks = blocks(position - start).unwrap_or(block);
    Ok(Member { block, length, class: 0, header_blocks })
}

fn class<R: Read>(entry: &mut Entry<'_, R>) -> Result<u32, Stop> {
    let member = name(entry);
    let refused = |found| ShardError::NotClass { member, found, most: MOST_CLASS };
    let length = entry.size();
    if length > LONGEST_CLASS {
        return Err(refused(format!("{length} bytes")).into());
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    let digits = content.trim_ascii();
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u32>().ok());
    let number = number.filter(|_| digits.iter().all(u8::is_ascii_digit));
    let class = number.filter(|&class| class <= MOST_CLASS);
    Ok(class.ok_or_else(|| refused(format!("{:?}", text(&content))))?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
