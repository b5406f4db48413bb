//! Polynomials, budgets and expected costs compared with sums written by hand; the cost model of a
//! ViT compared with its variables and its matrix products.

mod support;

use once_for_both::components::BudgetLoss;
use once_for_both::cost::{
    Budget, CompiledPolynomial, CostLimit, CostModel, Counted, ExpectedCost, Metric, Polynomial,
};
use once_for_both::models::{Architecture, Mlp, Pooling, SwinConfig, VitConfig};
use once_for_both::space::{
    ActiveSet, ActiveSets, Candidates, Dimension, DimensionKind, SearchSpace, Size, Sizes,
};
use once_for_both::strategies::vit_configs;
use once_for_both::Error;
use proptest::collection::vec;
use proptest::prelude::*;
use support::little::{little, sizes, units};
use support::{
    from_numbers, gradients, in_words, leaf, numbers, softmax, test_device, TestResult, Tolerance,
};
use tch::{nn, Tensor};

/// For expected costs, which are sums of products in f32.
const EXPECTED: Tolerance = Tolerance::relative(1e-5);

/// Sizes e = 10 and a = 2 heads × 3 channels.
fn ten_and_six() -> Sizes {
    sizes(&[("e", Size::flat(10)), ("a", Size { heads: 2, channels: 3 })])
}

#[test]
fn polynomial_of_sums_and_products_has_the_value_worked_out_by_hand() -> TestResult {
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
fn polynomial_with_like_terms_in_any_factor_order_adds_their_coefficients() {
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
fn polynomial_evaluated_without_a_size_names_the_dimension() {
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
    fn polynomial_sum_and_product_equal_sum_and_product_of_values(
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
            Counted::Heads => x[2] + 0.5,
            Counted::Units if variable.dimension == "e" => x[0] + 0.5,
            Counted::Units | Counted::Branch => x[1] + 0.5,
        }))?;
        let expected = slow_value(&left, x.map(|x| x + 0.5));
        prop_assert!((swept - expected).abs() <= 1e-9 * (1.0 + expected.abs()));
    }

    #[test]
    fn compiled_polynomial_has_the_value_and_gradient_of_the_polynomial(
        monomials in monomials(),
        x in [0.5..3.0f64, 0.5..3.0, 0.5..3.0],
        fixed in 1..5i64,
    ) {
        // e and a are searched; b is not, so its size is multiplied into the coefficients.
        let cost = build(&monomials) * units("b");
        let pairs = Candidates::grid(2, 4, vec![2], vec![4])?;
        let space = SearchSpace { dimensions: vec![
            Dimension::new("e", DimensionKind::Embedding, Candidates::flat(4, vec![4])?),
            Dimension::new("a", DimensionKind::Attention, pairs),
        ] };
        let others = sizes(&[("b", Size::flat(fixed))]);
        let compiled = CompiledPolynomial::new(&cost, &space, &others, test_device())?;
        // Units, heads and branch of e (no term has the heads of e), then of a, then 1.
        let at = leaf(&in_words(from_numbers(&[x[0], 1.0, 1.0, x[1], x[2], 1.0, 1.0], &[7]))?);
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
        for (place, along) in [(0, 0), (3, 1), (4, 2)] {
            in_words(close.check_number("slope", found[place], slope(along)))?;
        }
    }
}

/// Multiply-accumulates of every matrix product of the forward pass: rows × inner × columns.
fn slow_macs(config: &VitConfig) -> i64 {
    let (tokens, embed) = (config.tokens(), config.embed_dim);
    let [height, width] = config.patch();
    let patches = config.patches() * config.in_channels * height * width * embed;
    let gates = i64::from(config.mlp == Mlp::SwiGlu);
    let blocks = config.blocks.iter().map(|block| {
        let inner = block.heads * block.head_dim;
        let queries = block.heads * block.qk_dim.unwrap_or(block.head_dim);
        let qkv = tokens * embed * (2 * queries + inner);
        let attention = tokens * (queries + inner) * tokens;
        let proj = tokens * inner * embed;
        let fc1 = tokens * embed * (1 + gates) * block.hidden_dim;
        qkv + attention + proj + fc1 + tokens * block.hidden_dim * embed
    });
    let pooled = match config.pooling {
        Pooling::Attention(pool) => {
            let (patches, inner) = (config.patches(), pool.sizes.heads * pool.sizes.head_dim);
            let attention = 2 * inner * patches;
            let kv = patches * embed * 2 * inner;
            let mlp = 2 * pool.embed_dim * pool.sizes.hidden_dim;
            pool.latent_dim * inner + kv + attention + inner * pool.embed_dim + mlp
        }
        _ => 0,
    };
    let columns = match config.pooling {
        Pooling::Attention(pool) => pool.embed_dim,
        Pooling::ClassAndMean => 2 * embed,
        Pooling::Tokens => tokens * embed,
        _ => (1 + i64::from(config.distilled)) * embed,
    };
    patches + blocks.sum::<i64>() + pooled + columns * config.classes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn vit_cost_model_equals_matrix_products_and_trainable_numbers(config in vit_configs()) {
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
    fn vit_cost_model_at_smaller_sizes_equals_that_of_the_resized_vit(
        config in vit_configs(),
        picks in vec(any::<prop::sample::Index>(), 10),
    ) {
        let dimensions = config.space()?.removable_branches().dimensions;
        let chosen: Sizes = dimensions
            .iter()
            .zip(&picks)
            .map(|(d, pick)| (d.name.clone(), d.candidates.size(pick.index(d.candidates.len()))))
            .collect();
        let small = config.resized(&chosen)?;
        // Branches that the configuration lacks are no dimensions of its space.
        let mut expected = config.cost_model().dense;
        expected.extend(chosen.clone());
        // Without an attention there are no queries and keys.
        let gone = |own: &String| own.strip_suffix(".qk").is_some_and(|own| chosen.get(own) == Some(&Size::REMOVED));
        expected.iter_mut().filter(|(own, _)| gone(own)).for_each(|(_, size)| *size = Size::REMOVED);
        prop_assert_eq!(&small.cost_model().dense, &expected);
        for metric in [Metric::Macs, Metric::Params] {
            let cost = config.cost_model().cost(metric, &chosen)?;
            prop_assert_eq!(cost, small.cost_model().dense_cost(metric)?);
        }
    }
}

#[test]
fn heads_of_a_dimension_without_are_refused_by_its_name() -> TestResult {
    let vit = VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(5).qk_v_apart()?;
    let swin = SwinConfig::tiny();
    for (name, size) in [
        ("blocks.0.mlp", Size { heads: 0, channels: 5 }),
        ("embed", Size { heads: 2, channels: 16 }),
        ("blocks.1.attn.qk", Size { heads: 4, channels: 2 }),
    ] {
        let refused = vit.resized(&Sizes::from([(name.into(), size)]));
        assert_refused!(
            refused,
            Error::Invalid { name: ref own, .. } if *own == format!("heads of {name}")
        );
    }
    let sizes = Sizes::from([("layers.1.embed".into(), Size { heads: 2, channels: 16 })]);
    assert_refused!(
        swin.resized(&sizes),
        Error::Invalid { ref name, .. } if name == "heads of layers.1.embed"
    );
    Ok(())
}

#[test]
fn budget_share_resolves_to_a_limit_that_must_lie_within_the_space() -> TestResult {
    let (space, model, _) = little()?;
    assert_eq!(Budget::share(Metric::Macs, 0.5).resolve(&model)?, CostLimit::macs(66.0));
    assert_eq!(Budget::share(Metric::Params, 1.0).resolve(&model)?, CostLimit::params(16.0));
    for share in [0.0, -0.5, 1.5, f64::NAN] {
        let refused = Budget::share(Metric::Macs, share).resolve(&model);
        assert_refused!(refused, Error::Invalid { .. });
    }
    for limit in [14.0, 134.0, f64::NAN] {
        let refused = CostLimit::macs(limit).check(&model, &space);
        assert_refused!(refused, Error::Infeasible { least: 15.0, most: 133.0, .. });
    }
    CostLimit::macs(15.0).check(&model, &space)?;
    let free = CostModel { macs: Polynomial::from(0), ..model.clone() };
    assert_refused!(
        CostLimit::macs(0.0).check(&free, &space),
        Error::Invalid { ref name, .. } if name == "MACs of the dense network"
    );
    Ok(())
}

#[test]
fn budget_of_an_amount_resolves_to_that_amount() -> TestResult {
    let (_, model, _) = little()?;
    for (budget, limit) in [
        (Budget::macs(70.5), CostLimit::macs(70.5)),
        (Budget::params(9.0), CostLimit::params(9.0)),
        (Budget::macs_share(0.25), CostLimit::macs(33.0)),
        (Budget::params_share(0.5), CostLimit::params(8.0)),
    ] {
        assert_eq!(budget.resolve(&model)?, limit);
    }
    for amount in [0.0, -1.0, f64::INFINITY, f64::NAN] {
        assert_refused!(Budget::macs(amount).resolve(&model), Error::Invalid { .. });
    }
    Ok(())
}

#[test]
fn cost_without_a_size_of_a_dimension_takes_its_dense_size() -> TestResult {
    let (_, model, _) = little()?;
    assert_eq!(model.cost(Metric::Macs, &sizes(&[("e", Size::flat(2))]))?, 69.0);
    Ok(())
}

#[test]
fn budget_loss_is_the_weighted_square_of_the_largest_excess_of_expected_cost() -> TestResult {
    let (space, mut model, active) = little()?;
    model.params += Polynomial::heads("a") * 3;
    let sets = ActiveSets::new(&active.iter().collect::<Vec<_>>(), test_device())?;
    let logits: [&[f64]; 3] = [&[0.0, 1.0], &[0.5, -0.5, 0.0, 0.25], &[-1.0, 0.0, 1.0]];
    let alphas = || -> TestResult<Vec<Tensor>> {
        let pairs = space.dimensions.iter().zip(logits);
        pairs.map(|(d, own)| Ok(leaf(&from_numbers(own, &d.candidates.shape())?))).collect()
    };
    let expected = |at: usize, count: fn(Size) -> i64| -> f64 {
        let p = softmax(logits[at], &vec![true; logits[at].len()]);
        let sizes = space.dimensions[at].candidates.sizes();
        sizes.zip(p).map(|(size, p)| count(size) as f64 * p).sum()
    };
    let [e, a, h] = [0, 1, 2].map(|at| expected(at, Size::units));
    let heads = expected(1, |size| size.heads);
    let (macs, params) = (2.0 * e * a + 3.0 * e * h + 5.0, e + a + h + 3.0 * heads);
    // First the MACs exceed their limit by the larger share, then the parameters do.
    for (limits, which) in [([60.0, 20.0], 0), ([100.0, 5.0], 1)] {
        let budgets = [CostLimit::macs(limits[0]), CostLimit::params(limits[1])];
        let loss = BudgetLoss::new(&model, &space, &budgets, 5.0, test_device())?;
        let metrics = [Metric::Macs, Metric::Params];
        let expected_cost = ExpectedCost::new(&model, &space, &metrics, test_device())?;
        let alphas = alphas()?;
        let each: Vec<&Tensor> = alphas.iter().collect();
        for (found, cost) in expected_cost.costs(&each, &sets)?.iter().zip([macs, params]) {
            EXPECTED.check_against("expected cost", found, &[cost])?;
        }
        let excess = [(macs - limits[0]) / 133.0, (params - limits[1]) / 22.0];
        assert!(excess[which] > excess[1 - which], "{excess:?}");
        let found = loss.loss(&each, &sets)?;
        EXPECTED.check_against("loss", &found, &[5.0 * excess[which] * excess[which]])?;

        // Chain rule for α of e: dL/dα_k = dL/dF · dF/de · p_k·(w_k − e).
        let cost_to_e = [(2.0 * a + 3.0 * h) / 133.0, 1.0 / 22.0][which];
        let to_e = 10.0 * excess[which] * cost_to_e;
        let p = softmax(logits[0], &[true; 2]);
        let slope: Vec<f64> = p.iter().zip([2.0, 4.0]).map(|(p, w)| to_e * p * (w - e)).collect();
        EXPECTED.check_against("slope", &gradients(&found, &[&alphas[0]])?[0], &slope)?;
    }
    Ok(())
}

/// Sizes are chosen as in a step, where each dimension has the counts of one candidate.
#[test]
fn compiled_polynomial_at_whole_sizes_has_the_value_of_the_polynomial() -> TestResult {
    let pairs = Candidates::grid(2, 4, vec![2], vec![4])?;
    let space = SearchSpace {
        dimensions: vec![
            Dimension::new("e", DimensionKind::Embedding, Candidates::flat(4, vec![4])?),
            Dimension::new("a", DimensionKind::Attention, pairs),
        ],
    };
    let (heads, branch) = (|| Polynomial::heads("a"), || Polynomial::branch("a"));
    let fixed = sizes(&[("b", Size::flat(7))]);
    for cost in [
        Polynomial::default(),
        Polynomial::from(9),
        units("e") * units("e") * units("a") * 3 + units("e") * 5 + 2,
        units("a") * units("a") + heads() * heads() * units("a") + branch() * branch() * 11,
        // Without the fixed size, the two terms have the same factors.
        units("e") * units("b") * 2 + units("e") * -6 + units("b") * units("b") * units("a"),
    ] {
        let compiled = CompiledPolynomial::new(&cost, &space, &fixed, test_device())?;
        for (e, a) in [(1, Size { heads: 2, channels: 3 }), (4, Size { heads: 1, channels: 2 })] {
            let counts = [e, 1, 1, a.units(), a.heads, 1, 1].map(|count| count as f64);
            let value = compiled.evaluate(&from_numbers(&counts, &[7])?)?;
            let at = sizes(&[("e", Size::flat(e)), ("a", a), ("b", Size::flat(7))]);
            assert_eq!(numbers(&value)?, [cost.evaluate(&at)?], "{cost:?} at {at:?}");
        }
    }
    Ok(())
}

/// On a card, threads that add to one number do it in any order, and the last bits differ.
#[test]
fn gradient_of_the_budget_loss_computed_again_has_the_same_bits() -> TestResult {
    let vit = VitConfig::deit_small();
    let (space, model) = (vit.space()?, vit.cost_model());
    let limits = [Budget::macs_share(0.3).resolve(&model)?];
    let loss = BudgetLoss::new(&model, &space, &limits, 5.0, test_device())?;
    let dimensions = space.dimensions.iter();
    let active: Vec<ActiveSet> = dimensions
        .map(|own| ActiveSet::all(&own.candidates, test_device()))
        .collect::<Result<_, _>>()?;
    let sets = ActiveSets::new(&active.iter().collect::<Vec<_>>(), test_device())?;
    let zeros = |own: &ActiveSet| {
        let shape = own.candidates().shape();
        Ok(leaf(&from_numbers(&vec![0.0; own.candidates().len()], &shape)?))
    };
    let alphas: Vec<Tensor> = active.iter().map(zeros).collect::<TestResult<_>>()?;
    let each: Vec<&Tensor> = alphas.iter().collect();
    let slopes = || -> TestResult<Vec<Vec<f64>>> {
        gradients(&loss.loss(&each, &sets)?, &each)?.iter().map(numbers).collect()
    };
    let first = slopes()?;
    for time in 0..200 {
        assert_eq!(slopes()?, first, "time {time}");
    }
    Ok(())
}
