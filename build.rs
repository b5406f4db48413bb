//! Passes the folder of libtorch's libraries on to this package and to programs that depend on it.
//!
//! tch links the libraries but writes their folder into no other package's binary, which then fails
//! with "libtorch_cpu.so: cannot open shared object file". See docs/setup.md.

#[cfg(feature = "distributed")]
#[path = "src/distributed/c10d/build/mod.rs"]
mod c10d;

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");

    // Set by torch-sys, which also reruns this script when the folder changes. Unset with the feature
    // doc-only, which builds without libtorch.
    let lib = env::var("DEP_TCH_LIBTORCH_LIB").unwrap_or_default();
    println!("cargo:rustc-env=OFB_LIBTORCH_LIB={lib}");
    println!("cargo:rustc-env=OFB_LIBTORCH_VERSION={}", libtorch_version(&lib));
    #[cfg(feature = "distributed")]
    if !lib.is_empty() {
        if let Err(error) = c10d::compile(lib.as_ref()) {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
    if lib.is_empty() || env::var_os("CARGO_CFG_UNIX").is_none() {
        return;
    }

    // The run path of this package's examples, tests, benches and doctests.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");

    // A link argument applies to this package only. A search path inside of target/ reaches every
    // dependent package: cargo adds it to the library path of `cargo run` and `cargo test`. Paths
    // outside of target/ are dropped, hence the symbolic link. Without it the program still builds,
    // so a failure is ignored.
    #[cfg(unix)]
    if let Some(out) = env::var_os("OUT_DIR") {
        let link = std::path::Path::new(&out).join("libtorch");
        let _ = std::fs::remove_file(&link);
        if std::os::unix::fs::symlink(&lib, &link).is_ok() {
            println!("cargo:rustc-link-search=native={}", link.display());
        }
    }
}

/// Version of libtorch: that of its archive, or of the PyTorch that it belongs to.
fn libtorch_version(lib: &str) -> String {
    let beside =
        |name: &str| std::fs::read_to_string(std::path::Path::new(lib).parent()?.join(name)).ok();
    let archive = beside("build-version").map(|text| text.trim().to_owned());
    let of_pytorch = || {
        let text = beside("version.py")?;
        let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
        Some(line.trim_matches(['\'', '"']).to_owned())
    };
    archive.or_else(of_pytorch).unwrap_or("unknown".into())
}
