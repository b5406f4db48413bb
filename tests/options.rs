//! Every number of every option: extreme values are refused by name, or work.

use once_for_both::components::{
    AdaptiveOneHotLoss, Distillation, DistillationKind, EntropyVarianceLoss, Importance,
    UnitImportance,
};
use once_for_both::cost::{Budget, Limit, Metric};
use once_for_both::data::transform::{ColourJitter, TrainTransform, Transform};
use once_for_both::data::{
    Dataset, LabelledImage, LoaderOptions, Mixing, Normalisation, Order, RandomStream,
};
use once_for_both::models::{
    Activation, Architecture, AttentionPool, BlockConfig, Mlp, Norm, Pooling, PositionEmbedding,
    QkvBias, Rope, SwinConfig, VitConfig,
};
use once_for_both::optim::AdamWOptions;
use once_for_both::pipeline::{Config, NetworkConfig, Request};
use once_for_both::search::{AlphaInit, Balance, Search, SearchOptions, Stages};
use once_for_both::space::{Binding, Candidates, Size};
use once_for_both::{Error, Result};
use serde::de::DeserializeOwned;
use serde::Serialize;
use tch::{Device, Kind, Tensor};
use toml::Value;

type TestResult<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const INTEGERS: [i64; 11] = [
    0,
    -1,
    1,
    7,
    i64::MIN,
    i64::MAX,
    1 << 62,
    1 << 40,
    400_000_000,
    10_000_000_000_000,
    i64::MAX - 1,
];
const REALS: [f64; 12] = [
    0.0,
    -1.0,
    1.0,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    1e308,
    -1e308,
    5e-324,
    f64::EPSILON,
    1.0 - f64::EPSILON,
    1e19,
];

/// Paths of all numbers in a value.
fn numbers(value: &Value, path: &str, found: &mut Vec<String>) {
    let mut inner = |name: &str, value: &Value| {
        numbers(value, &format!("{path}/{name}"), found);
    };
    match value {
        Value::Table(table) => table.iter().for_each(|(name, value)| inner(name, value)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, value)| inner(&at.to_string(), value));
        }
        Value::Integer(_) | Value::Float(_) => found.push(path.into()),
        _ => {}
    }
}

fn at<'v>(value: &'v mut Value, path: &str) -> TestResult<&'v mut Value> {
    path.split('/').skip(1).try_fold(value, |value, name| match value {
        Value::Table(table) => table.get_mut(name).ok_or_else(|| format!("no {name}").into()),
        Value::Array(values) => Ok(&mut values[name.parse::<usize>()?]),
        _ => Err(format!("{name} in a number").into()),
    })
}

/// The value with every extreme number in every place, with that place's path.
fn extremes(good: &Value) -> TestResult<Vec<(String, Value)>> {
    let mut paths = Vec::new();
    numbers(good, "", &mut paths);
    let mut cases = Vec::new();
    for path in paths {
        let integers = INTEGERS.into_iter().map(Value::from);
        let reals = REALS.into_iter().map(Value::from);
        let integer = at(&mut good.clone(), &path)?.is_integer();
        let values: Vec<Value> = if integer { integers.collect() } else { reals.collect() };
        for value in values {
            let mut changed = good.clone();
            *at(&mut changed, &path)? = value;
            cases.push((path.clone(), changed));
        }
    }
    Ok(cases)
}

/// Refusals name the option: its field, or the option that it does not fit.
fn expect_named(path: &str, refused: &Error) -> TestResult {
    let mut fields = path.split('/').filter(|name| name.parse::<usize>().is_err());
    let field = fields.next_back().unwrap_or_default();
    match refused {
        Error::Invalid { .. } if refused.to_string().contains(field) => Ok(()),
        other => Err(format!("{path}: {other}").into()),
    }
}

/// Puts extreme values into every field; returns those that are accepted.
fn accepted<T: Serialize + DeserializeOwned>(
    good: &T,
    check: impl Fn(&T) -> Result<()>,
) -> TestResult<Vec<(String, T)>> {
    check(good)?;
    let mut kept = Vec::new();
    for (path, changed) in extremes(&Value::try_from(good)?)? {
        // A number that the type cannot hold.
        let Ok(value) = changed.try_into::<T>() else { continue };
        match check(&value) {
            Ok(()) => kept.push((path, value)),
            Err(refused) => expect_named(&path, &refused)?,
        }
    }
    Ok(kept)
}

fn vit() -> VitConfig {
    VitConfig::uniform(8, 1, 2).input(8, 1, 4).classes(2)
}

/// Options without a field that is none.
fn options() -> SearchOptions {
    SearchOptions::learned(4, 3).with(|options| {
        options.stages = Stages::Two { importance_steps: 1 };
        options.init.alpha = AlphaInit::Even { spread: 0.1 };
        options.one_hot.balance = Balance::Ramp { ratio: 1.0 };
        options.budget.keep_feasible = vec![Budget::macs_share(0.9)];
        let kind = DistillationKind::Soft { temperature: 2.0 };
        options.training.distillation = Some(Distillation::new(kind, 0.5));
        options.training.ema_decay = Some(0.9);
    })
}

#[test]
fn gates_that_weights_cannot_be_divided_by_are_refused_by_dimension() -> TestResult {
    let importance = UnitImportance::LearnedFromMagnitude { mean: -200.0, std: 0.0 };
    let search = Search::of(vit()).options(SearchOptions::new(4, 3)).importance(importance);
    let refused = search.budget(Budget::macs_share(0.6)).device(Device::Cpu).build();
    assert!(
        matches!(refused, Err(Error::Invalid { ref name, .. }) if name == "gates of embed"),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn search_options_of_extreme_values_are_refused_by_name_or_make_a_step() -> TestResult {
    let kept = accepted(&options(), SearchOptions::check)?;
    // Of every field, the first and the last value that is accepted.
    let edge = |at: usize| {
        let path = |at: usize| kept.get(at).map(|(path, _)| path.clone());
        at == 0 || path(at) != path(at - 1) || path(at) != path(at + 1)
    };
    let edges: Vec<_> = (0..kept.len()).filter(|&at| edge(at)).map(|at| kept[at].clone()).collect();
    assert!(edges.len() > 50, "{} accepted", edges.len());
    let images = Tensor::f_rand([2, 1, 8, 8], (Kind::Float, Device::Cpu))?;
    for (path, mut own) in edges {
        // A share of 5e-324 of the MACs is within the range of shares, and of no network.
        own.budget.keep_feasible.clear();
        own.training.distillation = None;
        let built = Search::of(vit()).budget(Budget::macs_share(0.6)).options(own).build();
        let mut search = built.map_err(|error| format!("{path}: {error}"))?;
        let classes = Tensor::f_from_slice(&[0i64, 1])?;
        let batch = once_for_both::batch::Batch::classes(images.shallow_clone(), classes);
        if search.is_done() {
            continue;
        }
        match search.step(&[batch], &mut ()) {
            Ok(()) | Err(Error::NonFinite { .. } | Error::Diverged { .. }) => {}
            Err(other) => return Err(format!("{path}: {other}").into()),
        }
    }
    Ok(())
}

#[test]
fn searches_of_few_steps_end_with_a_subnet() -> TestResult {
    let images = Tensor::f_rand([2, 1, 8, 8], (Kind::Float, Device::Cpu))?;
    for (total, search) in [(1, 1), (2, 1), (3, 3)] {
        let built = Search::of(vit()).budget(Budget::macs_share(0.6)).steps(total, search).build();
        let mut batches = |_number: u64| {
            let classes = Tensor::f_from_slice(&[0i64, 1])?;
            Ok(once_for_both::batch::Batch::classes(images.shallow_clone(), classes))
        };
        let mut search = built?;
        search.train(&mut batches, &mut ())?;
        assert!(search.extract(&images)?.macs()? <= search.limits()[0].limit);
    }
    Ok(())
}

#[test]
fn search_with_nan_in_an_option_is_refused_by_its_name() -> TestResult {
    let nan = options().with(|options| options.optimiser.weights.eps = f64::NAN);
    let refused = nan.check().err().ok_or("accepted")?.to_string();
    assert_eq!(refused, "optimiser.weights.eps: got NaN, expected within [1e-30, 1]");
    Ok(())
}

#[test]
fn network_of_extreme_sizes_is_refused_by_name_or_has_finite_cost() -> TestResult {
    let config = VitConfig { drop_path: 0.1, ..vit().layer_scale(0.1) };
    for (path, config) in accepted(&config, VitConfig::check)? {
        let params = config.cost_model().dense_cost(Metric::Params)?;
        assert!(params.is_finite() && params > 0.0, "{path}: {params}");
    }
    let swin = SwinConfig::uniform(8, &[1, 1], 2).input(16, 1, 2).window(4).classes(2);
    for (path, config) in accepted(&swin, SwinConfig::check)? {
        let macs = config.cost_model().dense_cost(Metric::Macs)?;
        assert!(macs.is_finite() && macs > 0.0, "{path}: {macs}");
    }
    Ok(())
}

/// No constructor overflows or reserves memory for what its check refuses.
#[test]
fn uniform_networks_of_extreme_arguments_are_refused_without_memory() -> TestResult {
    for (embed, heads) in INTEGERS.iter().flat_map(|e| INTEGERS.iter().map(move |h| (*e, *h))) {
        for depth in [0, 1, usize::MAX, 1 << 62, 400_000_000, 10_000_000_000_000] {
            let vit = VitConfig::uniform(embed, depth, heads).input(embed, heads, heads);
            let swin = SwinConfig::uniform(embed, &[depth, depth], heads).input(heads, 3, embed);
            for refused in [vit.check().err(), swin.check().err()] {
                let named = refused.is_none_or(|error| matches!(error, Error::Invalid { .. }));
                assert!(named, "{embed} {heads} {depth}");
            }
            let _ = (vit.tokens(), vit.grid(), swin.grid(1), swin.windows(1, 1).tokens());
        }
    }
    let odd = VitConfig::uniform(16, 1, 7).input(8, 1, 4).classes(2).check();
    let said = odd.err().ok_or("7 heads of 16 channels are accepted")?.to_string();
    assert!(said.contains("blocks.0.head_dim") && said.contains("multiple of heads"), "{said}");
    let deep = VitConfig::uniform(16, 400_000_000, 2).input(8, 1, 4).check();
    let said = deep.err().ok_or("4e8 blocks are accepted")?.to_string();
    assert!(said.starts_with("blocks: got"), "{said}");
    Ok(())
}

/// Constants of the blocks, which are not among the variables.
#[test]
fn rotary_positions_that_do_not_fit_into_memory_are_refused_and_presets_are_not() -> TestResult {
    let rope = |image: i64, patch: i64, depth: usize| VitConfig {
        rope: Some(Rope::Normalised { base: 100.0 }),
        positions: PositionEmbedding::None,
        ..VitConfig::uniform(64, depth, 1).input(image, 3, patch)
    };
    let refused = rope(1 << 20, 64, 12).check();
    assert!(
        matches!(&refused, Err(Error::Invalid { name, .. }) if name == "image_size"),
        "{refused:?}"
    );
    rope(4096, 16, 40).check()?;
    for swin in [SwinConfig::tiny(), SwinConfig::small(), SwinConfig::base()] {
        swin.check()?;
        swin.input(384, 3, 4).window(12).check()?;
    }
    Ok(())
}

#[test]
fn candidates_and_bindings_of_extreme_sizes_are_refused_or_few() -> TestResult {
    let pairs = || INTEGERS.iter().flat_map(|h| INTEGERS.iter().map(move |c| (*h, *c)));
    for (heads, channels) in pairs() {
        let size = Size { heads, channels };
        let _ = size.units();
        for made in [
            Candidates::attention(heads, channels),
            Candidates::embedding(channels),
            Candidates::hidden(channels),
            Candidates::flat(channels, vec![heads]),
            Candidates::grid(heads, channels, vec![heads], vec![channels]),
            Candidates::attention(4, 8).and_then(|own| own.at_least(size)),
            Candidates::attention(4, 8).and_then(|own| own.narrowed(size).map(|own| own.0)),
        ] {
            match made {
                Ok(candidates) => assert!(candidates.units() <= 1 << 20 && candidates.units() > 0),
                Err(Error::Invalid { .. } | Error::Candidates { .. }) => {}
                Err(other) => return Err(format!("{size:?}: {other}").into()),
            }
        }
        let binding = Binding::gated("head.bias", 0).outer(heads).inner(channels);
        let _ = (binding.length(&Candidates::hidden(8)?), binding.view(&[8, i64::MAX]));
        let mut space = vit().space()?;
        space.dimension_mut("blocks.0.mlp")?.bindings.push(binding);
        let shapes = vit().variables()?;
        assert!(space.validate(&shapes).is_err());
    }
    Ok(())
}

#[test]
fn budgets_of_extreme_values_are_refused_or_resolved() -> TestResult {
    let model = vit().cost_model();
    for value in REALS {
        for limit in [Limit::Share(value), Limit::Amount(value)] {
            let resolved = Budget { metric: Metric::Macs, limit }.resolve(&model);
            let checked = resolved.and_then(|own| own.check(&model, &vit().space()?));
            let refused = checked.err();
            let named = refused.is_none_or(|error| {
                matches!(error, Error::Invalid { .. } | Error::Infeasible { .. })
            });
            assert!(named, "{limit:?}");
        }
    }
    for text in ["nan", "inf", "-1", "0", "0k", "1e308G", "1e400", "-0.5", "", "k", "1.5", "999"] {
        let refused = text.parse::<Limit>();
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{text}: {refused:?}");
    }
    assert_eq!("1000".parse::<Limit>()?, Limit::Amount(1000.0));
    assert_eq!("1.5k".parse::<Limit>()?, Limit::Amount(1500.0));
    Ok(())
}

#[test]
fn components_and_optimisers_of_extreme_values_are_refused_by_name() -> TestResult {
    let taylor = UnitImportance::Taylor { mean: 2.0, std: 0.5, momentum: 0.9 };
    accepted(&taylor, |own| own.check())?;
    accepted(&EntropyVarianceLoss::paper(), |own| own.check())?;
    accepted(&AdamWOptions::default(), |own| own.check("optimiser"))?;
    Ok(())
}

/// Ten images that are never loaded.
struct Ten;

impl Dataset for Ten {
    fn len(&self) -> usize {
        10
    }
    fn classes(&self) -> usize {
        2
    }
    fn channels(&self) -> usize {
        3
    }
    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }
    fn load(&self, index: usize) -> Result<LabelledImage> {
        Err(Error::EmptyFolder { path: self.name(index).into(), expected: "an image" })
    }
}

#[test]
fn loader_options_of_extreme_values_are_refused_by_name() -> TestResult {
    let mut train = TrainTransform::deit(8);
    train.jitter = Some(ColourJitter::uniform(0.4));
    let mut own = LoaderOptions::deit(8, 4).workers(1);
    own.transform = Transform::Train(train);
    own.normalisation = Normalisation::imagenet();
    let kept = accepted(&own, |own| own.validate(&Ten))?;
    let mut stream = RandomStream::new(0);
    for (path, own) in kept {
        let mix = own.mixing.map(|mixing: Mixing| mixing.draw(8, &mut stream).lambda(8));
        assert!(mix.is_none_or(|mix| (0.0..=1.0).contains(&mix)), "{path}: {mix:?}");
        assert!(matches!(own.order, Order::Shuffled { repeats } if repeats > 0));
    }
    accepted(&LoaderOptions::evaluation(8, 4).workers(1), |own| own.validate(&Ten))?;
    Ok(())
}

const CONFIG: &str = r#"
seed = 0
device = "cpu"
compare = true
[data]
images = 10
validation = 2
augmentation = "light"
mean = [0.3]
std = [0.3]
workers = 1
[network]
embed_dim = 8
depth = 1
heads = 2
image_size = 8
patch_size = 4
drop_path = 0.1
[budget]
macs = "0.5"
[teacher]
weights = "teacher"
temperature = 1.0
share = 0.5
[train]
epochs = 1.5
batch = 2
accumulate = 1
lr = 1e-3
warmup = 0.5
[search]
steps = 10
batch = 2
accumulate = 1
lr = 1e-3
share = 0.6
prune_steps_per_epoch = 3
[finetune]
steps = 10
batch = 2
lr = 1e-3
[every]
log = 1
checkpoint = 1
evaluation = 1
"#;

#[test]
fn configuration_of_extreme_values_is_refused_by_name() -> TestResult {
    let check = |text: &str| -> Result<()> {
        let config = Config::from_toml(text, "config.toml")?;
        config.check()?;
        NetworkConfig::of(&config)?.vit(1, 10).map(drop)
    };
    check(CONFIG)?;
    for (path, changed) in extremes(&toml::from_str::<Value>(CONFIG)?)? {
        match check(&toml::to_string(&changed)?) {
            // A number that the type cannot hold: the parser quotes the line.
            Ok(()) | Err(Error::Pipeline(_)) => {}
            Err(refused) => expect_named(&path, &refused)?,
        }
    }
    Ok(())
}

/// The demo limits the MACs; the file, which has all options of a run, does not.
#[test]
fn file_with_all_options_of_a_run_is_not_laid_over_a_preset() -> TestResult {
    let preset = include_str!("../examples/deit_s/presets/demo.toml");
    let new = Request { default_preset: preset.into(), ..Request::default() };
    let mut config = new.resolve()?;
    (config.budget.macs, config.budget.latency) = (None, Some("0.6".into()));
    config.search.share = None;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.toml");
    std::fs::write(&file, config.to_toml()?)?;
    let again = Request { file: Some(file.clone()), ..new.clone() };
    assert_eq!(again.resolve()?, config);
    // Over a preset that is named, and beside other options, as before.
    let over = Request { preset: Some(preset.into()), ..again };
    assert_eq!(over.resolve()?.budget.macs.as_deref(), Some("0.5"));
    std::fs::write(&file, "[budget]\nlatency = \"0.6\"\n")?;
    let partial = Request { file: Some(file), ..new };
    assert_eq!(partial.resolve()?.budget.macs.as_deref(), Some("0.5"));
    Ok(())
}

/// Options that the first command was given beside the file are no options of a preset.
#[test]
fn file_with_all_options_is_laid_over_a_run_whose_teacher_stays() -> TestResult {
    let preset = include_str!("../examples/deit_s/presets/demo.toml");
    let folder = tempfile::tempdir()?;
    let (run, file) = (folder.path().join("run"), folder.path().join("my.toml"));
    std::fs::create_dir(&run)?;
    let new = Request { default_preset: preset.into(), ..Request::default() };
    let mut config = new.resolve()?;
    (config.budget.macs, config.budget.latency) = (None, Some("0.6".into()));
    std::fs::write(&file, config.to_toml()?)?;
    let settings =
        ["teacher.weights=\"teacher\"", "import.prefix=\"student.\"", "budget.macs=\"0.4\""];
    let settings = settings.map(String::from).to_vec();
    let first = Request { file: Some(file.clone()), settings, ..new.clone() }.resolve()?;
    assert!(first.teacher.is_some() && first.import.prefix.is_some(), "{first:?}");
    std::fs::write(run.join("config.toml"), first.to_toml()?)?;
    let later = Request { file: Some(file), run: Some(run), ..new }.resolve()?;
    assert_eq!((later.teacher, later.import), (first.teacher, first.import));
    assert_eq!(later.budget, config.budget);
    Ok(())
}

#[test]
fn options_for_a_checkpoint_beside_the_options_of_another_program_are_those_given() -> TestResult {
    let preset = include_str!("../examples/deit_s/presets/demo.toml");
    let new = Request { default_preset: preset.into(), ..Request::default() };
    let folder = tempfile::tempdir()?;
    let [file, other] = ["whole.toml", "exp/config.toml"].map(|name| folder.path().join(name));
    let [checkpoint, network] =
        ["exp/net/model.pth", "exp/dense/network"].map(|name| folder.path().join(name));
    [checkpoint.parent().ok_or("no parent")?, &network]
        .into_iter()
        .try_for_each(std::fs::create_dir_all)?;
    std::fs::write(&checkpoint, "")?;
    let config = new.resolve()?;
    std::fs::write(&file, config.to_toml()?)?;
    let request = Request { file: Some(file), ..new.clone() };
    for text in ["[optimizer]\nlr = 1\n", "no TOML"] {
        std::fs::write(&other, text)?;
        assert_eq!(request.resolve_for(Some(&checkpoint))?, config);
        assert!(request.resolve_for(Some(&network)).is_err());
    }
    // The network of a run has the options of the run.
    std::fs::write(&other, config.to_toml()?.replace("seed = ", "seed = 1"))?;
    assert_ne!(new.resolve_for(Some(&network))?.seed, config.seed);
    Ok(())
}

/// Section `[network]` of a small ViT with more lines.
fn network(lines: &str) -> TestResult<NetworkConfig> {
    let sizes = "embed_dim = 32\ndepth = 2\nheads = 4\nimage_size = 16\npatch_size = 4\n";
    let mut all: toml::Table =
        toml::from_str(include_str!("../examples/deit_s/presets/demo.toml"))?;
    all.insert("network".into(), toml::from_str::<toml::Table>(&format!("{sizes}{lines}"))?.into());
    let config = Config::from_toml(&toml::to_string(&all)?, "test")?;
    Ok(NetworkConfig::of(&config)?)
}

#[test]
fn features_of_every_token_are_refused_in_section_network() -> TestResult {
    let refused = network("pooling = 'tokens'")?.vit(3, 5);
    assert!(
        matches!(&refused, Err(Error::Invalid { name, actual, .. })
            if name == "network.pooling" && actual == "tokens"),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn every_option_of_a_vit_is_read_from_section_network() -> TestResult {
    let plain = network("")?.vit(3, 5)?;
    assert_eq!(plain, VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(5));
    let pool =
        "{ attention = { sizes = { heads = 4, head_dim = 8, scale_dim = 8, hidden_dim = 64 }, \
                latent_dim = 32, embed_dim = 32 } }";
    let blocks = vec![BlockConfig::new(4, 8, 48); 2];
    let own = || plain.clone();
    for (lines, expected) in [
        ("hidden_dim = 48", VitConfig { blocks, ..own() }),
        ("norm_eps = 1e-5", VitConfig { norm_eps: 1e-5, ..own() }),
        ("layer_scale = 0.1", VitConfig { layer_scale: Some(0.1), ..own() }),
        ("pooling = 'mean_norm'", VitConfig { pooling: Pooling::MeanNorm, ..own() }),
        (
            &format!("pooling = {pool}"),
            VitConfig { pooling: Pooling::Attention(AttentionPool::new(32, 4, 64)), ..own() },
        ),
        (
            "class_token = false\npooling = 'mean'",
            VitConfig { class_token: false, pooling: Pooling::Mean, ..own() },
        ),
        ("registers = 4", VitConfig { registers: 4, ..own() }),
        ("positions = 'patches'", VitConfig { positions: PositionEmbedding::Patches, ..own() }),
        ("patch_width = 8", VitConfig { patch_width: Some(8), ..own() }),
        ("patch_bias = false", VitConfig { patch_bias: false, ..own() }),
        ("pre_norm = true", VitConfig { pre_norm: true, ..own() }),
        ("norm = 'rms'", VitConfig { norm: Norm::Rms, ..own() }),
        ("activation = 'quick_gelu'", VitConfig { activation: Activation::QuickGelu, ..own() }),
        ("mlp = 'swi_glu'", VitConfig { mlp: Mlp::SwiGlu, ..own() }),
        ("qkv_bias = 'query_value'", VitConfig { qkv_bias: QkvBias::QueryValue, ..own() }),
        ("qk_norm = 'layer'", VitConfig { qk_norm: Some(Norm::Layer), ..own() }),
        ("head_bias = false", VitConfig { head_bias: false, ..own() }),
        (
            "rope = { grid = { base = 100.0, reference = 4 } }",
            VitConfig { rope: Some(Rope::Grid { base: 100.0, reference: 4 }), ..own() },
        ),
        (
            "rope = { normalised = { base = 100.0 } }",
            VitConfig { rope: Some(Rope::Normalised { base: 100.0 }), ..own() },
        ),
    ] {
        let read = network(lines)?;
        assert_eq!(read.vit(3, 5)?, expected, "{lines}");
        let written: NetworkConfig = toml::from_str(&toml::to_string(&read)?)?;
        assert_eq!(written, read, "{lines}");
    }
    Ok(())
}

#[test]
fn option_of_a_vit_that_does_not_fit_is_refused_by_its_key() -> TestResult {
    for (lines, key) in [
        ("registers = -1", "network.registers"),
        ("class_token = false", "network.class_token"),
        ("patch_width = 5", "network.patch_width"),
        ("norm_eps = -1.0", "network.norm_eps"),
        ("hidden_dim = 0", "network.hidden_dim"),
    ] {
        let refused = network(lines)?.vit(3, 5);
        let text = refused.err().ok_or(lines)?.to_string();
        assert!(text.starts_with(key), "{text}");
    }
    for (lines, key) in [("norm = 'batch'", "network.norm"), ("regsters = 1", "network")] {
        let text = network(lines).err().ok_or(lines)?.to_string();
        assert!(text.contains(key), "{text}");
    }
    let text = network("image_width = 32").err().ok_or("accepted")?.to_string();
    let instead = "VitConfig::image_width";
    assert!(text.starts_with("network.image_width") && text.contains(instead), "{text}");
    let swin = "family = 'swin'\nembed_dim = 32\ndepth = [2, 2]\nheads = 2\nimage_size = 16\n\
                patch_size = 2\nregisters = 2";
    let refused = toml::from_str::<NetworkConfig>(swin)?.swin(3, 5);
    let text = refused.err().ok_or("accepted")?.to_string();
    assert!(text.contains("network.registers") && text.contains("swin"), "{text}");
    Ok(())
}
