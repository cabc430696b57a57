use super::*;
use crate::transfer::in_thread;
use std::path::PathBuf;

/// A member as an attacker may write it: any name, kind and link target.
fn member(name: &str, kind: u8, link: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", contents.len()).as_bytes());
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = contents.len().next_multiple_of(512) - contents.len();
    [header.as_slice(), contents, &vec![0; padding]].concat()
}

fn file(name: &str, contents: &[u8]) -> Vec<u8> {
    member(name, b'0', "", contents)
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

fn database() -> Vec<u8> {
    archive(&[member("db/", b'5', "", b""), file("db/full/table", &[7; 1000]), file("segments/0", b"one")])
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("temporary directory") }
    }

    fn target(&self) -> PathBuf {
        self.directory.path().join("import/unpacked")
    }

    async fn unpack(&self, bytes: &[u8]) -> Result<Unpacked> {
        let (archive, into) = (self.directory.path().join("archive"), self.target());
        std::fs::write(&archive, bytes).expect("written");
        let wanted = ["db".to_string(), "segments".to_string()];
        in_thread(move |watch| unpack(&archive, &into, &wanted, watch), &mut |_, _| {}).await
    }

    /// It is refused for this reason, and nothing is left.
    async fn refuses(&self, bytes: &[u8], why: &str) {
        let error = self.unpack(bytes).await.expect_err("must be refused").to_string();
        assert!(error.contains(why), "{why}: {error}");
        assert!(!self.target().exists());
        let mut left: Vec<_> = std::fs::read_dir(self.directory.path())
            .expect("there")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        left.sort();
        assert!(left == ["archive"] || left == ["archive", "import"], "{left:?}");
    }
}

#[tokio::test]
async fn plain_and_packed_archives_give_the_same() {
    let gz = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&database()).expect("taken");
        encoder.finish().expect("whole")
    };
    let zst = zstd::encode_all(&database()[..], 1).expect("whole");
    // Two frames, as parallel compressors write them.
    let whole = database();
    let (first, second) = whole.split_at(700);
    let frames =
        [zstd::encode_all(first, 1).expect("whole"), zstd::encode_all(second, 1).expect("whole")].concat();
    for bytes in [database(), gz, zst, frames] {
        let place = Place::new();
        assert_eq!(place.unpack(&bytes).await.expect("unpacked"), Unpacked { files: 2, bytes: 1003 });
        assert_eq!(std::fs::read(place.target().join("db/full/table")).expect("there"), [7; 1000]);
        assert_eq!(std::fs::read(place.target().join("segments/0")).expect("there"), b"one");
    }
}

#[tokio::test]
async fn one_directory_around_it_is_taken_off_and_what_is_not_the_database_left_out() {
    let place = Place::new();
    let around = archive(&[
        file("./node/db/a", b"a"),
        file("./node/network/secret_ed25519", b"s"),
        file("./node/x", b""),
    ]);
    place.unpack(&around).await.expect("unpacked");
    let names: Vec<_> =
        std::fs::read_dir(place.target()).expect("there").map(|e| e.expect("readable").file_name()).collect();
    assert_eq!(names, ["db"]);
    assert_eq!(std::fs::read(place.target().join("db/a")).expect("there"), b"a");
    place.refuses(&archive(&[file("a/x", b""), file("b/y", b"")]), "no directory db in it, but a, b").await;
}

#[tokio::test]
async fn whatever_leads_out_is_refused() {
    let place = Place::new();
    let outside = place.directory.path().join("outside");
    let absolute = outside.display().to_string();
    for (bytes, why) in [
        (archive(&[file(&absolute, b"x")]), "its name is absolute"),
        (archive(&[file("../outside", b"x")]), "leads upwards"),
        (archive(&[file("db/../../../outside", b"x")]), "leads upwards"),
        (archive(&[member("db/..", b'5', "", b"")]), "leads upwards"),
        (archive(&[member("db", b'2', "/tmp", b""), file("db/outside", b"x")]), "a symbolic link"),
        (archive(&[member("db/l", b'2', "a", b"")]), "a symbolic link"),
        (archive(&[member("db/l", b'1', "/etc/passwd", b"")]), "a hard link"),
        (archive(&[member("db/d", b'3', "", b"")]), "a device"),
        (archive(&[member("db/d", b'4', "", b"")]), "a device"),
        (archive(&[member("db/p", b'6', "", b"")]), "a pipe"),
        (archive(&[member("db/s", b'S', "", b"")]), "--sparse"),
        (archive(&[member("db/?", b'Z', "", b"")]), "unknown kind"),
        (archive(&[file("db/a", b"x"), file("db/a", b"y")]), "twice"),
        (archive(&[file("db/a", b"x"), file("db/a/b", b"y")]), "db/a"),
        (archive(&[file("", b"x")]), "no name"),
        // Names in extended headers and GNU's long names are held to the same.
        (archive(&[member("x", b'x', "", b"19 path=../outside\n"), file("db/a", b"x")]), "leads upwards"),
        (archive(&[member("x", b'L', "", b"/outside\0"), file("db/a", b"x")]), "absolute"),
        (archive(&[member("x", b'x', "", b"29 GNU.sparse.name=outside12\n"), file("db/a", b"x")]), "sparse"),
    ] {
        place.refuses(&bytes, why).await;
        assert!(!outside.exists());
    }
}

#[tokio::test]
async fn damaged_and_endless_archives_are_refused() {
    let place = Place::new();
    place.refuses(b"", "ends in its middle").await;
    place.refuses(b"not an archive", "ends in its middle").await;
    place.refuses(&[b'x'; 2048], "no tar archive").await;
    let whole = database();
    for cut in [512, 1500, whole.len() - 1024] {
        place.refuses(&whole[..cut], "ends in its middle").await;
    }
    let mut damaged = whole.clone();
    damaged[3] ^= 1;
    place.refuses(&damaged, "damaged").await;
    place.refuses(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3], "").await;
    // A name or header that is to be held in memory.
    place.refuses(&archive(&[member("x", b'L', "", &[b'a'; 5000])]), "at most 4096").await;
    place.refuses(&archive(&[member("x", b'x', "", &[b'1'; 70_000])]), "at most 65536").await;
    for record in ["9", "999 path=a\n", "11 size=x12\n", "x path=a\n"] {
        place.refuses(&archive(&[member("x", b'x', "", record.as_bytes()), file("db/a", b"")]), "").await;
    }
    // Sizes beyond anything: of a header in GNU's base 256, and of an extended header.
    let mut huge = file("db/a", b"");
    huge[124..136].fill(0xff);
    huge[148..156].copy_from_slice(b"        ");
    let sum: u32 = huge[..512].iter().map(|byte| u32::from(*byte)).sum();
    huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    place.refuses(&archive(&[huge]), "damaged").await;
    let size = b"29 size=18446744073709551615\n";
    place.refuses(&archive(&[member("x", b'x', "", size), file("db/a", b"")]), "").await;
}

#[tokio::test]
async fn sizes_and_names_of_extended_headers_count() {
    let place = Place::new();
    let extended = member("x", b'x', "", b"19 path=db/long-na\n10 size=3\n");
    let mut short = file("db/short", b"abc");
    // The header's own size is wrong, as it is for files of more than 8 GiB.
    short[124..136].copy_from_slice(b"00000000000\0");
    short[148..156].copy_from_slice(b"        ");
    let sum: u32 = short[..512].iter().map(|byte| u32::from(*byte)).sum();
    short[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let unpacked = place.unpack(&archive(&[extended, short, file("db/next", b"n")])).await.expect("unpacked");
    assert_eq!(unpacked, Unpacked { files: 2, bytes: 4 });
    assert_eq!(std::fs::read(place.target().join("db/long-na")).expect("there"), b"abc");
}

/// What GNU tar really writes, a file beyond the 100 bytes of a plain name included.
#[tokio::test]
async fn archives_of_gnu_tar_in_each_format() {
    for format in ["gnu", "pax", "ustar"] {
        let place = Place::new();
        let source = place.directory.path().join("source");
        let long = format!("db/{}/{}", "d".repeat(90), "f".repeat(90));
        let path = source.join(&long);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
        std::fs::write(&path, "long").expect("written");
        let output = std::process::Command::new("tar")
            .args(["--format", format, "-cf", "-", "-C"])
            .arg(&source)
            .arg("db")
            .output()
            .expect("tar runs");
        place.unpack(&output.stdout).await.expect("unpacked");
        assert_eq!(std::fs::read(place.target().join(&long)).expect("there"), b"long", "{format}");
    }
}
