//! Structured reference string, KZG, erasure coding, archiver, reconstruction
