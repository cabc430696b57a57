//! The node's ParityDB: layout, reading, writing
