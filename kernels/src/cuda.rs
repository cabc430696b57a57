//! NVIDIA GPUs through the driver's API.
//!
//! Everything of the driver's is owned: context, stream, module, memory, graphs end with their owner. cudarc looks functions
//! up when they are first used and panics without the driver or where a function is missing: presence is asked for first,
//! and what panics all the same ends as an error.
#![allow(unsafe_code, reason = "calls into the CUDA driver, which is C")]

mod encoders;
mod memory;
mod open;

pub use memory::{CudaBuffer, CudaGraph, PinnedMemory};
pub use open::{CudaOptions, device_count};

use crate::{Argument, Device, Kernel, KernelError, Sizes};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

/// A card: its primary context.
pub(crate) struct Context {
    pub(crate) device: sys::CUdevice,
    pub(crate) raw: sys::CUcontext,
    /// Name, number, compute capability and driver.
    pub(crate) name: String,
}

// SAFETY: the driver's handles may be used from any thread that has made the context its current one, which every call here
// does first.
unsafe impl Send for Context {}
// SAFETY: as above; the driver's functions are safe to call at the same time.
unsafe impl Sync for Context {}

impl Context {
    /// Makes the context the calling thread's.
    pub(crate) fn enter(&self) -> Result<(), KernelError> {
        // SAFETY: retained until this is dropped.
        unsafe { result::ctx::set_current(self.raw) }.map_err(|error| self.error("cuCtxSetCurrent", error))
    }

    /// What a failed call means.
    pub(crate) fn error(&self, call: &str, error: DriverError) -> KernelError {
        open::driver_error(&self.name, call, error)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, when this was made. A failure leaves nothing to do.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// The kernels, loaded into a context.
struct Module {
    context: Arc<Context>,
    raw: sys::CUmodule,
    functions: HashMap<Kernel, sys::CUfunction>,
}

// SAFETY: handles that do not change; see `Context`.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: loaded once, when this was made; streams that could use it hold it.
            let _ = unsafe { result::module::unload(self.raw) };
        }
    }
}

/// A card with a stream of its own: launches and copies of two of them overlap.
pub struct CudaDevice {
    module: Arc<Module>,
    stream: sys::CUstream,
}

// SAFETY: a stream may be used from any thread, one at a time.
unsafe impl Send for CudaDevice {}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        if self.context().enter().is_ok() {
            // SAFETY: made once, and nobody else has it. Work that is still in it goes on and holds nothing of ours: buffers
            // are freed only after it.
            let _ = unsafe { result::stream::synchronize(self.stream) };
            // SAFETY: as above.
            let _ = unsafe { result::stream::destroy(self.stream) };
        }
    }
}

impl CudaDevice {
    fn with_module(module: Arc<Module>) -> Result<Self, KernelError> {
        let context = &module.context;
        context.enter()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        let stream = stream.map_err(|error| context.error("cuStreamCreate", error))?;
        Ok(Self { module, stream })
    }

    /// The same card with another stream.
    ///
    /// # Errors
    /// The driver's.
    pub fn another_stream(&self) -> Result<Self, KernelError> {
        Self::with_module(Arc::clone(&self.module))
    }

    /// Free memory of the card and all of it, in bytes.
    ///
    /// # Errors
    /// The driver's.
    pub fn memory(&self) -> Result<(usize, usize), KernelError> {
        self.context().enter()?;
        result::mem_get_info().map_err(|error| self.context().error("cuMemGetInfo", error))
    }

    fn context(&self) -> &Arc<Context> {
        &self.module.context
    }

    fn within(&self, size: usize, offset: usize, bytes: usize) -> Result<(), KernelError> {
        if offset.checked_add(bytes).is_some_and(|end| end <= size) {
            return Ok(());
        }
        Err(KernelError::OutOfBounds { device: self.name(), offset, bytes, size })
    }
}

impl Device for CudaDevice {
    type Buffer = CudaBuffer;
    type HostBuffer = PinnedMemory;
    type Recording = CudaGraph;

    fn name(&self) -> String {
        self.context().name.clone()
    }

    fn sizes(&self) -> Sizes {
        Sizes::NETWORK
    }

    fn allocate(&self, bytes: usize) -> Result<CudaBuffer, KernelError> {
        CudaBuffer::new(self.context(), bytes)
    }

    fn host_buffer(&self, bytes: usize) -> Result<PinnedMemory, KernelError> {
        PinnedMemory::new(self.context(), bytes)
    }

    fn fill(&self, buffer: &CudaBuffer, byte: u8) -> Result<(), KernelError> {
        self.context().enter()?;
        // SAFETY: memory of this card, as much as the buffer has.
        unsafe { result::memset_d8_async(buffer.pointer, byte, buffer.bytes, self.stream) }
            .map_err(|error| self.context().error("cuMemsetD8Async", error))
    }

    fn upload(&self, buffer: &CudaBuffer, offset: usize, bytes: &[u8]) -> Result<(), KernelError> {
        self.within(buffer.bytes, offset, bytes.len())?;
        self.context().enter()?;
        // SAFETY: within the buffer; the bytes are borrowed until the stream is through.
        unsafe { result::memcpy_htod_async(buffer.pointer + offset as u64, bytes, self.stream) }
            .map_err(|error| self.context().error("cuMemcpyHtoDAsync", error))?;
        self.synchronize()
    }

    fn download(&self, buffer: &CudaBuffer, offset: usize, bytes: &mut [u8]) -> Result<(), KernelError> {
        self.within(buffer.bytes, offset, bytes.len())?;
        self.context().enter()?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(bytes, buffer.pointer + offset as u64, self.stream) }
            .map_err(|error| self.context().error("cuMemcpyDtoHAsync", error))?;
        self.synchronize()
    }

    unsafe fn enqueue_upload(
        &self,
        buffer: &CudaBuffer,
        from: &PinnedMemory,
        bytes: usize,
    ) -> Result<(), KernelError> {
        self.within(buffer.bytes, 0, bytes)?;
        self.within(from.len(), 0, bytes)?;
        self.context().enter()?;
        // SAFETY: within both; the caller leaves the host's memory alone until the stream is through.
        unsafe { result::memcpy_htod_async(buffer.pointer, &from[..bytes], self.stream) }
            .map_err(|error| self.context().error("cuMemcpyHtoDAsync", error))
    }

    unsafe fn enqueue_download(
        &self,
        buffer: &CudaBuffer,
        to: &mut PinnedMemory,
        bytes: usize,
    ) -> Result<(), KernelError> {
        self.within(buffer.bytes, 0, bytes)?;
        self.within(to.len(), 0, bytes)?;
        self.context().enter()?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(&mut to[..bytes], buffer.pointer, self.stream) }
            .map_err(|error| self.context().error("cuMemcpyDtoHAsync", error))
    }

    fn replay(
        &self,
        recording: &mut Option<CudaGraph>,
        work: &mut dyn FnMut() -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        self.context().enter()?;
        let graph = match recording {
            Some(graph) => graph,
            None => recording.insert(CudaGraph::capture(self.context(), self.stream, work)?),
        };
        self.context().enter()?;
        // SAFETY: graph and stream live; what the graph's copies and kernels point to, the caller keeps.
        unsafe { result::graph::launch(graph.raw, self.stream) }
            .map_err(|error| self.context().error("cuGraphLaunch", error))
    }

    fn synchronize(&self) -> Result<(), KernelError> {
        self.context().enter()?;
        // SAFETY: the stream lives.
        unsafe { result::stream::synchronize(self.stream) }
            .map_err(|error| self.context().error("cuStreamSynchronize", error))
    }

    unsafe fn launch(
        &self,
        kernel: Kernel,
        grid: [u32; 2],
        arguments: &[Argument<'_, CudaBuffer>],
    ) -> Result<(), KernelError> {
        let Some(function) = self.module.functions.get(&kernel) else {
            let (device, k) = (self.name(), Sizes::NETWORK.k);
            return Err(KernelError::NoKernel { device, kernel: kernel.name().into(), k });
        };
        self.context().enter()?;
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(match argument {
                Argument::Buffer(buffer, offset) => {
                    self.within(buffer.bytes, *offset, 0)?;
                    buffer.pointer + *offset as u64
                }
                Argument::U32(number) => u64::from(*number),
            });
        }
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let block = (kernel.threads(Sizes::NETWORK), 1, 1);
        // SAFETY: the caller's promise; the arguments are copied before this returns.
        unsafe {
            result::launch_kernel(*function, (grid[0], grid[1], 1), block, 0, self.stream, &mut pointers)
        }
        .map_err(|error| self.context().error(kernel.name(), error))
    }
}
