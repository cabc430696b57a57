//! The tar format (POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU long names), read with a bound on everything that is held in
//! memory: names and extended headers as well as members.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const BLOCK: usize = 512;
/// Longest name, in bytes (`PATH_MAX`).
const NAME_MAX: u64 = 4096;
/// Longest extended header, in bytes.
const EXTENDED_MAX: u64 = 64 << 10;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// A member of an archive.
#[derive(Debug)]
pub(super) struct Member {
    name: Vec<u8>,
    pub(super) kind: Kind,
    /// Bytes of a file.
    pub(super) size: u64,
}

impl Member {
    /// Its name for messages.
    pub(super) fn shown(&self) -> String {
        format!("member {:?}", String::from_utf8_lossy(&self.name))
    }

    /// Where it goes below `directory`.
    pub(super) fn below(&self, directory: &Path) -> Result<PathBuf, &'static str> {
        if self.name.starts_with(b"/") {
            return Err("its name is absolute");
        }
        if self.name.contains(&0) {
            return Err("its name has a zero byte in it");
        }
        let mut path = directory.to_path_buf();
        for part in self.name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err("its name leads upwards"),
                part => path.push(OsStr::from_bytes(part)),
            }
        }
        if path == directory && self.kind == Kind::File {
            return Err("it has no name");
        }
        Ok(path)
    }
}

/// An archive that is read from front to back.
pub(super) struct Tar<R> {
    stream: R,
    /// Bytes of the current member that were not read yet.
    left: u64,
    /// Bytes between its end and the next header.
    padding: u64,
}

fn wrong(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

fn no_archive() -> io::Error {
    wrong("it is no tar archive, nor one in gzip or zstd, or it is damaged")
}

fn cut(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => wrong("it ends in its middle"),
        _ => error,
    }
}

/// What headers before a member's own say of it.
#[derive(Default)]
struct Said {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> Tar<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, left: 0, padding: 0 }
    }

    /// Reads of the current member.
    pub(super) fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let length = buffer.len() as u64;
        self.left = self.left.checked_sub(length).ok_or_else(|| wrong("read beyond a member"))?;
        self.stream.read_exact(buffer).map_err(cut)
    }

    /// The next member; what was not read of the last one is passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut said = Said::default();
        // Bounded: each of these headers takes at least a block, and nothing is kept of them but the last.
        loop {
            self.skip()?;
            let mut block = [0; BLOCK];
            self.stream.read_exact(&mut block).map_err(cut)?;
            if block == [0; BLOCK] {
                return Ok(None);
            }
            let header = Header::read(&block)?;
            self.enter(header.size)?;
            match header.kind {
                b'L' => {
                    let mut name = self.whole(NAME_MAX, "a name")?;
                    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
                    said.name = Some(name);
                }
                // What a long link points at is of no use: links are refused.
                b'K' | b'g' | b'V' => {
                    self.whole(EXTENDED_MAX, "an extended header")?;
                }
                b'x' => extended(&self.whole(EXTENDED_MAX, "an extended header")?, &mut said)?,
                kind => return self.member(header, kind, said).map(Some),
            }
        }
    }

    fn member(&mut self, header: Header, kind: u8, said: Said) -> io::Result<Member> {
        let name = said.name.unwrap_or(header.name);
        let size = said.size.unwrap_or(header.size);
        let shown = String::from_utf8_lossy(&name).into_owned();
        let refused = |what: &str| {
            Err(wrong(format!("member {shown:?} is {what}; a database has none, so it is refused")))
        };
        let kind = match kind {
            b'0' | b'7' | 0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | b'7' | 0 => Kind::File,
            b'5' => Kind::Directory,
            b'1' => return refused("a hard link"),
            b'2' => return refused("a symbolic link"),
            b'3' | b'4' => return refused("a device"),
            b'6' => return refused("a pipe"),
            b'S' => {
                return Err(wrong(format!("member {shown:?} is sparse: make the archive without --sparse")));
            }
            other => {
                return Err(wrong(format!("member {shown:?} is of an unknown kind {:?}", char::from(other))));
            }
        };
        self.enter(size)?;
        Ok(Member { name, kind, size: if kind == Kind::File { size } else { 0 } })
    }

    /// What follows is `size` bytes and the rest of their last block.
    fn enter(&mut self, size: u64) -> io::Result<()> {
        let blocks = size.div_ceil(BLOCK as u64).checked_mul(BLOCK as u64).ok_or_else(no_archive)?;
        (self.left, self.padding) = (size, blocks - size);
        Ok(())
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left.checked_add(self.padding).ok_or_else(no_archive)?;
        (self.left, self.padding) = (0, 0);
        match io::copy(&mut (&mut self.stream).take(rest), &mut io::sink())? {
            skipped if skipped == rest => Ok(()),
            _ => Err(wrong("it ends in its middle")),
        }
    }

    /// All of a short member.
    fn whole(&mut self, max: u64, what: &str) -> io::Result<Vec<u8>> {
        if self.left > max {
            return Err(wrong(format!("{what} of {} bytes, at most {max} are allowed", self.left)));
        }
        let mut bytes = vec![0; usize::try_from(self.left).map_err(|_| no_archive())?];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

struct Header {
    name: Vec<u8>,
    size: u64,
    kind: u8,
}

impl Header {
    fn read(block: &[u8; BLOCK]) -> io::Result<Self> {
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        // The checksum counts as blanks in its own sum.
        let own: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
        if number(&block[148..156]) != Some(sum - own + 8 * u64::from(b' ')) {
            return Err(no_archive());
        }
        let text = |range: std::ops::Range<usize>| {
            let field = &block[range];
            field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())].to_vec()
        };
        let mut name = text(0..100);
        // GNU's own format has other things where ustar has the beginning of the name.
        let prefix = if &block[257..263] == b"ustar\0" { text(345..500) } else { Vec::new() };
        if !prefix.is_empty() {
            name = [prefix.as_slice(), b"/", &name].concat();
        }
        let size = number(&block[124..136]).ok_or_else(no_archive)?;
        Ok(Self { name, size, kind: block[156] })
    }
}

/// A number in octal digits, or in GNU's base 256 where the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let mut bytes =
            field.iter().copied().enumerate().map(|(at, byte)| if at == 0 { byte & 0x7f } else { byte });
        return bytes.try_fold(0_u64, |number, byte| number.checked_mul(256)?.checked_add(u64::from(byte)));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// Reads `LENGTH KEY=VALUE\n` records.
fn extended(mut bytes: &[u8], said: &mut Said) -> io::Result<()> {
    let broken = || wrong("an extended header is damaged");
    while !bytes.is_empty() {
        let blank = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length: usize = std::str::from_utf8(&bytes[..blank])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(broken)?;
        let (record, rest) = bytes.split_at_checked(length).ok_or_else(broken)?;
        let record =
            record.get(blank + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(broken)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" if value.len() as u64 > NAME_MAX => return Err(wrong("a name is too long")),
            b"path" => said.name = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                said.size = Some(size.ok_or_else(broken)?);
            }
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(wrong("it has sparse members: make the archive without --sparse"));
            }
            _ => {}
        }
        bytes = rest;
    }
    Ok(())
}
