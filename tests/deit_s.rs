//! The example `deit_s`: its stages, the files of a run, and the options it rejects.

#[path = "deit_s_cases/begun.rs"]
mod begun;
#[cfg(feature = "distributed")]
#[path = "deit_s_cases/corrupt.rs"]
mod corrupt;
#[path = "deit_s_cases/other_commands.rs"]
mod other_commands;
#[path = "support/program.rs"]
mod program;
#[path = "deit_s_cases/stages.rs"]
mod stages;
#[path = "deit_s_cases/start.rs"]
mod start;
#[path = "deit_s_cases/weights.rs"]
mod weights;

use program::program;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

type TestResult = Result<(), Box<dyn Error>>;

/// Options of a network that trains in a second.
const SMALL: [&str; 8] = [
    "--set",
    "network.embed_dim=32",
    "--set",
    "network.depth=2",
    "--set",
    "network.heads=2",
    "--steps",
    "20",
];

fn deit_s(arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    deit_s_on(&test_device(), arguments)
}

fn test_device() -> String {
    std::env::var("OFB_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}

fn deit_s_on(device: &str, arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    // Tests run in parallel: one thread each.
    let mut command = Command::new(program("deit_s")?);
    command.env("OMP_NUM_THREADS", "1");
    Ok(command.args(arguments).args(["--device", device]).output()?)
}

/// Runs the program in two processes of this machine.
#[cfg(feature = "distributed")]
fn two_ranks(arguments: &[&str]) -> Result<Output, Box<dyn Error>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/ranks.py");
    let mut command = Command::new(script);
    command.arg("2").arg(program("deit_s")?).args(arguments).args(["--device", "cpu"]);
    Ok(command.env("OMP_NUM_THREADS", "1").output()?)
}

/// Runs the program in two processes, of which each is given more arguments of its own.
#[cfg(feature = "distributed")]
fn two_different_ranks(arguments: &[&str], own: [&str; 2]) -> Result<Output, Box<dyn Error>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/ranks.py");
    let choose = format!(r#"[ $RANK = 0 ] && exec "$@" {}; exec "$@" {}"#, own[0], own[1]);
    let mut command = Command::new(script);
    command.args(["2", "sh", "-c", &choose, "sh"]).arg(program("deit_s")?).args(arguments);
    Ok(command.args(["--device", "cpu"]).env("OMP_NUM_THREADS", "1").output()?)
}

/// Returns the output of a command that succeeds.
fn succeeds(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    succeeds_on(&test_device(), arguments)
}

fn succeeds_on(device: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = deit_s_on(device, arguments)?;
    let text = String::from_utf8(output.stdout)?;
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Returns the error message of a command that fails.
fn refuses(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = deit_s(arguments)?;
    match output.status.success() {
        false => Ok(String::from_utf8(output.stderr)?),
        true => Err(format!("{arguments:?} was accepted").into()),
    }
}

#[test]
fn stages_in_one_run_folder_continue_from_one_another_and_are_reported() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let out = run.to_str().ok_or("not UTF-8")?;
    let stage = |name: &str| succeeds(&[&[name, "--out", out][..], &SMALL].concat());
    stage("train")?;
    let forecast = ["forecast", "--weights", out, "--out", out, "--shares", "0.6,0.4", "--images"];
    let told = succeeds(&[&forecast[..], &["16"]].concat())?;
    assert!(told.contains("on 16 calibration images") && told.contains("pruned first"), "{told}");
    let refused = refuses(&[&forecast[..], &["1"]].concat())?;
    assert!(refused.contains("calibration images: got 1"), "{refused}");
    // With masked image modeling, whose reconstructions are painted.
    let learned = ["--set", "search.method=learned"];
    let told = succeeds(&[&["search", "--out", out][..], &SMALL, &learned].concat())?;
    assert!(told.contains("budget"), "{told}");
    // No reconstruction, and first in order.
    std::fs::write(run.join("paintings/.DS_Store"), "")?;
    stage("finetune")?;
    for name in
        ["config.toml", "summary.json", "metrics.jsonl", "sensitivity.json", "subnet/model.onnx"]
    {
        assert!(run.join(name).is_file(), "{name} is missing");
    }
    // Provenance of the search, with the steps of fine-tuning added.
    let described = json(&run.join("finetune/network/config.json"))?;
    assert_eq!(described["provenance"]["steps"], 40, "{described}");
    assert!(described["provenance"]["dense_macs"].as_f64() > described["macs"].as_f64());
    assert_eq!(described["provenance"]["limits"][0]["metric"], "macs", "{described}");
    assert!(described["provenance"]["components"]["importance"]["name"].is_string());
    assert!(run.join("finetune/network/model.onnx").is_file());
    let summary = json(&run.join("summary.json"))?;
    let macs = |of: &str| summary[of]["macs"].as_f64().unwrap_or(f64::NAN);
    assert!(macs("subnet") <= 0.5 * macs("dense"), "{summary}");

    let evaluated = succeeds(&["eval", "--weights", out])?;
    assert!(evaluated.starts_with("top-1 "), "{evaluated}");
    let exported = folder.path().join("small");
    let to = exported.to_str().ok_or("not UTF-8")?;
    succeeds(&["export", "--weights", out, "--out", to, "--precision", "f16", "--format", "onnx"])?;
    assert!(
        exported.join("model.onnx").is_file() && !exported.join("model.torchscript.pt").exists()
    );
    assert!(
        std::fs::metadata(exported.join("model.safetensors"))?.len() * 3 / 2
            < std::fs::metadata(run.join("finetune/network/model.safetensors"))?.len()
    );
    let again = folder.path().join("again");
    let wide = again.to_str().ok_or("not UTF-8")?;
    succeeds(&["export", "--weights", to, "--out", wide, "--precision", "f32"])?;
    let rounding =
        |of: &Path| json(&of.join("verification.json")).map(|own| own["rounding"].clone());
    assert!(rounding(&exported)?.as_f64().is_some_and(|by_f16| by_f16 > 0.0));
    assert_eq!(rounding(&again)?, rounding(&exported)?);

    std::fs::remove_file(run.join("report.html"))?;
    succeeds(&["report", out])?;
    let page = std::fs::read_to_string(run.join("report.html"))?;
    for part in [
        "train",
        "search",
        "finetune",
        "<h2>Sensitivity</h2>",
        "data:image/png;base64,",
        "options as given",
    ] {
        assert!(page.contains(part), "the report lacks {part}");
    }
    Ok(())
}

#[test]
fn forecast_without_a_network_is_refused() -> TestResult {
    let refused = refuses(&["forecast", "--images", "16"])?;
    assert!(refused.contains("forecast: give the network by --weights"), "{refused}");
    Ok(())
}

fn json(path: &Path) -> Result<serde_json::Value, Box<dyn Error>> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// A stage that is added to a run inherits its options; seed, data and network cannot change.
#[test]
fn stage_added_to_a_run_has_the_options_of_the_run() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_str().ok_or("not UTF-8")?;
    let options = [
        "--seed",
        "5",
        "--set",
        "search.options.training.ema_decay=0.9",
        "--set",
        "search.steps=10",
    ];
    succeeds(&[&["train", "--out", out][..], &SMALL, &options].concat())?;
    let other = refuses(&["search", "--out", out, "--seed", "6"])?;
    assert!(other.contains("option seed: got 6, expected 5"), "{other}");
    // A resumed run continues its last command, not all stages.
    std::fs::remove_dir_all(folder.path().join("dense/network"))?;
    succeeds(&["--resume", "--out", out])?;
    assert!(folder.path().join("dense/network").is_dir());
    assert!(!folder.path().join("metrics.jsonl").exists(), "it went on to the search");

    let other = refuses(&["search", "--out", out, "--set", "train.steps=7"])?;
    assert!(other.contains("option train.steps: got 7, expected 20"), "{other}");
    succeeds(&["search", "--out", out])?;
    let config = toml::from_str::<toml::Table>(&std::fs::read_to_string(
        folder.path().join("config.toml"),
    )?)?;
    let number = |stage: &str| config[stage]["steps"].as_integer();
    // A stage that has run keeps its options.
    assert_eq!((number("train"), number("search")), (Some(20), Some(10)));
    assert_eq!(config["command"].as_str(), Some("search"));
    let plan = json(&folder.path().join("plan.json"))?;
    assert_eq!((&plan["options"]["seed"], &plan["steps"]), (&5.into(), &10.into()));
    // Fine-tuning trains the subnet of the run; --weights is the dense network that it was searched from.
    let dense = folder.path().join("dense/network");
    succeeds(&["finetune", "--out", out, "--steps", "4", "--weights", dense.to_str().ok_or("?")?])?;
    let [subnet, finetuned] = ["subnet", "finetune/network"].map(|n| folder.path().join(n));
    assert_eq!(
        json(&finetuned.join("config.json"))?["macs"],
        json(&subnet.join("config.json"))?["macs"]
    );
    let summary = json(&folder.path().join("summary.json"))?;
    assert_eq!(summary["subnet"]["macs"], json(&finetuned.join("config.json"))?["macs"]);
    Ok(())
}

#[test]
fn stage_in_a_folder_of_other_files_is_refused_before_anything_is_written() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_str().ok_or("not UTF-8")?;
    succeeds(&[&["train", "--out", out][..], &SMALL].concat())?;
    let (config, dense) = (folder.path().join("config.toml"), folder.path().join("dense"));
    let before = std::fs::read(&config)?;
    std::fs::remove_dir_all(&dense)?;
    std::fs::create_dir(&dense)?;
    std::fs::write(dense.join("notes.txt"), "mine")?;
    let refused = refuses(&["train", "--out", out, "--set", "train.lr=0.5"])?;
    assert!(refused.contains("notes.txt"), "{refused}");
    assert_eq!(std::fs::read(&config)?, before);
    assert_eq!(std::fs::read_dir(&dense)?.count(), 1);
    Ok(())
}

#[test]
fn search_options_are_not_applied_to_the_compared_dense_training() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let out = out.to_str().ok_or("not UTF-8")?;
    let options = [
        "--set",
        "search.options.pruning.fade_out_steps=2",
        "--set",
        "search.options.pmim=none",
        "--set",
        "search.method=two_stage",
        "--set",
        "search.prune_steps_per_epoch=3",
        "--set",
        "compare=true",
        "--out",
        out,
    ];
    succeeds(&[&SMALL[..], &options].concat())?;
    let plan = json(&Path::new(out).join("plan.json"))?;
    assert!(plan["options"]["pmim"].is_null() && plan["options"]["pruning"]["fade_out_steps"] == 2);
    assert_eq!(plan["options"]["stages"]["two"]["importance_steps"], 4);
    let plain = json(&Path::new(out).join("reference/plan.json"))?;
    assert_eq!(plain["options"]["pruning"]["fade_out_steps"], 0);
    Ok(())
}

#[test]
fn teacher_wider_than_the_student_is_loaded_and_one_for_other_images_is_rejected() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [wide, narrow] = ["wide", "narrow"].map(|name| folder.path().join(name));
    let [wide, narrow] = [&wide, &narrow].map(|path| path.to_str().unwrap_or_default());
    succeeds(
        &[&["train", "--out", wide][..], &SMALL, &["--set", "network.embed_dim=64"]].concat(),
    )?;
    succeeds(&[&["train", "--out", narrow, "--teacher", wide][..], &SMALL].concat())?;
    let plan = json(&Path::new(narrow).join("dense/plan.json"))?;
    assert_eq!(plan["options"]["training"]["distillation"]["weight"], 0.5, "{plan}");
    // A teacher for other images.
    let data = folder.path().join("data");
    for part in ["train", "val"] {
        write_classes(&data.join(part), &["ant", "bee"])?;
    }
    let images = data.to_str().ok_or("?")?;
    let colour = ["--set", "data.mean=[0.5, 0.5, 0.5]", "--set", "data.std=[0.5, 0.5, 0.5]"];
    let said = refuses(
        &[&["train", "--data", images, "--teacher", wide, "--batch", "4"][..], &colour].concat(),
    )?;
    assert!(said.contains("teacher: got one for images of [1, 28, 28]"), "{said}");
    Ok(())
}

/// Writes a folder per class with four images of 28 × 28 pixels each.
fn write_classes(folder: &Path, names: &[&str]) -> TestResult {
    for (class, name) in names.iter().enumerate() {
        let place = folder.join(name);
        std::fs::create_dir_all(&place)?;
        for image in 0..4u8 {
            let pixels: Vec<u8> = (0..28 * 28 * 3)
                .map(|at| {
                    (at as u8).wrapping_mul(image + 1).wrapping_add((class as u8).wrapping_mul(90))
                })
                .collect();
            jpeg_encoder::Encoder::new_file(place.join(format!("{image}.jpg")), 90)?.encode(
                &pixels,
                28,
                28,
                jpeg_encoder::ColorType::Rgb,
            )?;
        }
    }
    Ok(())
}

#[test]
fn folders_of_classes_are_trained_on_and_differing_class_names_are_rejected() -> TestResult {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    write_classes(&data.join("train"), &["ant", "bee", "cat"])?;
    write_classes(&data.join("val"), &["ant", "bee", "cow"])?;
    let [data, out] = [data, folder.path().join("run")];
    let (images, out) = (data.to_str().ok_or("?")?, out.to_str().ok_or("?")?);
    let arguments = ["--data", images, "--out", out, "--batch", "4", "--set", "compare=false"];
    let all = [&arguments[..], &SMALL].concat();
    let said = refuses(&all)?;
    assert!(said.contains("class 2 of val: got cow, expected cat as in train"), "{said}");
    std::fs::rename(data.join("val/cow"), data.join("val/cat"))?;
    for augmentation in ["light", "deit", "none"] {
        let setting = format!("data.augmentation={augmentation}");
        succeeds(&[&all[..], &["--set", &setting]].concat())?;
        // The run folder holds everything that eval needs.
        let told = succeeds(&["eval", "--weights", out])?;
        assert!(told.contains("of 12 images"), "{told}");
        std::fs::rename(out, folder.path().join(augmentation))?;
    }
    // RGB images are normalised with ImageNet's mean and standard deviation.
    let config = std::fs::read_to_string(folder.path().join("light/config.toml"))?;
    let config: toml::Table = toml::from_str(&config)?;
    assert_eq!(config["data"]["mean"].as_array().map(Vec::len), Some(3));
    assert_eq!(config["data"]["std"][2].as_float(), Some(0.225));
    let grey = refuses(&[&all[..], &["--set", "data.mean=[0.5]"]].concat())?;
    assert!(grey.contains("data.mean and data.std: got 1 and 0, expected 3 each"), "{grey}");
    // Export needs no images.
    std::fs::remove_dir_all(&data)?;
    let (run, to) = (folder.path().join("light"), folder.path().join("exported"));
    let [run, to] = [&run, &to].map(|path| path.to_str().unwrap_or_default());
    succeeds(&["export", "--weights", run, "--out", to, "--format", "onnx"])?;
    let described = json(&Path::new(to).join("config.json"))?;
    assert_eq!(described["provenance"]["steps"], 20, "{described}");
    Ok(())
}

/// Writes a tar shard with the images of class folders, every `parts`-th from `part` on.
fn write_shard(
    shard: &Path,
    folder: &Path,
    names: &[&str],
    (part, parts): (u8, usize),
) -> TestResult {
    let mut builder = tar::Builder::new(Vec::new());
    for image in (part..4).step_by(parts) {
        for (class, name) in names.iter().enumerate() {
            let jpeg = std::fs::read(folder.join(name).join(format!("{image}.jpg")))?;
            for (ending, content) in [("jpg", &jpeg[..]), ("cls", class.to_string().as_bytes())] {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, format!("{name}-{image}.{ending}"), content)?;
            }
        }
    }
    Ok(std::fs::write(shard, builder.into_inner()?)?)
}

#[test]
fn tar_shards_are_trained_on_evaluated_and_indexed_and_a_torn_one_is_named() -> TestResult {
    let folder = tempfile::tempdir()?;
    let classes = ["ant", "bee"];
    write_classes(folder.path(), &classes)?;
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    for part in 0..2 {
        let shard = path(&format!("train-{part}.tar"));
        write_shard(&shard, folder.path(), &classes, (part, 2))?;
    }
    write_shard(&path("val.tar"), folder.path(), &classes, (0, 1))?;
    let (train, val, out) = (text("train-{0..1}.tar"), text("val.tar"), text("run"));
    let index = format!("data.shards.index={}", text("index"));
    let images = ["train", "--data", &train, "--val", &val, "--batch", "4"];
    let all = [&images[..], &SMALL, &["--out", &out, "--set", &index]].concat();
    succeeds(&all)?;
    let told = succeeds(&["eval", "--weights", &out])?;
    assert!(told.contains("of 8 images"), "{told}");
    let config = std::fs::read_to_string(path("run/config.toml"))?;
    assert!(config.contains("train-{0..1}.tar") && config.contains("val.tar"), "{config}");
    assert!(path("index").is_file());
    for (arguments, said) in [
        (&all[..3], "data.shards.val: got none, expected the pattern"),
        (&["--val", &val], "options data.shards (--val): got some, expected none, unless"),
        (&["--data", &train, "--val", &train, "--set", "data.images=4"], "none for tar shards"),
        (
            &["--data", &train, "--val", &val, "--set", "data.shards.shuffle_buffer=0"],
            "shuffle_buffer: got 0",
        ),
    ] {
        let refused = refuses(arguments)?;
        assert!(refused.contains(said), "{refused}");
    }
    // The class that only evaluation has, and a shard that was cut.
    write_shard(&path("wide.tar"), folder.path(), &["ant", "bee", "ant"], (0, 1))?;
    let refused = refuses(&["--data", &train, "--val", &text("wide.tar")])?;
    assert!(refused.contains("class of ant-0.jpg: got 2, expected less than 2"), "{refused}");
    let torn = std::fs::read(path("train-1.tar"))?;
    std::fs::write(path("train-1.tar"), &torn[..torn.len() / 2])?;
    let refused = refuses(&all[..5])?;
    for part in ["train-1.tar", "the shard is truncated", "copy it again"] {
        assert!(refused.contains(part), "{refused}");
    }
    Ok(())
}

/// `[search.components]` changes parameters of the search's components, and nothing else.
#[test]
fn component_of_the_configuration_is_that_of_the_search() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("taylor.toml");
    let own = "importance = { name = \"taylor\", momentum = 0.5 }\none_hot = { tangent = false }\n";
    std::fs::write(&file, format!("compare = false\n[search.components]\n{own}"))?;
    let (out, file) = (folder.path().join("run"), file.to_str().ok_or("not UTF-8")?.to_string());
    let to = out.to_str().ok_or("not UTF-8")?;
    succeeds(&[&["--config", &file, "--out", to][..], &SMALL].concat())?;
    let described = json(&out.join("subnet/config.json"))?;
    let components = &described["provenance"]["components"];
    assert_eq!(components["importance"]["name"], "taylor", "{described}");
    assert_eq!(components["importance"]["momentum"], 0.5);
    assert_eq!(components["importance"]["mean"], 2.0);
    assert_eq!(components["one_hot"]["tangent"], false);
    assert_eq!(components["one_hot"]["entropy"], true);
    let config = std::fs::read_to_string(out.join("config.toml"))?;
    assert!(config.contains("taylor"), "{config}");
    Ok(())
}

#[test]
fn swin_is_trained_searched_fine_tuned_resumed_exported_and_reported() -> TestResult {
    let folder = tempfile::tempdir()?;
    let run = folder.path().join("run");
    let out = run.to_str().ok_or("not UTF-8")?;
    let small = ["--set", "network.embed_dim=16", "--steps", "20", "--batch", "8"];
    let stage =
        |name: &str| succeeds(&[&[name, "--preset", "swin", "--out", out][..], &small].concat());
    stage("train")?;
    let printed = stage("search")?;
    assert!(printed.contains("layers.1.blocks.0.attn"), "{printed}");
    let subnet = std::fs::read(run.join("subnet/model.safetensors"))?;
    std::fs::remove_dir_all(run.join("subnet"))?;
    succeeds(&["--resume", "--out", out])?;
    assert_eq!(std::fs::read(run.join("subnet/model.safetensors"))?, subnet);
    stage("finetune")?;
    let described = json(&run.join("finetune/network/config.json"))?;
    assert_eq!(described["family"], "swin", "{described}");
    assert_eq!(described["provenance"]["steps"], 40, "{described}");
    let dense_macs = described["provenance"]["dense_macs"].as_f64().ok_or("no dense MACs")?;
    assert!(described["macs"].as_f64().is_some_and(|macs| macs <= 0.5 * dense_macs));
    assert!(run.join("finetune/network/model.onnx").is_file());

    // The family of an artifact is read from its folder, wherever that is.
    let moved = folder.path().join("moved");
    std::fs::rename(run.join("finetune/network"), &moved)?;
    let [moved, to] = [moved, folder.path().join("exported")];
    let (moved, to) = (moved.to_str().ok_or("not UTF-8")?, to.to_str().ok_or("not UTF-8")?);
    succeeds(&["export", "--weights", moved, "--out", to, "--format", "torchscript"])?;
    let of = |folder: &str, file: &str| json(&Path::new(folder).join(file));
    let described = of(to, "config.json")?;
    assert_eq!(described["family"], "swin");
    assert!(described["latency"].is_array(), "{described}");
    assert_eq!(described["latency"], of(moved, "config.json")?["latency"]);
    let searched = of(out, "subnet/verification.json")?;
    let [exported, finetuned] = [to, moved].map(|folder| of(folder, "verification.json"));
    let (exported, finetuned) = (exported?, finetuned?);
    for field in ["random_images", "real_images", "logit_scale", "tolerance"] {
        assert_eq!(exported[field], searched[field], "{field} of the extraction");
        assert_eq!(finetuned[field], searched[field], "{field} of the extraction");
    }
    let evaluated = succeeds(&["eval", "--weights", out])?;
    assert!(evaluated.starts_with("top-1 "), "{evaluated}");
    std::fs::remove_file(run.join("report.html"))?;
    succeeds(&["report", out])?;
    let report = std::fs::read_to_string(run.join("report.html"))?;
    assert!(report.contains("swin on") && report.contains("channels, of 16, 32"));
    // A Swin teaches a ViT.
    let student = folder.path().join("student");
    let student = student.to_str().ok_or("not UTF-8")?;
    succeeds(&[&["train", "--out", student, "--teacher", out][..], &SMALL].concat())?;
    Ok(())
}

/// Swin-T with fewer blocks, channels and pixels; its grids of 14, 7, 4 and 2 tokens are padded.
#[test]
fn preset_swin_t_runs_all_stages_and_its_artifact_gives_the_same_top1() -> TestResult {
    let folder = tempfile::tempdir()?;
    let [run, out] = ["run", "out"].map(|name| folder.path().join(name));
    let (run, out) = (run.to_str().ok_or("not UTF-8")?, out.to_str().ok_or("not UTF-8")?);
    let mut line = vec!["--preset", "swin-t", "--out", run, "--steps", "6", "--batch", "4"];
    for setting in [
        "network.embed_dim=8",
        "network.heads=1",
        "network.depth=[1, 2, 1, 1]",
        "network.image_size=28",
        "network.patch_size=2",
        "data.built_in=true",
        "data.images=16",
        "data.augmentation=none",
        "train.accumulate=1",
        "train.warmup=1",
        "search.accumulate=1",
        "search.warmup=1",
        "search.options.training.precision=f32",
        "space.multiple_of={ embedding = 4, hidden = 8 }",
        "finetune.accumulate=1",
        "finetune.warmup=1",
        "finetune.options.training.precision=f32",
    ] {
        line.extend(["--set", setting]);
    }
    succeeds(&line)?;
    let network = Path::new(run).join("finetune/network");
    let described = json(&network.join("config.json"))?;
    assert_eq!(described["family"], "swin", "{described}");
    let stages = described["architecture"]["stages"].as_array().ok_or("no stages")?;
    assert_eq!(stages.len(), 4);
    for stage in stages {
        let blocks = stage["blocks"].as_array().into_iter().flatten();
        let hidden = blocks.map(|block| block["hidden_dim"].as_i64().unwrap_or(1));
        assert!(hidden.into_iter().all(|width| width % 8 == 0), "{stage}");
        assert_eq!(stage["embed_dim"].as_i64().unwrap_or(1) % 4, 0, "{stage}");
    }
    let summary = json(&Path::new(run).join("summary.json"))?;
    if cfg!(all(target_os = "linux", target_env = "gnu")) && test_device() == "cpu" {
        let [dense, subnet] =
            ["dense", "subnet"].map(|of| summary[of]["memory_bytes"]["32"].as_u64());
        assert!(dense > Some(0) && subnet > Some(0) && subnet <= dense, "{summary}");
    }
    for file in ["model.torchscript.pt", "model.onnx"] {
        assert!(network.join(file).is_file(), "{file}");
    }
    succeeds(&["export", "--weights", run, "--out", out, "--format", "torchscript,onnx"])?;
    let of = |path: &str| {
        succeeds(&["eval", "--weights", path, "--config", &format!("{run}/config.toml")])
    };
    assert_eq!(of(run)?, of(out)?);
    let told = succeeds(&["inspect", out])?;
    assert!(told.contains("swin"), "{told}");
    // The options of the candidates are the search's own.
    let told = refuses(&["--resume", "--out", run, "--set", "space.multiple_of=4"])?;
    assert!(told.contains("space.multiple_of"), "{told}");
    Ok(())
}

#[test]
fn network_of_another_name_is_refused_with_the_known_ones() -> TestResult {
    let told = refuses(&["train", "--set", "network=swin_huge"])?;
    assert!(told.contains("swin_huge") && told.contains("swin_tiny, swin_small"), "{told}");
    Ok(())
}

#[test]
fn resumed_run_with_other_options_is_rejected_and_with_the_same_repeats_its_subnet() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_str().ok_or("not UTF-8")?;
    let whole = &[&["--set", "compare=false", "--out", out][..], &SMALL].concat();
    succeeds(whole)?;
    let subnet = std::fs::read(folder.path().join("subnet/model.safetensors"))?;

    let again = refuses(whole)?;
    assert!(again.contains("--resume"), "{again}");
    // The same command line with --resume.
    succeeds(&[&whole[..], &["--resume", "--preset", "demo"]].concat())?;
    let other = refuses(&["--resume", "--out", out, "--preset", "demo"])?;
    assert!(other.contains("with which the run in"), "{other}");
    let other = refuses(&["--resume", "--out", out, "--budget", "0.3"])?;
    assert!(other.contains("option budget.macs: got \"0.3\", expected \"0.5\""), "{other}");

    // As after a kill: the artifacts are missing, the checkpoints exist.
    std::fs::remove_dir_all(folder.path().join("subnet"))?;
    std::fs::remove_file(folder.path().join("summary.json"))?;
    succeeds(&["--resume", "--out", out])?;
    assert_eq!(std::fs::read(folder.path().join("subnet/model.safetensors"))?, subnet);
    Ok(())
}

/// The files are written, and the summary is printed, by rank 0 alone.
#[cfg(feature = "distributed")]
#[test]
fn run_of_two_ranks_is_that_of_one_process() -> TestResult {
    let folder = tempfile::tempdir()?;
    let folders = ["one", "two"].map(|name| folder.path().join(name));
    let [one, two] = [0, 1].map(|at| folders[at].to_str().unwrap_or_default());
    let run = |out| [&["--out", out, "--batch", "32"][..], &SMALL].concat();
    // Two ranks want a card each.
    succeeds_on("cpu", &run(one))?;
    let output = two_ranks(&run(two))?;
    let (told, printed) = (String::from_utf8(output.stderr)?, String::from_utf8(output.stdout)?);
    assert!(output.status.success(), "{told}");
    assert_eq!(printed.matches("saved: ").count(), 3, "{printed}");
    assert_eq!(told.matches("search: 20 steps").count(), 1, "{told}");
    let [left, right] =
        [json(&folders[0].join("summary.json"))?, json(&folders[1].join("summary.json"))?];
    for of in ["dense", "subnet"] {
        assert_eq!(left[of]["macs"], right[of]["macs"], "{of}");
        let top1 = [&left, &right].map(|own| own[of]["top1"].as_f64().unwrap_or(f64::NAN));
        assert!((top1[0] - top1[1]).abs() < 0.005, "{of}: {top1:?}");
    }
    let evaluated = String::from_utf8(two_ranks(&["eval", "--weights", two])?.stdout)?;
    assert_eq!(evaluated, succeeds_on("cpu", &["eval", "--weights", two])?);
    // It goes on where it was, and ends at once.
    assert!(two_ranks(&["--resume", "--out", two])?.status.success());
    let again = two_ranks(&run(two))?;
    assert!(!again.status.success());
    let told = String::from_utf8(again.stderr)?;
    assert!(
        told.contains("rank 0: error: ") && told.contains("rank 1: error: rank 0 failed: "),
        "{told}"
    );
    let refused = two_ranks(&SMALL)?;
    assert!(String::from_utf8(refused.stderr)?.contains("--out: got none"));
    Ok(())
}

#[cfg(feature = "distributed")]
#[test]
fn ranks_that_resume_evaluate_or_mask_something_else_are_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let out = out.to_str().unwrap_or_default();
    let train = [&["train", "--out", out, "--batch", "32"][..], &SMALL].concat();
    assert!(two_ranks(&train)?.status.success());
    let small = folder.path().join("small");
    let learned = ["--set", "search.method=learned", "--out", small.to_str().unwrap_or_default()];
    let refused = two_ranks(&[&learned[..], &["--batch", "4"], &SMALL].concat())?;
    let told = String::from_utf8(refused.stderr)?;
    assert!(told.contains("rank 0: error: batch of 4 images over 2 processes"), "{told}");
    assert!(!small.exists());
    let cases = [
        (vec!["--out", out], ["--resume", "train"], "resume of rank 1: got false, expected true"),
        (vec!["eval", "--weights", out], ["", "--seed 3"], "config.seed"),
    ];
    for (arguments, own, expected) in cases {
        let output = two_different_ranks(&arguments, own)?;
        let told = String::from_utf8(output.stderr)?;
        assert!(!output.status.success(), "{told}");
        assert!(told.contains(&format!("rank 0: error: {expected}")), "{told}");
        assert!(told.contains(&format!("rank 1: error: {expected}")), "{told}");
    }
    Ok(())
}

/// A stage that was killed before it began has options of its own; one that has begun resumes.
#[test]
fn restarted_stage_begins_with_its_options_or_resumes() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let restarted = |arguments: &[&str]| -> Result<String, Box<dyn Error>> {
        let mut command = Command::new(program("deit_s")?);
        let variables = [("RANK", "0"), ("WORLD_SIZE", "1"), ("TORCHELASTIC_RESTART_COUNT", "1")];
        command.envs(variables).env("OMP_NUM_THREADS", "1").args(arguments);
        let output = command.args(["--device", "cpu", "--out"]).arg(&out).output()?;
        let told = String::from_utf8(output.stderr)?;
        assert!(output.status.success(), "{told}");
        Ok(told)
    };
    restarted(&[&["train"][..], &SMALL].concat())?;
    let search = ["search", "--steps", "10"];
    assert!(restarted(&search)?.contains("search: 10 steps"));
    assert!(restarted(&search)?.contains("search: resumes after step 10 of 10"));
    Ok(())
}

/// torchrun passes on the SIGTERM that Slurm has sent to the ranks, too.
#[cfg(unix)]
#[test]
fn signal_that_comes_twice_at_once_stops_with_a_checkpoint() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let mut command = Command::new(program("deit_s")?);
    command.args(["train", "--device", "cpu", "--out"]).arg(&out).args(&SMALL[..6]);
    command.args(["--steps", "100000"]).env("OMP_NUM_THREADS", "1");
    let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let errors = process.stderr.take().ok_or("no errors")?;
    let mut lines = BufReader::new(errors).lines().map_while(Result::ok);
    lines.find(|line| line.contains("train step 0")).ok_or("no step")?;
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status()?.success());
    assert!(Command::new("kill").args(["-TERM", &id]).status()?.success());
    assert!(lines.any(|line| line.contains("interrupted; resume with")));
    assert_eq!(process.wait()?.code(), Some(130));
    let checkpoints = std::fs::read_dir(out.join("dense/checkpoints"))?;
    let names = checkpoints.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
    let names = names.collect::<std::io::Result<Vec<_>>>()?;
    assert!(names.iter().any(|name| name.starts_with("step-")), "{names:?}");
    Ok(())
}

#[test]
fn flags_override_settings_settings_the_file_and_the_file_the_preset() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("own.toml");
    std::fs::write(&file, "seed = 3\n[train]\nepochs = 0.01\nlr = 0.25\nbatch = 16\n")?;
    let out = folder.path().join("run");
    let (out, file) = (out.to_str().ok_or("not UTF-8")?, file.to_str().ok_or("not UTF-8")?);
    let small = &SMALL[..6];
    let options =
        ["train", "--config", file, "--set", "train.lr=0.125", "--batch", "8", "--out", out];
    succeeds(&[&options[..], small].concat())?;
    let text = std::fs::read_to_string(Path::new(out).join("config.toml"))?;
    let config: toml::Table = toml::from_str(&text)?;
    let train = &config["train"];
    assert_eq!(config["seed"].as_integer(), Some(3));
    assert_eq!(train["lr"].as_float(), Some(0.125));
    assert_eq!(train["batch"].as_integer(), Some(8));
    // Epochs of the file replace the steps of the preset.
    assert_eq!(train["epochs"].as_float(), Some(0.01));
    assert!(train.get("steps").is_none());
    Ok(())
}

#[test]
fn parameter_budget_alone_replaces_the_preset_budget_and_both_hold_together() -> TestResult {
    let folder = tempfile::tempdir()?;
    for (name, budgets, limits) in [
        ("params", &["--params", "20k"][..], vec![("params", 20_000.0)]),
        (
            "both",
            &["--params", "0.9", "--budget", "100k"],
            vec![("macs", 100_000.0), ("params", 0.0)],
        ),
    ] {
        let out = folder.path().join(name);
        let arguments =
            [budgets, &["--set", "compare=false", "--out"], &[out.to_str().ok_or("?")?]];
        succeeds(&[&arguments.concat()[..], &SMALL].concat())?;
        let text = std::fs::read(out.join("summary.json"))?;
        let summary: serde_json::Value = serde_json::from_slice(&text)?;
        let kept = summary["budgets"].as_array().ok_or("no budgets")?;
        assert_eq!(kept.len(), limits.len(), "{summary}");
        for (budget, (metric, limit)) in kept.iter().zip(limits) {
            assert_eq!(budget["metric"], metric);
            let target = budget["target"].as_f64().unwrap_or(0.0);
            assert!(limit == 0.0 || target == limit, "{summary}");
            assert!(summary["subnet"][metric].as_f64().unwrap_or(f64::NAN) <= target, "{summary}");
        }
    }
    Ok(())
}

#[test]
fn wrong_options_are_rejected_by_name_before_a_folder_is_written() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let out = out.to_str().ok_or("not UTF-8")?;
    for (arguments, words) in [
        (vec!["--bugdet", "0.4"], vec!["--budget"]),
        (vec!["--budget", "1.3X"], vec!["1.3X", "1.3G"]),
        (vec!["--budget", "0.0001"], vec!["10670", "6069888"]),
        (vec!["--budget", "1.5"], vec!["budget.macs", "a share within (0, 1]", "1.5M or 1.5G"]),
        (vec!["--set", "train.lr=nan"], vec!["train.lr: got NaN, expected a finite number"]),
        (
            vec!["--set", "search.options.optimiser.clip_norm=nan"],
            vec!["search.options.optimiser.clip_norm", "finite"],
        ),
        (vec!["--set", "search.share=0.0001"], vec!["search.share: got 0.0001", "200 steps"]),
        (vec!["--set", "network.depth=10000000000000"], vec!["network.depth", "10000000000000"]),
        (
            vec!["--set", "network.heads=7", "--set", "network.embed_dim=16"],
            vec!["network.heads: got 7, expected a divisor of network.embed_dim 16"],
        ),
        (vec!["--params", "4G"], vec!["4000000000 parameters"]),
        (vec!["finetune", "--out", out], vec!["there is no subnet in", "run search first"]),
        (vec!["--set", "serch.share=0.3"], vec!["serch", "search"]),
        (
            vec!["--set", "search.options.pruning.fade_out=3"],
            vec!["search.options.pruning.fade_out", "fade_out_steps"],
        ),
        (vec!["--set", "search.options.pruning.drop_share=many"], vec!["search.options", "many"]),
        (vec!["--set", "search.share=1.5"], vec!["search.share", "1.5"]),
        (vec!["--set", "network.patch_size=5"], vec!["patch_size", "5", "28"]),
        (vec!["--epochs", "2", "--steps", "3"], vec!["--epochs", "--steps"]),
        (vec!["--batch", "7000"], vec!["7000", "6000"]),
        (vec!["--set", "search.batch=-4"], vec!["search.batch", "-4"]),
        (vec!["--data", "nowhere"], vec!["nowhere"]),
        (vec!["--data", "nowhere.tar", "--val", "a.tar"], vec!["nowhere.tar"]),
        (vec!["--data", "Cargo.toml"], vec!["Cargo.toml", "got a file", "--data"]),
        (vec!["--set", "network.depth=deep"], vec!["network", "depth: expected a number"]),
        (vec!["--weights", "nowhere"], vec!["nowhere", "is not there"]),
        (vec!["--teacher", "nowhere"], vec!["nowhere", "is not there"]),
        (vec!["--preset", "imagenet"], vec!["--data"]),
        (vec!["--preset", "fashion-mnist"], vec!["--data"]),
        (vec!["--preset", "imagenet", "--data", "examples/data"], vec!["examples/data", "train/"]),
        (vec!["--config", "nowhere.toml"], vec!["nowhere.toml"]),
        (vec!["--set", "train.warmup=4"], vec!["train.warmup", "300"]),
        (vec!["--set", "search.options.search_steps=9"], vec!["search_steps", "search.share"]),
        (vec!["train", "--budget", "1.3G"], vec!["1300000000", "106703616"]),
        (vec!["--resume"], vec!["--out"]),
        (vec!["--resume", "--out", "nowhere"], vec!["nowhere", "no run", "resuming"]),
        (vec!["search", "--out", out], vec!["search: got none", "weights"]),
        (vec!["--set", "search.components.importance.name=fisher"], vec!["importance", "fisher"]),
        (
            vec!["--set", "search.components.task.name=feature_matching"],
            vec!["search.components.task: got feature_matching, expected classification"],
        ),
        (vec!["--set", "network.pooling=tokens"], vec!["network.pooling: got tokens"]),
        (vec!["--set", "search.components.importance.momentun=0.5"], vec!["momentun", "mean"]),
        (vec!["--set", "network.family=swin"], vec!["network.depth", "12", "[2, 2, 6, 2]"]),
        (vec!["--set", "network.window_size=7"], vec!["network.window_size", "vit"]),
        (vec!["eval"], vec!["--weights"]),
        (vec!["report", "nowhere"], vec!["nowhere", "no run"]),
    ] {
        let said = refuses(&arguments)?;
        for word in words {
            assert!(said.contains(word), "{arguments:?} said {said:?}, without {word}");
        }
    }
    assert!(!Path::new(out).exists(), "a refused run left a folder");
    Ok(())
}

#[test]
fn option_of_another_type_is_refused_by_its_full_name_without_a_type_of_rust() -> TestResult {
    let rate = "search.options.optimiser.clip_norm=[1e300]";
    let owned = "search.options.pruning.fade_out_steps=-1";
    for (setting, message) in [
        ("network.heads=x", "network.heads: got \"x\", expected an integer"),
        ("network.embed_dim=1e308", "network.embed_dim: got 1e+308, expected an integer"),
        (owned, "search.options.pruning.fade_out_steps: got -1, expected an integer from 0"),
        ("search.options.training.ema_decay=x", "ema_decay: got \"x\", expected a number"),
        (rate, "search.options.optimiser.clip_norm: got a list, expected a number"),
        ("search.components.importance=[1]", "search.components.importance: got [1]"),
        ("train.lr=high", "train.lr: TOML parse error"),
        ("train.lr=high", "got \"high\", expected a number"),
        ("train=[]", "train: TOML parse error"),
        ("every.log=-1", "got -1, expected an integer from 0"),
    ] {
        let said = refuses(&["--set", setting])?;
        assert!(said.contains(message), "{setting}: {said}");
        assert!(!said.contains("struct") && !said.contains("64,"), "{setting}: {said}");
    }
    Ok(())
}

#[test]
fn training_that_diverges_is_refused_with_its_loss_and_the_option_of_its_rate() -> TestResult {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    let out = out.to_str().ok_or("not UTF-8")?;
    let rate = ["--set", "train.lr=1e6", "--steps", "4", "--batch", "16"];
    let said = refuses(&[&["train", "--out", out][..], &SMALL[..6], &rate].concat())?;
    assert!(said.contains("train.lr: got 1000000, with which training diverged"), "{said}");
    assert!(
        said.contains("steps in a row were not finite, at the first of them: task loss"),
        "{said}"
    );
    Ok(())
}

#[test]
fn option_without_effect_is_refused_by_name() -> TestResult {
    for (settings, message) in [
        (&["train.share=0.5"][..], "train.share: got 0.5, expected none"),
        (&["train.method=paper"], "train.method: got a preset of a search, expected none"),
        (&["train.prune_steps_per_epoch=2"], "train.prune_steps_per_epoch: got 2, expected none"),
        (
            &["finetune.share=0.5", "finetune.steps=2", "finetune.batch=2", "finetune.lr=1e-3"],
            "finetune.share: got 0.5, expected none",
        ),
        (
            &["train.options.training.freeze_weights=true"],
            "train.options.training.freeze_weights: got true, expected false",
        ),
        (
            &[
                "finetune.options.training.freeze_weights=true",
                "finetune.steps=2",
                "finetune.batch=2",
                "finetune.lr=1e-3",
            ],
            "finetune.options.training.freeze_weights: got true, expected false",
        ),
        (
            &["search.epochs=1", "search.steps=8"],
            "search: got both, expected either epochs or steps",
        ),
        (
            &["search.options.optimiser.weights.eps=9e18"],
            "search.options.optimiser.weights.eps: got 9e18, expected within [1e-30, 1]",
        ),
        (&["data.max_pixels=9"], "data.max_pixels: got 9, expected none for IDX files"),
    ] {
        let arguments: Vec<&str> = settings.iter().flat_map(|own| ["--set", own]).collect();
        let said = refuses(&arguments)?;
        assert!(said.contains(message), "{settings:?}: {said}");
    }
    Ok(())
}

#[test]
fn images_beyond_the_limit_of_pixels_are_refused_by_a_run_and_by_inspect() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (data, out) = (folder.path().join("data"), folder.path().join("run"));
    write_classes(&data.join("train"), &["ant", "bee"])?;
    write_classes(&data.join("val"), &["ant", "bee"])?;
    let (images, out) = (data.to_str().ok_or("?")?, out.to_str().ok_or("?")?);
    let told = succeeds(&["inspect", images, "--max-pixels", "784"])?;
    assert!(!told.contains("REFUSED"), "{told}");
    let inspected = deit_s(&["inspect", images, "--max-pixels", "783"])?;
    let told = String::from_utf8(inspected.stdout)?;
    assert!(!inspected.status.success() && told.contains("expected at most 783"), "{told}");
    let run = ["train", "--data", images, "--out", out, "--batch", "4"];
    let limit = ["--set", "data.max_pixels=783"];
    let said = refuses(&[&run[..], &SMALL, &limit].concat())?;
    assert!(said.contains("can be decoded: got none of 8") && said.contains("inspect"), "{said}");
    let other = folder.path().join("other");
    let run = ["train", "--data", images, "--out", other.to_str().ok_or("?")?, "--batch", "4"];
    let limit = ["--set", "data.max_pixels=0"];
    let said = refuses(&[&run[..], &SMALL, &limit].concat())?;
    assert!(said.contains("data.max_pixels: got 0, expected within"), "{said}");
    Ok(())
}

/// Everything about `--out` that is known before the images are opened.
#[test]
fn out_that_is_no_run_or_cannot_be_written_is_refused_by_name_and_left() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let images = path("images");
    write_classes(&folder.path().join("images"), &["cat", "dog"])?;
    std::fs::write(path("file"), "text")?;
    let long = path(&"x".repeat(300));
    let (below, file) = (path("file/run"), path("file"));
    for (out, reason) in [
        (&images, "expected nothing there, an empty folder, or one with a run"),
        (&file, "is a file, expected a folder"),
        (&below, "is a file, expected a folder"),
        (&long, "File name too long"),
    ] {
        for command in ["train", "search"] {
            let told =
                refuses(&[&[command, "--data", &images, "--out", out][..], &SMALL].concat())?;
            assert!(told.contains("(--out)") && told.contains(out.as_str()), "{told}");
            assert!(told.contains(reason), "{told}");
        }
    }
    let mut left: Vec<_> = std::fs::read_dir(folder.path().join("images"))?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<_>>()?;
    left.sort();
    assert_eq!(left, ["cat", "dog"]);
    Ok(())
}

#[test]
fn run_folder_of_a_process_that_runs_is_refused_with_its_number() -> TestResult {
    use once_for_both::models::VitConfig;
    use once_for_both::search::{Search, SearchOptions};
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_str().ok_or("not UTF-8")?;
    let network = VitConfig::uniform(8, 1, 1).input(8, 1, 4).classes(2);
    let mut search = Search::of(network).options(SearchOptions::training(1)).build()?;
    let run = search.run_in(folder.path())?;
    let told = refuses(&[&["train", "--out", out][..], &SMALL].concat())?;
    let holder = format!("in use by process {} on ", std::process::id());
    assert!(told.contains(out) && told.contains(&holder), "{told}");
    drop(run);
    Ok(())
}

#[test]
fn inspect_prints_what_a_path_is_and_fails_where_the_library_refuses_it() -> TestResult {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let artifact = manifest.join("examples/pretrained/fashion-mnist");
    let artifact = artifact.to_str().ok_or("not UTF-8")?;
    let text = succeeds(&["inspect", artifact])?;
    assert!(text.starts_with("kind          artifact\nfamily        vit\n"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&succeeds(&["inspect", artifact, "--json"])?)?;
    assert_eq!(json["kind"], "artifact");

    let folder = tempfile::tempdir()?;
    let class = folder.path().join("cats");
    std::fs::create_dir(&class)?;
    std::fs::write(class.join("empty.png"), "")?;
    let output = deit_s(&["inspect", folder.path().to_str().ok_or("not UTF-8")?])?;
    let text = String::from_utf8(output.stdout)?;
    assert!(!output.status.success() && text.contains("REFUSED"), "{text}");
    let text = refuses(&["inspect", "not/there"])?;
    assert!(text.starts_with("error: ") && text.contains("not/there"), "{text}");
    Ok(())
}

#[test]
fn weights_of_an_unknown_family_are_refused_by_its_name() -> TestResult {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("config.json"), r#"{"family": "my_vit"}"#)?;
    let weights = folder.path().to_str().ok_or("not UTF-8")?;
    let expected = "config.json: family: got my_vit, expected vit or swin";
    let told = refuses(&["eval", "--weights", weights])?;
    assert!(told.contains(expected), "{told}");
    let compare = Command::new(program("compare")?).args(["--weights", weights]).output()?;
    let told = String::from_utf8(compare.stderr)?;
    assert!(!compare.status.success() && told.contains(expected), "{told}");
    Ok(())
}
