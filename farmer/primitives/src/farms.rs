//! Geometry of a farm's files (farming §8): shared by the farmer, which makes them, and `provision`, which plans them.

use crate::sectors::{SectorGeometry, SectorMetadata};

/// Sectors are counted in a u16 and two values are reserved.
pub const MAX_SECTORS: u16 = 65_534;
/// Bytes reserved for the header in front of the sector metadata.
pub const RESERVED_METADATA: u64 = 1024 * 1024;
/// Files are padded to this many bytes, so that direct I/O works.
pub const DISK_ALIGNMENT: u64 = 4096;
/// The reference also counts 1 MiB of its own, the identity file, and its list of known peers, whose exact size depends
/// on its version; a farm's window of valid sizes is wide enough to leave it out here.
const REFERENCE_FIXED_OVERHEAD: u64 = RESERVED_METADATA + 1024 * 1024 + 33;

/// Geometry of a farm: how many sectors of how many pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarmGeometry {
    /// Pieces in each sector.
    pub pieces_in_sector: u16,
    /// Sectors in the farm.
    pub sectors: u16,
}

impl FarmGeometry {
    fn sector_with_metadata(pieces_in_sector: u16) -> u64 {
        (SectorGeometry::new(pieces_in_sector).sector_size() + SectorMetadata::ENCODED_SIZE) as u64
    }

    /// The largest farm that fits `allocated_space` bytes by the reference's formula with a cache share of 0 %.
    pub fn for_allocated_space(pieces_in_sector: u16, allocated_space: u64) -> Self {
        let space =
            (allocated_space.saturating_sub(REFERENCE_FIXED_OVERHEAD) / 100 * 100).saturating_sub(4096);
        let sectors = space / Self::sector_with_metadata(pieces_in_sector);
        Self { pieces_in_sector, sectors: sectors.min(u64::from(MAX_SECTORS)) as u16 }
    }

    /// The `allocatedSpace` to be written for this farm: the middle of the window of values for which the reference
    /// computes the same number of sectors.
    pub fn allocated_space(self) -> u64 {
        let sector = Self::sector_with_metadata(self.pieces_in_sector);
        REFERENCE_FIXED_OVERHEAD + 4096 + u64::from(self.sectors) * sector + sector / 2
    }

    /// Bytes of `plot.bin`.
    pub fn plot_file_size(self) -> u64 {
        let sector = SectorGeometry::new(self.pieces_in_sector).sector_size() as u64;
        (sector * u64::from(self.sectors)).next_multiple_of(DISK_ALIGNMENT)
    }

    /// Bytes of `metadata.bin`.
    pub fn metadata_file_size(self) -> u64 {
        (RESERVED_METADATA + SectorMetadata::ENCODED_SIZE as u64 * u64::from(self.sectors))
            .next_multiple_of(DISK_ALIGNMENT)
    }

    /// Bytes that the farm's files take on the disk.
    pub fn disk_space(self) -> u64 {
        // Identity and description take a block each.
        self.plot_file_size() + self.metadata_file_size() + 2 * DISK_ALIGNMENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocated_space_gives_back_the_same_sectors() {
        for pieces_in_sector in [1, 2, 12, 1000] {
            for sectors in [0, 1, 2, 100, 8000, MAX_SECTORS] {
                let farm = FarmGeometry { pieces_in_sector, sectors };
                let space = farm.allocated_space();
                assert_eq!(FarmGeometry::for_allocated_space(pieces_in_sector, space), farm);
                // The reference subtracts its list of known peers too: up to this much must not matter.
                let known_peers = SectorGeometry::new(pieces_in_sector).sector_size() as u64 / 2 - 4096;
                assert_eq!(FarmGeometry::for_allocated_space(pieces_in_sector, space - known_peers), farm);
            }
        }
    }

    #[test]
    fn eight_thousand_sectors_do_not_fit_an_8_tb_disk() {
        let farm = FarmGeometry { pieces_in_sector: 1000, sectors: 8000 };
        assert!(farm.disk_space() > 8_000_000_000_000);
    }
}
