//! A window of 47 × 47 costs no more per pixel than one of 9 × 9; dense pooling, beside it, does.
//!
//! `cargo bench --bench pmim_window`, with the number of rounds as an argument (default 30).

use once_for_both::components::{PmimRegularizer, WindowedPixels};
use once_for_both::report::compare_latency;
use once_for_both::{device, Result};
use tch::{Kind, Tensor};

const BATCH: i64 = 8;
const SIDE: i64 = 224;

/// Mean and mean square by pooling over every window in full, as it is often written.
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
    println!("{BATCH} images of {SIDE}², three channels, on {device:?}, {rounds} rounds in turn");
    println!("window 47: {wide:8.2} ms, {:6.1} ns a pixel", nanoseconds(wide));
    println!("window  9: {narrow:8.2} ms, {:6.1} ns a pixel", nanoseconds(narrow));
    println!("ratio 47 to 9: {:.3}", wide / narrow);
    println!("dense 47 × 47 pooling alone: {dense:8.1} ms, {:.0} times as long", dense / wide);
    Ok(())
}
