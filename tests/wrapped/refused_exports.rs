//! Runs of a network whose exports are refused.

use super::recipe_network::CLASSES;
use super::runs::{config, feed};
use crate::support::tiny_run::alone;
use crate::support::{test_device, TestResult};
use once_for_both::cost::CostModel;
use once_for_both::import::Pretrained;
use once_for_both::models::{Architecture, Graph, VisionTransformer, VitConfig};
use once_for_both::pipeline::{ImageClassifier, Pipeline, PipelineOutcome, Progress, RunFolder};
use once_for_both::space::{SearchSpace, Sizes};
use once_for_both::subnet::Subnet;
use once_for_both::supernet::Weights;
use once_for_both::Result;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use tch::nn;

/// A ViT whose exports are refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Refused {
    vit: VitConfig,
    /// Name of a further variable: that of the input of an ONNX model is refused by it alone.
    variable: String,
    /// ε of the norms in the graph: another one than the network's is refused in both files.
    graph_eps: f64,
}

impl Architecture for Refused {
    type Network = VisionTransformer;
    const FAMILY: &'static str = "refused vit";

    fn build(&self, path: &nn::Path) -> Result<VisionTransformer> {
        let _ = path.f_zeros_no_train(&self.variable, &[1])?;
        self.vit.build(path)
    }

    fn space(&self) -> Result<SearchSpace> {
        self.vit.space()
    }

    fn cost_model(&self) -> CostModel {
        self.vit.cost_model()
    }

    fn resized(&self, sizes: &Sizes) -> Result<Self> {
        Ok(Self { vit: self.vit.resized(sizes)?, ..self.clone() })
    }

    fn standardised(&self, weights: &mut Weights) -> Result<Self> {
        Ok(Self { vit: self.vit.standardised(weights)?, ..self.clone() })
    }

    fn graph(&self) -> Result<Graph> {
        VitConfig { norm_eps: self.graph_eps, ..self.vit.clone() }.graph()
    }
}

impl Pretrained for Refused {
    const HEADS: &'static [&'static str] = &["head"];
}

impl ImageClassifier for Refused {
    fn image_shape(&self) -> [i64; 3] {
        self.vit.image_shape()
    }

    fn class_count(&self) -> i64 {
        self.vit.class_count()
    }
}

const ONNX: &str = "model.onnx";
const TORCHSCRIPT: &str = "model.torchscript.pt";

#[test]
fn run_whose_subnet_cannot_be_exported_says_so_at_first_and_saves_it_without_the_files(
) -> TestResult {
    let _alone = alone();
    let vit = VitConfig::uniform(32, 2, 4).input(16, 3, 4).classes(CLASSES);
    let norm_eps = vit.norm_eps;
    for (variable, graph_eps, refused) in
        [("images", norm_eps, &[ONNX][..]), ("other", 0.1, &[TORCHSCRIPT, ONNX])]
    {
        let folder = tempfile::tempdir()?;
        let run = folder.path().join("run");
        let config = config(&run, false, &[])?;
        let dense = Refused { vit: vit.clone(), variable: variable.into(), graph_eps };
        let shown = RefCell::new(Vec::new());
        let outcome = Pipeline::new(config.clone(), &run, feed(&config)?, dense)?
            .on_progress(|progress| match progress {
                Progress::NotExported { files, .. } => {
                    assert_eq!(*files, refused, "{progress}");
                    let end = if files.len() == 1 { "without it" } else { "without them" };
                    assert!(progress.to_string().ends_with(end), "{progress}");
                    shown.borrow_mut().push("refused");
                }
                Progress::StageStarted(stage) => shown.borrow_mut().push(stage.name),
                _ => {}
            })
            .run()?;
        assert!(matches!(outcome, PipelineOutcome::Finished { .. }), "{outcome:?}");
        let expected = ["refused", "train", "search", "refused", "finetune", "refused"];
        assert_eq!(shown.take(), expected, "{variable}");
        let run = RunFolder::new(&run);
        for artifact in [run.subnet(), run.finetuned()] {
            Subnet::<Refused>::load(&artifact, test_device())?;
            for file in [TORCHSCRIPT, ONNX] {
                assert_eq!(artifact.join(file).is_file(), !refused.contains(&file), "{file}");
            }
        }
    }
    Ok(())
}
