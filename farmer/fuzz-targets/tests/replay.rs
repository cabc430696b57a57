//! Every file of the corpora, and mutations of it that are the same on every run, go through their targets.
#![allow(clippy::unwrap_used)]

use fuzz_targets::{MESSAGES, TARGETS, Target};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// More memory than any decoder may ask for; asking for more ends the test.
const MEMORY_MAX: u64 = 4 << 30;
/// Most bytes of all corpora.
const CORPORA_MAX: u64 = 1 << 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// SplitMix64: the same numbers on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ number >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Changes `bytes` in one to three places.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                2 => bytes.truncate(at),
                // What may be a length or a count at its largest.
                3 => {
                    let width = [1, 2, 4, 8][self.below(4)].min(bytes.len() - at);
                    bytes[at..at + width].fill(0xff);
                }
                4 => bytes.insert(at, self.next() as u8),
                5 if !bytes.is_empty() => {
                    let end = at + self.below(bytes.len() - at).min(64);
                    let part = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, part);
                }
                _ => {
                    let end = at + self.below(bytes.len() - at).min(16);
                    bytes.drain(at..end);
                }
            }
        }
    }
}

/// Runs a target; what it finds is kept in a file that the message names.
fn run(target: &Target, bytes: &[u8], what: &str) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).unwrap_or_else(|_| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.finding", target.name));
        fs::write(&path, bytes).unwrap();
        panic!("target {} fails on {what}: see {}", target.name, path.display());
    })
}

fn seed_of(name: &str) -> u64 {
    name.bytes().fold(1, |seed, byte| seed.wrapping_mul(131).wrapping_add(u64::from(byte)))
}

#[test]
fn corpora_and_their_mutations_find_nothing() {
    let limit = Rlimit { current: Some(MEMORY_MAX), maximum: Some(MEMORY_MAX) };
    setrlimit(Resource::Data, limit).unwrap();
    for target in TARGETS {
        let corpus = root().join("corpus").join(target.name);
        for name in names(&corpus) {
            let bytes = fs::read(corpus.join(&name)).unwrap();
            let taken = run(target, &bytes, &name);
            assert!(taken || !name.starts_with("seed-"), "target {} refuses its own {name}", target.name);
            let mut numbers = Numbers(seed_of(&name));
            // Files that the fuzzer found are near each other: fewer of each.
            let mutations = if name.starts_with("seed-") { target.mutations } else { target.mutations / 20 };
            for mutation in 0..mutations {
                let mut mutated = bytes.clone();
                numbers.mutate(&mut mutated);
                run(target, &mutated, &format!("mutation {mutation} of {name}"));
            }
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_a_binary() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "a name is given twice");
    assert_eq!(names(&root().join("corpus")), targets, "the corpora are those of the targets");
    let mut total = 0;
    for target in &targets {
        let corpus = root().join("corpus").join(target);
        let files = names(&corpus);
        assert!(files.iter().any(|name| name.starts_with("seed-")), "{target} has no seed");
        total += files.iter().map(|name| fs::metadata(corpus.join(name)).unwrap().len()).sum::<u64>();
    }
    assert!(total <= CORPORA_MAX, "the corpora have {total} bytes: minimise them with `cargo fuzz cmin`");
    let fuzz = root().join("../../fuzz");
    let binaries = names(&fuzz.join("fuzz_targets"));
    assert_eq!(binaries, targets.iter().map(|name| format!("{name}.rs")).collect());
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in &targets {
        let source = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "the binary of {name} runs another target");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is missing in fuzz/Cargo.toml");
    }
}

#[test]
fn every_message_of_the_contract_is_among_the_targets() {
    let contract = root().join("../cluster/src/contract");
    let sources = names(&contract).into_iter().map(|name| fs::read_to_string(contract.join(name)).unwrap());
    let messages: usize = sources.map(|source| source.matches("\nimpl Payload for ").count()).sum();
    assert_eq!(messages, MESSAGES.len(), "new messages go to the end of `messages!`, with a seed");
}
