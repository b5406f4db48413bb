//! Errors of tar shards.

use std::io;

/// Why a tar shard of a data set cannot be used; [`Error::Shard`](super::Error::Shard) has its path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// A header that is no tar header although its checksum is right, or one with too long a name.
    #[error(
        "header at byte {offset}: got a damaged one, expected a tar header; copy the shard again"
    )]
    Header {
        /// Position of the header in the shard.
        offset: u64,
        /// Message of the tar reader.
        source: io::Error,
    },
    /// A compressed archive, whose members have no positions.
    #[error("format: got {format}, expected an archive that is not compressed; unpack it")]
    Compressed {
        /// The format.
        format: &'static str,
    },
    /// A header with another checksum than the one it states.
    #[error(
        "checksum of the header at byte {offset}: got {stated}, expected {computed}; the shard is \
         damaged: copy it again"
    )]
    Checksum {
        /// Position of the header in the shard.
        offset: u64,
        /// Checksum field of the header.
        stated: String,
        /// Checksum of the header's bytes.
        computed: u32,
    },
    /// A shard that ends within a header.
    #[error(
        "header at byte {offset}: got {found} bytes, expected 512; the shard is truncated: copy it again"
    )]
    TruncatedHeader {
        /// Position of the header in the shard.
        offset: u64,
        /// Bytes present.
        found: u64,
    },
    /// A shard that ends within a member.
    #[error(
        "member {member}: got {found} bytes, expected {expected}; the shard is truncated: copy it again"
    )]
    TruncatedMember {
        /// Name of the member.
        member: String,
        /// Bytes according to the header.
        expected: u64,
        /// Bytes present.
        found: u64,
    },
    /// A shard that ends after a member.
    #[error(
        "end of the archive: got the end of the file at byte {length}, expected blocks of zeros before \
         it; the shard is truncated, or its writer was not closed: copy or write it again"
    )]
    NoEnd {
        /// Length of the shard in bytes.
        length: u64,
    },
    /// Bytes after the end of the archive, as two archives in one file have.
    #[error(
        "end of the archive at byte {end}: got bytes other than zeros after it, expected none; write \
         one archive a shard"
    )]
    AfterEnd {
        /// Position of the first block of zeros.
        end: u64,
    },
    /// More zeros at the end than any writer pads with: a part that was never written.
    #[error(
        "zeros at the end, from byte {end}: got {found} bytes, expected at most {most}; a part of the \
         shard was not written: copy it again"
    )]
    Zeros {
        /// Position of the first block of zeros.
        end: u64,
        /// Number of bytes from there to the end of the file.
        found: u64,
        /// Largest accepted number.
        most: u64,
    },
    /// A link, device or sparse file in the archive.
    #[error("member {member}: got {kind}, expected a regular file{}", without_links(kind))]
    NotFile {
        /// Name of the member.
        member: String,
        /// What the member is.
        kind: &'static str,
    },
    /// A member that is longer, or lies further back, than positions are stored for.
    #[error("{what} of member {member}: got {found} bytes, expected at most {most}; write smaller shards")]
    TooLong {
        /// Name of the member.
        member: String,
        /// Length of the member, or position after it.
        what: &'static str,
        /// Value in the shard.
        found: u64,
        /// Largest accepted value.
        most: u64,
    },
    /// A sample without an image or without a class.
    #[error(
        "sample {key}: got no {part}, expected one image (.jpg, .jpeg, .png) and one class (.cls) in \
         consecutive members; write the shard again from a folder, sorted by name: \
         tar --sort=name -cf SHARD FOLDER"
    )]
    Missing {
        /// Key of the sample: the name of its members up to the first dot.
        key: String,
        /// image or class.
        part: &'static str,
    },
    /// A sample with two images or two classes.
    #[error(
        "sample {key}: got two members for its {part}, {first} and {second}, expected one; give each \
         sample a name of its own"
    )]
    Twice {
        /// Key of the sample.
        key: String,
        /// image or class.
        part: &'static str,
        /// Name of the first member.
        first: String,
        /// Name of the second member.
        second: String,
    },
    /// A class whose name has another dot, where an image has the same name or the key has no sample.
    #[error(
        "member {member}: got a dot within the name, expected {key}.cls: the key ends at the first dot; \
         write each sample under a name without other dots, and a second label beside {key}.cls under a \
         name that no image has"
    )]
    DottedName {
        /// Name of the member.
        member: String,
        /// Its key: the name up to the first dot.
        key: String,
    },
    /// A `.cls` member without the number of a class.
    #[error(
        "class in {member}: got {found}, expected an integer within [0, {most}] in ASCII digits"
    )]
    NotClass {
        /// Name of the member.
        member: String,
        /// Its content, or its length.
        found: String,
        /// Largest accepted class.
        most: u32,
    },
    /// A class that the data set does not have.
    #[error("class of {member}: got {class}, expected less than {classes}, the number of classes")]
    ClassOutOfRange {
        /// Name of the image.
        member: String,
        /// Its class.
        class: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A shard without samples.
    #[error(
        "samples: got none, expected at least one: an image (.jpg, .jpeg, .png) and its class (.cls)"
    )]
    Empty,
    /// A shard that is not what it was when the data set was opened.
    #[error(
        "{what}: got {found}, expected {expected}, as when the data set was opened; start again"
    )]
    Changed {
        /// Length, or time of the last change.
        what: &'static str,
        /// Value when the data set was opened.
        expected: u64,
        /// Present value.
        found: u64,
    },
}

/// Says how a shard with a link is written without it; nothing for members of other kinds.
fn without_links(kind: &str) -> &'static str {
    match kind.ends_with("link") {
        true => {
            "; write the shard with the files in place of their links: tar --dereference \
             --hard-dereference --sort=name -cf SHARD FOLDER"
        }
        false => "",
    }
}
