//! From nothing to a card with its kernels.

use super::{Context, CudaDevice, Module};
use crate::images::{self, ImageSources};
use crate::{Kernel, KernelError};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The driver that CUDA 12 runs on, as `cuDriverGetVersion` has it: 525.60.13 and later.
const DRIVER_MIN: i32 = 12_000;
/// Cards that the kernels are compiled for: from 7.0 on.
const CAPABILITY_MIN: u32 = 70;

/// Which card, and where its kernels come from.
#[derive(Debug, Clone, Default)]
pub struct CudaOptions {
    /// Number of the card among those that `CUDA_VISIBLE_DEVICES` leaves.
    pub ordinal: u32,
    /// Where kernels come from.
    pub images: ImageSources,
}

/// What a failed call of the driver means.
pub(super) fn driver_error(device: &str, call: &str, error: DriverError) -> KernelError {
    use sys::CUresult as Code;
    let advice = match error.0 {
        Code::CUDA_ERROR_NO_DEVICE => "no card is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES",
        Code::CUDA_ERROR_UNSUPPORTED_PTX_VERSION | Code::CUDA_ERROR_NO_BINARY_FOR_GPU => {
            "the driver is older than the kernels' PTX: install driver 550 or later, or a bundle with this card's machine code"
        }
        Code::CUDA_ERROR_OUT_OF_MEMORY => "memory ran out: set GPU_CONCURRENCY lower",
        Code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | Code::CUDA_ERROR_SYSTEM_NOT_READY => {
            "driver and kernel module do not fit: restart the host after a change of driver"
        }
        Code::CUDA_ERROR_ECC_UNCORRECTABLE | Code::CUDA_ERROR_HARDWARE_STACK_ERROR => {
            "the card reports a fault of its hardware: look into dmesg for Xid"
        }
        Code::CUDA_ERROR_ILLEGAL_ADDRESS
        | Code::CUDA_ERROR_LAUNCH_FAILED
        | Code::CUDA_ERROR_LAUNCH_TIMEOUT
        | Code::CUDA_ERROR_MISALIGNED_ADDRESS => {
            "the card is lost to this process until it starts again; look into dmesg for Xid"
        }
        _ => "look into dmesg for Xid and at nvidia-smi",
    };
    let error = format!("{:?}", error.0);
    KernelError::Driver { device: device.into(), call: call.into(), error, advice }
}

/// Calls into the driver; what panics there is an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, KernelError>) -> Result<T, KernelError> {
    // SAFETY: looks the library up and calls nothing in it.
    let present = catch_unwind(|| unsafe { sys::is_culib_present() });
    if !matches!(present, Ok(true)) {
        return Err(KernelError::NoDriver { reason: "libcuda.so.1 is not found".into() });
    }
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = panic.downcast_ref::<String>().cloned();
        let reason = reason.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(KernelError::NoDriver {
            reason: reason.unwrap_or_else(|| "the driver's library is incomplete".into()),
        })
    })
}

/// Cards that are visible.
///
/// # Errors
/// Without a driver, or the driver's.
pub fn device_count() -> Result<u32, KernelError> {
    guarded(|| {
        let failed = |call: &'static str| move |error| driver_error("CUDA", call, error);
        result::init().map_err(failed("cuInit"))?;
        let count = result::device::get_count().map_err(failed("cuDeviceGetCount"))?;
        Ok(u32::try_from(count).unwrap_or_default())
    })
}

fn attribute(device: sys::CUdevice, attribute: sys::CUdevice_attribute) -> Result<u32, KernelError> {
    // SAFETY: the device came from the driver.
    let value = unsafe { result::device::get_attribute(device, attribute) };
    let value = value.map_err(|error| driver_error("CUDA", "cuDeviceGetAttribute", error))?;
    Ok(u32::try_from(value).unwrap_or_default())
}

fn driver_version() -> Result<i32, KernelError> {
    let mut version = 0;
    // SAFETY: writes one number.
    let code = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    code.result().map_err(|error| driver_error("CUDA", "cuDriverGetVersion", error))?;
    Ok(version)
}

/// Whether a driver of this version will do.
fn check_driver(version: i32) -> Result<(), KernelError> {
    let found = format!("{}.{}", version / 1000, version % 1000 / 10);
    if version < DRIVER_MIN { Err(KernelError::DriverTooOld { found }) } else { Ok(()) }
}

fn open_context(ordinal: u32) -> Result<(Context, u32), KernelError> {
    let count = device_count()?;
    let version = driver_version()?;
    check_driver(version)?;
    if ordinal >= count {
        return Err(KernelError::NoDevice { ordinal, count });
    }
    let failed = |call: &'static str| move |error| driver_error("CUDA", call, error);
    let device = result::device::get(ordinal as i32).map_err(failed("cuDeviceGet"))?;
    use sys::CUdevice_attribute as Attribute;
    let major = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let model = result::device::get_name(device).map_err(failed("cuDeviceGetName"))?;
    let driver = format!("{}.{}", version / 1000, version % 1000 / 10);
    let name =
        format!("GPU {ordinal} ({model}, compute capability {major}.{minor}, driver for CUDA {driver})");
    let capability = 10 * major + minor;
    if capability < CAPABILITY_MIN {
        return Err(KernelError::UnsupportedCard { device: name });
    }
    // SAFETY: the device came from the driver; released when the context is dropped.
    let raw = unsafe { result::primary_ctx::retain(device) }.map_err(failed("cuDevicePrimaryCtxRetain"))?;
    Ok((Context { device, raw, name }, capability))
}

impl CudaDevice {
    /// Operations on integers that the card's lanes, 64 a multiprocessor, can do in a second at its highest clock.
    ///
    /// # Errors
    /// The driver's.
    pub fn operations_per_second(&self) -> Result<f64, KernelError> {
        use sys::CUdevice_attribute as Attribute;
        let device = self.context().device;
        let multiprocessors = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let kilohertz = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
        Ok(64.0 * f64::from(multiprocessors) * f64::from(kilohertz) * 1000.0)
    }

    /// Opens a card and loads the kernels into it.
    ///
    /// # Errors
    /// [`KernelError`]: without a driver, with one that is too old, with a card that is too old or not there, or without
    /// kernels for it.
    pub fn open(options: &CudaOptions) -> Result<Self, KernelError> {
        guarded(|| {
            let (context, capability) = open_context(options.ordinal)?;
            let image = images::find(&options.images, capability).map_err(|error| KernelError::NoImage {
                device: context.name.clone(),
                error: error.to_string(),
            })?;
            let context = Arc::new(context);
            Self::with_module(Arc::new(load(context, image)?))
        })
    }
}

fn load(context: Arc<Context>, mut image: Vec<u8>) -> Result<Module, KernelError> {
    context.enter()?;
    // PTX is text that ends with zero; to machine code it does nothing.
    image.push(0);
    // SAFETY: an image that a checksum or the compiler vouches for, with its end.
    let raw = unsafe { result::module::load_data(image.as_ptr().cast()) }
        .map_err(|error| context.error("cuModuleLoadData", error))?;
    let mut module = Module { context, raw, functions: HashMap::new() };
    for kernel in Kernel::ALL {
        let name = CString::new(kernel.name()).unwrap_or_default();
        // SAFETY: the module lives.
        let function = unsafe { result::module::get_function(raw, name) }
            .map_err(|error| module.context.error(kernel.name(), error))?;
        module.functions.insert(*kernel, function);
    }
    Ok(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_before_cuda_12_is_refused() {
        assert_eq!(check_driver(12_000), Ok(()));
        assert_eq!(check_driver(13_010), Ok(()));
        assert_eq!(check_driver(11_080), Err(KernelError::DriverTooOld { found: "11.8".into() }));
    }

    #[test]
    fn without_a_driver_there_is_an_error_and_no_panic() {
        // SAFETY: looks the library up.
        if matches!(catch_unwind(|| unsafe { sys::is_culib_present() }), Ok(true)) {
            eprintln!("SKIPPED: without_a_driver_there_is_an_error_and_no_panic: this machine has a driver");
            return;
        }
        let error = device_count().expect_err("there is none");
        assert!(error.to_string().contains("525.60.13"), "{error}");
        let opened = CudaDevice::open(&CudaOptions::default());
        assert!(matches!(opened, Err(KernelError::NoDriver { .. })));
    }

    #[test]
    fn an_error_names_device_kernel_and_what_to_do() {
        let error = driver_error("GPU 7", "match_3", DriverError(sys::CUresult::CUDA_ERROR_LAUNCH_FAILED));
        let text = error.to_string();
        for word in ["GPU 7", "match_3", "CUDA_ERROR_LAUNCH_FAILED", "Xid"] {
            assert!(text.contains(word), "{text}");
        }
    }
}
