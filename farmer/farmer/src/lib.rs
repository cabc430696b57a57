//! The cluster's roles in one binary
