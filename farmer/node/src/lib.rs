//! Client of the node's JSON-RPC
