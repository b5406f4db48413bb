//! `costs.json`: MACs and parameters of published networks, to the last unit.

use crate::support::{load_json, run_cases, TestResult};
use once_for_both::cost::Metric;
use once_for_both::models::{Architecture, SwinConfig, VitConfig};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Entry {
    /// Channels, height, width.
    input: [i64; 3],
    macs: u64,
    params: u64,
}

/// Families by timm name.
enum Family {
    Vit(VitConfig),
    Swin(SwinConfig),
}

/// `deit_small_distilled_patch16_224` → family, size, options, patch; the input is given apart.
fn parse(name: &str, input: [i64; 3]) -> TestResult<Family> {
    let unknown = || format!("no known family is called {name}");
    let mut words = name.split('_');
    let vit = match words.next() {
        Some("vit" | "deit") => true,
        Some("swin") => return swin(name, words, input),
        _ => false,
    };
    let mut config = match words.next().filter(|_| vit) {
        Some("tiny") => VitConfig::deit_tiny(),
        Some("small") => VitConfig::deit_small(),
        Some("base") => VitConfig::deit_base(),
        Some("large") => VitConfig::uniform(1024, 24, 16),
        _ => return Err(unknown().into()),
    };
    let [channels, height, width] = input;
    for word in words {
        let number = word.strip_prefix("patch").and_then(|side| side.parse::<i64>().ok());
        match (word, number, word.parse::<i64>()) {
            ("distilled", _, _) => config = config.distilled(),
            (_, Some(patch), _) => config = config.input(height, channels, patch),
            (_, _, Ok(side)) if side == height && side == width => {}
            _ => return Err(unknown().into()),
        }
    }
    Ok(Family::Vit(config))
}

/// `swin_tiny_patch4_window7_224`, its first word read.
fn swin<'a>(
    name: &str,
    mut words: impl Iterator<Item = &'a str>,
    [channels, height, _]: [i64; 3],
) -> TestResult<Family> {
    let mut config = match words.next() {
        Some("tiny") => SwinConfig::tiny(),
        Some("small") => SwinConfig::small(),
        Some("base") => SwinConfig::base(),
        _ => return Err(format!("no known family is called {name}").into()),
    };
    let number = |word: &str, prefix| word.strip_prefix(prefix).and_then(|n: &str| n.parse().ok());
    for word in words {
        if let Some(patch) = number(word, "patch") {
            config = config.input(height, channels, patch);
        } else if let Some(window) = number(word, "window") {
            config = config.window(window);
        } else if number(word, "") != Some(height) {
            return Err(format!("no known family is called {name}").into());
        }
    }
    Ok(Family::Swin(config))
}

/// MACs and parameters of a description equal the given ones to the last unit.
pub(super) fn expect_costs(
    name: &str,
    config: &impl Architecture,
    macs: u64,
    params: u64,
) -> TestResult {
    let model = config.cost_model();
    for (metric, expected) in [(Metric::Macs, macs), (Metric::Params, params)] {
        let cost = model.dense_cost(metric)?;
        if cost != expected as f64 {
            let metric = metric.name();
            return Err(format!("{name} has {cost} {metric}, expected {expected}").into());
        }
    }
    Ok(())
}

#[test]
fn costs_of_published_networks() -> TestResult {
    let entries: BTreeMap<String, Entry> = load_json("costs")?;
    run_cases(
        &entries,
        |case| case.0.clone(),
        |(name, entry)| match parse(name, entry.input)? {
            Family::Vit(config) => expect_costs(name, &config, entry.macs, entry.params),
            Family::Swin(config) => expect_costs(name, &config, entry.macs, entry.params),
        },
    );
    let families = || entries.iter().map(|(name, entry)| parse(name, entry.input));
    assert!(families().any(|family| matches!(family, Ok(Family::Vit(_)))), "no ViT is named");
    assert!(families().any(|family| matches!(family, Ok(Family::Swin(_)))), "no Swin is named");
    Ok(())
}

#[test]
fn names_of_no_known_family_are_refused() {
    let input = [3, 224, 224];
    for name in [
        "resnet50",
        "swin_huge_patch4_window7_224",
        "vit_giant_patch14_224",
        "deit_tiny_patch16_384",
        "deit_tiny_odd_224",
    ] {
        assert!(parse(name, input).is_err(), "{name} was accepted");
    }
    assert!(
        matches!(parse("swin_tiny_patch4_window7_224", input), Ok(Family::Swin(config)) if config == SwinConfig::tiny())
    );
    assert!(
        matches!(parse("deit_base_distilled_patch16_224", input), Ok(Family::Vit(config)) if config.distilled)
    );
}
