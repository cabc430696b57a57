//! What the network fixes: scalars, records, pieces, segments, sectors, solutions, their hashes, SCALE and JSON
