//! Compiles the shim over libtorch's c10d, for the feature `distributed`: a module of build.rs.

mod nccl;

use std::env;
use std::path::{Path, PathBuf};

const SOURCES: &str = "src/distributed/c10d";
/// torch's headers need it.
const STANDARD: &str = "-std=c++20";

/// Compiles the shim against the headers of the libtorch whose libraries are in `lib`.
pub fn compile(lib: &Path) -> Result<(), String> {
    for name in ["shim.cpp", "shim.hpp", "backward.cpp", "nccl.cpp", "gloo_stub"] {
        println!("cargo:rerun-if-changed={}", source(name).display());
    }
    for variable in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if env::var_os("CARGO_CFG_UNIX").is_none() {
        return Err("feature distributed: got another system, expected Linux or macOS; build \
                    without it"
            .into());
    }
    let include = include_folder(lib)?;
    shim(&include)
        .define("USE_C10D_GLOO", None)
        .file(source("shim.cpp"))
        .file(source("backward.cpp"))
        .compile("ofb_c10d");
    nccl::compile(&mut shim(&include), &source("nccl.cpp"), lib)
}

/// Settings that both libraries of the shim are compiled with.
fn shim(include: &Path) -> cc::Build {
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .pic(true)
        .warnings(false)
        .include(source("gloo_stub"))
        .include(include)
        .include(include.join("torch/csrc/api/include"))
        .flag(STANDARD)
        .flag(format!("-D_GLIBCXX_USE_CXX11_ABI={abi}"));
    build
}

fn source(name: &str) -> PathBuf {
    Path::new(SOURCES).join(name)
}

/// Returns the folder of libtorch's headers: beside its libraries, or where LIBTORCH_INCLUDE says.
fn include_folder(lib: &Path) -> Result<PathBuf, String> {
    let folder = match env::var_os("LIBTORCH_INCLUDE") {
        Some(folder) => PathBuf::from(folder).join("include"),
        None => lib.parent().unwrap_or(lib).join("include"),
    };
    let header = folder.join("torch/csrc/distributed/c10d/ProcessGroupGloo.hpp");
    if header.is_file() {
        return Ok(folder);
    }
    Err(format!(
        "feature distributed: header {}: got none, expected libtorch's; set LIBTORCH_INCLUDE to \
         the folder that has libtorch's `include` in it, or build without the feature",
        header.display()
    ))
}
