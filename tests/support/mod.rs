//! What the tests share: golden files, the device, and the one comparison of numbers.
#![allow(dead_code, unused_imports, reason = "every test binary uses a part of it")]

pub mod alone;
pub mod damage;
pub mod little;
pub mod mutation;
pub mod program;
#[cfg(feature = "pipeline")]
pub mod small_run;
pub mod tiny_run;
mod tolerance;

pub use tolerance::Tolerance;

use once_for_both::device;
use once_for_both::space::{ActiveSet, Candidates};
use proptest::test_runner::TestCaseError;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::OnceLock;
use tch::{Device, Kind, Tensor};

/// A test's result: whatever went wrong, in words.
pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// The folder in `OFB_GOLDEN_DIR` if that is set, else `tests/golden`.
pub fn golden_dir() -> PathBuf {
    std::env::var_os("OFB_GOLDEN_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden"),
        PathBuf::from,
    )
}

/// The device in `OFB_TEST_DEVICE`: `cpu` (default), `cuda` or `cuda:N`.
///
/// # Panics
/// If the device is misspelled or absent: a test asked to run on a GPU must not pass without one.
pub fn test_device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    *DEVICE.get_or_init(|| {
        let name = std::env::var("OFB_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
        assert_ne!(name, "auto", "OFB_TEST_DEVICE names the device to test on");
        device::parse(&name).unwrap_or_else(|error| panic!("OFB_TEST_DEVICE: {error}"))
    })
}

/// All tensors of `FILE.safetensors` in the golden folder, on the test device.
pub fn load_tensors(file: &str) -> TestResult<Tensors> {
    let path = golden_dir().join(format!("{file}.safetensors"));
    let device = test_device();
    let tensors = Tensor::read_safetensors(&path)?;
    Ok(tensors.into_iter().map(|(name, tensor)| (name, tensor.to_device(device))).collect())
}

/// `FILE.json` in the golden folder.
pub fn load_json<T: DeserializeOwned>(file: &str) -> TestResult<T> {
    let path = golden_dir().join(format!("{file}.json"));
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// The tensor with this name.
pub fn tensor<'a>(tensors: &'a Tensors, name: &str) -> TestResult<&'a Tensor> {
    tensors.get(name).ok_or_else(|| format!("no tensor named {name}").into())
}

/// Number of cases of a property that takes `on_cpu` on the CPU: elsewhere the host waits for every number that a
/// case reads.
pub fn cases_on_device(on_cpu: u32) -> u32 {
    match test_device() {
        Device::Cpu => on_cpu,
        _ => on_cpu.div_ceil(10),
    }
}

/// Runs every case, and fails with the words of all that failed; also if there was no case.
pub fn run_cases<C, N: Display>(
    cases: impl IntoIterator<Item = C>,
    name: impl Fn(&C) -> N,
    run: impl Fn(&C) -> TestResult,
) {
    let mut ran = 0;
    let mut failures = Vec::new();
    for case in cases {
        ran += 1;
        if let Err(error) = run(&case) {
            failures.push(format!("{}: {error}", name(&case)));
        }
    }
    assert!(ran > 0, "no case of this kind in {}", golden_dir().display());
    let failed = failures.len();
    assert!(failures.is_empty(), "{failed} of {ran} cases failed:\n{}", failures.join("\n"));
}

/// Tests that a call was refused with a certain kind of error.
#[macro_export]
macro_rules! assert_refused {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            other => panic!("expected {}, got {other:?}", stringify!($pattern)),
        }
    };
}

/// A test's result, as proptest wants it.
pub fn in_words<T>(result: TestResult<T>) -> Result<T, TestCaseError> {
    result.map_err(|error| TestCaseError::fail(error.to_string()))
}

/// Numbers of a tensor, in memory order.
pub fn numbers(tensor: &Tensor) -> TestResult<Vec<f64>> {
    let flat = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_flatten(0, -1)?;
    Ok(Vec::try_from(&flat)?)
}

/// An f32 tensor on the test device.
pub fn from_numbers(values: &[f64], shape: &[i64]) -> TestResult<Tensor> {
    let flat = Tensor::f_from_slice(values)?.f_to_kind(Kind::Float)?;
    Ok(flat.f_reshape(shape)?.f_to_device(test_device())?)
}

/// The same numbers on the test device, in f32.
pub fn array<D: ndarray::Dimension>(values: &ndarray::Array<f64, D>) -> TestResult<Tensor> {
    let shape: Vec<i64> = values.shape().iter().map(|&side| side as i64).collect();
    from_numbers(&values.iter().copied().collect::<Vec<_>>(), &shape)
}

/// A copy that collects gradients.
pub fn leaf(tensor: &Tensor) -> Tensor {
    tensor.detach().copy().set_requires_grad(true)
}

/// Gradients of a scalar in each input; zeros where it does not depend on one.
pub fn gradients(of: &Tensor, inputs: &[&Tensor]) -> TestResult<Vec<Tensor>> {
    if !of.requires_grad() {
        return Ok(inputs.iter().map(|input| input.zeros_like()).collect());
    }
    let gradients = Tensor::f_run_backward(&[of], inputs, true, false)?;
    let pairs = gradients.into_iter().zip(inputs);
    Ok(pairs.map(|(g, input)| if g.defined() { g } else { input.zeros_like() }).collect())
}

/// Active candidates from a tensor of zeros and ones.
pub fn active_set(candidates: &Candidates, flags: &Tensor) -> TestResult<ActiveSet> {
    let flags = numbers(flags)?.into_iter().map(|flag| flag != 0.0).collect();
    Ok(ActiveSet::new(candidates, flags, test_device())?)
}

/// Softmax over the active entries, in f64.
pub fn softmax(alpha: &[f64], active: &[bool]) -> Vec<f64> {
    let exp = |at: usize| if active[at] { alpha[at].exp() } else { 0.0 };
    let sum: f64 = (0..alpha.len()).map(exp).sum();
    (0..alpha.len()).map(|at| exp(at) / sum).collect()
}
