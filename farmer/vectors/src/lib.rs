//! Test support: finds and opens the conformance vectors and the reference strings
