//! Compiles the shim, and the kernels for it, where the feature `shim` asks for them; nothing otherwise.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "shim")]
    shim::build();
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
