//! Compiles the library with the NCCL process group, where libtorch has CUDA and the headers are found.

use std::env;
use std::path::{Path, PathBuf};

/// Folders with headers of NCCL and CUDA, searched first.
const INCLUDE: &str = "OFB_NCCL_INCLUDE";
/// Folder with libtorch_cuda.so, if it is not beside libtorch's other libraries: for scripts/check-nccl.
const LIBRARIES: &str = "OFB_NCCL_LIB";

/// Headers that torch's ProcessGroupNCCL.hpp needs, and where each comes from.
const HEADERS: [(&str, &str); 7] = [
    ("nccl.h", "NCCL (pip: nvidia-nccl-cu13)"),
    ("cuda_runtime_api.h", "the CUDA runtime (pip: nvidia-cuda-runtime)"),
    ("crt/host_config.h", "CUDA's compiler headers (pip: nvidia-cuda-crt)"),
    ("nv/target", "CUDA's C++ library (pip: nvidia-cuda-cccl)"),
    ("cublas_v2.h", "cuBLAS (pip: nvidia-cublas)"),
    ("cusparse.h", "cuSPARSE (pip: nvidia-cusparse)"),
    ("cusolverDn.h", "cuSOLVER (pip: nvidia-cusolver)"),
];

/// Compiles the library, and tells the crate where it is or why there is none. That is an error of the
/// build only where `OFB_NCCL_INCLUDE` is set.
pub fn compile(shim: &mut cc::Build, source: &Path, lib: &Path) -> Result<(), String> {
    for variable in [INCLUDE, LIBRARIES, "CUDA_HOME"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let libraries = env::var_os(LIBRARIES).map_or(lib.to_path_buf(), PathBuf::from);
    let made = library(shim, source, &libraries);
    if let (Err(reason), Some(_)) = (&made, env::var_os(INCLUDE)) {
        return Err(format!("{INCLUDE}: {reason}"));
    }
    let (library, reason) = match made {
        Ok(library) => (library.display().to_string(), String::new()),
        Err(reason) => (String::new(), reason),
    };
    println!("cargo:rustc-env=OFB_NCCL_LIBRARY={library}");
    println!("cargo:rustc-env=OFB_NCCL_REASON={reason}");
    Ok(())
}

fn library(shim: &mut cc::Build, source: &Path, libraries: &Path) -> Result<PathBuf, String> {
    if !libraries.join("libtorch_cuda.so").is_file() {
        return Err(format!(
            "this program was built with a CPU-only libtorch (no libtorch_cuda.so in {}); build it with a \
             CUDA libtorch, for instance after OFB_CUDA=1 make setup",
            libraries.display()
        ));
    }
    let library = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("libofb_nccl.so");
    let compiler = shim.includes(include_folders(libraries)?).define("USE_C10D_NCCL", None);
    let compiler = compiler.try_get_compiler().map_err(|error| error.to_string())?;
    let output = compiler
        .to_command()
        .args(["-shared", "-w"])
        .arg(source)
        .arg("-o")
        .arg(&library)
        .arg("-L")
        .arg(libraries)
        .args([
            "-ltorch_cuda",
            "-ltorch_cpu",
            "-lc10",
            "-Wl,--no-undefined,--allow-shlib-undefined",
        ])
        .output()
        .map_err(|error| format!("cannot start the C++ compiler: {error}"))?;
    if output.status.success() {
        return Ok(library);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("error")).or(text.lines().last());
    Err(format!("the library of NCCL cannot be compiled: {}", line.unwrap_or_default()))
}

/// Returns the folders in which the headers are found first.
fn include_folders(libraries: &Path) -> Result<Vec<PathBuf>, String> {
    let searched = searched_folders(libraries);
    let mut folders = Vec::new();
    for (header, package) in HEADERS {
        let Some(folder) = searched.iter().find(|folder| folder.join(header).is_file()) else {
            return Err(format!(
                "this program was built without NCCL, because header {header} was not found; install \
                 {package}, or name its folder in {INCLUDE}, and build again"
            ));
        };
        // The compiler searches the system's folder last of all by itself.
        if folder != Path::new("/usr/include") && !folders.contains(folder) {
            folders.push(folder.clone());
        }
    }
    Ok(folders)
}

/// Folders named by the user, those of wheels beside PyTorch's, those of a CUDA toolkit.
fn searched_folders(libraries: &Path) -> Vec<PathBuf> {
    let named = env::var_os(INCLUDE).unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&named).collect();
    let packages = libraries.parent().and_then(Path::parent).map(|folder| folder.join("nvidia"));
    let wheels = packages.and_then(|folder| folder.read_dir().ok()).into_iter().flatten().flatten();
    folders.extend(wheels.map(|wheel| wheel.path().join("include")));
    folders.extend(env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("include")));
    folders.extend(["/usr/local/cuda/include", "/usr/include"].map(PathBuf::from));
    // The C++ library of CUDA 13 has a folder of its own.
    folders.into_iter().flat_map(|folder| [folder.join("cccl"), folder]).collect()
}
