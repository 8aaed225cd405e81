//! A file that looks writable and is never written: what the database wants to
//! change while it looks into a file (it repairs what a crash has left, and notes
//! that it is open) stays in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const PAGE: u64 = 4096;

/// The file below, and what was written over it.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    /// Of the file, only so much still counts: it may have been cut and grown again.
    from_file: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// Over this file, which must be open for reading.
    pub(super) fn new(file: File) -> Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, over: Mutex::new(Over { len, from_file: len, pages: BTreeMap::new() }) })
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as the file has it; zeros behind its end.
    fn below(&self, from_file: u64, page: u64) -> Result<Box<[u8]>> {
        let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
        let there = from_file.saturating_sub(page * PAGE).min(PAGE) as usize;
        self.file.read_exact_at(&mut bytes[..there], page * PAGE)?;
        Ok(bytes)
    }
}

/// The parts of pages that `length` bytes from `offset` touch: the page, where
/// in it, and how far from `offset` that is.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let end = offset + length as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (page, from) = (at / PAGE, at % PAGE);
        let to = (from + (end - at)).min(PAGE);
        let part = (page, from as usize..to as usize, (at - offset) as usize);
        at += to - from;
        Some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64> {
        Ok(self.over().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let over = self.over();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > over.len) {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the file is too short"));
        }
        for (page, within, at) in parts(offset, out.len()) {
            let target = &mut out[at..at + within.len()];
            match over.pages.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[within]),
                None => target.copy_from_slice(&self.below(over.from_file, page)?[within]),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut over = self.over();
        over.from_file = over.from_file.min(len);
        over.pages.split_off(&len.div_ceil(PAGE));
        if !len.is_multiple_of(PAGE)
            && let Some(last) = over.pages.get_mut(&(len / PAGE))
        {
            last[(len % PAGE) as usize..].fill(0);
        }
        over.len = len;
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut over = self.over();
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > over.len) {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the file is too short"));
        }
        for (page, within, at) in parts(offset, data.len()) {
            if !over.pages.contains_key(&page) {
                let below = self.below(over.from_file, page)?;
                over.pages.insert(page, below);
            }
            if let Some(bytes) = over.pages.get_mut(&page) {
                bytes[within.clone()].copy_from_slice(&data[at..at + within.len()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The overlay is to a file what a vector is to its copy, whatever is done to it.
    #[test]
    fn it_behaves_like_a_copy_and_leaves_the_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let original: Vec<u8> = (0..20_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        std::fs::write(&path, &original).unwrap();
        let overlay = Overlay::new(File::open(&path).unwrap()).unwrap();
        let mut model = original.clone();
        let mut draw = 1_u64;
        let mut below = |n: u64| {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (draw >> 33) % n
        };
        for round in 0..3_000 {
            match below(4) {
                0 if round % 5 == 0 => {
                    let len = below(40_000);
                    overlay.set_len(len).unwrap();
                    model.resize(len as usize, 0);
                }
                1 => {
                    let (offset, length) = (below(40_000), below(9_000) as usize);
                    let data = vec![round as u8; length];
                    let fits = offset as usize + length <= model.len();
                    assert_eq!(overlay.write(offset, &data).is_ok(), fits);
                    if fits {
                        model[offset as usize..][..length].copy_from_slice(&data);
                    }
                }
                _ => {
                    let (offset, length) = (below(40_000) as usize, below(9_000) as usize);
                    let mut data = vec![0; length];
                    match overlay.read(offset as u64, &mut data) {
                        Ok(()) => assert_eq!(data, model[offset..][..length]),
                        Err(_) => assert!(offset + length > model.len()),
                    }
                }
            }
            assert_eq!(overlay.len().unwrap(), model.len() as u64);
        }
        assert_eq!(std::fs::read(&path).unwrap(), original);
    }
}
