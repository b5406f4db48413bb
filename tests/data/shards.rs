//! `TarShards`: archives of several writers, equality with an image folder, resume, the index file.

use crate::archives::{append, archive, pattern, put};
use crate::assert_refused;
use crate::loading::bits;
use crate::sets::file;
use crate::support::{in_words, TestResult};
use once_for_both::data::{decode, Dataset, ImageFolder, Loader, LoaderOptions, Order, TarShards};
use once_for_both::error::{DecodeError, ShardError};
use once_for_both::Error;
use proptest::prelude::*;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tar::{Builder, Header};
use tch::Device;
use tempfile::{tempdir, TempDir};

/// Pictures in the archives that tests/data/shards/make.py writes.
const PICTURES: [&str; 4] = ["colour.jpg", "grey.png", "progressive.jpg", "palette.png"];

fn made(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/shards").join(name)
}

#[test]
fn shards_of_webdataset_are_read_in_order_with_classes_and_names() -> TestResult {
    let path = made("webdataset-{000000..000001}.tar");
    let set = TarShards::open(pattern(&path)?)?;
    assert_eq!((set.len(), set.classes(), set.channels()), (5, 5, 3));
    assert_eq!(set.shards(), [0..3, 3..5]);
    assert!(set.paths().eq([made("webdataset-000000.tar"), made("webdataset-000001.tar")]));
    for (index, class) in [0, 3, 1, 4, 2].into_iter().enumerate() {
        let loaded = set.load(index)?;
        let expected = decode(&file(PICTURES[index % 4])?)?;
        assert_eq!((loaded.class, loaded.image), (class, expected), "{index}");
    }
    let shard = made("webdataset-000001.tar").display().to_string();
    assert_eq!(set.name(3), format!("n0144/00000003.png in {shard}"));
    assert_eq!(set.name(5), "image 5");
    assert_refused!(set.load(5), Error::Invalid { actual, .. } if actual == "5");
    Ok(())
}

#[test]
fn shards_with_long_names_folders_and_hidden_files_are_read_in_pax_and_gnu_format() -> TestResult {
    for name in ["pax.tar", "gnu.tar"] {
        let set = TarShards::open(pattern(&made(name))?)?;
        assert_eq!((set.len(), set.classes()), (4, 4), "{name}");
        for (index, picture) in PICTURES.into_iter().enumerate() {
            let mut bytes = Vec::new();
            assert_eq!(set.read(index, &mut bytes)?, Some(index));
            assert_eq!(bytes, file(picture)?, "{name}, {index}");
        }
        let shown = set.name(3);
        assert!(
            shown.starts_with("a-folder-whose") && shown.contains("/äffchen-3.png in "),
            "{shown}"
        );
    }
    Ok(())
}

/// The same 14 images as a folder and as shards of 4, in the same order.
fn twins() -> TestResult<(TempDir, ImageFolder, TarShards)> {
    let folder = tempdir()?;
    let mut samples = Vec::new();
    for number in 0..14 {
        let (class, picture) = (number / 5, PICTURES[number % 4]);
        let place = folder.path().join(format!("images/{class}"));
        fs::create_dir_all(&place)?;
        let name = format!("{number:02}.{}", &picture[picture.len() - 3..]);
        fs::write(place.join(&name), file(picture)?)?;
        samples.push((name, class.to_string(), file(picture)?));
    }
    for (number, samples) in samples.chunks(4).enumerate() {
        let mut builder = Builder::new(Vec::new());
        for (name, class, picture) in samples {
            append(
                &mut builder,
                &name.replace(".jpg", ".cls").replace(".png", ".cls"),
                class.as_bytes(),
            )?;
            append(&mut builder, name, picture)?;
        }
        put(&folder, &format!("{number}.tar"), &builder.into_inner()?)?;
    }
    let images = ImageFolder::open(folder.path().join("images"))?;
    let shards = TarShards::open(pattern(&folder.path().join("{0..3}.tar"))?)?;
    Ok((folder, images, shards))
}

#[test]
fn batches_of_shards_equal_those_of_an_image_folder_bit_for_bit() -> TestResult {
    let (_folder, images, shards) = twins()?;
    assert_eq!((shards.len(), shards.classes()), (images.len(), images.classes()));
    let (images, shards) = (Arc::new(images), Arc::new(shards));
    for order in [Order::Sequential, Order::Shuffled { repeats: 3 }] {
        let options = LoaderOptions { order, ..LoaderOptions::deit(16, 4).seed(5).workers(2) };
        let mut expected = Loader::new(images.clone(), options.clone(), Device::Cpu)?;
        let mut loader = Loader::new(shards.clone(), options, Device::Cpu)?;
        for step in 0..2 * loader.steps_per_epoch() {
            assert_eq!(bits(&loader.at(step)?)?, bits(&expected.at(step)?)?, "{order:?}, {step}");
        }
    }
    Ok(())
}

#[test]
fn shuffled_shards_resumed_at_any_step_return_the_same_batches() -> TestResult {
    let (_folder, _, shards) = twins()?;
    let shards = Arc::new(shards);
    let order = Order::Shards { buffer: 6, repeats: 1 };
    let loader = |workers| {
        let options = LoaderOptions { order, ..LoaderOptions::deit(16, 3).workers(workers) };
        Loader::new(shards.clone(), options, Device::Cpu)
    };
    let mut whole = loader(2)?;
    let batches: Vec<_> = (0..8).map(|step| bits(&whole.at(step)?)).collect::<TestResult<_>>()?;
    for first in 1..8 {
        let mut resumed = loader(1 + first % 3)?;
        for (step, expected) in batches.iter().enumerate().skip(first).take(2) {
            assert_eq!(&bits(&resumed.at(step as u64)?)?, expected, "{step} from {first}");
        }
    }
    Ok(())
}

#[test]
fn classes_and_pixels_beyond_the_limits_are_refused_with_the_member() -> TestResult {
    let open = || -> TestResult<TarShards> {
        Ok(TarShards::open(pattern(&made("webdataset-000000.tar"))?)?)
    };
    assert_eq!(open()?.with_classes(7)?.classes(), 7);
    match open()?.with_classes(3) {
        Err(Error::Shard { path, source }) => {
            assert_eq!(path, made("webdataset-000000.tar"));
            let expected =
                "class of n0144/00000001.png: got 3, expected less than 3, the number of classes";
            assert_eq!(source.to_string(), expected);
        }
        other => panic!("{other:?}"),
    }
    assert_refused!(open()?.with_max_pixels(0), Error::Invalid { name, .. } if name == "max_pixels");
    let refused = open()?.with_max_pixels(45 * 34 - 1)?.load(0);
    assert_refused!(refused, Error::Image { name, source: DecodeError::TooLarge { .. } } if name.starts_with("00000000.jpg in"));
    Ok(())
}

/// Sets the time of a file's last change.
fn set_time(path: &Path, seconds: u64) -> TestResult {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = File::options().write(true).open(path)?;
    Ok(file.set_times(FileTimes::new().set_modified(time))?)
}

/// Samples of an archive by name and class.
fn classes(samples: &[(&str, &str)]) -> TestResult<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (key, class) in samples {
        append(&mut builder, &format!("{key}.jpg"), b"image")?;
        append(&mut builder, &format!("{key}.cls"), class.as_bytes())?;
    }
    Ok(builder.into_inner()?)
}

fn all_classes(set: &TarShards) -> TestResult<Vec<usize>> {
    let class = |index| set.read(index, &mut Vec::new())?.ok_or_else(|| "no class".into());
    (0..set.len()).map(class).collect()
}

/// A shard that has not changed is taken from the index: damage that keeps length and time is not seen.
#[test]
fn index_saves_the_scan_of_shards_until_their_length_or_time_changes() -> TestResult {
    let folder = tempdir()?;
    let paths = [("0.tar", "3"), ("1.tar", "4")]
        .map(|(name, class)| put(&folder, name, &classes(&[("a", class)])?));
    let [first, second] = paths;
    let (first, second) = (first?, second?);
    set_time(&first, 1_000_000_000)?;
    let all = folder.path().join("{0..1}.tar");
    let index = tempdir()?;
    let index = index.path().join("shards.index");
    let open = || TarShards::open_with_index(pattern(&all).unwrap_or(""), &index);
    assert_eq!(all_classes(&open()?)?, [3, 4]);
    let mut bytes = fs::read(&first)?;
    bytes[0] ^= 1;
    fs::write(&first, &bytes)?;
    set_time(&first, 1_000_000_000)?;
    assert_refused!(TarShards::open(pattern(&all)?), Error::Shard { .. });
    assert_eq!(all_classes(&open()?)?, [3, 4]);
    set_time(&first, 1_000_000_001)?;
    assert_refused!(open(), Error::Shard { path, .. } if path == first);
    fs::write(&first, classes(&[("a", "1"), ("b", "2")])?)?;
    set_time(&first, 1_000_000_001)?;
    assert_eq!(all_classes(&open()?)?, [1, 2, 4]);
    // Another pattern shares the index, and the former one keeps its part.
    assert_eq!(all_classes(&TarShards::open_with_index(pattern(&second)?, &index)?)?, [4]);
    let written = fs::read(&index)?;
    assert_eq!(all_classes(&open()?)?, [1, 2, 4]);
    assert_eq!(fs::read(&index)?, written);
    Ok(())
}

#[test]
fn index_drops_shards_that_are_no_longer_there_when_it_is_written() -> TestResult {
    let (folder, index) = (tempdir()?, tempdir()?);
    let index = index.path().join("shards.index");
    let open = |path: &Path| -> TestResult<TarShards> {
        Ok(TarShards::open_with_index(pattern(path)?, &index)?)
    };
    let gone = put(&folder, "gone.tar", &classes(&[("a", "3")])?)?;
    open(&gone)?;
    let alone = fs::read(&index)?;
    let kept = put(&folder, "kept.tar", &classes(&[("a", "4")])?)?;
    open(&kept)?;
    fs::remove_file(&gone)?;
    let new = put(&folder, "new.tar", &classes(&[("a", "5")])?)?;
    open(&new)?;
    let written = fs::read(&index)?;
    let names = |name: &str| String::from_utf8_lossy(&written).contains(name);
    assert_eq!(["gone.tar", "kept.tar", "new.tar"].map(names), [false, true, true]);
    assert!(String::from_utf8_lossy(&alone).contains("gone.tar"));
    Ok(())
}

#[test]
fn index_that_is_damaged_or_another_file_is_refused_by_name_and_kept() -> TestResult {
    let folder = tempdir()?;
    let shard = put(&folder, "0.tar", &classes(&[("a", "3")])?)?;
    let index = folder.path().join("index");
    TarShards::open_with_index(pattern(&shard)?, &index)?;
    let good = fs::read(&index)?;
    // The class of the only sample: 3 becomes 2.
    let mut class = good.clone();
    let last = class.len() - 8;
    class[last] ^= 1;
    for bad in [&b""[..], b"my own notes", &good[..good.len() - 1], &class] {
        fs::write(&index, bad)?;
        match TarShards::open_with_index(pattern(&shard)?, &index) {
            Err(Error::File { path, reason }) => {
                assert!(path == index && reason.contains("remove it, or name another"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read(&index)?, bad);
    }
    Ok(())
}

/// An index of format 1 has the scans of shards whose names were not checked.
#[test]
fn index_of_the_format_before_is_read_as_empty_and_written_anew() -> TestResult {
    let folder = tempdir()?;
    let shard = put(&folder, "0.tar", &classes(&[("a", "3")])?)?;
    set_time(&shard, 1_000_000_000)?;
    let index = folder.path().join("index");
    let open = || TarShards::open_with_index(pattern(&shard).unwrap_or(""), &index);
    open()?;
    let current = fs::read(&index)?;
    let name = b"shard index 2";
    let at = current.windows(name.len()).position(|own| own == name).ok_or("no format")?;
    let mut former = current.clone();
    former[at + name.len() - 1] = b'1';
    fs::write(&index, former)?;
    // Length and time are those of the index.
    fs::write(&shard, classes(&[("a", "2")])?)?;
    set_time(&shard, 1_000_000_000)?;
    assert_eq!(all_classes(&open()?)?, [2]);
    assert!(fs::read(&index)?.windows(name.len()).any(|own| own == name));
    Ok(())
}

#[test]
fn opening_without_an_index_writes_nothing() -> TestResult {
    let (folder, _, _) = twins()?;
    let mut names: Vec<_> = fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<TestResult<_>>()?;
    names.sort();
    assert_eq!(names, ["0.tar", "1.tar", "2.tar", "3.tar", "images"]);
    Ok(())
}

#[test]
fn shard_that_changed_after_opening_is_refused_when_it_is_read() -> TestResult {
    let folder = tempdir()?;
    let bytes = classes(&[("a", "3")])?;
    let path = put(&folder, "0.tar", &bytes)?;
    let open = || TarShards::open(pattern(&path).unwrap_or(""));
    let changed = |set: &TarShards| match set.read(0, &mut Vec::new()) {
        Err(Error::Shard { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    };
    let (cut, touched, open_then_cut) = (open()?, open()?, open()?);
    open_then_cut.read(0, &mut Vec::new())?;
    fs::write(&path, &bytes[..514])?;
    let said = format!("length: got 514, expected {}, as when", bytes.len());
    assert!(changed(&cut).starts_with(&said));
    assert!(changed(&open_then_cut).starts_with(&said));
    fs::write(&path, &bytes)?;
    set_time(&path, 1_000_000_000)?;
    assert!(changed(&touched).contains("got 1000000000000000000"));
    fs::remove_file(&path)?;
    assert_refused!(cut.read(0, &mut Vec::new()), Error::Io { path: gone, .. } if gone == path);
    Ok(())
}

/// A sample of a random archive.
#[derive(Debug, Clone)]
struct Sample {
    folder: String,
    extension: &'static str,
    image: Vec<u8>,
    class: usize,
    class_first: bool,
    /// Members beside image and class.
    more: Vec<&'static str>,
    pax: bool,
}

fn sample() -> impl Strategy<Value = Sample> {
    let extensions = vec!["jpg", "JPG", "jpeg", "png", "PnG"];
    let more = vec!["json", "txt", "seg.png", "jpg.txt", "clsx"];
    let parts = (
        "([a-zä.]{1,40}/){0,4}",
        prop::sample::select(extensions),
        prop::collection::vec(any::<u8>(), 0..1200),
        0..2000_usize,
        any::<bool>(),
        prop::collection::vec(prop::sample::select(more), 0..3),
        any::<bool>(),
    );
    parts.prop_map(|(folder, extension, image, class, class_first, more, pax)| {
        // The tar crate refuses to write "..".
        let folder = folder.replace("..", "a.").replace("./", "a/");
        Sample { folder, extension, image, class, class_first, more, pax }
    })
}

fn write_sample(builder: &mut Builder<Vec<u8>>, number: usize, sample: &Sample) -> TestResult {
    let key = format!("{}{number}", sample.folder);
    let class = format!("{}\n", sample.class);
    let mut members = vec![(sample.extension, &sample.image[..]), ("cls", class.as_bytes())];
    if sample.class_first {
        members.reverse();
    }
    members.extend(sample.more.iter().map(|extension| (*extension, &b"more"[..])));
    for (extension, content) in members {
        let name = format!("{key}.{extension}");
        if !sample.pax {
            append(builder, &name, content)?;
            continue;
        }
        let attributes = [("path", name.as_bytes()), ("mtime", b"1.5")];
        builder.append_pax_extensions(attributes)?;
        let mut header = Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, "short", content)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn images_and_classes_of_random_archives_are_those_written(
        samples in prop::collection::vec(sample(), 1..12)
    ) {
        in_words(check_archive(&samples))?;
    }
}

fn check_archive(samples: &[Sample]) -> TestResult {
    let mut builder = Builder::new(Vec::new());
    for (number, sample) in samples.iter().enumerate() {
        write_sample(&mut builder, number, sample)?;
    }
    let folder = tempdir()?;
    let path = put(&folder, "0.tar", &builder.into_inner()?)?;
    let set = TarShards::open(pattern(&path)?)?;
    let mut bytes = Vec::new();
    let mut found = Vec::new();
    for index in 0..set.len() {
        found.push((set.read(index, &mut bytes)?, bytes.clone(), set.name(index)));
    }
    let name = |number: usize, sample: &Sample| {
        format!("{}{number}.{} in {}", sample.folder, sample.extension, path.display())
    };
    let expected: Vec<_> = (samples.iter().enumerate())
        .map(|(number, sample)| (Some(sample.class), sample.image.clone(), name(number, sample)))
        .collect();
    if found == expected {
        return Ok(());
    }
    Err(format!("got {found:?}, expected {expected:?}").into())
}

#[test]
fn more_shards_than_are_kept_open_are_read_in_any_order() -> TestResult {
    let folder = tempdir()?;
    let count = 300;
    for number in 0..count {
        let class = number.to_string();
        let bytes = archive(&[("a.jpg", class.as_bytes()), ("a.cls", class.as_bytes())])?;
        put(&folder, &format!("{number}.tar"), &bytes)?;
    }
    let set = TarShards::open(pattern(&folder.path().join("{0..299}.tar"))?)?;
    let mut bytes = Vec::new();
    for index in (0..2 * count).map(|number| number * 7 % count) {
        assert_eq!(set.read(index, &mut bytes)?, Some(index));
        assert_eq!(bytes, index.to_string().as_bytes());
    }
    Ok(())
}

#[test]
fn missing_shard_of_a_range_is_an_io_error_that_names_it() -> TestResult {
    let folder = tempdir()?;
    put(&folder, "0.tar", &classes(&[("a", "0")])?)?;
    let refused = TarShards::open(pattern(&folder.path().join("{0..1}.tar"))?);
    assert_refused!(refused, Error::Io { path, .. } if path == folder.path().join("1.tar"));
    let refused = TarShards::open(pattern(folder.path())?);
    assert_refused!(refused, Error::Io { path, .. } if path == folder.path());
    let refused = TarShards::open("");
    assert_refused!(refused, Error::Invalid { .. });
    put(&folder, "1.tar", &[0; 1024])?;
    let refused = TarShards::open(pattern(&folder.path().join("{0..1}.tar"))?);
    assert_refused!(refused, Error::Shard { path, source } if path == folder.path().join("1.tar") && matches!(*source, ShardError::Empty));
    Ok(())
}
