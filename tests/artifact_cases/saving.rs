//! Saving over what is there: artifacts, folders of other programs, links, interrupted saves.

use super::{config, network, save, swin, verified};
use crate::support::{test_device, TestResult};
use once_for_both::error::FolderError;
use once_for_both::models::{Architecture, VitConfig};
use once_for_both::subnet::{Description, Export, Subnet};
use once_for_both::Error;
use std::fs;
use std::path::Path;

#[test]
fn save_into_the_folder_of_another_program_is_refused_and_leaves_it() -> TestResult {
    let root = tempfile::tempdir()?;
    let folder = root.path().join("google-vit");
    fs::create_dir(&folder)?;
    let files = [
        ("config.json", r#"{"model_type": "vit", "hidden_size": 768}"#),
        ("model.safetensors", "weights"),
        ("preprocessor_config.json", "{}"),
    ];
    for (name, text) in files {
        fs::write(folder.join(name), text)?;
    }
    let refused = verified(network(&config(false))?)?.save(&folder, &Export::default());
    let Err(Error::Folder(FolderError::Foreign { path, found, .. })) = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert!(path == folder && found.contains("config.json has no format"), "{found}");
    for (name, text) in files {
        assert_eq!(fs::read_to_string(folder.join(name))?, text);
    }
    assert_eq!((fs::read_dir(&folder)?.count(), fs::read_dir(root.path())?.count()), (3, 1));
    Ok(())
}

#[cfg(unix)]
#[test]
fn save_to_a_symbolic_link_replaces_the_artifact_it_leads_to() -> TestResult {
    let root = tempfile::tempdir()?;
    let (first, latest) = (root.path().join("first"), root.path().join("latest"));
    save(&network(&config(false))?, &first, &Export::default())?;
    std::os::unix::fs::symlink("first", &latest)?;
    save(&network(&config(true))?, &latest, &Export::default())?;
    assert!(latest.is_symlink());
    assert!(Description::<VitConfig>::read(&first)?.architecture.distilled);
    Ok(())
}

#[test]
fn load_of_an_artifact_whose_replacement_was_interrupted_finds_the_former_one() -> TestResult {
    let root = tempfile::tempdir()?;
    let folder = root.path().join("net");
    save(&network(&config(false))?, &folder, &Export::default())?;
    // Where the file system cannot exchange two folders: killed between two renames.
    fs::rename(&folder, root.path().join(".net.replaced"))?;
    assert!(!Subnet::<VitConfig>::load(&folder, test_device())?.architecture().distilled);
    save(&network(&config(true))?, &folder, &Export::default())?;
    assert!(Subnet::<VitConfig>::load(&folder, test_device())?.architecture().distilled);
    assert_eq!(fs::read_dir(root.path())?.count(), 1);
    Ok(())
}

#[test]
fn artifact_of_each_family_has_the_python_loader_of_that_family_alone() -> TestResult {
    let loader = |folder: &Path| fs::read_to_string(folder.join("load_subnet.py"));
    let root = tempfile::tempdir()?;
    let (vit, swin_folder) = (root.path().join("vit"), root.path().join("swin"));
    save(&network(&config(false))?, &vit, &Export::default())?;
    save(&network(&swin())?, &swin_folder, &Export::default())?;
    assert_eq!(Some(&*loader(&vit)?), config(false).python_loader());
    assert_eq!(Some(&*loader(&swin_folder)?), swin().python_loader());
    for (folder, family) in [(vit, "vit"), (swin_folder, "swin")] {
        let text = loader(&folder)?;
        let families: Vec<&str> = text.lines().filter(|line| line.starts_with("FAMILY")).collect();
        assert_eq!(families, [format!("FAMILY = \"{family}\"")]);
        assert_eq!(text.matches("def load_subnet(").count(), 1, "{family}");
    }
    Ok(())
}
