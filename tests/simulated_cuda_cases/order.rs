//! What a program does before it asks for CUDA must not make CUDA unavailable: libtorch keeps its first answer.

use super::counters::Counters;
use crate::support::tiny_run::alone;
use crate::support::TestResult;
use once_for_both::device;
use once_for_both::import::{self, ImportOptions};
use once_for_both::models::{BlockConfig, VitConfig};
use once_for_both::search::Search;
use std::process::Command;
use tch::{Device, Kind, Tensor};

/// Names, in the process that does it, what comes before CUDA.
const FIRST: &str = "OFB_BEFORE_CUDA";

/// A network of the files in tests/data/import.
fn vit() -> VitConfig {
    VitConfig {
        blocks: vec![BlockConfig::new(3, 8, 48); 2],
        ..VitConfig::uniform(24, 2, 3).input(32, 3, 8).classes(5)
    }
}

fn do_first(what: &str) -> TestResult {
    match what {
        "seed" => once_for_both::randomness::seed(1),
        "import" => {
            let root = env!("CARGO_MANIFEST_DIR");
            let path = format!("{root}/tests/data/import/timm_plain.safetensors");
            import::load(path.as_ref(), &vit(), &ImportOptions::default())?;
        }
        "search on the CPU" => {
            let mut search = Search::training(vit(), 2).device(Device::Cpu).build()?;
            let images = Tensor::f_zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu))?;
            let classes = Tensor::f_zeros([2], (Kind::Int64, Device::Cpu))?;
            search.step(&[once_for_both::batch::Batch::classes(images, classes)], &mut ())?;
        }
        other => return Err(format!("got {other}, expected something to do").into()),
    }
    Ok(())
}

/// CUDA is used as a search uses it: backward, too.
fn use_cuda() -> TestResult {
    let device = device::parse("cuda")?;
    let leaf = Tensor::f_ones([3], (Kind::Float, device))?.set_requires_grad(true);
    leaf.f_square()?.f_sum(Kind::Float)?.f_backward()?;
    assert_eq!(leaf.grad().f_sum(Kind::Float)?.f_double_value(&[])?, 6.0);
    Ok(())
}

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn cuda_is_available_after_a_seed_an_import_or_a_search_on_the_cpu() -> TestResult {
    if let Ok(first) = std::env::var(FIRST) {
        let _alone = alone();
        do_first(&first)?;
        return use_cuda();
    }
    let _counters = Counters::new()?;
    for first in ["seed", "import", "search on the CPU"] {
        let test = "simulated_cuda_cases::order::cuda_is_available_after_a_seed_an_import_or_a_search_on_the_cpu";
        let output = Command::new(std::env::current_exe()?)
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(FIRST, first)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "after {first}: {said}");
    }
    Ok(())
}
