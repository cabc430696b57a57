//! Tables, the canonical order and proofs at a small K.

use super::oracle::{Oracle, metadata_bits};
use super::{SCHEDULES, SMALL_K, pos_seed, small};
use kernels::pipeline::inspect::Entry;
use kernels::sizes::{BUCKET_CAPACITY, RECORD_CHUNKS};
use kernels::{Kernel, RecordStatus, Sizes, shim::ShimDevice};

const BC: u32 = 119 * 127;

/// y and metadata of an entry, as the oracle has them.
fn value(table: usize, bucket: usize, [high, low, rest, _]: &Entry) -> (u32, u128) {
    let place = rest & 0x3fff;
    let (row, column) = (place >> 7, place & 127);
    let bits = u128::from(*high) << 48 | u128::from(*low) << 16 | u128::from(rest >> 16);
    (bucket as u32 * BC + row * 127 + column, bits >> (80 - metadata_bits(SMALL_K, table)))
}

/// An entry with its parents: y and metadata of each.
type Family = [(u32, u128); 3];

fn families(table: usize, entries: &[Vec<Entry>], parents: &[Vec<Entry>]) -> Vec<Family> {
    let family = |bucket: usize, entry: &Entry| {
        let link = entry[3];
        let left = (link >> 18) as usize;
        let parent = |bucket: usize, slot: u32| {
            value(table - 1, bucket, &parents[bucket][slot as usize % BUCKET_CAPACITY])
        };
        [value(table, bucket, entry), parent(left, link >> 9), parent(left + 1, link)]
    };
    let all = entries.iter().enumerate();
    let mut families: Vec<Family> =
        all.flat_map(|(bucket, entries)| entries.iter().map(move |entry| family(bucket, entry))).collect();
    families.sort_unstable();
    families
}

fn expected_families(oracle: &Oracle, table: usize) -> Vec<Family> {
    let parents = oracle.table(table - 1);
    let of = |position: u32| (parents[position as usize].y, parents[position as usize].metadata);
    let entries = oracle.table(table).iter();
    let mut families: Vec<Family> = entries
        .map(|entry| [(entry.y, entry.metadata), of(entry.parents[0]), of(entry.parents[1])])
        .collect();
    families.sort_unstable();
    families
}

fn check_first_table(oracle: &Oracle, entries: &[Vec<Entry>]) {
    let all = entries.iter().enumerate();
    let mut found: Vec<(u32, u128)> =
        all.flat_map(|(bucket, entries)| entries.iter().map(move |entry| value(1, bucket, entry))).collect();
    found.sort_unstable();
    let expected: Vec<(u32, u128)> = oracle.table(1).iter().map(|entry| (entry.y, entry.metadata)).collect();
    assert!(found == expected, "table 1");
}

#[test]
fn shim_tables_are_the_oracles_in_every_order_of_threads() {
    let seeds = [pos_seed("kernels/tables/0"), pos_seed("kernels/tables/1")];
    let oracles = seeds.map(|seed| Oracle::new(SMALL_K, &seed));
    for schedule in SCHEDULES {
        let mut pipeline = small(schedule, seeds.len());
        pipeline.begin(&seeds).unwrap();
        let mut before: Vec<Vec<Vec<Entry>>> = Vec::new();
        for table in 1..=7 {
            pipeline.make_table(table).unwrap();
            if table == 7 {
                break;
            }
            let found: Vec<_> = (0..2).map(|record| pipeline.table(table, record).unwrap()).collect();
            for (record, oracle) in oracles.iter().enumerate() {
                match table {
                    1 => check_first_table(oracle, &found[record]),
                    _ => assert!(
                        families(table, &found[record], &before[record]) == expected_families(oracle, table),
                        "table {table}, schedule {schedule}"
                    ),
                }
            }
            before = found;
        }
        for (record, oracle) in oracles.iter().enumerate() {
            let mut found: Vec<u32> = pipeline.candidates(record).unwrap().iter().map(|[y, _]| *y).collect();
            found.sort_unstable();
            let expected: Vec<u32> = oracle.table(7).iter().map(|entry| entry.y).collect();
            assert!(found == expected, "table 7, schedule {schedule}");
        }
        assert!(pipeline.statuses().unwrap().iter().all(|s| *s == RecordStatus::Encoded { proofs: 0 }));
    }
}

#[test]
fn shim_proofs_are_the_first_in_canonical_order() {
    let seeds = [pos_seed("kernels/proofs/0"), pos_seed("kernels/proofs/1")];
    let oracles = seeds.map(|seed| Oracle::new(SMALL_K, &seed));
    for schedule in SCHEDULES {
        let mut pipeline = small(schedule, seeds.len());
        pipeline.begin(&seeds).unwrap();
        pipeline.make_tables().unwrap();
        pipeline.find_proofs().unwrap();
        pipeline.hash_proofs().unwrap();
        let statuses = pipeline.statuses().unwrap();
        for (record, oracle) in oracles.iter().enumerate() {
            let mut ties = 0;
            let expected: Vec<(u16, Vec<u8>)> = (0..=u16::MAX)
                .filter_map(|s_bucket| {
                    let candidates = oracle.candidates(s_bucket);
                    ties += u32::from(candidates.get(1).is_some_and(|next| next.y == candidates[0].y));
                    Some((s_bucket, oracle.proof(s_bucket)?))
                })
                .collect();
            assert_eq!(statuses[record], RecordStatus::Encoded { proofs: expected.len() as u32 });
            // That many would not be resolved rightly by chance.
            assert!(ties > 100, "{ties} ties");
            assert_eq!(pipeline.ties(record).unwrap(), ties);
            let found = pipeline.proofs(record).unwrap();
            assert_eq!(found.len(), expected.len().min(RECORD_CHUNKS));
            for ((s_bucket, proof, hash), (expected_s_bucket, expected)) in found.iter().zip(&expected) {
                assert_eq!(s_bucket, expected_s_bucket);
                assert!(proof == expected, "proof of s-bucket {s_bucket}, schedule {schedule}");
                assert_eq!(hash, blake3::hash(proof).as_bytes(), "s-bucket {s_bucket}");
            }
        }
    }
}

/// Entries with these places (row << 7 | column), metadata of table 1.
fn bucket(places: impl Iterator<Item = u32>) -> Vec<Entry> {
    places.enumerate().map(|(x, place)| [(x as u32) << 16, 0, place, 0]).collect()
}

/// Matches of hand-made buckets: every entry of bucket 0 with every one of bucket 1 whose place is a target of it.
fn matches_of(left: Vec<Entry>, right: Vec<Entry>) -> (RecordStatus, usize) {
    let mut pipeline = small(1, 1);
    pipeline.begin(&[pos_seed("kernels/by-hand")]).unwrap();
    let mut buckets = vec![Vec::new(); Sizes { k: SMALL_K }.buckets()];
    (buckets[0], buckets[1]) = (left, right);
    pipeline.set_table(1, 0, &buckets).unwrap();
    pipeline.make_table(2).unwrap();
    let children = pipeline.table(2, 0).unwrap().iter().map(Vec::len).sum();
    (pipeline.statuses().unwrap()[0], children)
}

const SOUND: RecordStatus = RecordStatus::Encoded { proofs: 0 };

#[test]
fn shim_matching_finds_every_target_and_every_equal_y() {
    // Target m of an entry at row 118, column 126 of an even bucket: rows and columns wrap around.
    let target = |m: u32| (((118 + m) % 119) << 7) | ((126 + 4 * m * m) % 127);
    let last = 118 << 7 | 126;
    assert_eq!(matches_of(bucket([last].into_iter()), bucket((0..64).map(target))), (SOUND, 64));
    // Nothing but the targets.
    let others = (0..119 * 127)
        .map(|r| ((r / 127) << 7) | (r % 127))
        .filter(|place| (0..64).all(|m| target(m) != *place));
    let others: Vec<u32> = others.collect();
    for places in others.chunks(BUCKET_CAPACITY) {
        assert_eq!(matches_of(bucket([last].into_iter()), bucket(places.iter().copied())), (SOUND, 0));
    }
    // 300 entries, so that two tags are of two slots each, of which five places are 12 times there.
    let places =
        (0..300).map(|index| if index % 25 < 5 { target(index % 5) } else { others[index as usize] });
    assert_eq!(matches_of(bucket([last, last].into_iter()), bucket(places)), (SOUND, 2 * 60));
}

#[test]
fn shim_what_does_not_fit_is_said_and_not_truncated() {
    let place = |m: u32| (m << 7) | ((4 * m * m) % 127);
    // More equal y than there is room for.
    let (status, _) = matches_of(bucket([0].into_iter()), bucket((0..80).map(|_| place(3))));
    assert_eq!(status, RecordStatus::Exceptional(4));
    // More matches than the queue has room for.
    let (status, _) = matches_of(bucket((0..512).map(|_| 0)), bucket((0..64).map(place)));
    assert_eq!(status, RecordStatus::Exceptional(2));
    // As many as it has.
    let (status, children) = matches_of(bucket((0..12).map(|_| 0)), bucket((0..56).map(place)));
    assert_eq!((status, children), (SOUND, 672));
    // More entries in a bucket than it can hold: all children of equal parents are the same.
    let equal = |count: u32| (0..count).map(|_| [0, 0, 0, 0]).collect::<Vec<Entry>>();
    let right = |count: u32| (0..count).map(|_| [0, 0, place(3), 0]).collect::<Vec<Entry>>();
    assert_eq!(matches_of(equal(86), right(6)).0, RecordStatus::Exceptional(1));
    assert_eq!(matches_of(equal(85), right(6)), (SOUND, 510));
}

#[test]
fn shim_blocks_have_the_threads_that_the_host_gives_them() {
    for k in [16, 20] {
        let device = ShimDevice::new(k, 0);
        for kernel in Kernel::ALL {
            assert_eq!(device.threads(*kernel).unwrap(), kernel.threads(Sizes { k }), "{}", kernel.name());
        }
    }
}
