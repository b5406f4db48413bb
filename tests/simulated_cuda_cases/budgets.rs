//! Budgets of operators and host waits for DeiT-S at batch size 2.

use super::counters::{Count, Counters};
use super::scenarios;
use crate::support::tiny_run::alone;
use crate::support::TestResult;

/// Name of the work, and the most operators and host waits that it may cost. A session reads scores and gates, once each; a step
/// with pruning costs more the more dimensions its round prunes.
const BUDGETS: [(&str, u64, u64); 15] = [
    ("plain step", 540, 0),
    ("search step, learned, without PMIM", 820, 0),
    ("search step, paper, with PMIM", 880, 0),
    ("search step, learned, with PMIM on a part of the images", 1400, 0),
    ("logged step", 1450, 1),
    ("step with a decision", 1700, 1),
    ("making a session", 1400, 2),
    ("search step, default", 840, 0),
    ("logged step, default", 880, 1),
    ("step with a decision, default", 1400, 1),
    ("search step, default, bf16", 850, 0),
    ("step of a fade-out, default", 970, 0),
    ("step with pruning, default", 3000, 2),
    ("batch of the loader", 20, 0),
    ("batch of images in memory", 20, 0),
];

/// The most operators of the optimiser alone, all parameters of a search in one update.
const OPTIMISER: u64 = 40;

/// The most operators of clipping and of the guard against steps that are not finite.
const GUARD: u64 = 30;

/// The most operators that a search step with learned α has more than a plain step, without the
/// optimiser, the guard and masked image modeling: all gates, pulled back, one-hot and budget losses, and
/// their gradients.
const GATES: u64 = 250;

/// Function whose operators are clipping and the guard.
const GUARD_PART: &str =
    "search::update::<impl once_for_both::search::step::Search<A>>::clip_and_guard";

/// Part of the crate whose operators count as the optimiser's.
const OPTIMISER_PART: &str = "optim::adamw";

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn steps_of_deit_s_stay_within_budgets_of_operators_and_waits() -> TestResult {
    let _alone = alone();
    let counters = Counters::new()?;
    let counts = scenarios::all(&counters)?;
    for (name, count) in &counts {
        print_table(name, count);
    }
    let of = |name: &str| {
        let found = counts.iter().find(|(other, _)| *other == name);
        found.map(|(_, count)| count).ok_or_else(|| format!("no count of {name}"))
    };
    let search = of("search step, paper, with PMIM")?;
    let optimiser = search.operators_of(OPTIMISER_PART);
    println!(
        "\ncounts: plain={} search={} optimiser={optimiser} waits={} logged_waits={} decision_waits={}",
        of("plain step")?.operators,
        search.operators,
        search.waits,
        of("logged step")?.waits,
        of("step with a decision")?.waits,
    );
    let mut exceeded = Vec::new();
    let mut check = |name: String, actual: u64, most: u64| {
        if actual > most {
            exceeded.push(format!("{name}: got {actual}, expected at most {most}"));
        }
    };
    check("operators of the optimiser".into(), optimiser, OPTIMISER);
    check("operators of clipping and guard".into(), search.operators_of(GUARD_PART), GUARD);
    let without_update = |count: &Count| {
        count.operators - count.operators_of(OPTIMISER_PART) - count.operators_of(GUARD_PART)
    };
    let decisive = without_update(of("search step, learned, without PMIM")?)
        - without_update(of("plain step")?);
    println!("operators of gates and their losses: {decisive}");
    check("operators of gates and their losses".into(), decisive, GATES);
    for (name, operators, waits) in BUDGETS {
        check(format!("operators of {name}"), of(name)?.operators, operators);
        check(format!("host waits of {name}"), of(name)?.waits, waits);
    }
    assert!(optimiser > 0, "no operator of {OPTIMISER_PART}: is that where the optimiser is?");
    assert!(exceeded.is_empty(), "\n{}", exceeded.join("\n"));
    Ok(())
}

fn print_table(name: &str, count: &Count) {
    let megabytes = |bytes| bytes as f64 / 1e6;
    eprintln!(
        "\n{name}: {} operators, {} host waits, {:.3} MB to the device, peak {:.1} MB above the start",
        count.operators,
        count.waits,
        megabytes(count.bytes_to_device),
        megabytes(count.peak_growth)
    );
    for (part, operators) in count.parts() {
        eprintln!("{operators:>8} operators  {part}");
    }
    for (caller, waits) in count.waits_by_caller() {
        eprintln!("{waits:>8} waits      {caller}");
    }
}
