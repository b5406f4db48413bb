//! Two processes that share every batch make the search that one process makes.

use super::ranks::{start_all, Remains};
use super::searches::SEARCHES;
use super::TestResult;
use once_for_both::search::Event;
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

/// Largest difference of a parameter, a score, an α or a logit after all steps: sums over two halves of
/// a batch are rounded otherwise than sums over the batch, and AdamW divides small gradients by small
/// moments. They move by about 0.01.
const TOLERANCE: f64 = 1e-4;
/// Largest difference of a loss, relative to 1 + loss.
const LOSS_TOLERANCE: f64 = 1e-5;

/// Events and tensors of rank 0.
struct Left {
    events: Vec<Event>,
    tensors: BTreeMap<String, Tensor>,
}

/// Runs a search in so many processes.
fn run(name: &str, world_size: usize, folder: &Path) -> TestResult<Left> {
    let file = folder.join(format!("{name}-{world_size}.safetensors"));
    let ranks = start_all(&format!("search {name} {}", file.display()), world_size, 60_000)?;
    let ended: Vec<Remains> =
        ranks.into_iter().map(|rank| rank.end()).collect::<TestResult<_>>()?;
    for (rank, remains) in ended.iter().enumerate() {
        assert!(remains.status.success(), "{name}, rank {rank}: {:?}", remains.lines.last());
    }
    let events = ended[0].lines.iter().map(|line| serde_json::from_str(line));
    let events = events.collect::<Result<_, _>>()?;
    Ok(Left { events, tensors: Tensor::read_safetensors(&file)?.into_iter().collect() })
}

/// Compares losses of steps, and whole decisions.
fn expect_same_events(name: &str, one: &[Event], two: &[Event]) {
    assert_eq!(one.len(), two.len(), "{name}");
    for (left, right) in one.iter().zip(two) {
        match (left, right) {
            (Event::Step(left), Event::Step(right)) => {
                let losses = [left.loss, right.loss]
                    .map(|loss| [loss.task, loss.one_hot, loss.budget, loss.reconstruction]);
                for (own, other) in losses[0].iter().zip(losses[1]) {
                    let allowed = LOSS_TOLERANCE * (1.0 + own.abs());
                    assert!((own - other).abs() <= allowed, "{name}: {losses:?}");
                }
            }
            // The jump of the logits is that of rank 0's images.
            (Event::Pruned(left), Event::Pruned(right)) => {
                assert_eq!((left.step, &left.units), (right.step, &right.units), "{name}");
            }
            _ => assert_eq!(left, right, "{name}"),
        }
    }
}

/// Compares tensors by name.
pub fn expect_close(name: &str, one: &BTreeMap<String, Tensor>, two: &BTreeMap<String, Tensor>) {
    assert!(one.keys().eq(two.keys()), "{name}");
    for (tensor, own) in one {
        let other = &two[tensor];
        assert_eq!(own.size(), other.size(), "{name}: {tensor}");
        if own.numel() == 0 {
            // Scores of a removed branch.
            continue;
        }
        let difference = (own - other).abs().max().double_value(&[]);
        assert!(difference <= TOLERANCE, "{name}: {tensor} differs by {difference}");
    }
}

#[test]
fn two_ranks_search_like_one_process() -> TestResult {
    let folder = tempfile::tempdir()?;
    for name in SEARCHES {
        let (one, two) = (run(name, 1, folder.path())?, run(name, 2, folder.path())?);
        expect_same_events(name, &one.events, &two.events);
        expect_close(name, &one.tensors, &two.tensors);
        let pruned = one.events.iter().filter(|event| matches!(event, Event::Pruned(_))).count();
        assert_eq!(pruned > 0, name != "training", "{name}: {pruned}");
    }
    Ok(())
}

/// Gradients rounded to bf16 are others, by a share of 1/256 each: AdamW's steps of 1e-3 differ little.
#[test]
fn gradients_exchanged_in_bf16_end_close_to_those_in_f32() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [whole, rounded] = ["default", "bf16_exchange"].map(|name| run(name, 2, folder.path()));
    let [whole, rounded] = [whole?.tensors, rounded?.tensors];
    let logits = |tensors: &BTreeMap<String, Tensor>| tensors["logits"].shallow_clone();
    let difference = (logits(&whole) - logits(&rounded)).abs().max().double_value(&[]);
    assert!(difference > 1e-6 && difference < 1e-2, "{difference}");
    Ok(())
}
