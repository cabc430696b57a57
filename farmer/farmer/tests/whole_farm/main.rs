//! A farm that `provision` has set up, as a whole.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod end_to_end;
mod farm;
mod kill_roles;
mod replotting;
