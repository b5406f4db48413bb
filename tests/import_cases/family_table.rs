//! Every ViT that timm registers: exact, or refused with a reason.

use super::super::support::{tensor, test_device, TestResult};
use super::family::SHARE;
use super::{alone, data, into, network, HEADS};
use once_for_both::import::{self, ImportOptions, KnownNetwork};
use once_for_both::models::Network;
use std::collections::BTreeSet;

/// The import of a network of one folder: exact, refused with a reason, or different.
fn verdict(folder: &std::path::Path) -> TestResult<String> {
    let path = folder.join("model.safetensors");
    let found = {
        let _alone = alone();
        import::inspect_file(&path, &ImportOptions::default(), Some(HEADS))
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return Ok(format!("refused: {error}")),
    };
    let KnownNetwork::Vit(config) = found.network else { return Ok("not a ViT".into()) };
    let import = into(&import::read(&path)?, &config, &ImportOptions::default())?;
    let answers = import::read(&folder.join("expected.safetensors"))?;
    let images = tensor(&answers, "images")?.f_to_device(test_device())?;
    let actual = network(&config, &import.weights)?.forward(&images, false)?.prediction()?;
    let answer = tensor(&answers, "logits")?.f_to_device(test_device())?;
    let difference = (actual - &answer).abs().max().double_value(&[]);
    let share = difference / answer.abs().max().double_value(&[]);
    Ok(if share <= SHARE { "exact".into() } else { format!("different by {share:.1e}") })
}

/// The names in backticks of a section of docs/timm.md.
fn names(section: &str) -> BTreeSet<String> {
    section.split('`').skip(1).step_by(2).map(String::from).collect()
}

/// The sizes of the networks that are imported are those with which the rule of heads is tested.
fn check_sizes(root: &std::path::Path, exact: &BTreeSet<String>) -> TestResult {
    let read = |path: std::path::PathBuf| -> TestResult<serde_json::Value> {
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    };
    let committed = read(data("timm_heads.json"))?;
    let names = committed.as_object().ok_or("timm_heads.json: not an object")?.keys();
    assert!(
        names.eq(exact.iter()),
        "timm_heads.json has other names than section Exact of docs/timm.md"
    );
    for name in exact {
        assert_eq!(
            committed[name],
            read(root.join(name).join("sizes.json"))?,
            "timm_heads.json: {name}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "reads the folders that family_table.py writes"]
fn family_table_is_exact_or_refused() -> TestResult {
    let root = std::path::PathBuf::from(std::env::var("OFB_FAMILY")?);
    let mut folders = BTreeSet::new();
    for entry in std::fs::read_dir(&root)? {
        folders.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/timm.md"))?;
    let (before, refused) = page.split_once("\n## Refused").ok_or("no section Refused")?;
    let (_, exact) = before.split_once("\n## Exact").ok_or("no section Exact")?;
    let (exact, refused) = (names(exact), names(refused));
    let twice: Vec<_> = exact.intersection(&refused).collect();
    assert!(twice.is_empty(), "in both sections of docs/timm.md: {twice:?}");
    let listed: BTreeSet<String> = exact.union(&refused).cloned().collect();
    let differing: Vec<_> = listed.symmetric_difference(&folders).collect();
    assert!(differing.is_empty(), "either in docs/timm.md or in {root:?} alone: {differing:?}");
    check_sizes(&root, &exact)?;
    let mut different = vec![];
    for name in folders {
        let verdict = verdict(&root.join(&name))?;
        println!("| {name} | {verdict} |");
        let expected = if exact.contains(&name) { "exact" } else { "refused" };
        if !verdict.starts_with(expected) {
            different.push(format!("{name}: {verdict}"));
        }
    }
    assert!(different.is_empty(), "{different:?}");
    Ok(())
}
