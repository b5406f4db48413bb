//! Every ViT that timm registers: exact, or refused with a reason.

use super::super::support::{tensor, test_device, TestResult};
use super::family::SHARE;
use super::{alone, into, network, HEADS};
use once_for_both::import::{self, ImportOptions, KnownNetwork};
use once_for_both::models::Network;
use std::path::PathBuf;

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

#[test]
#[ignore = "reads the folders that family_table.py writes"]
fn family_table_is_exact_or_refused() -> TestResult {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(std::env::var("OFB_FAMILY")?)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    folders.sort();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/timm.md"))?;
    let (exact, refused) = page.split_once("\n## Refused").ok_or("no section Refused")?;
    let mut different = vec![];
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let verdict = verdict(&folder)?;
        println!("| {name} | {verdict} |");
        // As docs/timm.md lists it.
        let listed = |section: &str| section.contains(&format!("`{name}`"));
        let expected = if listed(exact) { "exact" } else { "refused" };
        if !verdict.starts_with(expected) || !(listed(exact) || listed(refused)) {
            different.push(format!("{name}: {verdict}"));
        }
    }
    assert!(different.is_empty(), "{different:?}");
    Ok(())
}
