//! Halves the multiply-accumulates of a trained ViT, in two minutes of processor time:
//! `cargo run --release --features data --example 01_quickstart`

use once_for_both::data::idx::{IdxImages, Split};
use once_for_both::data::{Augmentation, ImageSet, ShuffledBatches};
use once_for_both::prelude::*;
use std::path::Path;
use tch::{Device, Kind, Tensor};

fn main() -> once_for_both::Result<()> {
    let (examples, device) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"), Device::Cpu);
    let images = |split| {
        let images = IdxImages::open_split(&examples.join("data"), split)?;
        ImageSet::from_idx(images, 10, device)?.normalised(0.286, 0.353)
    };
    let (train, test) = (images(Split::Train)?, images(Split::Test)?);
    let dense = Subnet::<VitConfig>::load(examples.join("pretrained/fashion-mnist"), device)?;

    let mut search = Search::of(dense.architecture().clone())
        .weights(dense.weights())
        .budget(Budget::macs_share(0.5))
        .options(SearchOptions::new(250, 100).peak_rate(1e-3))
        .device(device)
        .build()?;
    let mut batches = ShuffledBatches::new(&train, 128, 0, Augmentation { pad: 2, flip: true })?;
    search.train(&mut batches, &mut print)?;

    let calibration = test.select(&Tensor::f_arange(64, (Kind::Int64, device))?)?.0;
    let subnet = search.extract(&calibration)?;
    for (name, network) in [("before", &dense), ("after", &subnet.subnet)] {
        let top1 = 100.0 * test.top1(200, |images| network.predict(images))?;
        let (macs, params) = (network.macs()? / 1e6, network.params()? / 1e6);
        println!("{name:>6}: top-1 {top1:.1}%, {macs:.2} MMACs, {params:.3} M parameters");
    }
    let difference = subnet.verification.max_abs_logit_difference();
    println!("extracted and masked network: logits differ by at most {difference:.0e}");
    Ok(())
}

fn print(event: &Event) -> once_for_both::Result<()> {
    match event {
        Event::Step(step) if step.step % 50 == 0 => {
            let (expected, current) = (step.macs_expected / 1e6, step.macs_current / 1e6);
            let (number, loss) = (step.step, step.loss.task);
            println!(
                "step {number:3}: task loss {loss:.3}, MMACs: {expected:.1} expected, {current:.1} current"
            );
        }
        Event::Finished(finished) => println!("all sizes decided after step {}", finished.step),
        _ => {}
    }
    Ok(())
}
