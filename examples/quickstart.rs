//! Half the multiply-accumulates of a trained ViT, in about two minutes on a CPU:
//! `cargo run --release --example quickstart`

use once_for_both::cost::{Budget, Metric};
use once_for_both::data::idx::{IdxImages, Split};
use once_for_both::data::{Augmentation, ImageSet, ShuffledBatches};
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::search::{Event, Search, SearchOptions};
use once_for_both::subnet::{verify, FoldingExtractor, Subnet, SubnetExtractor};
use std::path::Path;
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (examples, device) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"), Device::Cpu);
    let images = |split| {
        let images = IdxImages::open_split(&examples.join("data"), split)?;
        ImageSet::from_idx(images, 10, device)?.normalised(0.286, 0.353)
    };
    let (train, test) = (images(Split::Train)?, images(Split::Test)?);
    let dense = Subnet::<VitConfig>::load(&examples.join("pretrained/fashion-mnist"), device)?;

    let network = dense.architecture().clone();
    let (space, start) = (network.space()?, Some(dense.weights()));
    let half = Budget::share(Metric::Macs, 0.5, &network.cost_model())?;
    let options = SearchOptions::new(700, 350).peak_rate(5e-4);
    let mut session = Search::new(network, space, start, vec![half], options, device)?;

    let mut batches = ShuffledBatches::new(&train, 128, 0, Augmentation { pad: 2, flip: true })?;
    let mut tell = |event: &Event| {
        match event {
            Event::Step(m) if m.step % 50 == 0 => println!(
                "step {:3}  loss {:.3}  MMACs {:.1}",
                m.step,
                m.loss.task,
                m.macs_current / 1e6
            ),
            Event::Finished(end) => println!("decided after step {}", end.step),
            _ => {}
        }
        Ok(())
    };
    while !session.is_done() {
        session.step(&[batches.at(session.steps_done())?], &mut tell)?;
    }

    session.materialise()?;
    let subnet = FoldingExtractor.extract(session.supernet())?;
    let some = test.select(&Tensor::f_arange(64, (Kind::Int64, device))?)?.0;
    let verification = verify(session.supernet(), &subnet, &some)?;
    for (name, network) in [("before", &dense), ("after", &subnet)] {
        let top1 = 100.0 * test.top1(200, |images| network.predict(images))?;
        let (macs, params) = (network.macs()? / 1e6, network.params()? / 1e6);
        println!("{name:>6}: top-1 {top1:.1}%, {macs:.2} MMACs, {params:.3} M parameters");
    }
    println!("largest difference of a logit: {:.0e}", verification.max_abs_logit_difference());
    Ok(())
}
