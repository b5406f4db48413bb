use tempfile::TempDir;

use super::super::tests::{check_message, idx, pack, put, TestResult};
use super::*;

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";

fn pair(folder: &TempDir, images: &[u8], labels: &[u8]) -> Result<IdxImages, IdxError> {
    let images = put(folder, "images", images);
    let labels = put(folder, "labels", labels);
    IdxImages::open(&images, &labels)
}

#[test]
fn open_with_swapped_files_is_a_rank_error() -> TestResult {
    let folder = TempDir::new()?;
    let (images, labels) = (idx(0x08, &[2, 1, 1], &[0, 1]), idx(0x08, &[2], &[0, 1]));
    let error = pair(&folder, &labels, &images).expect_err("swapped");
    assert!(matches!(error, IdxError::Rank { expected: 3, .. }), "{error:?}");
    check_message(&error, &folder.path().join("images"));
    let error = pair(&folder, &images, &images).expect_err("images twice");
    assert!(matches!(error, IdxError::Rank { expected: 1, .. }), "{error:?}");
    check_message(&error, &folder.path().join("labels"));
    Ok(())
}

#[test]
fn open_of_images_without_pixels_is_an_error() -> TestResult {
    let folder = TempDir::new()?;
    for sizes in [[0, 28, 28], [1, 0, 28]] {
        let error = pair(&folder, &idx(0x08, &sizes, &[]), &idx(0x08, &[sizes[0]], &[]))
            .expect_err("no pixels");
        assert!(matches!(error, IdxError::NoImages { .. }), "{error:?}");
        check_message(&error, &folder.path().join("images"));
    }
    Ok(())
}

#[test]
fn open_with_more_labels_than_images_is_an_error() -> TestResult {
    let folder = TempDir::new()?;
    let error = pair(&folder, &idx(0x08, &[2, 1, 1], &[0, 1]), &idx(0x08, &[3], &[0, 1, 2]))
        .expect_err("three labels for two images");
    assert!(matches!(error, IdxError::CountsDiffer { images: 2, labels: 3, .. }), "{error:?}");
    check_message(&error, &folder.path().join("images"));
    check_message(&error, &folder.path().join("labels"));
    Ok(())
}

#[test]
fn with_classes_at_most_highest_label_is_an_error() -> TestResult {
    let folder = TempDir::new()?;
    let images = pair(&folder, &idx(0x08, &[2, 1, 1], &[0, 1]), &idx(0x08, &[2], &[3, 10]))?;
    assert_eq!(images.classes(), 11);
    assert_eq!(images.clone().with_classes(20)?.classes(), 20);
    let error = images.with_classes(10).expect_err("label 10 of 10 classes");
    assert!(
        matches!(error, IdxError::LabelOutOfRange { index: 1, label: 10, classes: 10, .. }),
        "{error:?}"
    );
    check_message(&error, &folder.path().join("labels"));
    Ok(())
}

#[test]
fn fingerprint_is_that_of_the_files_in_another_folder_and_differs_for_other_contents() -> TestResult
{
    let fingerprint = |sizes: &[u32], pixels: &[u8], labels: &[u8]| -> Result<u32, IdxError> {
        let folder = TempDir::new().map_err(|source| IdxError::Open { path: "".into(), source })?;
        let count = u32::try_from(labels.len()).unwrap_or(0);
        let images = pair(&folder, &idx(0x08, sizes, pixels), &idx(0x08, &[count], labels))?;
        Ok(images.with_classes(5)?.fingerprint())
    };
    let original = fingerprint(&[2, 1, 2], &[5, 6, 7, 8], &[1, 0])?;
    assert_eq!(fingerprint(&[2, 1, 2], &[5, 6, 7, 8], &[1, 0])?, original);
    assert_ne!(fingerprint(&[2, 1, 2], &[5, 6, 7, 9], &[1, 0])?, original, "a pixel");
    assert_ne!(fingerprint(&[2, 1, 2], &[5, 6, 7, 8], &[1, 1])?, original, "a label");
    assert_ne!(fingerprint(&[2, 2, 1], &[5, 6, 7, 8], &[1, 0])?, original, "the size");
    Ok(())
}

#[test]
fn open_split_finds_plain_and_gzip_files_and_names_missing_ones() -> TestResult {
    let folder = TempDir::new()?;
    let (images, labels) = (idx(0x08, &[2, 1, 2], &[5, 6, 7, 8]), idx(0x08, &[2], &[1, 0]));
    put(&folder, TRAIN_IMAGES, &images);
    let error = IdxImages::open_split(folder.path(), Split::Train).expect_err("no labels");
    assert!(
        matches!(&error, IdxError::SplitMissing { expected, .. } if expected == TRAIN_LABELS),
        "{error:?}"
    );
    check_message(&error, folder.path());
    put(&folder, &format!("{TRAIN_LABELS}.gz"), &pack(&labels));
    let read = IdxImages::open_split(folder.path(), Split::Train)?;
    assert_eq!((read.count(), read.height(), read.width(), read.classes()), (2, 1, 2, 2));
    let (images, labels) = read.into_parts();
    assert_eq!((images.values, labels), (vec![5, 6, 7, 8], vec![1, 0]));
    let error = IdxImages::open_split(folder.path(), Split::Test).expect_err("no test split");
    assert!(matches!(error, IdxError::SplitMissing { .. }), "{error:?}");
    Ok(())
}

/// Some archives are unpacked to folders of the names.
#[test]
fn open_split_with_a_folder_of_a_files_name_reads_the_gzip_file_beside_it() -> Result<(), IdxError>
{
    let folder = TempDir::new().expect("a folder");
    std::fs::create_dir(folder.path().join(TRAIN_IMAGES)).expect("a folder");
    put(&folder, TRAIN_LABELS, &idx(0x08, &[2], &[1, 0]));
    let error = IdxImages::open_split(folder.path(), Split::Train).expect_err("a folder alone");
    assert!(error.to_string().ends_with("give the folder in which the files are"), "{error}");
    put(&folder, &format!("{TRAIN_IMAGES}.gz"), &pack(&idx(0x08, &[2, 1, 1], &[5, 6])));
    assert_eq!(IdxImages::open_split(folder.path(), Split::Train)?.count(), 2);
    Ok(())
}

#[test]
fn example_data_is_complete_and_class_balanced() -> TestResult {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    for (split, of_each) in [(Split::Train, 600), (Split::Test, 100)] {
        let read = IdxImages::open_split(&folder, split)?.with_classes(10)?;
        assert_eq!(read.images().shape, [10 * of_each, 28, 28]);
        let mut counts = [0; 10];
        read.labels().iter().for_each(|&label| counts[usize::from(label)] += 1);
        assert_eq!(counts, [of_each; 10]);
    }
    Ok(())
}
