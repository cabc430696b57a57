//! The cases of the speed table, what the reference needs for them, and what we mean to reach.

use clap::ValueEnum;

/// A case of the table, in its order; in JSON and on the command line by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Case {
    Table,
    AllProofs,
    Record,
    Audit,
    Solution,
    Commitment,
    ArchiveSegment,
    ReconstructSegment,
    PieceCheck,
}

/// Seconds not to be exceeded.
pub(crate) struct Goal {
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: Option<f64>,
}

impl Case {
    pub(crate) const ALL: [Self; 9] = [
        Self::Table,
        Self::AllProofs,
        Self::Record,
        Self::Audit,
        Self::Solution,
        Self::Commitment,
        Self::ArchiveSegment,
        Self::ReconstructSegment,
        Self::PieceCheck,
    ];

    /// Its name on the command line and in JSON.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::AllProofs => "all_proofs",
            Self::Record => "record",
            Self::Audit => "audit",
            Self::Solution => "solution",
            Self::Commitment => "commitment",
            Self::ArchiveSegment => "archive_segment",
            Self::ReconstructSegment => "reconstruct_segment",
            Self::PieceCheck => "piece_check",
        }
    }

    /// What is measured.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Table => "K=20 table, one thread",
            Self::AllProofs => "all proofs of a table found and hashed, one thread",
            Self::Record => "one record encoded, in sectors of 4 and of 12",
            Self::Audit => "audit of one sector of 1,000 pieces in memory, one thread",
            Self::Solution => "one solution, file in page cache",
            Self::Commitment => "record commitment, one thread",
            Self::ArchiveSegment => "one segment archived",
            Self::ReconstructSegment => "one segment's 256 pieces from parity",
            Self::PieceCheck => "one piece checked, in a batch of 1,000",
        }
    }

    /// CPU seconds of the reference, from its authors' code on a 2-vCPU Xeon with AVX-512.
    pub(crate) fn reference_cpu_s(self) -> f64 {
        match self {
            Self::Table => 1.39,
            Self::AllProofs => 0.164,
            Self::Record => 1.65,
            Self::Audit => 41e-6,
            Self::Solution => 2.65,
            Self::Commitment => 0.391,
            Self::ArchiveSegment => 58.1,
            Self::ReconstructSegment => 91.0,
            Self::PieceCheck => 0.411,
        }
    }

    /// What we mean to reach.
    pub(crate) fn goal(self) -> Goal {
        let cpu_s = match self {
            Self::Table => 0.20,
            Self::AllProofs => 0.03,
            Self::Record => 0.26,
            Self::Audit => 8e-6,
            Self::Solution => return Goal { cpu_s: 0.4, wall_s: Some(0.3) },
            Self::Commitment => 0.12,
            Self::ArchiveSegment => 18.0,
            Self::ReconstructSegment => 12.0,
            Self::PieceCheck => 0.01,
        };
        Goal { cpu_s, wall_s: None }
    }

    /// How often it is run; the median counts.
    pub(crate) fn runs(self, quick: bool) -> usize {
        match self {
            Self::ArchiveSegment => [3, 1][usize::from(quick)],
            Self::ReconstructSegment => [5, 1][usize::from(quick)],
            Self::Record | Self::PieceCheck => [7, 1][usize::from(quick)],
            _ => [21, 3][usize::from(quick)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_knows_cases_by_their_keys() {
        for case in Case::ALL {
            assert_eq!(Case::from_str(case.key(), false), Ok(case));
        }
        assert_eq!(Case::value_variants(), Case::ALL);
    }
}
