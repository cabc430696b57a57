//! Sector encoding, auditing, proving, verification; plot files on disk
