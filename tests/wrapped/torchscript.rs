//! A ViT of timm, traced in Python by tests/data/torchscript/make.py and wrapped.

use super::{extract, missing, options, run, search, variables, Batches};
use crate::support::tiny_run::{alone, without_times};
use crate::support::{numbers, test_device, TestResult, Tolerance};
use once_for_both::check::self_check;
use once_for_both::cost::{Budget, CostModel};
use once_for_both::error::Fault;
use once_for_both::models::{Architecture, Logits, Network, VitConfig};
use once_for_both::search::{Checkpoints, Search};
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::subnet::{Export, ExtractInto, Subnet, TranslatingExtractor};
use once_for_both::supernet::{Supernet, Weights};
use once_for_both::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tch::{nn, Tensor, TrainableCModule};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ScriptedVit {
    file: PathBuf,
    /// The network in the file.
    vit: VitConfig,
}

#[derive(Debug)]
struct Scripted(TrainableCModule);

impl Network for Scripted {
    fn forward(&self, images: &Tensor, _train: bool) -> Result<Logits> {
        Ok(Logits::single(self.0.forward_ts(&[images])?))
    }
}

/// tch registers the parameters of a module with underscores for dots.
fn registered(name: &str) -> String {
    name.replace('.', "_")
}

impl Architecture for ScriptedVit {
    type Network = Scripted;
    const FAMILY: &'static str = "scripted_vit";

    fn build(&self, path: &nn::Path) -> Result<Scripted> {
        Ok(Scripted(TrainableCModule::load(&self.file, path.clone())?))
    }

    fn space(&self) -> Result<SearchSpace> {
        let mut space = self.vit.space()?.without(&["embed"])?;
        for binding in space.dimensions.iter_mut().flat_map(|d| &mut d.bindings) {
            binding.variable = registered(&binding.variable);
        }
        Ok(space)
    }

    fn cost_model(&self) -> CostModel {
        self.vit.cost_model()
    }
}

impl ExtractInto for ScriptedVit {
    type Target = VitConfig;

    fn translate(&self, sizes: &Sizes, weights: Weights) -> Result<(VitConfig, Weights)> {
        let vit = self.vit.resized(sizes)?;
        let renamed = |name: String| {
            let weight = weights.get(&registered(&name));
            let weight = weight.ok_or_else(|| missing(&name))?.shallow_clone();
            Ok((name, weight))
        };
        let renamed = variables(&vit)?.into_iter().map(renamed).collect::<Result<_>>()?;
        Ok((vit, renamed))
    }
}

const BATCHES: Batches = Batches { count: 4, side: 32, classes: 5 };

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/torchscript")
}

fn scripted() -> ScriptedVit {
    let vit = VitConfig::uniform(24, 2, 3).input(32, 3, 8).classes(5);
    ScriptedVit { file: folder().join("vit.pt"), vit }
}

/// The weights in the file.
fn stored() -> TestResult<Weights> {
    let store = nn::VarStore::new(test_device());
    scripted().build(&store.root())?;
    Ok(store.variables().into_iter().collect())
}

#[test]
fn module_and_translated_vit_equal_timm() -> TestResult {
    let _alone = alone();
    let store = nn::VarStore::new(test_device());
    let module = scripted().build(&store.root())?;
    assert!(store.variables().values().all(Tensor::requires_grad));
    let golden = Tensor::read_safetensors(folder().join("vit.safetensors"))?;
    let find = |name: &str| -> TestResult<Tensor> {
        let found = golden.iter().find(|(own, _)| own == name).ok_or("not in the file")?;
        Ok(found.1.to_device(test_device()))
    };
    let (images, expected) = (find("images")?, find("logits")?);
    let close = Tolerance::of_scale(1e-5, &expected)?;
    let answer = tch::no_grad(|| module.forward(&images, false))?.prediction()?;
    close.check("module", &answer, &expected)?;
    let (vit, weights) = scripted().translate(&Sizes::new(), stored()?)?;
    let ours = Subnet::new(vit, &weights, test_device())?;
    close.check("translated ViT", &ours.predict(&images)?, &expected)
}

#[test]
fn self_check_of_a_module_is_sound() -> TestResult {
    let _alone = alone();
    let images = BATCHES.at(0)?.images;
    self_check(&scripted(), &scripted().space()?, &images)?.expect_sound()?;
    Ok(())
}

#[test]
fn self_check_with_a_missing_binding_names_it() -> TestResult {
    let _alone = alone();
    let mut space = scripted().space()?;
    let missing = "blocks_1_attn_proj_weight";
    let bindings = &mut space.dimension_mut("blocks.1.attn")?.bindings;
    bindings.retain(|binding| binding.variable != missing);
    let report = self_check(&scripted(), &space, &BATCHES.at(0)?.images)?;
    let [Fault::Order { suspects, explained: true, .. }, ..] = report.faults.as_slice() else {
        panic!("{:?}", report.faults);
    };
    assert_eq!((suspects[0].variable.as_str(), suspects[0].axis), (missing, 1));
    Ok(())
}

#[test]
fn subnet_equals_the_masked_network_with_and_without_fade_out_and_early_decisions() -> TestResult {
    let _alone = alone();
    for (fade_out_steps, decide_early) in [(0, false), (3, false), (0, true), (3, true)] {
        let options = options(12, 8).with(|o| {
            o.pruning.fade_out_steps = fade_out_steps;
            o.pruning.decide_early = decide_early;
        });
        let mut search = search(&scripted(), &stored()?, options)?;
        run(&mut search, &BATCHES, 12)?;
        extract(&mut search, &BATCHES)?;
    }
    Ok(())
}

#[test]
fn branch_of_a_module_search_is_extracted_into_a_vit() -> TestResult {
    let _alone = alone();
    let mut trunk = search(&scripted(), &stored()?, options(12, 8))?;
    run(&mut trunk, &BATCHES, 2)?;
    let mut branch = trunk.branch(&[Budget::macs_share(0.7)], 2)?;
    while !branch.is_done() {
        branch.step(&[BATCHES.at(branch.steps_done())?], &mut ())?;
    }
    extract(&mut branch, &BATCHES)?;
    Ok(())
}

#[test]
fn subnet_of_a_module_saved_and_loaded_predicts_the_same() -> TestResult {
    let _alone = alone();
    let mut search = search(&scripted(), &stored()?, options(12, 8))?;
    run(&mut search, &BATCHES, 12)?;
    let subnet = extract(&mut search, &BATCHES)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("subnet");
    let images = BATCHES.at(20)?.images;
    subnet.save(&path, &Export::default())?;
    let loaded = Subnet::<VitConfig>::load(&path, test_device())?;
    assert_eq!(numbers(&loaded.predict(&images)?)?, numbers(&subnet.predict(&images)?)?);
    Ok(())
}

#[test]
fn search_of_a_module_resumed_after_any_stop_is_bit_exact() -> TestResult {
    let _alone = alone();
    let start = || search(&scripted(), &stored()?, options(12, 8));
    let mut whole = start()?;
    let expected = run(&mut whole, &BATCHES, 12)?;
    for stop in [3, 7, 8, 10] {
        let folder = tempfile::tempdir()?;
        let mut first = start()?;
        let mut events = run(&mut first, &BATCHES, stop)?;
        let checkpoint = Checkpoints::new(folder.path(), 1).save(&first)?;
        let mut second = Search::<ScriptedVit>::resume(&checkpoint, test_device())?;
        events.extend(run(&mut second, &BATCHES, 12)?);
        assert_eq!(without_times(&events), without_times(&expected), "stopped after {stop}");
        let (left, right) = (second.supernet(), whole.supernet());
        assert_eq!(left.sizes(), right.sizes());
        for (name, weight) in left.raw_weights() {
            assert_eq!(numbers(&weight)?, numbers(&right.raw_weights()[&name])?, "{name}");
        }
    }
    Ok(())
}

#[test]
fn masking_embeddings_and_folding_of_a_module_are_refused_by_name() -> TestResult {
    let _alone = alone();
    let unsupported = |result: Result<(), Error>, what: &str| match result {
        Err(Error::Unsupported { model, operation }) => {
            assert_eq!(model, "scripted_vit");
            assert!(operation.contains(what), "{operation}");
        }
        other => panic!("{other:?}"),
    };
    let network = scripted();
    let supernet = |space, pmim| Supernet::new(network.clone(), space, pmim, test_device());
    unsupported(supernet(network.space()?, true).map(drop), "masked image modeling");
    let mut embedding = network.vit.space()?.only(&["embed"])?;
    embedding.dimensions[0].bindings.iter_mut().for_each(|b| b.variable = registered(&b.variable));
    unsupported(supernet(embedding, false).map(drop), "embedding");

    let mut search = search(&network, &stored()?, options(12, 8))?;
    run(&mut search, &BATCHES, 2)?;
    let images = BATCHES.at(0)?.images;
    let early = search.extract_with(&TranslatingExtractor, &images).map(drop);
    assert!(matches!(early, Err(Error::Invalid { .. })), "{early:?}");
    run(&mut search, &BATCHES, 12)?;
    unsupported(search.extract(&images).map(drop), "extraction");
    Ok(())
}
