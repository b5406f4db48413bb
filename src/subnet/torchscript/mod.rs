//! TorchScript export: a network graph as an archive for `torch.jit.load` and `tch::CModule`.
//!
//! The archive is written from the graph, not traced, because a trace fixes the batch size and makes
//! constants of the weights, which `to(device)` does not move and `state_dict` does not list. It is a
//! zip file with the tensors (`data/`), a pickle of the module tree (`data.pkl`), and the source of
//! its classes with the forward pass (`code/`).

mod attention;
mod code;
mod layers;
mod modules;
mod pickle;
mod windows;

use crate::models::Graph;
use crate::tensors::{to_bytes, Weights};
use crate::{Error, Result};
use modules::Module;
use std::io::{Cursor, Write};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Top folder of the archive; readers accept any name.
const ROOT: &str = "model";
/// Format version of torch 1.13 and later.
const FORMAT_VERSION: &str = "10\n";
/// Alignment of tensors in bytes, for torch's memory-mapped loading.
const ALIGNMENT: u16 = 64;

/// Returns the bytes of the archive. The tensors keep their type.
pub(super) fn archive(graph: &Graph, weights: &Weights) -> Result<Vec<u8>> {
    let root = Module::tree(weights);
    let code = code::source(graph, &root)?;
    let pickle = pickle::module(&root, weights)?;
    let tensors = weights.values().map(to_bytes).collect::<Result<Vec<_>>>()?;

    let mut entries: Vec<(String, &[u8])> = vec![
        ("data.pkl".into(), &pickle),
        ("byteorder".into(), b"little"),
        ("code/__torch__.py".into(), code.as_bytes()),
        ("constants.pkl".into(), pickle::NO_CONSTANTS),
        ("version".into(), FORMAT_VERSION.as_bytes()),
    ];
    let storages = tensors.iter().enumerate();
    entries.extend(storages.map(|(key, bytes)| (format!("data/{key}"), &bytes[..])));
    zipped(&entries).map_err(|error| Error::file("model.torchscript.pt", error))
}

fn zipped(entries: &[(String, &[u8])]) -> Result<Vec<u8>, ZipError> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(u32::try_from(bytes.len()).is_err())
            .with_alignment(ALIGNMENT);
        writer.start_file(format!("{ROOT}/{name}"), options)?;
        writer.write_all(bytes)?;
    }
    Ok(writer.finish()?.into_inner())
}
