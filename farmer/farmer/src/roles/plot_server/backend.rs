//! What a plot-server encodes on: a GPU when there is one, else its CPU. The bytes are the same.

use super::metrics::DeviceMetrics;
use crate::cli::{Backend, BackendArguments};
use crate::roles::Error;
use farming::encoding::{RecordEncoder, SectorEncoder};
use kernels::cuda::CudaOptions;
use kernels::encoder::DeviceCounts;
use kernels::images::ImageSources;
use kernels::{CudaDevice, DeviceEncoders, KernelError};
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Encoders' device, or the number of CPU threads.
pub struct Encoding {
    device: Option<DeviceEncoders>,
    cpu_threads: usize,
    metrics: DeviceMetrics,
    /// What the metrics have of the device's counts.
    counted: Mutex<DeviceCounts>,
}

/// Where compiled kernels are kept: the user's directory for what can be made again.
fn cache_directory() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("autonomys/kernels"))
}

impl Encoding {
    /// Opens what the arguments ask for.
    ///
    /// # Errors
    /// When the GPU is asked for and cannot be used.
    pub fn open(
        arguments: &BackendArguments,
        cpu_threads: usize,
        metrics: DeviceMetrics,
    ) -> Result<Self, Error> {
        let device = match arguments.backend {
            Backend::Cpu => None,
            Backend::Auto | Backend::Cuda => {
                let images = ImageSources {
                    bundle: arguments.cuda_kernels.clone(),
                    nvrtc: None,
                    cache: cache_directory(),
                };
                let options = CudaOptions { ordinal: 0, images };
                match CudaDevice::encoders(&options, arguments.gpu_concurrency.map(NonZeroUsize::get)) {
                    Ok(device) => Some(device),
                    Err(error) if arguments.backend == Backend::Cuda => {
                        return Err(Error::Unavailable(format!("--backend cuda: {error}")));
                    }
                    Err(error @ KernelError::NoDriver { .. }) => {
                        tracing::info!(reason = %error, "No GPU: records are encoded on the CPU");
                        None
                    }
                    Err(error) => {
                        tracing::warn!(reason = %error, "The GPU is not used: records are encoded on the CPU");
                        None
                    }
                }
            }
        };
        if let Some(device) = &device {
            let records = device.records_in_flight();
            tracing::info!(device = device.name(), records, "Records are encoded on the GPU");
        }
        Ok(Self { device, cpu_threads, metrics, counted: Mutex::default() })
    }

    /// Threads that the encoder of a sector takes: on a GPU most of them wait, half of them with a record that is next.
    pub fn threads(&self) -> usize {
        self.device.as_ref().map_or(self.cpu_threads, |device| 2 * device.records_in_flight())
    }

    /// An encoder of sectors.
    pub fn sector_encoder(&self) -> SectorEncoder {
        match &self.device {
            None => SectorEncoder::cpu(self.cpu_threads),
            Some(device) => {
                let encoder = |_| Box::new(device.encoder()) as Box<dyn RecordEncoder>;
                SectorEncoder::new((0..self.threads()).map(encoder).collect())
            }
        }
    }

    /// Brings the metrics up to date.
    pub fn count(&self) {
        let Some(device) = &self.device else { return };
        let mut counted = self.counted.lock();
        let now = device.counts();
        self.metrics.encoded.inc_by(now.encoded - counted.encoded);
        self.metrics.left_to_cpu.inc_by(now.left_to_cpu - counted.left_to_cpu);
        self.metrics.failures.inc_by(now.failures - counted.failures);
        *counted = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;

    fn open(backend: Backend, cuda_kernels: Option<PathBuf>) -> Result<Encoding, Error> {
        let status = Status::new("plot-server", String::new());
        let metrics = super::super::metrics::Metrics::new(&status).device;
        Encoding::open(&BackendArguments { backend, cuda_kernels, gpu_concurrency: None }, 3, metrics)
    }

    #[test]
    fn the_cpu_is_taken_when_it_is_asked_for() {
        let encoding = open(Backend::Cpu, None).expect("the CPU is there");
        assert_eq!(encoding.threads(), 3);
        encoding.count();
    }

    #[test]
    fn without_a_gpu_auto_is_the_cpu_and_cuda_says_why_not() {
        if kernels::cuda::device_count().is_ok() {
            eprintln!(
                "SKIPPED: without_a_gpu_auto_is_the_cpu_and_cuda_says_why_not: this machine has a driver"
            );
            return;
        }
        assert_eq!(open(Backend::Auto, None).expect("the CPU is there").threads(), 3);
        let error = open(Backend::Cuda, None).err().expect("there is no GPU").to_string();
        assert!(error.contains("--backend cuda") && error.contains("525.60.13"), "{error}");
    }
}
