//! Time of the PMIM targets (window-normalised pixels) at window 47 relative to window 9, and of
//! plain average pooling with window 47. The targets' time does not depend on the window.
//!
//! `cargo bench --features report --bench pmim_window -- 30`; the argument is the number of rounds
//! (default 30). `OFB_TEST_DEVICE` sets the device (default `cpu`).

use once_for_both::components::{PmimRegularizer, WindowedPixels};
use once_for_both::latency::compare_latency;
use once_for_both::{device, Result};
use tch::{Kind, Tensor};

const BATCH: i64 = 8;
const SIDE: i64 = 224;

/// Mean and mean square of every window by average pooling, whose time grows with the window.
fn pooled(images: &Tensor, window: i64) -> Result<()> {
    let half = window / 2;
    for x in [images, &images.f_square()?] {
        let size = [window, window];
        let _ = x.f_avg_pool2d(size, [1, 1], [half, half], false, false, None::<i64>)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(30);
    let device = device::parse(&std::env::var("OFB_TEST_DEVICE").unwrap_or("cpu".into()))?;
    let images = Tensor::f_rand([BATCH, 3, SIDE, SIDE], (Kind::Float, device))?;
    let (wide, narrow) = (WindowedPixels::new(47)?, WindowedPixels::new(9)?);
    let times = compare_latency(
        &[&|| wide.targets(&images).map(drop), &|| narrow.targets(&images).map(drop)],
        rounds,
        device,
    )?;
    let dense = compare_latency(&[&|| pooled(&images, 47)], 3, device)?[0].median_ms;
    let nanoseconds = |ms: f64| ms * 1e6 / (BATCH * SIDE * SIDE) as f64;
    let [wide, narrow] = [0, 1].map(|at| times[at].median_ms);
    println!(
        "{BATCH} images, 3 × {SIDE} × {SIDE}, {device:?}, median of {rounds} alternating rounds"
    );
    println!("targets, window 47: {wide:8.2} ms, {:6.1} ns a pixel", nanoseconds(wide));
    println!("targets, window  9: {narrow:8.2} ms, {:6.1} ns a pixel", nanoseconds(narrow));
    println!("window 47 relative to window 9: {:.3} times", wide / narrow);
    println!("average pooling, window 47: {dense:8.1} ms, {:.0} times the targets'", dense / wide);
    Ok(())
}
