//! The guides' seven machines: real sshd, supervisord and nats-server, each machine in network and mount namespaces of its
//! own. What the roles do is the stub's; everything else is as it would be.
#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub, missing_docs)]

mod applied;
mod hosts;
#[path = "../../../farmer/farmer/tests/drills/namespaces.rs"]
#[allow(dead_code, reason = "the drills use the rest")]
mod namespaces;
#[path = "../live/support.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests of local clusters use the rest")]
mod support;
