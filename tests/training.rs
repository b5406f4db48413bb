//! Training options: EMA, distillation, frozen weights, accumulation, clipping, bf16.

mod support;

use once_for_both::batch::{Batch, Targets};
use once_for_both::components::{
    distillation_loss, ComponentId, Distillation, DistillationKind, Teacher,
};
use once_for_both::models::VitConfig;
use once_for_both::precision::Precision;
use once_for_both::search::{Checkpoints, Event, Phase, Search, SearchOptions};
use once_for_both::space::SearchSpace;
use once_for_both::supernet::Supernet;
use once_for_both::{Error, Result};
use serde_json::json;
use support::tiny_run::{
    alone, batch, builder, fade_out_options, options, run, search_with, vit, STEPS,
};
use support::{from_numbers, numbers, softmax, test_device, TestResult, Tolerance};
use tch::{Kind, Tensor};

fn step(search: &mut Search<VitConfig>, batches: &[Batch]) -> TestResult {
    Ok(search.step(batches, &mut ())?)
}

/// A teacher whose logits do not depend on the images.
#[derive(Debug)]
struct ConstantTeacher;

impl Teacher for ConstantTeacher {
    fn id(&self) -> ComponentId {
        ComponentId::new("constant")
    }

    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        let batch = images.size()[0];
        let opinion = Tensor::f_from_slice(&[9.0f32, 0.0, 0.0, 0.0, 0.0])?;
        Ok(opinion.f_to_device(images.device())?.f_expand([batch, 5], false)?)
    }
}

#[test]
fn student_of_a_constant_teacher_predicts_the_same_class() -> TestResult {
    let _alone = alone();
    for kind in [DistillationKind::Hard, DistillationKind::Soft { temperature: 2.0 }] {
        let mut options = SearchOptions::learned(60, 20).peak_rate(5e-3);
        options.training.distillation = Some(Distillation::new(kind, 1.0));
        let mut search = builder(options, 0.5).teacher(ConstantTeacher).build()?;
        run(&mut search, 60)?;
        search.materialise()?;
        let logits = search.supernet().network_logits(&batch(99)?.images)?;
        let first = numbers(&logits.argmax(-1, false))?;
        assert!(first.iter().all(|&class| class == 0.0), "{kind:?}: {first:?}");
    }
    Ok(())
}

#[test]
fn distillation_loss_equals_its_definition() -> TestResult {
    let (student, teacher) = ([0.3, -1.0, 2.0, 0.0, 0.5, 1.5], [1.0, 0.0, -1.0, 0.2, 2.0, 0.1]);
    let (s, t) = (from_numbers(&student, &[2, 3])?, from_numbers(&teacher, &[2, 3])?);
    let all = [true; 3];
    let temperature = 3.0;
    let over = |values: &[f64]| values.iter().map(|v| v / temperature).collect::<Vec<f64>>();
    let soft: f64 = student
        .chunks(3)
        .zip(teacher.chunks(3))
        .map(|(s, t)| {
            let (p, q) = (softmax(&over(s), &all), softmax(&over(t), &all));
            p.iter().zip(&q).map(|(p, q)| q * (q / p).ln()).sum::<f64>()
        })
        .sum::<f64>()
        * temperature
        * temperature
        / 2.0;
    let found = distillation_loss(&s, &t, DistillationKind::Soft { temperature })?;
    Tolerance::relative(1e-5).check_number("soft", found.double_value(&[]), soft)?;
    // The teacher's first choices are 0 and 1.
    let hard = -(softmax(&student[..3], &all)[0].ln() + softmax(&student[3..], &all)[1].ln()) / 2.0;
    let found = distillation_loss(&s, &t, DistillationKind::Hard)?;
    Tolerance::relative(1e-5).check_number("hard", found.double_value(&[]), hard)?;
    assert_refused!(
        distillation_loss(&s, &t.narrow(1, 0, 2), DistillationKind::Hard),
        Error::Shape { .. }
    );
    Ok(())
}

#[test]
fn distillation_from_a_teacher_with_an_infinite_logit_is_finite() -> TestResult {
    let student = from_numbers(&[0.3, -1.0, 2.0], &[1, 3])?;
    let teacher = from_numbers(&[1.0, 0.0, f64::NEG_INFINITY], &[1, 3])?;
    let found = distillation_loss(&student, &teacher, DistillationKind::Soft { temperature: 1.0 })?;
    let (p, q) = (softmax(&[0.3, -1.0, 2.0], &[true; 3]), softmax(&[1.0, 0.0], &[true; 2]));
    let expected: f64 = q.iter().zip(&p).map(|(q, p)| q * (q / p).ln()).sum();
    Tolerance::relative(1e-5).check_number("soft", found.double_value(&[]), expected)?;
    Ok(())
}

#[test]
fn step_with_batches_of_different_sizes_is_refused() -> TestResult {
    let _alone = alone();
    let mut search = search_with(options(), 0.9)?;
    let of = |images: i64| -> TestResult<Batch> {
        let Batch { images: all, targets } = batch(0)?;
        let Targets::Classes(classes) = targets else { return Err("classes".into()) };
        let targets = Targets::Classes(classes.narrow(0, 0, images));
        Ok(Batch { images: all.narrow(0, 0, images), targets })
    };
    for batches in [vec![], vec![of(0)?], vec![of(4)?, of(2)?]] {
        assert_refused!(search.gradients(&batches), Error::Invalid { .. });
        assert_refused!(search.step(&batches, &mut ()), Error::Invalid { .. });
    }
    step(&mut search, &[of(3)?, of(3)?])
}

#[test]
fn option_out_of_range_is_refused_by_name() -> TestResult {
    let good = serde_json::to_value(options())?;
    for (name, value) in [
        ("search_steps", json!(99)),
        ("pruning.interval", json!(0)),
        ("log_interval", json!(0)),
        ("training.max_skipped_in_a_row", json!(0)),
        ("pruning.drop_share", json!(1.0)),
        ("pruning.fade_out_steps", json!(8)),
        ("training.ema_decay", json!(1.0)),
        ("training.label_smoothing", json!(-0.1)),
        ("budget.weight", json!(-1.0)),
        ("one_hot.weight", json!(-1.0)),
        ("one_hot.balance.ramp.ratio", json!(-1.0)),
        ("optimiser.score_rate", json!(-1.0)),
        ("optimiser.alpha_rate", json!(-1.0)),
        ("optimiser.clip_norm", json!(0.0)),
        ("optimiser.weight_rate.peak", json!(-1.0)),
        ("optimiser.weight_rate.floor", json!(1.1)),
        ("optimiser.weight_rate.warmup_steps", json!(STEPS)),
        ("optimiser.weights.beta1", json!(1.0)),
        ("optimiser.weights.beta2", json!(-0.1)),
        ("optimiser.weights.eps", json!(0.0)),
        ("optimiser.alpha.weight_decay", json!(-0.1)),
    ] {
        let mut wrong = good.clone();
        let pointer = format!("/{}", name.replace('.', "/"));
        *wrong.pointer_mut(&pointer).ok_or(name)? = value;
        let wrong: SearchOptions = serde_json::from_value(wrong)?;
        assert_refused!(wrong.check(), Error::Invalid { name: ref refused, .. } if refused == name);
    }
    options().check()?;
    Ok(())
}

#[test]
fn scores_and_alpha_of_the_papers_setting_move_at_the_rate_of_the_weights() -> TestResult {
    let _alone = alone();
    let options = SearchOptions::paper(100, 60).peak_rate(1e-3);
    let mut search = search_with(options.with(|o| o.pruning.interval = 50), 0.5)?;
    let rates = |step| search.options().optimiser.weight_rate.at(step);
    let expected = [rates(0), rates(1)];
    assert!(expected[0] < 0.5e-3 && expected[1] > expected[0], "a warm-up: {expected:?}");
    let alphas = |search: &Search<VitConfig>| numbers(&search.supernet().states()[0].alpha);
    let first = alphas(&search)?;
    step(&mut search, &[batch(0)?])?;
    // The first step of Adam moves every parameter by its rate, and decays it by 1e-3 of that.
    let now = alphas(&search)?;
    let moved = now.iter().zip(&first).map(|(now, before)| (now - before).abs());
    let most = moved.fold(0.0, f64::max);
    assert!((most / expected[0] - 1.0).abs() < 0.01, "{most} {expected:?}");
    Ok(())
}

#[test]
fn logged_total_counts_the_reconstruction_of_the_masked_images_alone() -> TestResult {
    let _alone = alone();
    let mut search = search_with(options().with(|o| o.log_interval = 1), 0.5)?;
    run(&mut search, 2)?;
    assert!(search.mask_ratio() > 0.0);
    let weighted = search.gradients(&[batch(2)?])?.losses.weighted_reconstruction;
    let weighted = weighted.ok_or("no masked images")?.f_double_value(&[])?;
    let mut losses = Vec::new();
    search.step(&[batch(2)?], &mut |event: &Event| {
        if let Event::Step(metrics) = event {
            losses.push(metrics.loss);
        }
        Ok(())
    })?;
    let [loss] = losses[..] else { return Err("not one step".into()) };
    let rest = loss.total - loss.task - loss.one_hot - loss.budget;
    assert!((rest - weighted).abs() < 1e-5 * weighted, "{rest} {weighted}");
    // Two of six images have masked tokens; random logits cost each about the same.
    assert!(rest > 0.1 * loss.task && rest < 0.6 * loss.task, "{rest} of {}", loss.task);
    Ok(())
}

#[test]
fn clipped_gradient_has_the_largest_allowed_norm() -> TestResult {
    let _alone = alone();
    let run_with = |clip_norm: Option<f64>| -> TestResult<Search<VitConfig>> {
        let mut own = options();
        own.optimiser.clip_norm = clip_norm;
        let mut search = search_with(own, 0.9)?;
        step(&mut search, &[batch(0)?])?;
        Ok(search)
    };
    let gradients = search_with(options(), 0.9)?.gradients(&[batch(0)?])?.parameters()?;
    let weights = |name: &&String| {
        !name.ends_with(".score") && !name.ends_with(".alpha") && !name.starts_with("pmim.")
    };
    let squares = gradients
        .iter()
        .filter(|(name, _)| weights(name))
        .map(|(_, g)| g.square().sum(tch::Kind::Double));
    let norm = squares.map(|square| square.double_value(&[])).sum::<f64>().sqrt();
    // Adam's first moment after one step is a tenth of the gradient it was given.
    let name = "blocks.0.mlp.fc1.weight";
    let resumed = |search: &Search<VitConfig>| -> TestResult<Tensor> {
        let folder = tempfile::tempdir()?;
        let saved = Checkpoints::new(folder.path(), 1).save(search)?;
        let tensors = Tensor::read_safetensors(saved.join("tensors.safetensors"))?;
        let own = format!("first/{name}");
        Ok(tensors.into_iter().find(|(name, _)| *name == own).ok_or(own)?.1)
    };
    for (clip, scale) in [(None, 1.0), (Some(2.0 * norm), 1.0), (Some(norm / 8.0), 0.125)] {
        let expected = &gradients[name] * (0.1 * scale);
        let found = resumed(&run_with(clip)?)?.to_device(test_device());
        Tolerance { relative: 1e-4, absolute: 1e-9 }.check("first moment", &found, &expected)?;
    }
    Ok(())
}

/// Stochastic depth drops whole branches while training, scales the rest up, and is off otherwise.
#[test]
fn stochastic_depth_drops_branches_in_training_only() -> TestResult {
    let _alone = alone();
    let config = VitConfig { drop_path: 0.4, ..vit() };
    let build = |config: &VitConfig| -> TestResult<Supernet<VitConfig>> {
        once_for_both::randomness::seed(5);
        Ok(Supernet::new(config.clone(), SearchSpace::empty(), false, test_device())?)
    };
    let (plain, deep) = (build(&vit())?, build(&config)?);
    let logits =
        |supernet: &Supernet<VitConfig>, images: &Tensor, train: bool| -> TestResult<Tensor> {
            Ok(tch::no_grad(|| supernet.forward(images, None, train))?.logits.prediction()?)
        };
    let images = batch(3)?.images.narrow(0, 0, 1);
    let exact = Tolerance::relative(0.0);
    exact.check("evaluation", &logits(&deep, &images, false)?, &logits(&plain, &images, false)?)?;
    // One image many times over: some keep the last block's two branches (0.6² of them), and have
    // them larger by 1/0.6; the first block's are never dropped.
    let many = images.repeat([2000, 1, 1, 1]);
    let found = logits(&deep, &many, true)?;
    // Equal but for rounding: neighbours in order that lie close together.
    let mut first = numbers(&found.select(1, 0))?;
    first.sort_by(f64::total_cmp);
    let groups: Vec<usize> = first.chunk_by(|a, b| b - a < 1e-5).map(<[f64]>::len).collect();
    assert_eq!(groups.len(), 4, "two branches, kept or not");
    let both = groups.iter().copied().max().ok_or("no image")? as f64 / 2000.0;
    assert!((both - 0.36).abs() < 0.05, "{both} of the images keep both");
    let moved = (found.mean_dim([0i64].as_slice(), false, Kind::Float)
        - logits(&plain, &images, false)?.squeeze())
    .abs()
    .max();
    let scale = found.std(false).double_value(&[]);
    assert!(moved.double_value(&[]) < scale, "the mean moves by {moved:?}, spread {scale}");
    Ok(())
}

#[test]
fn distillation_without_teacher_or_out_of_range_is_refused() -> TestResult {
    let _alone = alone();
    for wrong in [
        Distillation::new(DistillationKind::Hard, 1.5),
        Distillation::new(DistillationKind::Soft { temperature: 0.0 }, 0.5),
    ] {
        assert_refused!(wrong.check(), Error::Invalid { .. });
    }
    let alone = options().with(|o| o.training.distillation = Some(Distillation::deit()));
    let refused = search_with(alone, 0.5);
    assert!(
        refused.is_err_and(|error| error.to_string().contains("distillation.teacher component"))
    );
    Ok(())
}

#[test]
fn frozen_weights_are_unchanged_while_scores_are_learned() -> TestResult {
    let _alone = alone();
    let frozen = options().with(|o| o.training.freeze_weights = true);
    let mut search = search_with(frozen, 0.9)?;
    let before: Vec<(String, Tensor)> =
        search.supernet().raw_weights().into_iter().map(|(name, w)| (name, w.copy())).collect();
    let score = search.supernet().states()[0].score.detach().copy();
    step(&mut search, &[batch(0)?])?;
    let after = search.supernet().raw_weights();
    for (name, weight) in before.iter().filter(|(name, _)| !name.starts_with("pmim.")) {
        assert!(after[name].equal(weight), "{name} has moved");
    }
    assert!(!search.supernet().states()[0].score.equal(&score));
    Ok(())
}

#[test]
fn weights_frozen_during_the_search_are_trained_afterwards() -> TestResult {
    let _alone = alone();
    let frozen = options().with(|o| o.training.freeze_weights = true);
    let mut search = search_with(frozen, 0.9)?;
    let bias = |search: &Search<VitConfig>| search.supernet().raw_weights()["head.bias"].copy();
    let before = bias(&search);
    while search.phase() == Phase::Search {
        assert!(bias(&search).equal(&before), "step {}", search.steps_done());
        let batches = [batch(search.steps_done())?];
        step(&mut search, &batches)?;
    }
    assert!(!search.is_done());
    run(&mut search, STEPS)?;
    assert!(!bias(&search).equal(&before));
    Ok(())
}

#[test]
fn plain_training_with_frozen_weights_is_refused() -> TestResult {
    let _alone = alone();
    let frozen = SearchOptions::training(STEPS).with(|o| o.training.freeze_weights = true);
    let refused = Search::of(vit()).options(frozen).device(test_device()).build();
    assert_refused!(refused, Error::Invalid { ref name, .. } if name == "training.freeze_weights");
    Ok(())
}

#[test]
fn ema_equals_its_definition_and_is_swapped_back() -> TestResult {
    let _alone = alone();
    let averaged = SearchOptions::training(STEPS).with(|o| o.training.ema_decay = Some(0.9));
    let mut search = Search::of(vit()).options(averaged).device(test_device()).build()?;
    let head = |search: &Search<VitConfig>| search.supernet().raw_weights()["head.weight"].copy();
    let mut mean: Option<Tensor> = None;
    for at in 0..5u64 {
        step(&mut search, &[batch(at)?])?;
        let decay = (0.9f64).min((1.0 + at as f64) / (10.0 + at as f64));
        mean = Some(match mean {
            None => head(&search),
            Some(mean) => mean * decay + head(&search) * (1.0 - decay),
        });
    }
    let (present, mean) = (head(&search), mean.ok_or("no mean")?);
    let ema = search.evaluate(|supernet| Ok(supernet.raw_weights()["head.weight"].copy()))?;
    Tolerance::of_scale(1e-6, &mean)?.check("EMA", &ema, &mean)?;
    assert!(head(&search).equal(&present));
    Ok(())
}

#[test]
fn accumulated_gradients_equal_those_of_the_whole_batch() -> TestResult {
    let _alone = alone();
    let plain = options().with(|o| o.pmim = None);
    let search = search_with(plain, 0.5)?;
    let whole = batch(0)?;
    let Targets::Classes(classes) = &whole.targets else { return Err("classes".into()) };
    let half = |from: i64| Batch {
        images: whole.images.narrow(0, from, 3),
        targets: Targets::Classes(classes.narrow(0, from, 3)),
    };
    let expected = search.gradients(&[batch(0)?])?.parameters()?;
    let found = search.gradients(&[half(0), half(3)])?.parameters()?;
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, gradient) in &found {
        let close = Tolerance::of_scale(1e-4, &expected[name])?;
        let close = Tolerance { absolute: close.absolute + 1e-7, ..close };
        close.check(name, gradient, &expected[name])?;
    }
    Ok(())
}

#[test]
fn soft_targets_of_one_class_equal_hard_targets() -> TestResult {
    let _alone = alone();
    let search = search_with(options(), 0.5)?;
    let hard = batch(0)?;
    let Targets::Classes(classes) = &hard.targets else { return Err("classes".into()) };
    let probabilities = classes.one_hot(5).to_kind(Kind::Float).to_device(test_device());
    let soft = Batch {
        images: hard.images.shallow_clone(),
        targets: Targets::Probabilities(probabilities),
    };
    let (left, right) = (search.gradients(&[hard])?.losses, search.gradients(&[soft])?.losses);
    let close = Tolerance::relative(1e-6);
    close.check("task", &left.task, &right.task)?;
    Ok(())
}

/// Losses and gradients agree within bf16's rounding; θ is f32, so small updates are not lost.
#[test]
fn search_in_bf16_matches_f32_and_ends_in_f32() -> TestResult {
    let _alone = alone();
    let half = fade_out_options().with(|o| o.training.precision = Precision::Bf16);
    let (full, mut search) = (search_with(fade_out_options(), 0.5)?, search_with(half, 0.5)?);
    let (expected, found) = (full.gradients(&[batch(0)?])?, search.gradients(&[batch(0)?])?);
    Tolerance::relative(2e-2).check("task", &found.losses.task, &expected.losses.task)?;
    for (name, gradient) in &found.parameters()? {
        assert_eq!(gradient.kind(), Kind::Float, "{name}");
    }
    let (norm, name) = (|g: &Tensor| g.norm().double_value(&[]), "blocks.0.mlp.fc1.weight");
    let (found, expected) = (norm(&found.parameters()?[name]), norm(&expected.parameters()?[name]));
    Tolerance::relative(5e-2).check_number(name, found, expected)?;
    let before = search.supernet().raw_weights()[name].copy();
    step(&mut search, &[batch(0)?])?;
    let after = &search.supernet().raw_weights()[name];
    // The first step of the warm-up moves a weight by less than bf16 can tell apart.
    let moved = (after - &before).not_equal(0).to_kind(Kind::Float).mean(None).double_value(&[]);
    assert!(moved > 0.9, "{moved} of the weights have moved");
    run(&mut search, STEPS)?;
    let subnet = search.extract(&batch(99)?.images)?;
    let verification = subnet.verification;
    assert!(verification.max_abs_logit_difference() <= 1e-5 * verification.logit_scale);
    assert!(subnet.weights().values().all(|weight| weight.kind() == Kind::Float));
    Ok(())
}

#[test]
fn step_with_images_or_targets_of_the_wrong_kind_is_refused_by_name() -> TestResult {
    let _alone = alone();
    let mut search = search_with(options(), 0.9)?;
    let Batch { images, targets: Targets::Classes(classes) } = batch(0)? else {
        return Err("classes".into());
    };
    let of = |images: &Tensor, classes: &Tensor| {
        [Batch::classes(images.shallow_clone(), classes.shallow_clone())]
    };
    let bytes = images.to_kind(Kind::Uint8);
    for (batch, expected) in [
        (of(&bytes, &classes), "kind of the images"),
        (of(&images, &classes.to_kind(Kind::Float)), "kind of the class indices"),
        (of(&images, &classes.narrow(0, 0, 3)), "shape of the targets"),
    ] {
        let refused = search.step(&batch, &mut ());
        assert_refused!(refused, Error::Invalid { ref name, .. } if name == expected);
    }
    step(&mut search, &of(&images, &classes))
}
