//! The NATS contract, membership and leases, the TCP transfer
