//! Torn and damaged shards: each fault is refused with shard, member, and both values.

use crate::archives::{append, archive, archive_with, pattern, put};
use crate::sets::file;
use crate::support::TestResult;
use once_for_both::data::{Dataset, TarShards};
use once_for_both::Error;
use std::io::Write;
use tar::{Builder, EntryType, Header};
use tempfile::{tempdir, TempDir};

/// What opening a shard of these bytes is refused with.
fn refusal(bytes: &[u8]) -> TestResult<String> {
    let folder = tempdir()?;
    let path = put(&folder, "0.tar", bytes)?;
    match TarShards::open(pattern(&path)?) {
        Err(error @ Error::Shard { .. }) => {
            assert_eq!(error.to_string(), format!("cannot use the shard {}", path.display()));
            Ok(std::error::Error::source(&error).ok_or("no source")?.to_string())
        }
        other => Err(format!("{} bytes: {other:?}", bytes.len()).into()),
    }
}

fn expect(bytes: &[u8], said: &str) -> TestResult {
    let refusal = refusal(bytes)?;
    assert!(refusal.contains(said), "got {refusal}, expected {said}");
    Ok(())
}

const IMAGE: (&str, &[u8]) = ("a.jpg", b"image");
const CLASS: (&str, &[u8]) = ("a.cls", b"0");

#[test]
fn shard_cut_at_any_byte_before_its_end_is_refused() -> TestResult {
    // Headers at 0 and 1024, data at 512 and 1536, end at 2048.
    let whole = archive(&[IMAGE, CLASS])?;
    assert_eq!(whole.len(), 3072);
    for length in (1..2560).step_by(37).chain([512, 516, 517, 1024, 1536, 1537, 2048, 2559]) {
        let said = match length {
            ..512 => format!("header at byte 0: got {length} bytes, expected 512"),
            512..517 => format!("member a.jpg: got {} bytes, expected 5", length - 512),
            517..=1024 => format!("got the end of the file at byte {length}"),
            1025..1536 => format!("header at byte 1024: got {} bytes, expected 512", length - 1024),
            1536 => "member a.cls: got 0 bytes, expected 1".into(),
            1537..=2048 => format!("got the end of the file at byte {length}"),
            _ => format!("header at byte 2048: got {} bytes, expected 512", length - 2048),
        };
        expect(&whole[..length], &said)?;
    }
    // An empty file has neither samples nor an end.
    expect(b"", "got the end of the file at byte 0")
}

#[test]
fn header_with_a_wrong_checksum_is_refused_with_both_checksums() -> TestResult {
    let mut bytes = archive(&[IMAGE, CLASS])?;
    bytes[1024] = b'b';
    let said = refusal(&bytes)?;
    let stated = Header::from_byte_slice(&archive(&[CLASS])?[..512]).cksum()?;
    let expected =
        format!("checksum of the header at byte 1024: got {stated}, expected {}", stated + 1);
    assert!(said.starts_with(&expected), "{said}");
    bytes[1024..1536].fill(b'x');
    expect(&bytes, "checksum of the header at byte 1024: got \"xxxxxxxx\", expected")
}

#[test]
fn header_with_a_wrong_size_is_refused_as_a_truncated_member() -> TestResult {
    let mut bytes = archive(&[IMAGE, CLASS])?;
    let mut header = Header::from_byte_slice(&bytes[..512]).clone();
    header.set_size(1_000_000);
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    expect(&bytes, "member a.jpg: got 2560 bytes, expected 1000000")?;
    // A size that is no number.
    header.as_old_mut().size = *b"xxxxxxxxxxxx";
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    expect(&bytes, "header at byte 0: got a damaged one")
}

/// A shard whose writer was killed, or whose end was never written, has zeros in place of members.
#[test]
fn shard_with_a_part_of_zeros_or_bytes_after_its_end_is_refused() -> TestResult {
    let whole = archive(&[IMAGE, CLASS])?;
    let two = [&whole[..], &whole].concat();
    expect(&two, "end of the archive at byte 2048: got bytes other than zeros after it")?;
    let torn = [&whole[..], &vec![0; 1 << 20]].concat();
    let said = format!("from byte 2048: got {} bytes, expected at most 1048576", (1 << 20) + 1024);
    expect(&torn, &said)
}

#[test]
fn member_that_is_no_file_is_refused_with_its_kind() -> TestResult {
    for (kind, name) in [
        (EntryType::Symlink, "a symbolic link"),
        (EntryType::Link, "a hard link"),
        (EntryType::Fifo, "a device or pipe"),
        (EntryType::Char, "a device or pipe"),
        (EntryType::new(b'Q'), "an entry of an unknown type"),
    ] {
        let said = format!("member b.jpg: got {name}, expected a regular file");
        let refusal = refusal(&archive_with("b.jpg", kind)?)?;
        assert!(refusal.starts_with(&said), "got {refusal}, expected {said}");
        // The advice helps against links only.
        let is_link = name.ends_with("link");
        assert_eq!(refusal.contains("tar --dereference --hard-dereference"), is_link, "{refusal}");
    }
    Ok(())
}

#[test]
fn sample_without_its_image_or_its_class_is_refused_with_its_key() -> TestResult {
    let other = ("x/b.png", &b"image"[..]);
    expect(&archive(&[IMAGE, CLASS, other])?, "sample x/b: got no class")?;
    expect(&archive(&[other, IMAGE, CLASS])?, "sample x/b: got no class")?;
    expect(&archive(&[("b.cls", b"1"), IMAGE, CLASS])?, "sample b: got no image")?;
    // Sorted by extension: the members of a sample are apart.
    let apart = [CLASS, ("b.cls", b"1"), IMAGE, ("b.jpg", b"image")];
    expect(
        &archive(&apart)?,
        "sample a: got no image, expected one image (.jpg, .jpeg, .png) and",
    )?;
    // The folder is a part of the key.
    expect(&archive(&[("x/a.jpg", b"image"), ("y/a.cls", b"1")])?, "sample x/a: got no class")
}

#[test]
fn sample_with_two_images_or_two_classes_is_refused_with_both_names() -> TestResult {
    let said = "sample a: got two members for its image, a.jpg and a.PNG, expected one";
    expect(&archive(&[IMAGE, ("a.PNG", b"image"), CLASS])?, said)?;
    let said = "sample a: got two members for its class, a.cls and a.CLS, expected one";
    expect(&archive(&[CLASS, IMAGE, ("a.CLS", b"0")])?, said)
}

#[test]
fn class_that_is_no_integer_in_range_is_refused_with_its_text() -> TestResult {
    for (class, found) in [
        ("", "\"\""),
        ("cat", "\"cat\""),
        ("-1", "\"-1\""),
        ("+1", "\"+1\""),
        ("1.0", "\"1.0\""),
        ("1 2", "\"1 2\""),
        ("1048576", "\"1048576\""),
        ("99999999999", "\"99999999999\""),
        ("0000000000000000000000000000000000001", "37 bytes"),
    ] {
        let said = format!("class in a.cls: got {found}, expected an integer within [0, 1048575]");
        expect(&archive(&[IMAGE, ("a.cls", class.as_bytes())])?, &said)?;
    }
    let folder = tempdir()?;
    let path = put(&folder, "0.tar", &archive(&[IMAGE, ("a.cls", b" 07\r\n")])?)?;
    assert_eq!(TarShards::open(pattern(&path)?)?.classes(), 8);
    Ok(())
}

#[test]
fn shard_without_samples_is_refused() -> TestResult {
    expect(&archive(&[])?, "samples: got none, expected at least one")?;
    expect(&archive(&[("notes.txt", b"?"), ("jpg", b"?"), (".jpg", b"?")])?, "samples: got none")
}

#[test]
fn file_that_is_no_archive_or_a_compressed_one_is_refused() -> TestResult {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&archive(&[IMAGE, CLASS])?)?;
    expect(&gzip.finish()?, "format: got gzip, expected an archive that is not compressed")?;
    expect(&file("colour.jpg")?, "checksum of the header at byte 0")?;
    expect(&[b'x'; 100], "header at byte 0: got 100 bytes, expected 512")
}

/// The tar reader would read a name of any length into memory.
#[test]
fn name_that_is_longer_than_any_is_refused() -> TestResult {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    let name = vec![b'n'; 2 << 20];
    header.set_size(name.len() as u64);
    builder.append_data(&mut header, "././@LongLink", &name[..])?;
    append(&mut builder, IMAGE.0, IMAGE.1)?;
    expect(&builder.into_inner()?, "header at byte")
}

/// An extension header, such as a long name, at the end of what was written.
#[test]
fn shard_cut_after_the_extension_of_a_header_is_refused() -> TestResult {
    let long = format!("{}.jpg", "n".repeat(200));
    let whole = archive(&[(&long, b"image"), (&long.replace("jpg", "cls"), b"0")])?;
    for length in (1..whole.len() - 1024).step_by(101).chain([512, 1024]) {
        refusal(&whole[..length])?;
    }
    Ok(())
}

/// `photo_1.5x.jpg` has the key `photo_1` and the extension `5x.jpg`.
#[test]
fn class_whose_name_has_another_dot_is_refused_with_its_key() -> TestResult {
    let dotted = [("x/photo_1.5x.jpg", &b"image"[..]), ("x/photo_1.5x.CLS", b"0")];
    let said =
        "member x/photo_1.5x.CLS: got a dot within the name, expected x/photo_1.cls: the key \
                ends at the first dot";
    expect(&archive(&[&[IMAGE, CLASS][..], &dotted].concat())?, said)?;
    expect(&archive(&[&dotted[..], &[IMAGE, CLASS]].concat())?, said)?;
    // Beside a sample of the same key, in the order of their names and in another one.
    let own = [("x/photo_1.cls", &b"0"[..]), ("x/photo_1.jpg", b"image")];
    let [image, class] = dotted;
    for members in [[class, image, own[0], own[1]], [own[0], own[1], image, class]] {
        expect(&archive(&members)?, said)?;
    }
    // Without an image or a class of its own.
    expect(&archive(&[own[0], class])?, said)?;
    expect(&archive(&[own[1], class])?, said)
}

#[test]
fn second_label_beside_an_image_and_its_class_is_ignored() -> TestResult {
    let second = [("a.seg.cls", &b"no number"[..]), ("a.coarse.CLS", b"7")];
    let mask = ("a.mask.png", &b"mask"[..]);
    let last = [("b.cls", &b"3"[..]), ("b.png", b"image")];
    for first in [
        [&[IMAGE, CLASS][..], &second],
        [&second, &[CLASS, IMAGE]],
        [&[CLASS, second[0], mask, IMAGE], &second[1..]],
    ] {
        let folder = tempdir()?;
        let bytes = archive(&[&first.concat()[..], &last].concat())?;
        let shards = TarShards::open(pattern(&put(&folder, "0.tar", &bytes)?)?)?;
        let class = |index| shards.read(index, &mut Vec::new());
        assert_eq!((shards.len(), class(0)?, class(1)?), (2, Some(0), Some(3)));
    }
    Ok(())
}

/// Runs the command that an error advises, `tar … -cf SHARD FOLDER`, in a folder.
#[cfg(target_os = "linux")]
fn tar_as_advised(said: &str, folder: &TempDir) -> TestResult<TarShards> {
    let begin = said.find("tar --").ok_or_else(|| format!("no command in {said}"))?;
    let command = said[begin..].replace("SHARD", "new.tar").replace("FOLDER", "images");
    let words: Vec<&str> = command.split(' ').collect();
    let status = std::process::Command::new(words[0])
        .args(&words[1..])
        .current_dir(folder.path())
        .status()?;
    assert!(status.success(), "{command}");
    Ok(TarShards::open(pattern(&folder.path().join("new.tar"))?)?)
}

#[test]
#[cfg(target_os = "linux")]
fn advice_against_links_and_unsorted_members_writes_a_shard_that_is_accepted() -> TestResult {
    let folder = tempdir()?;
    let images = folder.path().join("images");
    std::fs::create_dir(&images)?;
    for (name, content) in [("b.cls", "1"), ("a.cls", "0"), ("b.jpg", "image")] {
        std::fs::write(images.join(name), content)?;
    }
    std::fs::hard_link(images.join("b.jpg"), images.join("a.jpg"))?;
    std::os::unix::fs::symlink("b.jpg", images.join("c.jpg"))?;
    std::fs::write(images.join("c.cls"), "2")?;
    for kind in [EntryType::Link, EntryType::Symlink] {
        let said = refusal(&archive_with("b.jpg", kind)?)?;
        let shards = tar_as_advised(&said, &folder)?;
        assert_eq!((shards.len(), shards.classes()), (3, 3), "{said}");
    }
    for name in ["a.jpg", "c.jpg"] {
        std::fs::remove_file(images.join(name))?;
        std::fs::write(images.join(name), "image")?;
    }
    let apart = [CLASS, ("b.cls", b"1"), IMAGE, ("b.jpg", b"image")];
    assert_eq!(tar_as_advised(&refusal(&archive(&apart)?)?, &folder)?.len(), 3);
    Ok(())
}
