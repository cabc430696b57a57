//! Whole runs of many hosts on the simulated fleet, in virtual time: what has to hold whatever the fleet looks like, and
//! whatever goes wrong at whichever step. A failure prints the numbers that make it again.
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod convergence;
mod faults;
mod rolling;
mod support;
mod verdicts;
