//! Charts of measured sensitivity.

use crate::support::TestResult;
use once_for_both::report::Report;
use once_for_both::sensitivity::{CandidateSensitivity, DimensionSensitivity, Rise, Sensitivity};
use once_for_both::space::{DimensionKind, Size};

fn dimension(name: &str, kind: DimensionKind, rises: &[(i64, i64, f64)]) -> DimensionSensitivity {
    let candidate = |&(heads, channels, mean): &(i64, i64, f64)| CandidateSensitivity {
        size: Size { heads, channels },
        rise: Rise { mean, standard_error: 0.004 },
    };
    let candidates: Vec<CandidateSensitivity> = rises.iter().map(candidate).collect();
    let size = Size {
        heads: rises.iter().map(|own| own.0).max().unwrap_or(1),
        channels: rises.iter().map(|own| own.1).max().unwrap_or(1),
    };
    DimensionSensitivity { name: name.into(), kind, size, candidates }
}

fn report(name: &str) -> Report {
    let attention = [(2, 8, 0.31), (2, 16, 0.2), (4, 8, 0.12), (4, 16, 0.0)];
    let sensitivity = Sensitivity {
        images: 1024,
        loss: 0.375,
        standard_error: 0.02,
        dimensions: vec![
            dimension(name, DimensionKind::Hidden, &[(1, 8, 0.0512), (1, 32, 0.0)]),
            dimension("blocks.10.attn", DimensionKind::Attention, &attention),
            dimension("blocks.2.attn", DimensionKind::Attention, &attention),
            dimension("embed", DimensionKind::Embedding, &[(1, 48, 0.4), (1, 96, 0.0)]),
        ],
    };
    Report { sensitivity: Some(sensitivity), ..Report::default() }
}

#[test]
fn sensitivity_has_a_chart_for_each_dimension_with_its_rises() -> TestResult {
    let page = report("blocks.0.mlp").html()?;
    assert!(page.contains("<h2>Sensitivity</h2>"));
    assert!(page.contains("Measured on 1,024 images, where the dense network has a loss of 0.375."));
    let place = |text: &str| page.find(text).ok_or(format!("{text} is missing"));
    // The embedding first, then attention by number of block, then hidden widths.
    let titles = ["embed", "blocks.2.attn", "blocks.10.attn", "blocks.0.mlp"];
    let places = titles.map(|name| place(&format!("<title>{name}</title>")));
    let places = places.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert!(places.is_sorted(), "{places:?}");
    place("<desc>8: 0.0512 ± 0.0040. 32: 0 ± 0.0040.</desc>")?;
    place("4 heads</i>")?;
    place("2 heads</i>")?;
    Ok(())
}

#[test]
fn sensitivity_that_is_not_measured_or_not_finite_leaves_a_valid_page() -> TestResult {
    assert!(!Report::default().html()?.contains("Sensitivity"));
    let mut report = report("<script>alert(1)</script>");
    for own in report.sensitivity.iter_mut().flat_map(|own| &mut own.dimensions) {
        own.candidates.iter_mut().for_each(|candidate| candidate.rise.mean = f64::NAN);
    }
    let page = report.html()?;
    assert!(page.contains("<h2>Sensitivity</h2>") && !page.contains("<script>alert"));
    assert!(!page.contains("NaN"), "a coordinate is NaN");
    Ok(())
}
