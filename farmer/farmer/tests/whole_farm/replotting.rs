//! A sector expires and is plotted again.

use crate::farm::Farm;
use std::time::Duration;

#[test]
fn an_expired_sector_is_plotted_again_and_earns() {
    // Lifetime 1: a sector plotted at history size 1 expires at 2, 3 or 4. Large blocks make segments fast.
    let farm = Farm::new(&[
        (
            "  slot_ms: 1000",
            "  slot_ms: 400\n  slots_per_block: 12\n  min_sector_lifetime: 1\n  recent_segments: 1\n  \
             confirmation_depth: 1\n  block_bytes: 8388608",
        ),
        ("sectors: 4}", "sectors: 1}"),
        ("      metrics_port: 9864", "      metrics_port: 9864\n      new_segment_delay_max_s: 2"),
    ]);
    farm.apply();
    let first = plotted_at(&farm);
    let again = farm.wait_for("the sector to be plotted again", Duration::from_secs(500), || {
        let now = plotted_at(&farm);
        (now > first).then_some(now)
    });
    assert!(again > first);
    let before = farm.accepted();
    farm.wait_for("an accepted solution of the new sector", Duration::from_secs(150), || {
        (farm.accepted() > before).then_some(())
    });
}

/// History size at which the farm's only sector was plotted, from its metadata file: the last 8 bytes before the
/// checksum of the first record, which stands behind 1 MiB of reserved space.
fn plotted_at(farm: &Farm) -> u64 {
    use primitives::sectors::SectorMetadata;
    let metadata = std::fs::read(farm.farm_directory().join("metadata.bin")).unwrap();
    let end = (1 << 20) + SectorMetadata::ENCODED_SIZE - 32;
    u64::from_le_bytes(metadata[end - 8..end].try_into().unwrap())
}
