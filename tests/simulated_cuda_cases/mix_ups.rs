//! Mistakes that a CPU does not notice: the simulated device refuses or counts each of them.

use super::counters::{Count, Counters};
use crate::support::tiny_run::{alone, batch, builder, options};
use crate::support::{test_device, TestResult};
use std::process::Command;
use tch::{Device, Kind, Tensor};

/// Words of libtorch's error for tensors on two devices.
const TWO_DEVICES: &str = "Expected all tensors to be on the same device";

/// A tensor of ones on the device.
fn ones(shape: &[i64]) -> TestResult<Tensor> {
    Ok(Tensor::f_ones(shape, (Kind::Float, test_device()))?)
}

/// A tensor of ones on the host.
fn host(shape: &[i64]) -> TestResult<Tensor> {
    Ok(Tensor::f_ones(shape, (Kind::Float, Device::Cpu))?)
}

fn assert_two_devices(what: &str, result: Result<Tensor, tch::TchError>) {
    match result {
        Err(error) if error.to_string().contains(TWO_DEVICES) => {}
        other => panic!("{what}: expected an error of two devices, got {other:?}"),
    }
}

fn waits<E>(counters: &Counters, work: impl FnOnce() -> Result<Tensor, E>) -> TestResult<Count>
where
    Box<dyn std::error::Error>: From<E>,
{
    Ok(counters.count(work)?.1)
}

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn host_tensor_in_an_operator_of_the_device_is_refused() -> TestResult {
    let _counters = Counters::new()?;
    let (device, other) = (ones(&[2, 3])?, host(&[2, 3])?);
    assert_two_devices("sum", device.f_add(&other));
    assert_two_devices("sum in place", device.shallow_clone().f_add_(&other));
    assert_two_devices("product", device.f_matmul(&other.f_transpose(0, 1)?));
    assert_two_devices("list", Tensor::f_cat(&[&device, &other], 0));
    assert_two_devices("destination", device.f_add_out(&other, &device));
    let queries = ones(&[1, 2, 3, 8])?;
    let bias = Some(host(&[3, 3])?);
    let attended = Tensor::f_scaled_dot_product_attention(
        &queries, &queries, &queries, bias, 0.0, false, None, false,
    );
    assert_two_devices("attention", attended);
    Ok(())
}

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn number_of_the_host_in_an_operator_of_the_device_is_taken() -> TestResult {
    let _counters = Counters::new()?;
    let (device, number) = (ones(&[2, 3])?, host(&[])?);
    assert_eq!(device.f_add(&number)?.device(), test_device());
    assert_two_devices(
        "a number is no row of a list",
        Tensor::f_cat(&[&device, &number.f_view([1, 1])?], 0),
    );
    assert_two_devices("a result on the host", number.shallow_clone().f_add_(&ones(&[])?));
    Ok(())
}

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn index_on_another_device_is_refused_or_counted_as_a_wait() -> TestResult {
    let counters = Counters::new()?;
    let rows = Tensor::f_from_slice(&[0i64, 1])?;
    let device = ones(&[2, 3])?;
    assert_two_devices("select", device.f_index_select(0, &rows));
    assert_two_devices("gather", device.f_gather(0, &rows.f_view([1, 2])?, false));
    assert_two_devices(
        "select on the host",
        host(&[2, 3])?.f_index_select(0, &rows.f_to_device(test_device())?),
    );
    // Here CUDA copies the index.
    let count = waits(&counters, || device.f_index(&[Some(&rows)]))?;
    assert_eq!(count.waits, 1, "{:?}", count.rows);
    Ok(())
}

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn result_of_unknown_size_is_counted_as_a_wait() -> TestResult {
    let counters = Counters::new()?;
    let device = ones(&[2, 3])?;
    let mask = device.f_gt(0.5)?;
    assert_eq!(waits(&counters, || device.f_nonzero())?.waits, 1);
    assert_eq!(waits(&counters, || device.f_masked_select(&mask))?.waits, 1);
    assert_eq!(waits(&counters, || device.f_index(&[Some(&mask)]))?.waits, 1);
    assert_eq!(waits(&counters, || device.f_where_self(&mask, &device))?.waits, 0);
    Ok(())
}

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn copy_is_counted_as_a_wait_unless_asynchronous_and_pinned() -> TestResult {
    let counters = Counters::new()?;
    let copy = |pinned: bool, non_blocking: bool| -> TestResult<Count> {
        let host = host(&[256])?;
        let host = if pinned { host.f_internal_pin_memory(test_device())? } else { host };
        waits(&counters, || host.f_to_device_(test_device(), Kind::Float, non_blocking, false))
    };
    for (pinned, non_blocking, expected) in
        [(true, true, 0), (false, true, 1), (true, false, 1), (false, false, 1)]
    {
        let count = copy(pinned, non_blocking)?;
        assert_eq!(count.waits, expected, "pinned {pinned}, non-blocking {non_blocking}");
        assert_eq!(count.bytes_to_device, 1024);
    }
    assert_eq!(
        waits(&counters, || ones(&[2])?.f_to_device(Device::Cpu).map_err(Into::into)
            as TestResult<_>)?
        .waits,
        1
    );
    Ok(())
}

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn item_inside_a_step_is_counted_with_its_caller() -> TestResult {
    let _alone = alone();
    let counters = Counters::new()?;
    let quiet = options().with(|options| options.log_interval = 1_000);
    let search = builder(quiet, 0.5).build()?;
    let run = |logs: bool| -> TestResult<Count> {
        let batches = [batch(0)?];
        Ok(counters
            .count(|| -> once_for_both::Result<()> {
                let gradients = search.gradients(&batches)?;
                if logs {
                    read_loss(&gradients.losses.task)?;
                }
                Ok(())
            })?
            .1)
    };
    let (without, with) = (run(false)?, run(true)?);
    assert_eq!((without.waits, with.waits), (0, 1), "{:?}", with.waits_by_caller());
    let [row] = with.rows.iter().filter(|row| row.kind == "wait").collect::<Vec<_>>()[..] else {
        return Err(format!("{:?}", with.waits_by_caller()).into());
    };
    assert_eq!(row.name, "item");
    assert!(row.callers.iter().any(|caller| caller.ends_with("read_loss")), "{:?}", row.callers);
    Ok(())
}

#[inline(never)]
fn read_loss(loss: &Tensor) -> once_for_both::Result<f64> {
    Ok(loss.f_double_value(&[])?)
}

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn operators_views_and_memory_are_counted() -> TestResult {
    let counters = Counters::new()?;
    let device = ones(&[1024, 256])?;
    let (sum, count) =
        counters.count(|| device.f_view([-1])?.f_narrow(0, 0, 8)?.f_sum(Kind::Float))?;
    assert_eq!(count.operators, 1, "{:?}", count.rows);
    assert_eq!(sum.f_double_value(&[])?, 8.0);
    let (_, count) = counters.count(|| device.f_add(&device)?.f_mul(&device).map(drop))?;
    assert_eq!((count.operators, count.peak_growth), (2, 2 << 20));
    Ok(())
}

/// Set in the process that makes the mistake.
const READS: &str = "OFB_READS_DEVICE_MEMORY";

#[test]
#[ignore = "needs the simulated device: make test-simulated-cuda"]
fn host_read_of_device_memory_ends_the_program_with_the_place() -> TestResult {
    let _counters = Counters::new()?;
    if std::env::var_os(READS).is_some() {
        println!("read {}", read_of_host(&ones(&[4])?));
        return Ok(());
    }
    let test =
        "simulated_cuda_cases::mix_ups::host_read_of_device_memory_ends_the_program_with_the_place";
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(READS, "1")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{output:?}");
    assert!(
        said.contains("the host reads or writes memory of the simulated CUDA device"),
        "{said}"
    );
    assert!(said.contains("mix_ups::read_of_host"), "{said}");
    Ok(())
}

#[inline(never)]
fn read_of_host(tensor: &Tensor) -> f32 {
    // SAFETY: there is none: this is the mistake that is looked for.
    unsafe { *tensor.data_ptr().cast::<f32>() }
}
