//! For each alert a course of its metrics on which it fires, one on which it is silent, and a short blip that it sits out.

/// A series and its values in promtool's notation, one a step. `{controller}`, `{controller-2}`, `{proof-server}`, `{sharded-cache}`,
/// `{plot-server}`, `{plot-client}` and `{host}` stand for the labels of such a target; more labels may follow.
pub(crate) type Series = (&'static str, &'static str);

/// An alert's courses.
pub(crate) struct Case {
    pub(crate) alert: &'static str,
    /// Minutes of a step, and between evaluations; Prometheus forgets a value after five.
    pub(crate) step: u32,
    /// Something is wrong.
    pub(crate) bad: &'static [Series],
    /// The step by which the alert fires.
    pub(crate) by: u32,
    /// All is well.
    pub(crate) good: &'static [Series],
    /// Something was wrong for a moment. None where a single event is reason enough.
    pub(crate) blip: Option<&'static [Series]>,
}

const fn case(
    alert: &'static str,
    bad: &'static [Series],
    by: u32,
    good: &'static [Series],
    blip: &'static [Series],
) -> Case {
    Case { alert, step: 1, bad, by, good, blip: Some(blip) }
}

/// How many steps a course is looked at.
pub(crate) const STEPS: u32 = 150;

pub(crate) const CASES: &[Case] = &[
    case(
        "AutonomysRoleDown",
        &[("up{plot-client}", "1+0x5 0+0x20")],
        9,
        &[("up{plot-client}", "1+0x30")],
        &[("up{plot-client}", "1+0x5 0 1+0x20")],
    ),
    case(
        "AutonomysRoleGone",
        &[("up{controller}", "1+0x5 0+0x20"), ("up{controller-2}", "1+0x5 0+0x20")],
        8,
        &[("up{controller}", "1+0x25"), ("up{controller-2}", "1+0x5 0+0x20")],
        &[("up{controller}", "1+0x5 0 1+0x20"), ("up{controller-2}", "1+0x5 0+0x20")],
    ),
    case(
        "AutonomysNoLeader",
        &[("autonomys_leads{controller}", "1+0x5 0+0x20"), ("autonomys_leads{controller-2}", "0+0x25")],
        9,
        &[("autonomys_leads{controller}", "1+0x5 0+0x20"), ("autonomys_leads{controller-2}", "0+0x5 1+0x20")],
        &[("autonomys_leads{controller}", "1+0x5 0+0x20"), ("autonomys_leads{controller-2}", "0+0x6 1+0x20")],
    ),
    case(
        "AutonomysNoSlots",
        &[("autonomys_slots_seen_total{plot-client}", "0+60x10 600+0x20")],
        17,
        &[("autonomys_slots_seen_total{plot-client}", "0+60x60")],
        &[("autonomys_slots_seen_total{plot-client}", "0+60x10 600 600 660+60x20")],
    ),
    case(
        "AutonomysNodeSilent",
        &[("autonomys_slots_seen_total{controller}", "0+60x10 600+0x20")],
        17,
        // Nor does a plot-client's silence blame a node.
        &[
            ("autonomys_slots_seen_total{controller}", "0+60x60"),
            ("autonomys_slots_seen_total{plot-client}", "0+60x10 600+0x50"),
        ],
        &[("autonomys_slots_seen_total{controller}", "0+60x10 600 600 660+60x20")],
    ),
    case(
        "AutonomysNodeBehind",
        &[("autonomys_node_blocks_behind{controller}", "0+0x5 9+0x20")],
        10,
        &[
            ("autonomys_node_blocks_behind{controller}", "2+0x30"),
            ("autonomys_node_slots_behind{controller}", "4+0x30"),
        ],
        &[("autonomys_node_blocks_behind{controller}", "0+0x5 90 60 0+0x20")],
    ),
    case(
        "AutonomysNodeOnFork",
        &[("autonomys_slots_withheld_total{controller}", "0+0x5 0+60x20")],
        16,
        &[("autonomys_slots_withheld_total{controller}", "7+0x30")],
        &[("autonomys_slots_withheld_total{controller}", "0+0x5 30 60 60+0x20")],
    ),
    case(
        "AutonomysNodesDisagree",
        &[("autonomys_nodes_contradicting{controller}", "0+0x5 1+0x30")],
        18,
        &[("autonomys_nodes_contradicting{controller}", "0+0x30")],
        &[("autonomys_nodes_contradicting{controller}", "0+0x5 2+0x5 0+0x20")],
    ),
    case(
        "AutonomysSlotsSkipped",
        &[
            ("autonomys_slots_seen_total{plot-client}", "0+60x60"),
            ("subspace_farmer_farm_skipped_slots_total{plot-client,farm_id=\"A\"}", "0+0x10 0+3x50"),
        ],
        35,
        &[
            ("autonomys_slots_seen_total{plot-client}", "0+60x60"),
            ("subspace_farmer_farm_skipped_slots_total{plot-client,farm_id=\"A\"}", "0 1+0x9 2+0x9 3+0x40"),
        ],
        &[
            ("autonomys_slots_seen_total{plot-client}", "0+60x60"),
            ("subspace_farmer_farm_skipped_slots_total{plot-client,farm_id=\"A\"}", "0+0x10 60 120 120+0x48"),
        ],
    ),
    case(
        "AutonomysAuditsCutShort",
        &[
            ("autonomys_slots_seen_total{plot-client}", "0+60x60"),
            ("autonomys_sectors_plotted{plot-client}", "1000+0x60"),
            ("autonomys_sectors_left_out_total{plot-client,farm_id=\"A\"}", "0+0x10 0+6000x50"),
        ],
        35,
        &[
            ("autonomys_slots_seen_total{plot-client}", "0+60x60"),
            ("autonomys_sectors_plotted{plot-client}", "1000+0x60"),
            ("autonomys_sectors_left_out_total{plot-client,farm_id=\"A\"}", "0+60x60"),
        ],
        &[
            ("autonomys_slots_seen_total{plot-client}", "0+60x60"),
            ("autonomys_sectors_plotted{plot-client}", "1000+0x60"),
            ("autonomys_sectors_left_out_total{plot-client,farm_id=\"A\"}", "0+0x10 60000 60000+0x49"),
        ],
    ),
    case(
        "AutonomysAuditErrors",
        &[("autonomys_audit_errors_total{plot-client}", "0+0x5 0+1x40")],
        25,
        &[("autonomys_audit_errors_total{plot-client}", "3+0x40")],
        &[("autonomys_audit_errors_total{plot-client}", "0+0x5 4 5 5+0x40")],
    ),
    case(
        "AutonomysProofsLate",
        &[
            ("autonomys_candidates_total{plot-client}", "0+1x90"),
            ("autonomys_proofs_late_total{plot-client}", "0+0x20 0+0.5x70"),
        ],
        40,
        &[
            ("autonomys_candidates_total{plot-client}", "0+10x90"),
            ("autonomys_proofs_late_total{plot-client}", "0 1+0x20 2+0x20 3+0x20 4+0x20"),
        ],
        &[
            ("autonomys_candidates_total{plot-client}", "0+0.1x90"),
            ("autonomys_proofs_late_total{plot-client}", "0+0x20 1 2+0x68"),
        ],
    ),
    case(
        "AutonomysProofServerBusy",
        &[("autonomys_proofs_refused_busy_total{proof-server}", "0+0x5 0+2x60")],
        40,
        &[("autonomys_proofs_refused_busy_total{proof-server}", "0 1+0x10 2+0x10 3+0x40")],
        &[("autonomys_proofs_refused_busy_total{proof-server}", "0+0x5 40 80 80+0x60")],
    ),
    case(
        "AutonomysNoProofs",
        &[
            ("autonomys_candidates_total{plot-client}", "0+1x90"),
            ("autonomys_solutions_sent_total{plot-client}", "4+0x90"),
        ],
        20,
        &[
            ("autonomys_candidates_total{plot-client}", "0+1x90"),
            ("autonomys_solutions_sent_total{plot-client}", "0+0.2x90"),
        ],
        &[
            ("autonomys_candidates_total{plot-client}", "0+1x90"),
            ("autonomys_solutions_sent_total{plot-client}", "0+1x30 30+0x10 40+1x50"),
        ],
    ),
    case(
        "AutonomysSolutionsNotAccepted",
        &[
            ("autonomys_solutions_sent_total{plot-client}", "0+1x120"),
            ("autonomys_solutions_accepted_total{plot-client}", "0+1x30 30+0x90"),
        ],
        75,
        &[
            ("autonomys_solutions_sent_total{plot-client}", "0+1x120"),
            ("autonomys_solutions_accepted_total{plot-client}", "0+0.9x120"),
        ],
        &[
            ("autonomys_solutions_sent_total{plot-client}", "0+1x120"),
            ("autonomys_solutions_accepted_total{plot-client}", "0+1x30 30+0x10 40+1x80"),
        ],
    ),
    // A thousand sectors bring a hundred solutions a day here, about four an hour.
    Case {
        alert: "AutonomysNoSolutions",
        step: 5,
        bad: &[
            ("autonomys_sectors_plotted{plot-client}", "1000+0x60"),
            ("autonomys_solutions_accepted_total{plot-client}", "7+0x60"),
        ],
        by: 40,
        // A farm of ten sectors may well have none in half a day.
        good: &[
            ("autonomys_sectors_plotted{plot-client}", "10+0x150"),
            ("autonomys_solutions_accepted_total{plot-client}", "7+0x150"),
        ],
        blip: Some(&[
            ("autonomys_sectors_plotted{plot-client}", "1000+0x120"),
            ("autonomys_solutions_accepted_total{plot-client}", "0+1x20 20+0x18 21+0x18 22+1x60"),
        ]),
    },
    case(
        "AutonomysPlottingStalled",
        &[
            ("autonomys_sectors_total{plot-client}", "10+0x120"),
            ("autonomys_sectors_plotted{plot-client}", "5+0x120"),
            ("autonomys_sectors_stored_total{plot-client}", "5+0x120"),
        ],
        95,
        &[
            ("autonomys_sectors_total{plot-client}", "10+0x120"),
            ("autonomys_sectors_plotted{plot-client}", "10+0x120"),
            ("autonomys_sectors_stored_total{plot-client}", "5+0x120"),
        ],
        &[
            ("autonomys_sectors_total{plot-client}", "100+0x120"),
            ("autonomys_sectors_plotted{plot-client}", "5+0x120"),
            ("autonomys_sectors_stored_total{plot-client}", "0+1x20 20+0x45 21+1x55"),
        ],
    ),
    case(
        "AutonomysPlotServerFails",
        &[
            ("subspace_farmer_plotter_sector_plotting_error_counter_sectors_total{plot-server}", "0+1x60"),
            ("subspace_farmer_plotter_sector_encoded_counter_sectors_total{plot-server}", "9+0x60"),
        ],
        20,
        &[
            ("subspace_farmer_plotter_sector_plotting_error_counter_sectors_total{plot-server}", "0+1x60"),
            ("subspace_farmer_plotter_sector_encoded_counter_sectors_total{plot-server}", "0+0.2x60"),
        ],
        &[
            (
                "subspace_farmer_plotter_sector_plotting_error_counter_sectors_total{plot-server}",
                "0+0x40 9+0x20",
            ),
            (
                "subspace_farmer_plotter_sector_encoded_counter_sectors_total{plot-server}",
                "0+1x38 38+0x2 39+1x20",
            ),
        ],
    ),
    case(
        "AutonomysSectorsNearExpiry",
        &[
            ("autonomys_sectors_expiring{plot-client}", "0+0x5 8+0x120"),
            ("autonomys_sectors_replotted_total{plot-client}", "40+0x125"),
        ],
        90,
        &[
            ("autonomys_sectors_expiring{plot-client}", "90-0.5x120"),
            ("autonomys_sectors_replotted_total{plot-client}", "0+0.5x120"),
        ],
        &[
            ("autonomys_sectors_expiring{plot-client}", "0+0x5 8+0x40 0+0x60"),
            ("autonomys_sectors_replotted_total{plot-client}", "40+0x125"),
        ],
    ),
    Case {
        alert: "AutonomysSectorsDamaged",
        step: 1,
        bad: &[("autonomys_sectors_lost_total{plot-client}", "0+0x5 2+0x100")],
        by: 7,
        good: &[("autonomys_sectors_lost_total{plot-client}", "2+0x100")],
        blip: None,
    },
    case(
        "AutonomysCacheStalled",
        &[
            ("autonomys_pieces_missing{controller}", "100+0x60"),
            ("autonomys_pieces_pushed_total{controller}", "0+5x10 50+0x50"),
        ],
        30,
        // The first filling of a cache.
        &[
            ("autonomys_pieces_missing{controller}", "9000-5x60"),
            ("autonomys_pieces_pushed_total{controller}", "0+5x60"),
        ],
        &[
            ("autonomys_pieces_missing{controller}", "0+0x10 256+0x5 0+0x45"),
            ("autonomys_pieces_pushed_total{controller}", "50+0x15 306+0x45"),
        ],
    ),
    Case {
        alert: "AutonomysCacheShort",
        step: 5,
        bad: &[("autonomys_pieces_missing{controller}", "100+0x90")],
        by: 75,
        good: &[("autonomys_pieces_missing{controller}", "0+0x90")],
        // Two new segments.
        blip: Some(&[("autonomys_pieces_missing{controller}", "0+0x50 256 100 0+0x70 256 100 0+0x20")]),
    },
    case(
        "AutonomysCacheTooSmall",
        &[("autonomys_pieces_without_place{controller}", "0+0x5 256+0x30")],
        18,
        &[("autonomys_pieces_without_place{controller}", "0+0x30")],
        &[("autonomys_pieces_without_place{controller}", "0+0x5 256+0x5 0+0x30")],
    ),
    Case {
        alert: "AutonomysPiecesDamaged",
        step: 1,
        bad: &[("autonomys_pieces_damaged_total{sharded-cache}", "0+0x5 3+0x100")],
        by: 7,
        good: &[("autonomys_pieces_damaged_total{sharded-cache}", "3+0x100")],
        blip: None,
    },
    case(
        "AutonomysHistoryStalled",
        &[
            ("autonomys_segments_to_archive_again{controller}", "5+0x90"),
            ("autonomys_segments_archived_again_total{controller}", "1+0x90"),
        ],
        50,
        &[
            ("autonomys_segments_to_archive_again{controller}", "50-0.1x90"),
            ("autonomys_segments_archived_again_total{controller}", "0+0.1x90"),
        ],
        &[
            ("autonomys_segments_to_archive_again{controller}", "0+0x10 5+0x20 0+0x60"),
            ("autonomys_segments_archived_again_total{controller}", "1+0x90"),
        ],
    ),
    // Ten megabytes a minute of the last 14 GB of 100.
    Case {
        alert: "AutonomysDiskFillsUp",
        step: 5,
        bad: &[
            (
                "node_filesystem_avail_bytes{host,mountpoint=\"/data\",fstype=\"ext4\"}",
                "14000000000-50000000x60",
            ),
            ("node_filesystem_size_bytes{host,mountpoint=\"/data\",fstype=\"ext4\"}", "100000000000+0x60"),
        ],
        by: 16,
        // A farm's disk is full and stays so.
        good: &[
            ("node_filesystem_avail_bytes{host,mountpoint=\"/data\",fstype=\"ext4\"}", "1000000000+0x60"),
            ("node_filesystem_size_bytes{host,mountpoint=\"/data\",fstype=\"ext4\"}", "100000000000+0x60"),
        ],
        // A log that is rotated.
        blip: Some(&[
            (
                "node_filesystem_avail_bytes{host,mountpoint=\"/data\",fstype=\"ext4\"}",
                "14000000000+0x72 13900000000 13800000000 14000000000+0x60",
            ),
            ("node_filesystem_size_bytes{host,mountpoint=\"/data\",fstype=\"ext4\"}", "100000000000+0x140"),
        ]),
    },
    case(
        "AutonomysDiskReadOnly",
        &[("node_filesystem_readonly{host,mountpoint=\"/data\",fstype=\"ext4\"}", "0+0x5 1+0x20")],
        12,
        // The medium that the host was installed from.
        &[("node_filesystem_readonly{host,mountpoint=\"/cd\",fstype=\"iso9660\"}", "1+0x20")],
        &[("node_filesystem_readonly{host,mountpoint=\"/data\",fstype=\"ext4\"}", "0+0x5 1 1 0+0x20")],
    ),
    case(
        "AutonomysHostUnwatched",
        &[("up{host}", "1+0x5 0+0x20")],
        18,
        &[("up{host}", "1+0x30")],
        &[("up{host}", "1+0x5 0+0x5 1+0x20")],
    ),
];

/// Alerts with two thresholds: it fires, goes on while the value lies between them, and ends below the lower one.
pub(crate) struct Swing {
    pub(crate) alert: &'static str,
    pub(crate) series: &'static [Series],
    /// A step at which it fires though the value is below the upper threshold.
    pub(crate) still: u32,
    /// A step by which it has ended.
    pub(crate) ended: u32,
}

pub(crate) const SWINGS: &[Swing] = &[
    Swing {
        alert: "AutonomysNodeBehind",
        series: &[("autonomys_node_blocks_behind{controller}", "0+0x5 9+0x10 3+0x40 0+0x60")],
        still: 50,
        ended: 65,
    },
    Swing {
        alert: "AutonomysSlotsSkipped",
        series: &[
            ("autonomys_slots_seen_total{plot-client}", "0+60x200"),
            (
                "subspace_farmer_farm_skipped_slots_total{plot-client,farm_id=\"A\"}",
                "0+3x50 150+0.6x50 180+0x90",
            ),
        ],
        still: 95,
        ended: 130,
    },
    Swing {
        alert: "AutonomysAuditsCutShort",
        series: &[
            ("autonomys_slots_seen_total{plot-client}", "0+60x200"),
            ("autonomys_sectors_plotted{plot-client}", "1000+0x200"),
            (
                "autonomys_sectors_left_out_total{plot-client,farm_id=\"A\"}",
                "0+3000x50 150000+600x50 180000+0x90",
            ),
        ],
        still: 95,
        ended: 130,
    },
    Swing {
        alert: "AutonomysProofsLate",
        series: &[
            ("autonomys_candidates_total{plot-client}", "0+10x400"),
            ("autonomys_proofs_late_total{plot-client}", "0+1x100 100+0.2x150 130+0x150"),
        ],
        still: 240,
        ended: 380,
    },
    Swing {
        alert: "AutonomysSolutionsNotAccepted",
        series: &[
            ("autonomys_solutions_sent_total{plot-client}", "0+1x400"),
            ("autonomys_solutions_accepted_total{plot-client}", "0+0.2x100 20+0.7x150 125+1x150"),
        ],
        still: 240,
        ended: 380,
    },
];

/// A cluster that is well, for as long as [`STEPS`]; a node-less host among it.
pub(crate) const WELL: &[Series] = &[
    ("up{controller}", "1+0x150"),
    ("up{proof-server}", "1+0x150"),
    ("up{sharded-cache}", "1+0x150"),
    ("up{plot-server}", "1+0x150"),
    ("up{plot-client}", "1+0x150"),
    ("up{host}", "1+0x150"),
    ("autonomys_leads{controller}", "1+0x150"),
    ("autonomys_slots_seen_total{controller}", "0+60x150"),
    ("autonomys_slots_withheld_total{controller}", "0+0x150"),
    ("autonomys_node_blocks_behind{controller}", "0+0x40 1 0+0x120"),
    ("autonomys_node_slots_behind{controller}", "0+0x60 1 0+0x100"),
    ("autonomys_nodes_contradicting{controller}", "0+0x150"),
    ("autonomys_pieces_missing{controller}", "0+0x40 512 256 0+0x110"),
    ("autonomys_pieces_pushed_total{controller}", "0+0x40 256 512+0x110"),
    ("autonomys_pieces_without_place{controller}", "0+0x150"),
    ("autonomys_segments_to_archive_again{controller}", "0+0x150"),
    ("autonomys_segments_archived_again_total{controller}", "0+0x150"),
    ("autonomys_proofs_refused_busy_total{proof-server}", "0+0x150"),
    ("autonomys_pieces_damaged_total{sharded-cache}", "0+0x150"),
    ("subspace_farmer_plotter_sector_plotting_error_counter_sectors_total{plot-server}", "0+0x150"),
    ("subspace_farmer_plotter_sector_encoded_counter_sectors_total{plot-server}", "0+0.1x150"),
    ("autonomys_slots_seen_total{plot-client}", "0+60x150"),
    ("autonomys_audit_errors_total{plot-client}", "0+0x150"),
    ("autonomys_candidates_total{plot-client}", "0+0.1x150"),
    ("autonomys_proofs_late_total{plot-client}", "0+0x150"),
    ("autonomys_solutions_sent_total{plot-client}", "0+0.1x150"),
    ("autonomys_solutions_accepted_total{plot-client}", "0+0.1x150"),
    ("autonomys_sectors_total{plot-client}", "1000+0x150"),
    ("autonomys_sectors_plotted{plot-client}", "1000+0x40 999+0x20 1000+0x90"),
    ("autonomys_sectors_stored_total{plot-client}", "0+0.01x150"),
    ("autonomys_sectors_expiring{plot-client}", "0+0x40 1+0x20 0+0x90"),
    ("autonomys_sectors_replotted_total{plot-client}", "0+0.01x150"),
    ("autonomys_sectors_lost_total{plot-client}", "0+0x150"),
    ("node_filesystem_avail_bytes{host,mountpoint=\"/data\",fstype=\"ext4\"}", "50000000000-1000000x150"),
    ("node_filesystem_size_bytes{host,mountpoint=\"/data\",fstype=\"ext4\"}", "100000000000+0x150"),
    ("node_filesystem_readonly{host,mountpoint=\"/data\",fstype=\"ext4\"}", "0+0x150"),
];
