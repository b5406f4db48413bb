//! Tells this package, and the programs that use it, where libtorch's libraries are.
//!
//! tch links them but leaves no trace of their folder in other packages' binaries, which then
//! end with "libtorch_cpu.so: cannot open shared object file". See docs/setup.md.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");

    // From torch-sys; it also has this script run again when libtorch moves. Not set with the
    // feature doc-only, where there is no libtorch.
    let lib = env::var("DEP_TCH_LIBTORCH_LIB").unwrap_or_default();
    println!("cargo:rustc-env=OFB_LIBTORCH_LIB={lib}");
    if lib.is_empty() || env::var_os("CARGO_CFG_UNIX").is_none() {
        return;
    }

    // Examples, tests, benches and doctests of this package run from anywhere.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");

    // A link argument stops at this package. A search path inside target/ does not: cargo puts
    // it into the library path of `cargo run` and `cargo test` of every package that depends on
    // this one. One outside is dropped, hence the symbolic link. A convenience: it may fail.
    #[cfg(unix)]
    if let Some(out) = env::var_os("OUT_DIR") {
        let link = std::path::Path::new(&out).join("libtorch");
        let _ = std::fs::remove_file(&link);
        if std::os::unix::fs::symlink(&lib, &link).is_ok() {
            println!("cargo:rustc-link-search=native={}", link.display());
        }
    }
}
