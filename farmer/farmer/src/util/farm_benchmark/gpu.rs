//! `util benchmark gpu`: whether a GPU encodes to the CPU's bytes, and how fast.

use crate::cli::GpuArguments;
use crate::roles::Error;
use crate::util::output;
use kernels::check::{Report, check};
use kernels::cuda::CudaOptions;
use kernels::images::ImageSources;
use kernels::{CudaDevice, KernelError, RecordPipeline};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Checks and measures, and prints.
///
/// # Errors
/// [`Error::Damaged`] when a record differs, [`Error::Unavailable`] without a GPU that can.
pub(super) fn run(arguments: &GpuArguments) -> Result<(), Error> {
    let failed = |error: KernelError| Error::Unavailable(error.to_string());
    let images = ImageSources { bundle: arguments.cuda_kernels.clone(), nvrtc: None, cache: None };
    let device = CudaDevice::open(&CudaOptions { ordinal: 0, images }).map_err(failed)?;
    let operations = device.operations_per_second().map_err(failed)?;
    let mut pipeline = RecordPipeline::new(device, arguments.batch.get()).map_err(failed)?;
    let duration = Duration::from_secs(arguments.seconds.into());
    // Other records at every run: what was compared is not what was tried before.
    let label = format!("benchmark gpu {:?}", std::time::SystemTime::now());
    let report = check(&mut pipeline, &label, duration).map_err(failed)?;
    output::print_either(arguments.json, &value(&report, operations), &text(&report, operations))?;
    if report.is_sound() {
        return Ok(());
    }
    Err(Error::Damaged(format!(
        "{} of {} records are not what the CPU encodes: do not plot with {}",
        report.records_different, report.records_compared, report.device
    )))
}

/// Whether a step is one of tables 2 to 7, whose floor is known.
fn is_matching(step: &str) -> bool {
    step.starts_with("table ") && step != "table 1"
}

fn value(report: &Report, operations: f64) -> Value {
    let floor = report.table_floor(operations).as_secs_f64();
    let steps = report.steps.iter().map(|step| {
        let floor = is_matching(step.step).then_some(floor);
        json!({ "step": step.step, "seconds": step.time.as_secs_f64(), "floorSeconds": floor })
    });
    json!({
        "version": 1,
        "device": report.device,
        "batchRecords": report.batch_records,
        "recordsCompared": report.records_compared,
        "recordsDifferent": report.records_different,
        "recordsLeftToCpu": report.records_left_to_cpu,
        "steps": steps.collect::<Vec<_>>(),
        "batchSeconds": report.batch_time.as_secs_f64(),
        "compressionsPerSecond": report.compressions_per_second(),
        "sectorSeconds": report.sector_seconds(),
    })
}

fn text(report: &Report, operations: f64) -> String {
    let mut text = format!("{}\n", report.device);
    let floor = report.table_floor(operations).as_secs_f64() * 1000.0;
    for step in &report.steps {
        let milliseconds = step.time.as_secs_f64() * 1000.0;
        let _ = write!(text, "  {:28} {milliseconds:9.3} ms", step.step);
        let of_floor = if is_matching(step.step) { format!(", floor {floor:.3} ms") } else { String::new() };
        let _ = writeln!(text, "{of_floor}");
    }
    let _ = writeln!(
        text,
        "A batch of {} records, from memory to memory: {:.3} ms; 1,000 records one batch at a time: {:.2} s",
        report.batch_records,
        report.batch_time.as_secs_f64() * 1000.0,
        report.sector_seconds()
    );
    let _ = write!(
        text,
        "{} records compared with the CPU's, {} different, {} left to the CPU",
        report.records_compared, report.records_different, report.records_left_to_cpu
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::check::StepTime;

    #[test]
    fn the_figures_follow_from_the_times() {
        let step = |step, milliseconds| StepTime { step, time: Duration::from_millis(milliseconds) };
        let report = Report {
            device: "GPU 0".into(),
            batch_records: 8,
            records_compared: 16,
            records_different: 0,
            records_left_to_cpu: 0,
            steps: vec![step("table 1", 1), step("table 2", 10), step("encoding", 2)],
            batch_time: Duration::from_millis(40),
        };
        let value = value(&report, 490.0 * 8.0 * f64::from(1 << 20));
        assert_eq!(value["sectorSeconds"], 5.0);
        assert_eq!(value["steps"][1]["floorSeconds"], 1.0);
        assert_eq!(value["steps"][2]["floorSeconds"], Value::Null);
        assert!(text(&report, 1e12).contains("16 records compared with the CPU's, 0 different"));
    }
}
