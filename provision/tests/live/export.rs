//! A history's pieces are exported, verified and handed to the full-piece cache.

use crate::support::{Fixture, Kept};
use provision::apply::Options;
use provision::events::Event;
use provision::{export, import};

/// Stands in for the exporter: says something, makes a store, and fails while it is told to.
const EXPORTER: &str = r#"#!/bin/sh
while [ $# -gt 1 ]; do [ "$1" = --output ] && out=$2; [ "$1" = --node-url ] && url=$2; shift; done
echo "archiving the blocks of $url" >&2
mkdir -p "$out/extents"
[ ! -e "$out/fail" ] || { rm "$out/fail"; echo "the node is gone" >&2; exit 69; }
echo pieces > "$out/extents/0"
echo journal > "$out/segments"
"#;

async fn run(fixture: &Fixture, sink: &Kept) -> provision::Result<export::Exported> {
    let cluster = fixture.cluster();
    let source = import::node_hosts(&cluster, &[]).unwrap()[0];
    let receivers = export::receivers(&cluster, &[]).unwrap();
    export::export_piece(&cluster, source, receivers, &Options::default(), sink).await
}

#[tokio::test]
async fn exported_pieces_take_the_place_of_a_caches_store() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    let cache = fixture.layout().data().join("full-piece");
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::write(cache.join("old"), "").unwrap();
    let error = run(&fixture, &Kept::default()).await.unwrap_err();
    assert!(provision::output::error_text(&error).contains("cargo build --release -p farmer"), "{error}");

    fixture.add_binary("autonomys-export-piece", EXPORTER);
    let store = fixture.layout().data().join("exported-pieces");
    std::fs::create_dir_all(&store).unwrap();
    std::fs::write(store.join("fail"), "").unwrap();
    let error = run(&fixture, &Kept::default()).await.unwrap_err();
    let text = provision::output::error_text(&error);
    assert!(text.contains("the node is gone") && text.contains("run the same command again"), "{text}");
    assert!(cache.join("old").exists());

    let (before, sink) = (fixture.pids().await, Kept::default());
    let exported = run(&fixture, &sink).await.unwrap();
    assert_eq!((exported.store, exported.plotters.len()), (store, 1));
    assert_eq!(std::fs::read_to_string(cache.join("extents/0")).unwrap(), "pieces\n");
    assert!(cache.join("segments").exists() && !cache.join("old").exists());
    assert_eq!(fixture.restarted_since(&before).await, ["autonomys-full-piece"]);
    let said = |words: &str| {
        let events = sink.0.lock().unwrap();
        events
            .iter()
            .any(|event| matches!(event, Event::StepProgress { message, .. } if message.contains(words)))
    };
    assert!(said("archiving the blocks of ws://") && said("all pieces are valid"));
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}
