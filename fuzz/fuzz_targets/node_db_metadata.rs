#![no_main]
// What ParityDB panics on is caught by `node-db`; what is not caught ends the fuzzer without a hook, too.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| fuzz_targets::run("node_db_metadata", bytes)
);
