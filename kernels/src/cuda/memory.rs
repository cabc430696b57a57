//! Memory of the card and of the host, and recorded work: freed when dropped.

use super::Context;
use crate::KernelError;
use cudarc::driver::{result, sys};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Memory of a card.
pub struct CudaBuffer {
    context: Arc<Context>,
    pub(super) pointer: sys::CUdeviceptr,
    pub(super) bytes: usize,
}

impl CudaBuffer {
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, KernelError> {
        context.enter()?;
        // SAFETY: the context is current.
        let pointer = unsafe { result::malloc_sync(bytes) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                KernelError::OutOfMemory { device: context.name.clone(), bytes }
            }
            _ => context.error("cuMemAlloc", error),
        })?;
        Ok(Self { context: Arc::clone(context), pointer, bytes })
    }
}

impl Drop for CudaBuffer {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: allocated once, when this was made. The driver waits for work that uses it.
            let _ = unsafe { result::free_sync(self.pointer) };
        }
    }
}

/// Memory of the host that the card reads and writes by itself.
pub struct PinnedMemory {
    context: Arc<Context>,
    pointer: *mut u8,
    bytes: usize,
}

// SAFETY: plain bytes, owned.
unsafe impl Send for PinnedMemory {}

impl PinnedMemory {
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, KernelError> {
        context.enter()?;
        // SAFETY: the context is current.
        let pointer = unsafe { result::malloc_host(bytes, 0) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let device = format!("{}: pinned memory of the host", context.name);
                KernelError::OutOfMemory { device, bytes }
            }
            _ => context.error("cuMemHostAlloc", error),
        })?;
        let pointer: *mut u8 = pointer.cast();
        // SAFETY: that many bytes are there, and nobody else has them.
        unsafe { pointer.write_bytes(0, bytes) };
        Ok(Self { context: Arc::clone(context), pointer, bytes })
    }
}

impl Deref for PinnedMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: that many bytes, written when allocated; who enqueues copies leaves them alone until they are done.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }
}

impl DerefMut for PinnedMemory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) }
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: allocated once, when this was made. The driver waits for copies that use it.
            let _ = unsafe { result::free_host(self.pointer.cast()) };
        }
    }
}

/// Work of a stream, recorded to be launched as a whole.
pub struct CudaGraph {
    context: Arc<Context>,
    pub(super) raw: sys::CUgraphExec,
}

// SAFETY: a handle, used by one thread at a time.
unsafe impl Send for CudaGraph {}

impl CudaGraph {
    /// Records what `work` enqueues on `stream`; nothing of it runs.
    pub(super) fn capture(
        context: &Arc<Context>,
        stream: sys::CUstream,
        work: &mut dyn FnMut() -> Result<(), KernelError>,
    ) -> Result<Self, KernelError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives.
        unsafe { result::stream::begin_capture(stream, mode) }
            .map_err(|error| context.error("cuStreamBeginCapture", error))?;
        let worked = work();
        context.enter()?;
        // SAFETY: as above. A capture is ended whatever became of it.
        let captured = unsafe { result::stream::end_capture(stream) };
        worked?;
        let graph = captured.map_err(|error| context.error("cuStreamEndCapture", error))?;
        // SAFETY: the graph was just made, and is not needed once it is instantiated.
        let raw = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
        // SAFETY: as above.
        let _ = unsafe { result::graph::destroy(graph) };
        let raw = raw.map_err(|error| context.error("cuGraphInstantiate", error))?;
        Ok(Self { context: Arc::clone(context), raw })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: instantiated once, when this was made.
            let _ = unsafe { result::graph::exec_destroy(self.raw) };
        }
    }
}
