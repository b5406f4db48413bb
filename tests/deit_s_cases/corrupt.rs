//! Corrupt images that two ranks meet: counted together, and still when they resume.

use crate::{two_ranks, write_classes, TestResult, SMALL};
use std::collections::BTreeMap;

/// Of 16 images, the eight with even indices are corrupt. An epoch of two steps has each once, four a step and rank.
#[test]
fn corrupt_images_of_two_ranks_are_limited_together_and_remembered() -> TestResult {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let classes = ["ant", "bee", "cat", "dog"];
    write_classes(&data.join("train"), &classes)?;
    write_classes(&data.join("val"), &classes)?;
    for class in classes {
        for image in [0, 2] {
            std::fs::write(data.join(format!("train/{class}/{image}.jpg")), "no image")?;
        }
    }
    let train = |out: &str, limit: &str, more: &[&str]| {
        let (out, data) = (folder.path().join(out), data.display().to_string());
        let limit = format!("data.corrupt_images={limit}");
        let own = ["--set", &limit, "--out", &out.display().to_string()].map(String::from);
        let run = ["--data", &data, "--batch", "8", "--steps", "2"];
        let run = if more.is_empty() {
            [&["train"][..], &SMALL[..6], &run].concat()
        } else {
            more.to_vec()
        };
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        two_ranks(&[&run[..], &own].concat())
    };
    // Neither rank meets as many.
    let told = String::from_utf8(train("few", "7", &[])?.stderr)?;
    for rank in [0, 1] {
        let said = format!("rank {rank}: error: corrupt images: got 8, expected at most 7");
        assert!(told.contains(&said), "{told}");
    }
    assert!(train("enough", "8", &[])?.status.success());
    let file = folder.path().join("enough/dense/corrupt_images.json");
    let names: BTreeMap<usize, String> = serde_json::from_slice(&std::fs::read(file)?)?;
    assert!(names.keys().copied().eq((0..16).step_by(2)), "{names:?}");
    // The end of the stage names the images of both ranks, also when nothing is left to train.
    let resumed = train("enough", "9", &["--resume"])?;
    let told = [resumed.stdout, resumed.stderr].concat();
    let told = String::from_utf8(told)?;
    assert!(resumed.status.success() && told.contains("dog/2.jpg"), "{told}");
    let refused = String::from_utf8(train("enough", "7", &["--resume"])?.stderr)?;
    assert!(refused.contains("corrupt images: got 8, expected at most 7"), "{refused}");
    Ok(())
}
