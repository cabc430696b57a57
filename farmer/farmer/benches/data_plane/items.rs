//! What a piece costs as a plain piece and as a split-parity piece.

use super::store::{self, Buffers};
use super::{Bench, KEPT, LONG, cpu, median, spread};
use archiving::{Scalar, erasure};
use cluster::transfer::ItemType;
use farmer::roles::items::verification::ParityCheck;
use farmer::roles::items::{self, ItemBuffer};
use farming::encoding::PieceInput;
use piece_store::ItemKind;
use primitives::Piece;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

/// Pieces in each store.
const STORED: u64 = 900;
/// Repetitions of a step that is computed.
const REPEATED: u32 = 100;

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// CPU time for one piece.
fn time(mut step: impl FnMut()) -> Duration {
    step();
    let begin = cpu();
    (0..REPEATED).for_each(|_| step());
    (cpu() - begin) / REPEATED
}

/// A piece of noise with a record of scalars.
fn noise() -> Piece {
    let mut piece = Piece::zeroed();
    for (number, chunk) in (0_u64..).zip(piece.record_chunks_mut()) {
        chunk[1..].copy_from_slice(&blake3::hash(&number.to_le_bytes()).as_bytes()[1..]);
    }
    piece
}

impl Bench {
    /// Fetching both forms from caches that hold them, and what either form asks of a processor beside it.
    pub fn items(&self, plain: &Path, split: &Path) {
        store::make(split, STORED, ItemKind::SplitParityPiece);
        let forms = [
            ("piece from a cache of pieces", plain, ItemKind::Piece, ItemType::Piece),
            ("split-parity piece", split, ItemKind::SplitParityPiece, ItemType::SplitParityPiece),
            ("piece from a cache of split-parity pieces", split, ItemKind::SplitParityPiece, ItemType::Piece),
        ];
        println!(
            "| fetched | bytes a piece | wall µs a piece | CPU µs a piece, both ends |\n|---|---|---|---|"
        );
        for (name, path, held, item) in forms {
            let (wall, cpu) = self.fetched(path, held, item);
            println!("| {name} | {} | {:.0} | {:.0} |", item.size(), micros(wall), micros(cpu));
        }
        println!();
        computed();
    }

    /// Wall and CPU time of a piece fetched over one connection.
    fn fetched(&self, path: &Path, held: ItemKind, item: ItemType) -> (Duration, Duration) {
        let indices = spread(STORED, self.plan.pieces.min(STORED as usize));
        let server = self.serving.block_on(store::serve(&store::open(path, held), &self.secret));
        let fetched = self.fetching.block_on(async {
            let mut connection = self.connect(server.address()).await;
            let mut buffers = Buffers::new(item, KEPT);
            let mut times = vec![buffers.fetch(&mut connection, &indices).await];
            let begin = cpu();
            for _ in 0..self.plan.rounds {
                times.push(buffers.fetch(&mut connection, &indices).await);
            }
            let fetched = (self.plan.rounds * indices.len()) as u32;
            let cpu = (cpu() - begin) / fetched;
            (median(times.split_off(1)) / indices.len() as u32, cpu)
        });
        self.serving.block_on(server.drain(LONG));
        fetched
    }
}

fn computed() {
    let piece = noise();
    let item = items::extend(piece.as_bytes()).unwrap();
    let mut buffer = ItemBuffer::zeroed(ItemType::SplitParityPiece);
    buffer.as_bytes_mut().copy_from_slice(&item);
    let PieceInput::SplitParity(split) = buffer.into_input() else { unreachable!() };
    let check = ParityCheck::new();
    let mut scalars = Vec::new();
    let encoder = time(|| {
        let chunks = piece.record_chunks().iter();
        scalars.clear();
        scalars.extend(chunks.map(|chunk| Scalar::from_bytes(chunk).unwrap()));
        erasure::extend_in_place(&mut scalars).unwrap();
        black_box(scalars.iter().map(|scalar| scalar.to_bytes()).fold(0, |sum, bytes| sum ^ bytes[0]));
    });
    let parity = time(|| assert!(check.is_extension(black_box(&split.extended))));
    let taken_out = time(|| drop(black_box(split.piece())));
    let cached = time(|| {
        let item = items::extend(black_box(piece.as_bytes())).unwrap();
        black_box(blake3::hash(&item));
    });
    println!("| computed | CPU µs a piece |\n|---|---|");
    for (name, time) in [
        ("plot-server saves: erasure coding of the record, both conversions included", encoder),
        ("plot-server adds: check of the parity", parity),
        ("plot-server adds: the plain piece taken out, to be checked and to be encoded", 2 * taken_out),
        ("cache adds, once a piece: coding and hash", cached),
    ] {
        println!("| {name} | {:.0} |", micros(time));
    }
    println!();
}
