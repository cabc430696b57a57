//! Inputs of formats that are large or sealed: a fuzzer makes no checksums, and a corpus is small.

/// Flag: the last 32 bytes become the BLAKE3 of all before.
pub const MENDED: u8 = 1;
/// Flag: two u32 follow, a place and a number of zeroes that belong there.
pub const HOLE: u8 = 2;
/// Most zeroes in a hole.
const HOLE_MAX: usize = 2 << 20;
/// Bytes of BLAKE3.
pub(crate) const CHECKSUM: usize = 32;

/// Reads fields off the front; what is missing is zero.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.bytes(N);
        let mut array = [0; N];
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
}

/// The bytes that an input of flags, hole and content stands for.
pub(crate) fn unpacked(input: &[u8]) -> Vec<u8> {
    let mut fields = Fields(input);
    let flags = fields.u8();
    let hole = if flags & HOLE == 0 { (0, 0) } else { (fields.u32() as usize, fields.u32() as usize) };
    let (before, after) = fields.0.split_at(hole.0.min(fields.0.len()));
    let mut bytes = before.to_vec();
    bytes.resize(before.len() + hole.1.min(HOLE_MAX), 0);
    bytes.extend_from_slice(after);
    if flags & MENDED != 0 {
        mend(&mut bytes);
    }
    bytes
}

/// Puts the checksum at the end right.
pub(crate) fn mend(bytes: &mut [u8]) {
    if let Some((content, checksum)) = bytes.split_last_chunk_mut::<CHECKSUM>() {
        *checksum = *blake3::hash(content).as_bytes();
    }
}
