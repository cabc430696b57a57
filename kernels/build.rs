//! Embeds a bundle of compiled kernels where `KERNELS_BUNDLE` names one, and compiles the shim, with the kernels for it, where
//! the feature `shim` asks for them. A plain build needs neither CUDA nor C++.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    embed_bundle();
    #[cfg(feature = "shim")]
    shim::build();
}

/// Makes the bundle that `KERNELS_BUNDLE` names part of the program; without one an empty file stands in for it.
fn embed_bundle() {
    println!("cargo::rerun-if-env-changed=KERNELS_BUNDLE");
    let target = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("kernels.bundle");
    let bytes = match env::var_os("KERNELS_BUNDLE").filter(|path| !path.is_empty()) {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", PathBuf::from(&path).display());
            fs::read(&path)
                .unwrap_or_else(|error| panic!("KERNELS_BUNDLE={}: {error}", PathBuf::from(&path).display()))
        }
        None => Vec::new(),
    };
    fs::write(&target, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", target.display()));
}

#[cfg(feature = "shim")]
mod shim {
    fn compiler() -> cc::Build {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++20").opt_level(2).warnings(true).extra_warnings(true).include("shim");
        build.define("CUDA_SHIM_HOST", None);
        // What the linker sees no reference to registers itself before main.
        build.link_lib_modifier("+whole-archive");
        build
    }

    /// The network's K in full speed, a small one with every use of shared memory checked: each is a library of its own,
    /// made of the same sources.
    pub(crate) fn build() {
        println!("cargo::rerun-if-changed=cuda");
        println!("cargo::rerun-if-changed=shim");
        compiler()
            .define("SHIM_CHECKED", None)
            .file("shim/runtime.cpp")
            .file("shim/faults.cpp")
            .compile("shim");
        compiler()
            .define("SHIM_CHECKED", None)
            .define("POS_K", "16")
            .file("shim/kernels.cpp")
            .compile("shim_k16");
        compiler().define("POS_K", "20").file("shim/kernels.cpp").compile("shim_k20");
    }
}
