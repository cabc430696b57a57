//! The development chain: archives, keeps slots, verifies and signs
