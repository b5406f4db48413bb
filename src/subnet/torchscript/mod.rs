//! A network as a TorchScript archive: what `torch.jit.load` and `tch::CModule` open.
//!
//! Written from the graph, not traced: a trace would freeze the batch size and turn the weights
//! into constants, which neither move to another device nor show up in a state dict. The file is a
//! zip archive with the tensors (`data/`), a pickle of the module tree (`data.pkl`), and its
//! classes with the forward pass as source (`code/`).

mod code;
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

/// The folder everything is in; the name does not matter to any reader.
const ROOT: &str = "model";
/// Written by torch 1.13 and later, for the operators as they are since then.
const FORMAT_VERSION: &str = "10\n";
/// torch maps tensors into memory where they lie, and wants them aligned.
const ALIGNMENT: u16 = 64;

/// The archive's bytes. The tensors keep the type they have.
pub(super) fn archive(graph: &Graph, weights: &Weights) -> Result<Vec<u8>> {
    let root = Module::tree(weights.keys());
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
