//! The device that is a CPU: runs the kernels' sources through `shim/`.
#![allow(unsafe_code, reason = "calls into the shim, which is C++")]

use crate::{Argument, Device, Kernel, KernelError, Sizes};
use std::cell::UnsafeCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// A kernel in the shim's list.
#[repr(C)]
struct RawKernel {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn shim_kernel(name: *const c_char, k: u32) -> *const RawKernel;
    fn shim_kernel_arguments(kernel: *const RawKernel) -> u32;
    fn shim_kernel_threads(kernel: *const RawKernel) -> u32;
    fn shim_launch(
        kernel: *const RawKernel,
        grid_x: u32,
        grid_y: u32,
        arguments: *mut *mut c_void,
        seed: u64,
        workers: u32,
        message: *mut c_char,
        room: usize,
    ) -> c_int;
}

/// Memory of the shim: zeroed at first only by accident, like a device's.
pub struct ShimBuffer(Box<[UnsafeCell<u128>]>, usize);

// SAFETY: the bytes are plain numbers; who uses them at the same time is said by the launches and copies, which a `Device`
// does one after the other.
unsafe impl Send for ShimBuffer {}

impl ShimBuffer {
    fn pointer(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut().cast()
    }
}

/// A CPU that runs kernels compiled for one K.
///
/// K=16 has every use of shared memory checked; K=20 runs at full speed.
pub struct ShimDevice {
    sizes: Sizes,
    seed: u64,
    workers: u32,
}

impl ShimDevice {
    /// Runs the kernels for `k`, 16 or 20; `seed` chooses an order of threads, zero the plainest one.
    pub fn new(k: u32, seed: u64) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self { sizes: Sizes { k }, seed, workers: workers as u32 }
    }

    fn find(&self, name: &str, k: u32) -> Result<*const RawKernel, KernelError> {
        let text = CString::new(name).unwrap_or_default();
        // SAFETY: a string that ends with zero; the shim's list is made before main and never changes.
        let kernel = unsafe { shim_kernel(text.as_ptr(), k) };
        if kernel.is_null() {
            return Err(KernelError::NoKernel { device: self.name(), kernel: name.into(), k });
        }
        Ok(kernel)
    }

    /// Threads of a block of a kernel, as it was compiled.
    ///
    /// # Errors
    /// [`KernelError::NoKernel`].
    pub fn threads(&self, kernel: Kernel) -> Result<u32, KernelError> {
        let kernel = self.find(kernel.name(), self.sizes.k)?;
        // SAFETY: the kernel is in the shim's list.
        Ok(unsafe { shim_kernel_threads(kernel) })
    }

    /// Runs a kernel of `shim/faults.cpp`, whose only argument is room for a number of each of its 64 threads.
    ///
    /// # Errors
    /// What the shim finds wrong.
    pub fn run_fault(&self, name: &str) -> Result<[u32; 64], KernelError> {
        let kernel = self.find(name, 0)?;
        let mut numbers = [0_u32; 64];
        let mut pointer: *mut c_void = numbers.as_mut_ptr().cast();
        // SAFETY: every kernel of that file has this one argument and writes to these 64 places.
        unsafe { self.run(kernel, [1, 1], &mut [(&raw mut pointer).cast()])? };
        Ok(numbers)
    }

    /// # Safety
    /// As [`Device::launch`], with pointers to the arguments.
    unsafe fn run(
        &self,
        kernel: *const RawKernel,
        grid: [u32; 2],
        arguments: &mut [*mut c_void],
    ) -> Result<(), KernelError> {
        let mut message = [0_u8; 4096];
        // SAFETY: the caller's promise for kernel and arguments; the message has the room it is said to have.
        let code = unsafe {
            shim_launch(
                kernel,
                grid[0],
                grid[1],
                arguments.as_mut_ptr(),
                self.seed,
                self.workers,
                message.as_mut_ptr().cast(),
                message.len(),
            )
        };
        if code == 0 {
            return Ok(());
        }
        let message = CStr::from_bytes_until_nul(&message).unwrap_or_default().to_string_lossy().into_owned();
        Err(KernelError::Launch { device: self.name(), message })
    }

    fn within(&self, buffer: &ShimBuffer, offset: usize, bytes: usize) -> Result<*mut u8, KernelError> {
        let size = buffer.1;
        if offset.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(KernelError::OutOfBounds { device: self.name(), offset, bytes, size });
        }
        // SAFETY: the offset lies within the buffer, or at its end.
        Ok(unsafe { buffer.pointer().add(offset) })
    }
}

impl Device for ShimDevice {
    type Buffer = ShimBuffer;
    type HostBuffer = Box<[u8]>;
    type Recording = std::convert::Infallible;

    fn name(&self) -> String {
        format!("CPU shim (K={}, seed {})", self.sizes.k, self.seed)
    }

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn allocate(&self, bytes: usize) -> Result<ShimBuffer, KernelError> {
        let words = bytes.div_ceil(16);
        let mut memory = Vec::new();
        memory
            .try_reserve_exact(words)
            .map_err(|_| KernelError::OutOfMemory { device: self.name(), bytes })?;
        memory.resize_with(words, || UnsafeCell::new(0));
        Ok(ShimBuffer(memory.into_boxed_slice(), bytes))
    }

    fn host_buffer(&self, bytes: usize) -> Result<Box<[u8]>, KernelError> {
        Ok(vec![0; bytes].into_boxed_slice())
    }

    unsafe fn enqueue_upload(
        &self,
        buffer: &ShimBuffer,
        from: &Box<[u8]>,
        bytes: usize,
    ) -> Result<(), KernelError> {
        self.upload(buffer, 0, &from[..bytes])
    }

    unsafe fn enqueue_download(
        &self,
        buffer: &ShimBuffer,
        to: &mut Box<[u8]>,
        bytes: usize,
    ) -> Result<(), KernelError> {
        self.download(buffer, 0, &mut to[..bytes])
    }

    fn replay(
        &self,
        _: &mut Option<std::convert::Infallible>,
        work: &mut dyn FnMut() -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        work()
    }

    fn synchronize(&self) -> Result<(), KernelError> {
        Ok(())
    }

    fn fill(&self, buffer: &ShimBuffer, byte: u8) -> Result<(), KernelError> {
        let pointer = self.within(buffer, 0, buffer.1)?;
        // SAFETY: that many bytes are there, and no launch is under way.
        unsafe { pointer.write_bytes(byte, buffer.1) };
        Ok(())
    }

    fn upload(&self, buffer: &ShimBuffer, offset: usize, bytes: &[u8]) -> Result<(), KernelError> {
        let pointer = self.within(buffer, offset, bytes.len())?;
        // SAFETY: that many bytes are there, no launch is under way, and no slice of a buffer is ever given out.
        unsafe { pointer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn download(&self, buffer: &ShimBuffer, offset: usize, bytes: &mut [u8]) -> Result<(), KernelError> {
        let pointer = self.within(buffer, offset, bytes.len())?;
        // SAFETY: as above.
        unsafe { pointer.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn launch(
        &self,
        kernel: Kernel,
        grid: [u32; 2],
        arguments: &[Argument<'_, ShimBuffer>],
    ) -> Result<(), KernelError> {
        let name = kernel.name();
        let raw = self.find(name, self.sizes.k)?;
        // SAFETY: the kernel is in the shim's list.
        let expected = unsafe { shim_kernel_arguments(raw) } as usize;
        if expected != arguments.len() {
            let (device, found) = (self.name(), arguments.len());
            return Err(KernelError::Arguments { device, kernel: name.into(), expected, found });
        }
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(match argument {
                Argument::Buffer(buffer, offset) => self.within(buffer, *offset, 0)? as u64,
                // Kernels read the first four bytes: this machine is little-endian, as the devices are.
                Argument::U32(number) => u64::from(*number),
            });
        }
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        // SAFETY: the caller's promise.
        unsafe { self.run(raw, grid, &mut pointers) }
    }
}
