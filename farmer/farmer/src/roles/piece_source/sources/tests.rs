use super::*;
use crate::roles::items;
use crate::roles::piece_source::hedging::FetchMetrics;
use farming::encoding::PieceInput;
use parking_lot::Mutex;
use primitives::Piece;
use tokio::time::Instant;

/// Has some pieces, and others from some round on; remembers when it was asked.
struct Scripted {
    has: Vec<(u64, usize)>,
    lies: bool,
    /// When it says that it is late, and when it answers after that.
    late: Option<(Duration, Duration)>,
    is_quick: bool,
    asked: Mutex<Vec<(Instant, Vec<u64>)>>,
}

const NEVER: Duration = Duration::from_secs(1_000_000);

impl Scripted {
    fn new(has: &[(u64, usize)], lies: bool) -> Arc<Self> {
        Arc::new(Self { has: has.to_vec(), lies, late: None, is_quick: true, asked: Mutex::default() })
    }

    fn late(has: &[u64], answers: Duration) -> Arc<Self> {
        let has = has.iter().map(|index| (*index, 0)).collect();
        let late = Some((Duration::from_secs(1), answers));
        Arc::new(Self { has, lies: false, late, is_quick: true, asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<Vec<u64>> {
        self.asked.lock().iter().map(|(_, missing)| missing.clone()).collect()
    }
}

#[async_trait]
impl Source for Arc<Scripted> {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn is_quick(&self) -> bool {
        self.is_quick
    }

    async fn fetch(&self, fetch: &Fetch<'_>) {
        let missing: Vec<u64> = fetch.missing().iter().map(|index| index.0).collect();
        let round = self.asked.lock().len();
        self.asked.lock().push((Instant::now(), missing.clone()));
        // Like a cache, it is asked for a piece once in a round.
        let instance = cluster::contract::InstanceId(ulid::Ulid(Arc::as_ptr(self) as usize as u128));
        let asked: Vec<u64> =
            missing.into_iter().filter(|index| fetch.ask(instance, PieceIndex(*index))).collect();
        if let Some((late, answers)) = self.late.filter(|_| !asked.is_empty()) {
            tokio::time::sleep(late).await;
            let pieces: Vec<_> = asked.iter().map(|index| PieceIndex(*index)).collect();
            fetch.are_late(&pieces);
            tokio::time::sleep(answers).await;
        }
        for (index, from_round) in &self.has {
            if asked.contains(index) && round >= *from_round {
                let mut piece = Piece::zeroed();
                piece.as_bytes_mut()[0] = u8::from(self.lies);
                fetch.put(PieceIndex(*index), piece, &"scripted".into(), std::time::Instant::now());
            }
        }
    }
}

fn first_byte(piece: &PieceInput) -> u8 {
    items::into_piece(piece.clone()).as_bytes()[0]
}

/// Good pieces begin with a zero.
struct FirstByte;

#[async_trait]
impl Check for FirstByte {
    async fn check(&self, mut arrivals: Vec<Arrival>) -> Result<Vec<Arrival>, Vec<Arrival>> {
        arrivals.retain(|arrival| first_byte(&arrival.piece) == 0);
        Ok(arrivals)
    }
}

fn of(sources: &[&Arc<Scripted>]) -> PieceSources {
    PieceSources {
        sources: sources.iter().map(|source| Box::new(Arc::clone(source)) as Box<dyn Source>).collect(),
        check: Arc::new(FirstByte),
        hedging: Arc::new(Hedging::new(FetchMetrics::default())),
        flights: Flights::default(),
    }
}

fn wanted(indices: &[u64]) -> Collection {
    Collection::new(indices.iter().map(|index| PieceIndex(*index)).collect())
}

async fn collect(sources: &PieceSources, collection: &Collection) -> bool {
    sources.collect(collection, &CancellationToken::new()).await
}

fn counted(sources: &PieceSources) -> [u64; 3] {
    let FetchMetrics { hedged, hedges_won, shared } = sources.hedging.metrics();
    [hedged, hedges_won, shared].map(|counter| counter.get())
}

#[tokio::test(start_paused = true)]
async fn each_source_is_asked_for_what_those_before_it_lack() {
    let first = Scripted::new(&[(1, 0), (9, 0)], false);
    let second = Scripted::new(&[(1, 0), (2, 0), (3, 0)], false);
    let third = Scripted::new(&[], false);
    let collection = wanted(&[1, 2, 3]);
    let sources = of(&[&first, &second, &third]);
    assert!(collect(&sources, &collection).await);
    assert_eq!(first.asked(), [[1, 2, 3]]);
    assert_eq!(second.asked(), [[2, 3]]);
    assert!(third.asked().is_empty());
    assert_eq!(collection.into_pieces().len(), 3);
    assert_eq!(counted(&sources), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn bad_pieces_are_had_from_the_next_source() {
    let liar = Scripted::new(&[(1, 0), (2, 0)], true);
    let honest = Scripted::new(&[(1, 0), (2, 0)], false);
    let collection = wanted(&[1, 2]);
    assert!(collect(&of(&[&liar, &honest]), &collection).await);
    assert_eq!(honest.asked(), [[1, 2]]);
    assert!(collection.into_pieces().values().all(|piece| first_byte(piece) == 0));
}

#[tokio::test(start_paused = true)]
async fn waits_grow_and_what_arrived_is_kept() {
    let source = Scripted::new(&[(1, 0), (2, 2), (3, 9)], false);
    let collection = wanted(&[1, 2, 3]);
    assert!(collect(&of(&[&source]), &collection).await);
    let expected: Vec<Vec<u64>> = [vec![vec![1, 2, 3]], vec![vec![2, 3]; 2], vec![vec![3]; 7]].concat();
    assert_eq!(source.asked(), expected);
    let times = source.asked.lock();
    let waits: Vec<u64> = times.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect();
    // Something arrived in rounds 0 and 2: the waits begin anew.
    assert_eq!(waits, [15, 30, 15, 30, 60, 120, 240, 480, 600]);
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_the_wait() {
    let source = Scripted::new(&[], false);
    let cancelled = CancellationToken::new();
    let later = cancelled.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        later.cancel();
    });
    let start = Instant::now();
    assert!(!of(&[&source]).collect(&wanted(&[7]), &cancelled).await);
    assert_eq!(start.elapsed(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn what_a_source_is_late_with_comes_from_the_next_quick_one() {
    let hung = Scripted::late(&[1, 2, 3], NEVER);
    let costly =
        Arc::new(Scripted { is_quick: false, ..Arc::into_inner(Scripted::new(&[(1, 0)], false)).unwrap() });
    let next = Scripted::new(&[(1, 0), (2, 0)], false);
    let last = Scripted::new(&[(3, 0)], false);
    let sources = of(&[&hung, &costly, &next, &last]);
    let start = Instant::now();
    assert!(collect(&sources, &wanted(&[1, 2, 3])).await);
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    assert_eq!(counted(&sources), [3, 3, 0]);
    assert!(costly.asked().is_empty());
    assert_eq!((next.asked(), last.asked()), (vec![vec![1, 2, 3]], vec![vec![3]]));
}

#[tokio::test(start_paused = true)]
async fn the_first_good_answer_counts_not_the_first() {
    let slow = Scripted::late(&[1], Duration::from_secs(5));
    let liar = Scripted::new(&[(1, 0)], true);
    let sources = of(&[&slow, &liar]);
    let (start, collection) = (Instant::now(), wanted(&[1]));
    assert!(collect(&sources, &collection).await);
    assert_eq!(start.elapsed(), Duration::from_secs(6));
    assert_eq!(first_byte(&collection.into_pieces()[&PieceIndex(1)]), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_second_source_is_hedged_too_and_no_more_than_a_share_is_asked_twice() {
    let all: Vec<u64> = (0..200).collect();
    let has: Vec<(u64, usize)> = all.iter().map(|index| (*index, 0)).collect();
    let hung = Scripted::late(&all, Duration::from_secs(60));
    let also_hung = Scripted::late(&all, NEVER);
    let good = Scripted::new(&has, false);
    let sources = of(&[&hung, &also_hung, &good]);
    let start = Instant::now();
    assert!(collect(&sources, &wanted(&all)).await);
    // What may not be asked twice waits for the first; what may is used up by the second.
    assert_eq!(start.elapsed(), Duration::from_secs(61));
    assert_eq!((also_hung.asked().len(), also_hung.asked()[0].len()), (1, 48));
    assert!(good.asked().is_empty());
    // With an allowance for two, both are passed over.
    let sources = of(&[&hung, &also_hung, &good]);
    let start = Instant::now();
    assert!(collect(&sources, &wanted(&[1, 2, 3])).await);
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(counted(&sources), [6, 3, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_two_sectors_want_is_fetched_once() {
    let source = Scripted::late(&[1, 2, 3], Duration::from_secs(1));
    let sources = of(&[&source]);
    let (one, other) = (wanted(&[1, 2]), wanted(&[2, 3]));
    assert_eq!(tokio::join!(collect(&sources, &one), collect(&sources, &other)), (true, true));
    assert_eq!(counted(&sources)[2], 1);
    // A hedge asks the source again, which has been asked in that round already.
    let asked = source.asked();
    assert_eq!(asked[..2], [vec![1, 2], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_takes_over_when_that_one_gives_up() {
    let source = Scripted::late(&[1], Duration::from_secs(10));
    let sources = of(&[&source]);
    let cancelled = CancellationToken::new();
    let (one, other) = (wanted(&[1]), wanted(&[1]));
    let start = Instant::now();
    let cancel = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        cancelled.cancel();
    };
    let (first, second, ()) =
        tokio::join!(sources.collect(&one, &cancelled), collect(&sources, &other), cancel);
    assert_eq!((first, second), (false, true));
    assert_eq!(start.elapsed(), Duration::from_secs(5 + 11));
    assert_eq!(counted(&sources)[2], 0);
}
