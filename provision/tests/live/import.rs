//! A node's database is replaced by an imported one, or is not.

use crate::support::{Fixture, Kept};
use provision::apply::{self, Options};
use provision::events::Event;
use provision::import::{self, Import, Imported};
use provision::transfer::Origin;
use std::path::PathBuf;

fn write(path: PathBuf, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A cluster that runs, whose node has a database and a key, and an archive with another database.
async fn cluster_and_archive(with: &str) -> (Fixture, PathBuf) {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    let data = fixture.layout().data().join("dev-node");
    write(data.join("db/table"), "old");
    write(data.join("network/key"), "this node's own");
    let source = fixture.directory.path().join("other-node");
    write(source.join("db/table"), "new");
    write(source.join("network/key"), "another node's");
    write(source.join("db").join(with), "");
    let archive = fixture.directory.path().join("node-db.tar.gz");
    let mut packing = std::process::Command::new("tar");
    packing.arg("-czf").arg(&archive).arg("-C").arg(fixture.directory.path()).arg("other-node");
    assert!(packing.status().unwrap().success());
    (fixture, archive)
}

async fn run(fixture: &Fixture, archive: &std::path::Path, sink: &Kept) -> provision::Result<Vec<Imported>> {
    let cluster = fixture.cluster();
    let hosts = import::node_hosts(&cluster, &[]).unwrap();
    let import = Import { origin: Origin::File(archive.to_path_buf()), sha256: None, rate: None };
    let connections = apply::connect_to(hosts, 1).await;
    import::import_node_db(&cluster, connections, &import, &Options::default(), sink).await
}

/// Nothing is left of an import beside the database.
fn assert_clean(fixture: &Fixture) {
    let names: Vec<_> = std::fs::read_dir(fixture.layout().data())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("dev-node"))
        .collect();
    assert_eq!(names, ["dev-node"]);
    assert!(!fixture.layout().state().join("import-node-db.json").exists());
}

#[tokio::test]
async fn an_imported_database_takes_the_place_of_the_old_one() {
    let (fixture, archive) = cluster_and_archive("more").await;
    let data = fixture.layout().data().join("dev-node");
    let before = fixture.pids().await;
    let sink = Kept::default();
    let imported = run(&fixture, &archive, &sink).await.unwrap();
    assert_eq!((imported.len(), imported[0].sha256.len()), (1, 64));
    assert_eq!(std::fs::read_to_string(data.join("db/table")).unwrap(), "new");
    assert_eq!(std::fs::read_to_string(data.join("network/key")).unwrap(), "this node's own");
    assert_clean(&fixture);
    assert_eq!(fixture.restarted_since(&before).await, ["autonomys-dev-node"]);
    let told = sink
        .0
        .lock()
        .unwrap()
        .iter()
        .any(|event| matches!(event, Event::Transfer { bytes, of, .. } if bytes == of));
    assert!(told, "how far the transfer is was not told");
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn a_node_that_is_not_ready_on_it_has_its_old_database_back() {
    let (fixture, archive) = cluster_and_archive("spoiled").await;
    let data = fixture.layout().data().join("dev-node");
    let before = fixture.pids().await;
    let error = run(&fixture, &archive, &Kept::default()).await.unwrap_err();
    let text = provision::output::error_text(&error);
    assert!(
        text.contains("its old database is back and it runs on that") && text.contains("FATAL"),
        "{text}"
    );
    assert_eq!(std::fs::read_to_string(data.join("db/table")).unwrap(), "old");
    assert!(!data.join("db/spoiled").exists());
    assert!(fixture.status().await.healthy());
    assert_eq!(fixture.restarted_since(&before).await, ["autonomys-dev-node"]);
    // The archive stays, as the error says; nothing hinders an apply.
    assert!(text.contains(&data.with_file_name("dev-node.import").display().to_string()), "{text}");
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn an_import_that_is_killed_anywhere_is_taken_up_again() {
    let (fixture, archive) = cluster_and_archive("more").await;
    let data = fixture.layout().data().join("dev-node");
    for milliseconds in [100, 300, 600, 1000, 1600] {
        let mut import = fixture.provision(&["import-node-db"]);
        let mut import = import.arg(&archive).stderr(std::process::Stdio::null()).spawn().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
        import.kill().unwrap();
        import.wait().unwrap();
        // Each moment has one whole database at least.
        let table = |name: &str| std::fs::read_to_string(data.with_file_name(name).join("db/table"));
        let tables: Vec<_> =
            [table("dev-node"), table("dev-node.before-import")].into_iter().flatten().collect();
        assert!(tables.iter().any(|text| text == "old" || text == "new"), "{tables:?}");
    }
    run(&fixture, &archive, &Kept::default()).await.unwrap();
    assert_eq!(std::fs::read_to_string(data.join("db/table")).unwrap(), "new");
    assert_clean(&fixture);
    assert!(fixture.status().await.healthy());
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn a_swap_that_was_cut_off_keeps_apply_from_starting_the_node() {
    let (fixture, archive) = cluster_and_archive("more").await;
    let data = fixture.layout().data().join("dev-node");
    // As a power cut between the two renames leaves it.
    let import = data.with_file_name("dev-node.import");
    std::fs::create_dir_all(import.join("unpacked/db")).unwrap();
    std::fs::write(import.join("unpacked/db/table"), "new").unwrap();
    std::fs::rename(&data, data.with_file_name("dev-node.before-import")).unwrap();
    let ledger = r#"{"version":1,"origin":"node-db.tar.gz","digest":"00","phase":"swap"}"#;
    std::fs::write(fixture.layout().state().join("import-node-db.json"), ledger).unwrap();
    let error = fixture.apply().await.unwrap_err();
    let text = provision::output::error_text(&error);
    assert!(text.contains("error[import-cut-off]") && text.contains("run the same"), "{text}");
    run(&fixture, &archive, &Kept::default()).await.unwrap();
    assert_eq!(std::fs::read_to_string(data.join("db/table")).unwrap(), "new");
    assert_clean(&fixture);
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}
