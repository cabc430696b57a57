//! NVRTC, the one CUDA compiler of this project: loaded when first asked for, from a directory or by its soname.
//!
//! cudarc panics without the library, or where it misses a symbol: presence is asked for first, and what panics all the
//! same ends as an error here.
#![allow(unsafe_code, reason = "calls into NVRTC, which is C")]

use crate::sources;
use cudarc::nvrtc::{result, sys};
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The version that the bundle is made with.
pub const VERSION: &str = "12.4";

/// What NVRTC makes of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Machine code for this compute capability (90 is 9.0) and later ones of the same major number.
    Cubin(u32),
    /// PTX, which a driver compiles for this compute capability and any later one.
    Ptx(u32),
}

impl Target {
    /// All that a bundle has: machine code for the supported generations, PTX for later ones and as a last resort.
    pub const ALL: [Self; 8] = [
        Self::Cubin(70),
        Self::Cubin(75),
        Self::Cubin(80),
        Self::Cubin(86),
        Self::Cubin(89),
        Self::Cubin(90),
        Self::Ptx(75),
        Self::Ptx(90),
    ];

    /// As NVRTC's option `--gpu-architecture` has it.
    pub fn architecture(self) -> String {
        match self {
            Self::Cubin(capability) => format!("sm_{capability}"),
            Self::Ptx(capability) => format!("compute_{capability}"),
        }
    }
}

/// Compiled kernels.
pub struct Compiled {
    /// A cubin, or PTX that ends with a zero.
    pub image: Vec<u8>,
    /// What the compiler says: for a cubin, registers and spills of each kernel.
    pub log: String,
}

/// Why kernels were not compiled.
#[derive(Debug, thiserror::Error)]
pub enum NvrtcError {
    /// The library is not there.
    #[error(
        "NVRTC (libnvrtc.so.12 with libnvrtc-builtins) is not there: {reason}; install the CUDA 12 run-time compiler, or use a \
         bundle of compiled kernels"
    )]
    Missing {
        /// What was tried.
        reason: String,
    },
    /// The sources do not compile.
    #[error("NVRTC cannot compile the kernels for {architecture} ({error}):\n{log}")]
    Compile {
        /// Of the target.
        architecture: String,
        /// NVRTC's error.
        error: String,
        /// What it says.
        log: String,
    },
    /// A call failed.
    #[error("NVRTC: {call} failed: {error}")]
    Call {
        /// The call.
        call: &'static str,
        /// NVRTC's error, or the panic.
        error: String,
    },
}

/// NVRTC, loaded.
#[derive(Debug, Clone, Copy)]
pub struct Nvrtc(());

/// A program of NVRTC's, destroyed when dropped.
struct Program {
    program: sys::nvrtcProgram,
    /// NVRTC may still point at what it was given.
    _texts: Vec<CString>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by nvrtcCreateProgram and destroyed here alone. What is wrong with it no longer matters.
        let _ = unsafe { result::destroy_program(self.program) };
    }
}

/// Text without what C would take for its end.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}

fn bytes_of(chars: Vec<c_char>) -> Vec<u8> {
    chars.into_iter().map(|char| char as u8).collect()
}

impl Nvrtc {
    /// Loads NVRTC from `directory`, or by its soname.
    ///
    /// # Errors
    /// [`NvrtcError::Missing`].
    pub fn load(directory: Option<&Path>) -> Result<Self, NvrtcError> {
        if let Some(directory) = directory {
            // The builtins first: NVRTC looks for them by their soname when it compiles.
            for prefix in ["libnvrtc-builtins.so.", "libnvrtc.so."] {
                let path = find(directory, prefix)?;
                // SAFETY: NVRTC's constructors have no conditions.
                let library = unsafe { libloading::Library::new(&path) };
                let missing = |error| NvrtcError::Missing { reason: format!("{}: {error}", path.display()) };
                // For ever: cudarc finds what is loaded, by its soname.
                std::mem::forget(library.map_err(missing)?);
            }
        }
        // SAFETY: looks the library up and calls nothing in it.
        match catch_unwind(|| unsafe { sys::is_culib_present() }) {
            Ok(true) => Ok(Self(())),
            _ => Err(NvrtcError::Missing { reason: "no library of that name is found".into() }),
        }
    }

    /// Compiles the kernels for the network's K.
    ///
    /// # Errors
    /// [`NvrtcError`].
    pub fn compile(self, target: Target) -> Result<Compiled, NvrtcError> {
        catch_unwind(AssertUnwindSafe(|| compile(target))).unwrap_or_else(|_| {
            let error = "it panicked: the library lacks a function; 12.4 has all".into();
            Err(NvrtcError::Call { call: "compile", error })
        })
    }
}

/// The library in `directory` whose name begins with `prefix`.
fn find(directory: &Path, prefix: &str) -> Result<PathBuf, NvrtcError> {
    let missing = |reason: String| NvrtcError::Missing { reason };
    let entries =
        directory.read_dir().map_err(|error| missing(format!("{}: {error}", directory.display())))?;
    let mut names: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    names.sort();
    names.pop().ok_or_else(|| missing(format!("{} has no {prefix}…", directory.display())))
}

fn create() -> Result<Program, NvrtcError> {
    let (names, texts): (Vec<CString>, Vec<CString>) =
        sources::INCLUDES.iter().map(|(name, text)| (c_string(name), c_string(text))).unzip();
    let pointers = |strings: &[CString]| strings.iter().map(|string| string.as_ptr()).collect::<Vec<_>>();
    let (main, name) = (c_string(sources::MAIN), c_string("kernels.cu"));
    let (name_pointers, text_pointers) = (pointers(&names), pointers(&texts));
    let mut program = std::ptr::null_mut();
    // SAFETY: strings that end with zero, as many names as texts; they live as long as the program.
    let code = unsafe {
        sys::nvrtcCreateProgram(
            &raw mut program,
            main.as_ptr(),
            name.as_ptr(),
            names.len() as i32,
            text_pointers.as_ptr(),
            name_pointers.as_ptr(),
        )
    };
    code.result()
        .map_err(|error| NvrtcError::Call { call: "nvrtcCreateProgram", error: error.to_string() })?;
    Ok(Program { program, _texts: [names, texts, vec![main, name]].concat() })
}

fn compile(target: Target) -> Result<Compiled, NvrtcError> {
    let program = create()?;
    let architecture = target.architecture();
    let mut options = vec![format!("--gpu-architecture={architecture}"), "--std=c++17".into()];
    if matches!(target, Target::Cubin(_)) {
        options.push("--ptxas-options=-v".into());
    }
    // SAFETY: the program lives until the end of this function.
    let compiled = unsafe { result::compile_program(program.program, &options) };
    // SAFETY: as above.
    let log = unsafe { result::get_program_log(program.program) }.map(bytes_of).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
    if let Err(error) = compiled {
        return Err(NvrtcError::Compile { architecture, error: error.to_string(), log });
    }
    let image = match target {
        Target::Cubin(_) => cubin(&program)?,
        // SAFETY: as above, and it is compiled.
        Target::Ptx(_) => unsafe { result::get_ptx(program.program) }
            .map(bytes_of)
            .map_err(|error| NvrtcError::Call { call: "nvrtcGetPTX", error: error.to_string() })?,
    };
    Ok(Compiled { image, log })
}

fn cubin(program: &Program) -> Result<Vec<u8>, NvrtcError> {
    let failed = |call| move |error: result::NvrtcError| NvrtcError::Call { call, error: error.to_string() };
    let mut size = 0;
    // SAFETY: the program is compiled.
    unsafe { sys::nvrtcGetCUBINSize(program.program, &raw mut size) }
        .result()
        .map_err(failed("nvrtcGetCUBINSize"))?;
    let mut image = vec![0_u8; size];
    // SAFETY: as above, into as many bytes as it says.
    unsafe { sys::nvrtcGetCUBIN(program.program, image.as_mut_ptr().cast()) }
        .result()
        .map_err(failed("nvrtcGetCUBIN"))?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let directory = std::env::temp_dir().join(format!("no-nvrtc-{}", std::process::id()));
        let error = Nvrtc::load(Some(&directory)).unwrap_err().to_string();
        assert!(error.contains(&directory.display().to_string()), "{error}");
        std::fs::create_dir(&directory).unwrap();
        let error = Nvrtc::load(Some(&directory)).unwrap_err().to_string();
        assert!(error.contains("has no libnvrtc-builtins.so."), "{error}");
        std::fs::write(directory.join("libnvrtc-builtins.so.12.4"), "no library").unwrap();
        let error = Nvrtc::load(Some(&directory)).unwrap_err().to_string();
        assert!(error.contains("libnvrtc-builtins.so.12.4: "), "{error}");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
