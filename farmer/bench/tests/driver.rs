//! The driver as a program.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn json_is_all_that_stands_on_standard_output() {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-bench"));
    command.args(["--json", "--quick", "--scratch"]).arg(scratch.path()).args([
        "--only",
        "table",
        "all_proofs",
    ]);
    let output = command.env("AUTONOMYS_SIMD", "scalar").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases: Vec<&String> = figures.as_object().unwrap().keys().collect();
    assert_eq!(cases, ["all_proofs", "table"]);
    for (case, reference_cpu_s) in [("table", 1.39), ("all_proofs", 0.164)] {
        let figure = &figures[case];
        assert!(
            figure["cpu_s"].as_f64().unwrap() > 0.0 && figure["wall_s"].as_f64().unwrap() > 0.0,
            "{figure}"
        );
        assert_eq!(figure["reference_cpu_s"], reference_cpu_s);
        assert_eq!((&figure["runs"], &figure["simd"]), (&3.into(), &"scalar".into()));
    }
}

#[test]
fn an_unknown_case_is_refused_with_the_known_ones() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_autonomys-bench")).args(["--only", "tabel"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("piece_check"), "{message}");
    assert!(output.stdout.is_empty());
}
