//! K=20 proof-of-space tables: create, find a proof, verify
