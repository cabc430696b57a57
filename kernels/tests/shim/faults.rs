//! The shim finds what is wrong with a kernel, and says where.

use super::SCHEDULES;
use kernels::KernelError;
use kernels::shim::ShimDevice;

/// What is said of a kernel of `shim/faults.cpp`, in every order of threads.
fn faults(name: &str) -> Vec<String> {
    let run = |schedule| match ShimDevice::new(16, schedule).run_fault(name) {
        Ok(numbers) => panic!("{name} with schedule {schedule} went through: {numbers:?}"),
        Err(KernelError::Launch { message, .. }) => message,
        Err(error) => panic!("{name}: {error}"),
    };
    SCHEDULES.into_iter().map(run).collect()
}

/// The line of `shim/faults.cpp` that is the `nth` of kernel `name` to contain `text`.
fn line(name: &str, text: &str, nth: usize) -> String {
    let source = include_str!("../../shim/faults.cpp");
    let kernel = source.lines().position(|line| line.starts_with(&format!("KERNEL({name},"))).unwrap();
    let found = source.lines().enumerate().skip(kernel).filter(|(_, line)| line.contains(text)).nth(nth);
    format!("faults.cpp:{}", found.unwrap().0 + 1)
}

fn assert_all_say(name: &str, words: &[&str]) {
    for message in faults(name) {
        for word in words {
            assert!(message.contains(word), "{name}: {message:?} has no {word:?}");
        }
    }
}

#[test]
fn shim_sound_kernels_go_through() {
    for schedule in SCHEDULES {
        let device = ShimDevice::new(16, schedule);
        let numbers = device.run_fault("neighbours").unwrap();
        assert!((0..64).all(|thread| numbers[thread] == (thread as u32 + 1) % 64));
        let numbers = device.run_fault("warp_neighbours").unwrap();
        assert!((0..64).all(|thread| numbers[thread] == thread as u32 ^ 1));
    }
}

#[test]
fn shim_finds_a_missing_barrier_and_names_both_places() {
    for message in faults("missing_barrier") {
        // In the order in which a cell's reader comes first, it is one that nobody has written.
        let read = line("missing_barrier", "out[", 0);
        assert!(message.contains(&read), "{message}");
        let found = message.contains("without a barrier between them")
            || message.contains("before anything is written");
        assert!(found, "{message}");
    }
    let (write, read) = (
        line("missing_barrier_in_loop", "cells[threadIdx.x] =", 0),
        line("missing_barrier_in_loop", "out[", 0),
    );
    assert_all_say("missing_barrier_in_loop", &[&write, &read, "without a barrier between them"]);
    let (write, read) =
        (line("ballot_for_barrier", "cells[threadIdx.x] =", 0), line("ballot_for_barrier", "out[", 0));
    assert_all_say("ballot_for_barrier", &[&write, &read, "without a barrier between them"]);
    for message in faults("unordered_lanes") {
        assert!(message.contains(&line("unordered_lanes", "out[", 0)), "{message}");
    }
}

#[test]
fn shim_finds_divergent_barriers_and_threads_that_wait_for_ever() {
    let (first, second) =
        (line("divergent_barrier", "__syncthreads", 0), line("divergent_barrier", "__syncthreads", 1));
    assert_all_say("divergent_barrier", &[&first, &second, "different barriers"]);
    let barrier = line("early_exit", "__syncthreads", 0);
    assert_all_say("early_exit", &[&barrier, "threads 0-6, 8-63", "1 of 64 threads have ended"]);
    let (barrier, ballot) = (line("stuck_lane", "__syncthreads", 0), line("stuck_lane", "__ballot_sync", 0));
    let waiting = format!("{ballot}: __ballot_sync by threads 0-6, 8-31");
    assert_all_say("stuck_lane", &[&barrier, "by threads 7;", &waiting, "32 of 64 threads have ended"]);
}

#[test]
fn shim_finds_shared_memory_that_is_unwritten_or_not_there() {
    let read = line("unwritten_shared", "out[", 0);
    assert_all_say("unwritten_shared", &[&read, "is read before anything is written to it"]);
    let write = line("outside_shared", "cells[threadIdx.x + 1]", 0);
    assert_all_say("outside_shared", &[&write, "index 64 of cells, which has 64 cells"]);
}

#[test]
fn shim_says_which_kernel_is_not_there() {
    let error = ShimDevice::new(16, 0).run_fault("nobody").unwrap_err();
    assert!(matches!(error, KernelError::NoKernel { kernel, k: 0, .. } if kernel == "nobody"));
}
