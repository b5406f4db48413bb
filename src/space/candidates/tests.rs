//! Candidates: defaults, restrictions and removal.

use super::*;

#[test]
fn default_candidates_of_deit_small_cover_half_quarter_or_eighth_to_dense() -> Result<()> {
    let embedding = Candidates::embedding(384)?;
    assert_eq!(embedding.widths()[..3], [192, 200, 208]);
    assert_eq!(embedding.len(), 25);
    assert_eq!(Candidates::embedding(96)?.widths()[..3], [48, 51, 54]);
    assert_eq!(Candidates::embedding(768)?.widths()[..3], [384, 400, 416]);
    let attention = Candidates::attention(6, 64)?;
    assert_eq!(attention.head_counts(), [2, 4, 6]);
    assert_eq!(attention.widths(), [16, 24, 32, 40, 48, 56, 64]);
    assert_eq!(Candidates::hidden(1536)?.widths(), [192, 384, 576, 768, 960, 1152, 1344, 1536]);
    Ok(())
}

#[test]
fn default_candidates_of_wide_dimensions_are_multiples_of_eight_but_the_dense_width() -> Result<()>
{
    let all = [
        Candidates::embedding(1000)?,
        Candidates::hidden(1365)?,
        Candidates::attention(12, 48)?,
        Candidates::attention(16, 80)?,
    ];
    for candidates in &all {
        let pruned = &candidates.widths()[..candidates.widths().len() - 1];
        assert!(pruned.len() > 2 && pruned.iter().all(|width| width % 8 == 0), "{pruned:?}");
    }
    assert_eq!(Candidates::attention(3, 32)?.widths(), [8, 16, 24, 32]);
    assert_eq!(Candidates::attention(4, 24)?.widths(), [6, 9, 12, 15, 18, 21, 24]);
    assert_eq!(Candidates::hidden(4)?.widths(), [1, 2, 3, 4]);
    Ok(())
}

#[test]
fn attention_candidates_of_few_heads_end_with_all_heads() -> Result<()> {
    assert_eq!(Candidates::attention(3, 64)?.head_counts(), [2, 3]);
    assert_eq!(Candidates::attention(1, 8)?.head_counts(), [1]);
    Ok(())
}

/// 48 channels are 24 pairs: multiples of 4 pairs are multiples of 8 channels.
#[test]
fn attention_candidates_of_pairs_have_the_widths_of_channels() -> Result<()> {
    for (channels, widths) in [
        (16, vec![4, 6, 8, 10, 12, 14, 16]),
        (48, vec![16, 24, 32, 40, 48]),
        (64, vec![16, 24, 32, 40, 48, 56, 64]),
    ] {
        let pairs = Size { heads: 2, channels: channels / 2 };
        let pairs = Candidates::attention_of_units(pairs, 2)?;
        let found: Vec<i64> = pairs.widths().iter().map(|pairs| 2 * pairs).collect();
        assert_eq!(found, widths);
        assert_eq!(Candidates::attention(2, channels)?.widths(), widths);
    }
    Ok(())
}

#[test]
fn candidates_unsorted_too_large_or_empty_are_refused() {
    for widths in [vec![4, 2], vec![2, 9], vec![], vec![0, 2], vec![2, 2]] {
        let error = Candidates::flat(8, widths.clone());
        assert!(matches!(error, Err(Error::Candidates { actual, .. }) if actual == widths));
    }
}

#[test]
fn candidates_that_are_multiples_keep_the_dense_width_and_all_heads() -> Result<()> {
    let candidates = Candidates::grid(4, 20, vec![2, 4], vec![4, 8, 12, 16, 20])?;
    let multiples = candidates.multiple_of(8)?;
    assert_eq!((multiples.head_counts(), multiples.widths()), (&[2, 4][..], &[8, 16, 20][..]));
    // Multiples need not be candidates before, and are no more than these.
    assert_eq!(Candidates::flat(20, vec![3, 5, 9])?.multiple_of(8)?.widths(), [8, 16]);
    assert_eq!(candidates.multiple_of(32)?.widths(), [20]);
    let stage = Candidates::embedding(96)?.multiple_of(8)?;
    assert_eq!(stage.widths(), [48, 56, 64, 72, 80, 88, 96]);
    let (removed, _) = candidates.clone().with_removal().narrowed(Size::REMOVED)?;
    assert_eq!(removed.multiple_of(8)?, removed);
    for factor in [0, -8, i64::MAX] {
        assert!(matches!(candidates.multiple_of(factor), Err(Error::Invalid { .. })));
    }
    Ok(())
}

/// 16 pairs are 32 channels: multiples of 8 channels are multiples of 4 pairs.
#[test]
fn multiples_of_pairs_are_counted_in_channels() -> Result<()> {
    let pairs = Candidates::grid(4, 16, vec![2, 4], vec![4, 6, 16])?;
    assert_eq!(pairs.channels_multiple_of(8, 2)?.widths(), [4, 8, 16]);
    assert_eq!(pairs.channels_multiple_of(3, 2)?.widths(), [6, 16]);
    assert_eq!(pairs.channels_multiple_of(2, 2)?.widths(), [4, 6, 16]);
    assert_eq!(pairs.channels_multiple_of(8, 2)?.head_counts(), [2, 4]);
    assert!(matches!(pairs.channels_multiple_of(0, 2), Err(Error::Invalid { .. })));
    Ok(())
}

#[test]
fn narrowed_candidates_are_those_within_the_size() -> Result<()> {
    let (candidates, kept) = Candidates::grid(4, 8, vec![2, 4], vec![2, 4, 8])?
        .narrowed(Size { heads: 4, channels: 4 })?;
    assert_eq!(candidates.widths(), [2, 4]);
    assert_eq!(kept, [0, 1, 3, 4]);
    Ok(())
}

#[test]
fn removal_is_the_first_candidate_and_stays_when_the_others_narrow() -> Result<()> {
    let candidates = Candidates::grid(4, 8, vec![2, 4], vec![4, 8])?.with_removal();
    assert_eq!((candidates.len(), candidates.shape()), (5, [1, 5]));
    assert_eq!(candidates.size(0), Size::REMOVED);
    assert_eq!(candidates.size(1), Size { heads: 2, channels: 4 });
    assert_eq!(candidates.size(4), candidates.full());
    let (narrowed, kept) = candidates.narrowed(Size { heads: 4, channels: 4 })?;
    assert_eq!((narrowed.removable(), narrowed.len(), kept), (true, 3, vec![0, 1, 3]));
    assert!(candidates.multiple_of(8)?.removable());
    assert!(!candidates.at_least(Size::flat(4))?.removable());
    assert_eq!(Size::REMOVED.to_string(), "removed");
    Ok(())
}

#[test]
fn removed_candidates_are_one_and_read_back_as_written() -> Result<()> {
    let candidates = Candidates::flat(8, vec![4, 8])?.with_removal();
    let (removed, kept) = candidates.narrowed(Size::REMOVED)?;
    assert_eq!((removed.len(), removed.shape(), removed.full()), (1, [1, 1], Size::REMOVED));
    assert_eq!((removed.size(0), kept), (Size::REMOVED, vec![0]));
    for own in [&candidates, &removed] {
        let json = serde_json::to_string(own).map_err(|e| Error::invalid("json", "", e))?;
        assert_eq!(serde_json::from_str::<Candidates>(&json).ok().as_ref(), Some(own));
    }
    let forged = r#"{"heads":0,"channels":0,"head_counts":[],"widths":[]}"#;
    assert!(serde_json::from_str::<Candidates>(forged).is_err());
    Ok(())
}

#[test]
fn narrowing_to_nothing_without_removal_is_refused() -> Result<()> {
    let candidates = Candidates::flat(8, vec![4, 8])?;
    assert!(candidates.narrowed(Size::REMOVED).is_err());
    Ok(())
}
