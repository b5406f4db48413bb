//! Costs against hand-made sums, against the variables of built networks, and projection against
//! trying every choice.

mod support;

use once_for_both::cost::{
    project, Budget, Choice, CompiledPolynomial, CostModel, Metric, Polynomial, Projection,
};
use once_for_both::loss::BudgetLoss;
use once_for_both::models::{Architecture, BlockConfig, VitConfig};
use once_for_both::space::{
    ActiveSet, Cells, Dimension, DimensionKind, Over, SearchSpace, Size, Sizes,
};
use once_for_both::{Error, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use std::cmp::Ordering;
use support::{
    from_numbers, gradients, in_words, leaf, numbers, softmax, test_device, TestResult, Tolerance,
};
use tch::{nn, Tensor};

/// Expected costs are sums of products in f32.
const EXPECTED: Tolerance = Tolerance::relative(1e-5);

fn units(name: &str) -> Polynomial {
    Polynomial::units(name)
}

fn sizes(list: &[(&str, Size)]) -> Sizes {
    list.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
}

// ---------------------------------------------------------------------------------------------
// Polynomials

/// e = 10, a = 2 heads of 3.
fn ten_and_six() -> Sizes {
    sizes(&[("e", Size::flat(10)), ("a", Size { heads: 2, channels: 3 })])
}

#[test]
fn algebra_by_hand() -> TestResult {
    let heads = || Polynomial::heads("a");
    for (polynomial, value) in [
        (Polynomial::default(), 0.0),
        (Polynomial::from(7), 7.0),
        (units("e") + 1, 11.0),
        (units("a"), 6.0),
        (heads(), 2.0),
        (units("e") * units("a") * 4 + units("a") * (2 * 5), 300.0),
        ((units("e") + 1) * (units("a") + heads() + 3.5), 126.5),
        ((units("e") + units("a")) * (units("e") + -6), 64.0),
        (units("e") * 0.0, 0.0),
    ] {
        assert_eq!(polynomial.evaluate(&ten_and_six())?, value, "{polynomial:?}");
    }
    Ok(())
}

#[test]
fn like_terms_are_added_up_whatever_the_order_of_factors() {
    let mut sum = units("a") * units("e") + 1;
    sum += units("e") * units("a") * 2;
    sum += 4;
    let coefficients: Vec<f64> = sum.terms().iter().map(|term| term.coefficient).collect();
    assert_eq!(coefficients, [3.0, 5.0]);
    // Units and heads of one dimension are two variables.
    assert_eq!((units("a") + Polynomial::heads("a")).terms().len(), 2);
    // (e + 1)(e + 1) = e² + 2e + 1.
    let square = (units("e") + 1) * (units("e") + 1);
    let coefficients: Vec<f64> = square.terms().iter().map(|term| term.coefficient).collect();
    assert_eq!(coefficients, [1.0, 2.0, 1.0]);
}

#[test]
fn a_size_that_is_missing_is_named() {
    let cost = units("e") * units("b");
    assert_refused!(
        cost.evaluate(&ten_and_six()),
        Error::Unknown { ref name, ref known, .. } if name == "b" && known == "a, e"
    );
}

/// A polynomial in e, a and a's heads as plain data: coefficient and exponents.
fn monomials() -> impl Strategy<Value = Vec<(i32, [usize; 3])>> {
    vec((-5..6, [0..3usize, 0..3usize, 0..2usize]), 0..5)
}

fn build(monomials: &[(i32, [usize; 3])]) -> Polynomial {
    let variables = [units("e"), units("a"), Polynomial::heads("a")];
    monomials.iter().fold(Polynomial::default(), |sum, (coefficient, exponents)| {
        let powers = variables.iter().zip(exponents);
        let term = powers.fold(Polynomial::from(f64::from(*coefficient)), |term, (x, power)| {
            (0..*power).fold(term, |term, _| term * x.clone())
        });
        sum + term
    })
}

fn slow_value(monomials: &[(i32, [usize; 3])], x: [f64; 3]) -> f64 {
    let power = |at: usize, exponent: usize| x[at].powi(exponent as i32);
    monomials
        .iter()
        .map(|(c, e)| f64::from(*c) * power(0, e[0]) * power(1, e[1]) * power(2, e[2]))
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_and_products_are_those_of_the_values(
        left in monomials(),
        right in monomials(),
        (e, heads, channels) in (1..9i64, 1..5i64, 1..9i64),
    ) {
        let at = sizes(&[("e", Size::flat(e)), ("a", Size { heads, channels })]);
        let x = [e as f64, (heads * channels) as f64, heads as f64];
        let (a, b) = (slow_value(&left, x), slow_value(&right, x));
        prop_assert_eq!(build(&left).evaluate(&at)?, a);
        prop_assert_eq!((build(&left) + build(&right)).evaluate(&at)?, a + b);
        prop_assert_eq!((build(&left) * build(&right)).evaluate(&at)?, a * b);
        let swept = build(&left).evaluate_with(|variable| Ok(match variable.over {
            Over::Heads => x[2] + 0.5,
            Over::Units if variable.dimension == "e" => x[0] + 0.5,
            Over::Units => x[1] + 0.5,
        }))?;
        let expected = slow_value(&left, x.map(|x| x + 0.5));
        prop_assert!((swept - expected).abs() <= 1e-9 * (1.0 + expected.abs()));
    }

    #[test]
    fn compiled_polynomials_have_the_same_value_and_slope(
        monomials in monomials(),
        x in [0.5..3.0f64, 0.5..3.0, 0.5..3.0],
        fixed in 1..5i64,
    ) {
        // e and a are searched, b is not: it enters the coefficients.
        let cost = build(&monomials) * units("b");
        let space = SearchSpace { dimensions: vec![
            Dimension::new("e", DimensionKind::Embedding, Cells::flat(4, vec![4])?),
            Dimension::new("a", DimensionKind::Attention, Cells::grid(2, 4, vec![2], vec![4])?),
        ] };
        let others = sizes(&[("b", Size::flat(fixed))]);
        let compiled = CompiledPolynomial::new(&cost, &space, &others, test_device())?;
        // Units and heads of e (the heads of a flat dimension count for nothing here), then of a.
        let at = leaf(&in_words(from_numbers(&[x[0], 1.0, x[1], x[2], 1.0], &[5]))?);
        let value = compiled.evaluate(&at)?;
        let b = fixed as f64;
        let scale = |terms: &[(i32, [usize; 3])]| -> f64 {
            terms.iter().map(|term| slow_value(&[(term.0.abs(), term.1)], x)).sum::<f64>() * b
        };
        let close = Tolerance { relative: 0.0, absolute: 1e-6 + 1e-5 * scale(&monomials) };
        in_words(close.check_against("value", &value, &[slow_value(&monomials, x) * b]))?;
        let slope = |along: usize| -> f64 {
            let terms: Vec<_> = monomials.iter().filter(|term| term.1[along] > 0).collect();
            let derived = terms.iter().map(|(c, exponents)| {
                let mut lowered = *exponents;
                lowered[along] -= 1;
                exponents[along] as f64 * slow_value(&[(*c, lowered)], x)
            });
            derived.sum::<f64>() * b
        };
        let found = in_words(numbers(&in_words(gradients(&value, &[&at]))?[0]))?;
        let close = Tolerance { relative: 0.0, absolute: 1e-5 + 1e-4 * scale(&monomials) };
        for (place, along) in [(0, 0), (2, 1), (3, 2)] {
            in_words(close.check_number("slope", found[place], slope(along)))?;
        }
    }
}

// ---------------------------------------------------------------------------------------------
// The cost of a ViT

fn vits() -> impl Strategy<Value = VitConfig> {
    let block = (1..4i64, 1..5i64, 1..9i64)
        .prop_map(|(heads, head_dim, hidden)| BlockConfig::new(heads, head_dim, hidden));
    let sides = (1..4i64, 1..4i64, 1..4i64);
    (sides, 1..9i64, 1..9i64, vec(block, 0..3), any::<bool>()).prop_map(
        |((grid, patch, channels), classes, embed, blocks, distilled)| VitConfig {
            blocks,
            embed_dim: embed,
            distilled,
            ..VitConfig::uniform(embed, 0, 1).input(grid * patch, channels, patch).classes(classes)
        },
    )
}

/// Every matrix product of the forward pass, in order: rows × inner × columns.
fn slow_macs(config: &VitConfig) -> i64 {
    let (tokens, embed) = (config.tokens(), config.embed_dim);
    let pixels = config.in_channels * config.patch_size * config.patch_size;
    let patches = config.grid() * config.grid() * pixels * embed;
    let blocks = config.blocks.iter().map(|block| {
        let inner = block.heads * block.head_dim;
        let qkv = tokens * embed * 3 * inner;
        let attention = 2 * block.heads * tokens * block.head_dim * tokens;
        let proj = tokens * inner * embed;
        let mlp = tokens * embed * block.hidden_dim + tokens * block.hidden_dim * embed;
        qkv + attention + proj + mlp
    });
    let heads = config.prefix_tokens() * embed * config.classes;
    patches + blocks.sum::<i64>() + heads
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_vit_costs_what_it_executes_and_holds(config in vits()) {
        let model = config.cost_model();
        let store = nn::VarStore::new(test_device());
        config.build(&store.root())?;
        let held: usize = store.trainable_variables().iter().map(Tensor::numel).sum();
        prop_assert_eq!(model.dense_cost(Metric::Params)?, held as f64);
        prop_assert_eq!(model.dense_cost(Metric::Macs)?, slow_macs(&config) as f64);
        let shapes = store.variables().into_iter().map(|(name, var)| (name, var.size()));
        config.space()?.validate(&shapes.collect())?;
    }

    #[test]
    fn a_resized_vit_costs_what_the_dense_ones_model_says(
        config in vits(),
        picks in vec(any::<prop::sample::Index>(), 7),
    ) {
        let dimensions = config.space()?.dimensions;
        let chosen: Sizes = dimensions
            .iter()
            .zip(&picks)
            .map(|(d, pick)| (d.name.clone(), d.cells.size(pick.index(d.cells.len()))))
            .collect();
        let small = config.resized(&chosen)?;
        prop_assert_eq!(&small.cost_model().dense, &chosen);
        for metric in [Metric::Macs, Metric::Params] {
            let cost = config.cost_model().cost(metric, &chosen)?;
            prop_assert_eq!(cost, small.cost_model().dense_cost(metric)?);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Projection

/// One dimension of a made-up space.
#[derive(Debug, Clone)]
struct Part {
    kind: DimensionKind,
    cells: Cells,
    active: Vec<bool>,
    log_probability: Vec<f64>,
    /// By metric: weight of units × embedding, units, units², heads.
    weights: [[i64; 4]; 2],
}

fn parts() -> impl Strategy<Value = Part> {
    let candidates = |most: i64| subsequence((1..=most).collect::<Vec<_>>(), 1..=most as usize);
    let kind = prop_oneof![
        Just(DimensionKind::Embedding),
        Just(DimensionKind::Attention),
        Just(DimensionKind::Hidden),
    ];
    (kind, candidates(2), candidates(3)).prop_flat_map(|(kind, counts, widths)| {
        let cells = match kind {
            DimensionKind::Attention => Cells::grid(2, 3, counts, widths),
            DimensionKind::Embedding | DimensionKind::Hidden => Cells::flat(3, widths),
        };
        let cells = cells.unwrap_or_else(|error| panic!("{error}"));
        let count = cells.len();
        let flags = (0..count, vec(any::<bool>(), count)).prop_map(|(one, mut flags)| {
            flags[one] = true;
            flags
        });
        // Quarters: equally probable cells are common.
        let alpha = vec((-6..6).prop_map(|n| f64::from(n) / 4.0), count);
        let weights = || [0..4i64, 1..4i64, 0..2i64, 0..7i64];
        (Just(kind), Just(cells), flags, alpha, [weights(), weights()]).prop_map(
            |(kind, cells, active, alpha, weights)| {
                let p = softmax(&alpha, &active);
                let log_probability = p.iter().map(|p| p.ln()).collect();
                Part { kind, cells, active, log_probability, weights }
            },
        )
    })
}

/// A made-up space with its costs.
struct Toy {
    space: SearchSpace,
    model: CostModel,
    choices: Vec<Choice>,
}

impl Toy {
    fn new(parts: &[Part]) -> TestResult<Self> {
        let name = |at: usize| format!("d{at}");
        let shared: Vec<usize> =
            (0..parts.len()).filter(|&at| parts[at].kind == DimensionKind::Embedding).collect();
        let mut costs = [Polynomial::from(1), Polynomial::from(2)];
        let mut choices = Vec::new();
        let mut space = SearchSpace::empty();
        for (at, part) in parts.iter().enumerate() {
            // Free dimensions read one embedding; two embeddings multiply.
            let embedding = match shared.len() {
                0 => Polynomial::from(1),
                count => units(&name(shared[at % count])),
            };
            for (cost, weights) in costs.iter_mut().zip(part.weights) {
                let own = || units(&name(at));
                *cost += own() * embedding.clone() * weights[0] + own() * weights[1];
                *cost += own() * own() * weights[2] + Polynomial::heads(&name(at)) * weights[3];
            }
            let active = ActiveSet::new(&part.cells, part.active.clone(), test_device())?;
            choices.push(Choice::new(&name(at), &active, &part.log_probability)?);
            space.dimensions.push(Dimension::new(name(at), part.kind, part.cells.clone()));
        }
        let [macs, params] = costs;
        let model = CostModel { macs, params, dense: space.full_sizes() };
        Ok(Self { space, model, choices })
    }

    fn sizes(&self, cells: &[usize]) -> Sizes {
        let pairs = self.space.dimensions.iter().zip(cells);
        pairs.map(|(d, &cell)| (d.name.clone(), d.cells.size(cell))).collect()
    }

    fn costs(&self, budgets: &[Budget], cells: &[usize]) -> Result<Vec<f64>> {
        let sizes = self.sizes(cells);
        budgets.iter().map(|budget| self.model.cost(budget.metric, &sizes)).collect()
    }

    fn log_probability(&self, cells: &[usize]) -> f64 {
        let value = |(choice, cell): (&Choice, &usize)| {
            let at = choice.cells.iter().position(|own| own == cell);
            at.map_or(f64::NAN, |at| choice.log_probability[at])
        };
        self.choices.iter().zip(cells).map(value).sum()
    }

    /// Every choice of one active cell per dimension.
    fn every_choice(&self) -> Vec<Vec<usize>> {
        self.choices.iter().fold(vec![Vec::new()], |partial, choice| {
            let longer = |cells: Vec<usize>| {
                choice.cells.iter().map(move |&cell| [cells.clone(), vec![cell]].concat())
            };
            partial.into_iter().flat_map(longer).collect()
        })
    }

    /// Cheapest step from one cell of a dimension to a dearer one, all others at their cheapest
    /// (of equally cheap ones, the smallest); infinite where there is no dearer one.
    fn slow_step(&self, metric: Metric) -> Result<f64> {
        let cost = |cells: &[usize]| self.model.cost(metric, &self.sizes(cells));
        let mut all = Vec::new();
        for cells in self.every_choice() {
            let sizes = self.sizes(&cells);
            let units: i64 = sizes.values().map(|size| size.units()).sum();
            let heads: i64 = sizes.values().map(|size| size.heads).sum();
            all.push((cost(&cells)?, units, heads, cells));
        }
        all.sort_by(|left, right| left.partial_cmp(right).unwrap_or(Ordering::Equal));
        let cheapest = &all[0].3;
        let mut step = f64::INFINITY;
        for (at, choice) in self.choices.iter().enumerate() {
            let mut costs = Vec::new();
            for &cell in &choice.cells {
                let mut cells = cheapest.clone();
                cells[at] = cell;
                costs.push(cost(&cells)?);
            }
            for (low, high) in costs.iter().flat_map(|l| costs.iter().map(move |h| (l, h))) {
                if low < high {
                    step = step.min(high - low);
                }
            }
        }
        Ok(step)
    }

    /// The most probable of all choices that fit and lie in the band below the budget; the band
    /// doubles until there is one.
    fn slow_projection(&self, budgets: &[Budget]) -> Result<Option<f64>> {
        let mut fitting = Vec::new();
        for cells in self.every_choice() {
            let costs = self.costs(budgets, &cells)?;
            if costs.iter().zip(budgets).all(|(cost, budget)| *cost <= budget.limit) {
                fitting.push((costs, self.log_probability(&cells)));
            }
        }
        if fitting.is_empty() {
            return Ok(None);
        }
        let steps = budgets.iter().map(|budget| self.slow_step(budget.metric));
        let mut steps = steps.collect::<Result<Vec<f64>>>()?;
        loop {
            let near = |costs: &[f64]| {
                (0..budgets.len()).any(|at| costs[at] > budgets[at].limit - steps[at])
            };
            let band = fitting.iter().filter(|(costs, _)| near(costs));
            let best = band.map(|(_, value)| *value).max_by(f64::total_cmp);
            if best.is_some() {
                return Ok(best);
            }
            steps.iter_mut().for_each(|step| *step *= 2.0);
        }
    }

    fn project(&self, budgets: &[Budget]) -> Result<Projection> {
        project(&self.model, &self.space, &self.choices, budgets)
    }
}

fn toys() -> impl Strategy<Value = Vec<Part>> {
    vec(parts(), 1..5)
}

/// One or two limits, as shares of the dense costs; some below the least, some above the most.
fn limits() -> impl Strategy<Value = (f64, Option<f64>)> {
    (0.05..1.2, prop::option::of(0.05..1.2))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn projection_finds_the_best_choice_or_says_there_is_none(
        parts in toys(),
        (macs, params) in limits(),
    ) {
        let toy = in_words(Toy::new(&parts))?;
        let mut budgets = vec![Budget::macs(macs * toy.model.dense_cost(Metric::Macs)?)];
        if let Some(params) = params {
            budgets.push(Budget::params(params * toy.model.dense_cost(Metric::Params)?));
        }
        match (toy.project(&budgets), toy.slow_projection(&budgets)?) {
            (Ok(found), Some(best)) => {
                for (cell, choice) in found.cells.iter().zip(&toy.choices) {
                    prop_assert!(choice.cells.contains(cell), "cell {} is not active", cell);
                }
                prop_assert_eq!(&found.costs, &toy.costs(&budgets, &found.cells)?);
                for (cost, budget) in found.costs.iter().zip(&budgets) {
                    prop_assert!(*cost <= budget.limit, "{} exceeds {:?}", cost, budget);
                }
                let value = toy.log_probability(&found.cells);
                prop_assert!((found.log_probability - value).abs() < 1e-9);
                prop_assert!((value - best).abs() < 1e-9, "found {}, best {}", value, best);
            }
            (Err(Error::Infeasible { .. }), None) => {}
            (found, best) => prop_assert!(false, "found {:?}, best {:?}", found, best),
        }
    }

    #[test]
    fn the_range_is_that_of_all_choices(parts in toys()) {
        let toy = in_words(Toy::new(&parts))?;
        let pairs = toy.space.dimensions.iter().zip(&toy.choices);
        let candidates: Vec<Vec<Size>> = pairs
            .map(|(d, choice)| choice.cells.iter().map(|&cell| d.cells.size(cell)).collect())
            .collect();
        for metric in [Metric::Macs, Metric::Params] {
            let budget = [Budget { metric, limit: 0.0 }];
            let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
            for cells in toy.every_choice() {
                let cost = toy.costs(&budget, &cells)?[0];
                (least, most) = (least.min(cost), most.max(cost));
            }
            let range = toy.model.range(metric, &toy.space, &candidates)?;
            prop_assert_eq!(range, (least, most));
        }
    }
}

/// Embedding of 2 or 4, one attention of (1 or 2) × (1 or 2), one hidden of 1, 2 or 8:
/// MACs 2·e·a + 3·e·h + 5, parameters e + a + h.
fn little() -> TestResult<(SearchSpace, CostModel, Vec<ActiveSet>)> {
    let cells = [
        ("e", DimensionKind::Embedding, Cells::flat(4, vec![2, 4])?),
        ("a", DimensionKind::Attention, Cells::grid(2, 2, vec![1, 2], vec![1, 2])?),
        ("h", DimensionKind::Hidden, Cells::flat(8, vec![1, 2, 8])?),
    ];
    let dimensions: Vec<_> =
        cells.into_iter().map(|(name, kind, cells)| Dimension::new(name, kind, cells)).collect();
    let space = SearchSpace { dimensions };
    let model = CostModel {
        macs: units("e") * units("a") * 2 + units("e") * units("h") * 3 + 5,
        params: units("e") + units("a") + units("h"),
        dense: space.full_sizes(),
    };
    let active = space.dimensions.iter().map(|d| ActiveSet::all(&d.cells, test_device()));
    let active = active.collect::<Result<_>>()?;
    Ok((space, model, active))
}

/// Choices with the given logarithms of probabilities.
fn choices(active: &[ActiveSet], log_probability: [&[f64]; 3]) -> Result<Vec<Choice>> {
    active.iter().zip(log_probability).map(|(set, p)| Choice::new("toy", set, p)).collect()
}

const EVEN: [&[f64]; 3] = [&[0.0; 2], &[0.0; 4], &[0.0; 3]];

#[test]
fn projection_by_hand() -> TestResult {
    let (space, model, active) = little()?;
    // The likeliest of all, e = 4, a = 2·2, h = 8, costs 2·16 + 3·32 + 5 = 133.
    let likely: [&[f64]; 3] = [&[-3.0, -0.1], &[-5.0, -4.0, -3.0, -0.1], &[-2.0, -1.0, -0.5]];
    let choices = choices(&active, likely)?;
    let found = project(&model, &space, &choices, &[Budget::macs(133.0)])?;
    assert_eq!((found.cells, found.costs), (vec![1, 3, 2], vec![133.0]));
    // At 61 with e = 4 there is room for h = 2: 2·16 + 3·8 + 5. The cheapest step is 4 (one more
    // unit of attention at e = 2), so 61 is the only cost within one step below 62.
    let found = project(&model, &space, &choices, &[Budget::macs(62.0)])?;
    assert_eq!((found.cells, found.costs), (vec![1, 3, 1], vec![61.0]));
    assert!((found.log_probability + 1.2).abs() < 1e-12);
    // The smallest choice is the only one at its own cost.
    let least = 2.0 * 2.0 + 3.0 * 2.0 + 5.0;
    let found = project(&model, &space, &choices, &[Budget::macs(least)])?;
    assert_eq!(found.cells, [0, 0, 0]);
    // A second limit holds as well.
    let both = [Budget::macs(62.0), Budget::params(6.0)];
    let found = project(&model, &space, &choices, &both)?;
    assert!(found.costs[0] <= 62.0 && found.costs[1] <= 6.0, "{found:?}");
    Ok(())
}

#[test]
fn where_all_choices_cost_the_same_the_most_probable_wins() -> TestResult {
    let (space, mut model, active) = little()?;
    let likely: [&[f64]; 3] = [&[-3.0, -0.1], &[-5.0, -4.0, -3.0, -0.1], &[-2.0, -1.0, -0.5]];
    let choices = choices(&active, likely)?;
    for (cost, limit) in [(0, 0.0), (0, 7.0), (7, 7.0), (7, 8.0)] {
        model.params = Polynomial::from(cost);
        let found = project(&model, &space, &choices, &[Budget::params(limit)])?;
        assert_eq!(found.cells, [1, 3, 2], "{cost} within {limit}");
    }
    Ok(())
}

/// 1 × 8 has fewer heads, 2 × 3 fewer units: which is cheaper depends on the costs of both.
#[test]
fn a_few_large_heads_and_many_small_ones_are_compared_by_cost() -> TestResult {
    let cells = Cells::grid(2, 8, vec![1, 2], vec![3, 8])?;
    let active = ActiveSet::new(&cells, vec![false, true, true, false], test_device())?;
    let dimension = Dimension::new("a", DimensionKind::Attention, cells);
    let space = SearchSpace { dimensions: vec![dimension] };
    let cost = units("a") + Polynomial::heads("a") * 10;
    let model = CostModel { macs: cost.clone(), params: cost, dense: space.full_sizes() };
    let candidates = [Size { heads: 1, channels: 8 }, Size { heads: 2, channels: 3 }];
    let range = model.range(Metric::Params, &space, &[candidates.to_vec()])?;
    assert_eq!(range, (18.0, 26.0));
    let even = Choice::new("a", &active, &[0.0; 4])?;
    let found = project(&model, &space, &[even], &[Budget::params(20.0)])?;
    assert_eq!((found.cells, found.costs), (vec![1], vec![18.0]));
    Ok(())
}

#[test]
fn projections_that_cannot_be_are_refused() -> TestResult {
    let (space, mut model, active) = little()?;
    let choices = choices(&active, EVEN)?;
    assert_refused!(
        project(&model, &space, &choices, &[Budget::macs(14.0)]),
        Error::Infeasible { budget, least, most, .. }
            if (budget, least, most) == (14.0, 15.0, 133.0)
    );
    // The first limit can be kept, the second cannot.
    let both = [Budget::macs(133.0), Budget::params(3.0)];
    assert_refused!(
        project(&model, &space, &choices, &both),
        Error::Infeasible { metric: "parameters", .. }
    );
    assert_refused!(project(&model, &space, &choices, &[]), Error::Invalid { .. });
    model.macs += units("a") * units("h");
    assert_refused!(
        project(&model, &space, &choices, &[Budget::macs(133.0)]),
        Error::Invalid { ref actual, .. } if actual == "a × h"
    );
    for limit in [f64::NAN, f64::INFINITY] {
        let refused = project(&model, &space, &choices, &[Budget::params(limit)]);
        assert_refused!(refused, Error::Invalid { .. });
    }
    let nothing = Choice { cells: Vec::new(), log_probability: Vec::new() };
    let [e, a, _] = [0, 1, 2].map(|at: usize| choices[at].clone());
    for wrong in [vec![e.clone(), a.clone()], vec![e, a, nothing]] {
        let refused = project(&model, &space, &wrong, &[Budget::params(9.0)]);
        assert_refused!(refused, Error::Invalid { .. });
    }
    assert_refused!(
        Choice::new("a", &active[1], &[0.0, f64::NAN, 0.0, 0.0]),
        Error::NonFinite { ref dimension, .. } if dimension == "a"
    );
    Ok(())
}

#[test]
fn budgets_are_shares_of_the_dense_cost_within_the_feasible_range() -> TestResult {
    let (space, model, _) = little()?;
    assert_eq!(Budget::share(Metric::Macs, 0.5, &model)?, Budget::macs(66.0));
    assert_eq!(Budget::share(Metric::Params, 1.0, &model)?, Budget::params(16.0));
    for share in [0.0, -0.5, 1.5, f64::NAN] {
        assert_refused!(Budget::share(Metric::Macs, share, &model), Error::Invalid { .. });
    }
    for limit in [14.0, 134.0, f64::NAN] {
        let refused = Budget::macs(limit).check(&model, &space);
        assert_refused!(refused, Error::Infeasible { least: 15.0, most: 133.0, .. });
    }
    Budget::macs(15.0).check(&model, &space)?;
    // A dimension without a size is dense.
    assert_eq!(model.cost(Metric::Macs, &sizes(&[("e", Size::flat(2))]))?, 69.0);
    Ok(())
}

#[test]
fn the_budget_loss_is_the_squared_excess_of_the_expected_cost() -> TestResult {
    let (space, mut model, active) = little()?;
    model.params += Polynomial::heads("a") * 3;
    let active: Vec<&ActiveSet> = active.iter().collect();
    let budgets = [Budget::macs(60.0), Budget::params(10.0)];
    let loss = BudgetLoss::new(&model, &space, &budgets, 5.0, test_device())?;
    let logits: [&[f64]; 3] = [&[0.0, 1.0], &[0.5, -0.5, 0.0, 0.25], &[-1.0, 0.0, 1.0]];
    let alphas = || -> TestResult<Vec<Tensor>> {
        let pairs = space.dimensions.iter().zip(logits);
        pairs.map(|(d, own)| Ok(leaf(&from_numbers(own, &d.cells.shape())?))).collect()
    };
    let expected = |at: usize, count: fn(Size) -> i64| -> f64 {
        let p = softmax(logits[at], &vec![true; logits[at].len()]);
        let sizes = space.dimensions[at].cells.sizes();
        sizes.zip(p).map(|(size, p)| count(size) as f64 * p).sum()
    };
    let [e, a, h] = [0, 1, 2].map(|at| expected(at, Size::units));
    let heads = expected(1, |size| size.heads);
    let (macs, params) = (2.0 * e * a + 3.0 * e * h + 5.0, e + a + h + 3.0 * heads);
    let alphas = alphas()?;
    for (found, expected) in loss.expected_costs(&alphas, &active)?.iter().zip([macs, params]) {
        EXPECTED.check_against("expected cost", found, &[expected])?;
    }
    let excess = [(macs - 60.0) / 133.0, (params - 10.0) / 22.0];
    let expected = 5.0 * (excess[0] * excess[0] + excess[1] * excess[1]);
    let found = loss.loss(&alphas, &active)?;
    EXPECTED.check_against("loss", &found, &[expected])?;

    // By the chain rule to the logits of e: dF/de · p_k (w_k − e).
    let to_e = 10.0 * (excess[0] / 133.0 * (2.0 * a + 3.0 * h) + excess[1] / 22.0);
    let p = softmax(logits[0], &[true; 2]);
    let slope: Vec<f64> = p.iter().zip([2.0, 4.0]).map(|(p, w)| to_e * p * (w - e)).collect();
    EXPECTED.check_against("slope", &gradients(&found, &[&alphas[0]])?[0], &slope)
}
