//! The kernels' sources, part of the program.

/// The file that includes all others.
pub const MAIN: &str = include_str!("../cuda/kernels.cu");

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        /// Names and texts of the files that [`MAIN`] and they themselves include.
        pub const INCLUDES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../cuda/", $name)))),*];
    };
}
sources![
    "blake3.cuh",
    "buckets.cuh",
    "chacha8.cuh",
    "combine.cuh",
    "encoding.cu",
    "extension.cu",
    "first_table.cu",
    "matching.cu",
    "parameters.cuh",
    "platform.cuh",
    "proofs.cu",
    "ranking.cu",
    "scalar.cuh",
    "search.cu",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_source_file_is_embedded() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
        let mut found: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "kernels.cu")
            .collect();
        found.sort();
        let embedded: Vec<&str> = INCLUDES.iter().map(|(name, _)| *name).collect();
        assert_eq!(found, embedded);
    }
}
