//! File formats by their first bytes.

/// Name of a format with the bytes it begins with, and their offset.
const FORMATS: [(&str, usize, &[u8]); 22] = [
    ("GIF", 0, b"GIF8"),
    ("WebP", 8, b"WEBP"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("BigTIFF", 0, b"II+\0"),
    ("HEIC", 4, b"ftyphei"),
    ("HEIC", 4, b"ftyphev"),
    ("HEIF", 4, b"ftypmif1"),
    ("HEIF", 4, b"ftypmsf1"),
    ("AVIF", 4, b"ftypavi"),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("JPEG XL", 4, b"JXL "),
    ("JPEG 2000", 4, b"jP  "),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
    ("BMP", 0, b"BM"),
    ("PPM", 0, b"P6"),
    ("PGM", 0, b"P5"),
    ("PDF", 0, b"%PDF"),
    ("HTML", 0, b"<!DOCTYPE"),
    ("HTML", 0, b"<html"),
    ("SVG or XML", 0, b"<?xml"),
    ("gzip", 0, b"\x1f\x8b"),
];

/// First bytes of the text that Git LFS puts in the place of a large file.
pub(super) const LFS_MAGIC: &[u8] = b"version https://git-lfs";

/// Name of a file's format; `None` for one that is not known.
pub(super) fn name(bytes: &[u8]) -> Option<&'static str> {
    let begins = |&(_, at, magic): &(&str, usize, &[u8])| {
        bytes.get(at..at + magic.len()).is_some_and(|found| found.eq_ignore_ascii_case(magic))
    };
    FORMATS.iter().find(|format| begins(format)).map(|&(name, ..)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::has_image_extension;

    /// Formats of files that are no images.
    const OTHERS: [&str; 4] = ["PDF", "HTML", "SVG or XML", "gzip"];

    #[test]
    fn every_image_format_is_an_image_by_its_extensions() {
        for (name, ..) in FORMATS.iter().filter(|(name, ..)| !OTHERS.contains(name)) {
            let extensions: &[&str] = match *name {
                "TIFF" | "BigTIFF" => &["tif", "tiff"],
                "HEIC" | "HEIF" => &["heic", "heif", "hif"],
                "JPEG XL" => &["jxl"],
                "JPEG 2000" => &["jp2", "j2k"],
                other => &[other],
            };
            for extension in extensions {
                assert!(has_image_extension(format!("a.{extension}").as_ref()), "{extension}");
            }
        }
    }
}
