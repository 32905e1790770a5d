//! Plans that are larger than memory: constants that are read from storage while they are used.
//!
//! A [`Stream`] is a [`Source`] over a [`Storage`]: a file, an SD card, a block device. Of the plan only its
//! [head](crate::plan::format::Header::head_bytes) is in memory (steps, vocabulary, checksums) and a buffer of fixed size, through
//! which the weights pass. Storage is read by blocks of 64 KiB, each of which is checked before its numbers are used. While the
//! panels of a linear are multiplied the next ones are read, where the storage can do so.
//!
//! ```no_run
//! use cliptext::plan::format::{HEADER, Header};
//! use cliptext::stream::{BLOCKS, FileStorage, Storage, Stream};
//! use cliptext::{AlignedBytes, Encoder, Input, Program, threads::Solo};
//!
//! let mut card = FileStorage::new(std::fs::File::open("sd15.plan")?)?;
//! let mut front = [0; HEADER];
//! card.read(0, &mut front)?;
//! let mut head = AlignedBytes::zeroed(Header::read(&front)?.head_bytes() as usize);
//! card.read(0, &mut head)?;
//!
//! let program = Program::load(&head)?;
//! let mut buffer = AlignedBytes::zeroed(Stream::<FileStorage>::buffer_bytes(&program, BLOCKS)?);
//! let stream = Stream::new(&program, card, &mut buffer)?;
//! let mut arena = AlignedBytes::zeroed(program.arena_bytes(1));
//! let mut encoder = Encoder::over(program, stream, &mut arena, program.kernels()?, Solo)?;
//! let embedding = encoder.encode_from(Input::Text("a running dog"), &mut ())?;
//! assert_eq!(embedding.hidden().len(), 77 * embedding.width());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod buffer;
mod error;
#[cfg(feature = "std")]
mod file;
mod storage;
mod window;

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::plan::format::{ALIGN, BLOCK, Header, Section};
use crate::plan::{CONSTANT_ARRAYS, Extent, LoadError, Program, Source};
use buffer::{Buffer, Cut};
pub use error::{BufferError, StreamError};
#[cfg(feature = "std")]
pub use file::FileStorage;
pub use storage::{Seekable, SeekableError, Storage};
use window::Window;

/// Blocks at a time that the buffer's halves should hold: reading ahead then has room, and few panels wait for their rest.
pub const BLOCKS: usize = 8;

/// A plan's constants, read from storage when they are used.
///
/// After an error the encoder's pass is over; the next one begins anew and reads again.
pub struct Stream<'a, R> {
    storage: R,
    /// The front of the plan, with the checksums.
    front: &'a [u8],
    header: Header,
    /// Where the constants begin in the file.
    base: u64,
    buffer: Buffer<'a>,
    state: State,
    /// Bytes that were read from storage.
    read: u64,
}

/// What the buffer's blocks hold.
#[derive(Clone, Copy)]
enum State {
    /// Blocks from anywhere, for single rows of tables.
    Blocks,
    /// What is read one after the other.
    Window(Window),
}

impl<'a, R: Storage> Stream<'a, R> {
    /// Bytes of buffer for a plan, with so many blocks of 64 KiB in each half: [`BLOCKS`] for speed, 1 where memory is short.
    ///
    /// # Errors
    /// [`BufferError`] where there are none, or more than the stream keeps count of.
    pub fn buffer_bytes(program: &Program<'_>, blocks: usize) -> Result<usize, BufferError> {
        Cut::of(program, blocks).map(|cut| cut.bytes())
    }

    /// A stream of the constants of `program`, whose plan is in `storage`. `buffer` starts at a multiple of 64.
    ///
    /// # Errors
    /// [`BufferError`] where the buffer does not do.
    pub fn new(program: &Program<'a>, storage: R, buffer: &'a mut [u8]) -> Result<Self, BufferError> {
        let (header, front) = program.header();
        let base = header.place(Section::Constants).0;
        let buffer = Buffer::new(program, buffer)?;
        Ok(Self { storage, front, header, base, buffer, state: State::Blocks, read: 0 })
    }

    /// Bytes that were read from the storage since the stream was made.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// The storage.
    pub fn storage(&self) -> &R {
        &self.storage
    }

    /// Reads blocks `first..first + count` to the front of `half`'s blocks from `at` on, and does `work` with the other half's bytes
    /// meanwhile.
    fn read_blocks(
        &mut self,
        (first, count): (u64, usize),
        (half, at): (usize, usize),
        work: impl FnOnce(&[u8]),
    ) -> Result<(), StreamError<R::Error>> {
        let (offset, _) = self.header.block(first);
        let bytes = self.bytes_of(first, count);
        let (into, other) = self.buffer.blocks_and_other(half, at * BLOCK..at * BLOCK + bytes);
        // Where the first block of these is that is not what its checksum says.
        let damaged = AtomicUsize::new(usize::MAX);
        let (header, front) = (&self.header, self.front);
        let check = |bytes: &[u8]| {
            if let Err(LoadError::Checksum { offset: wrong }) = header.verify_blocks(front, first, bytes) {
                damaged.store((wrong - offset) as usize, Ordering::Relaxed);
            }
        };
        let done = self.storage.read_while(offset, into, &check, || work(other));
        self.read += bytes as u64;
        let result = match (done, damaged.into_inner()) {
            (Err(error), _) => Err(StreamError::Storage { offset, error }),
            (Ok(()), usize::MAX) => Ok(()),
            (Ok(()), wrong) => Err(StreamError::Checksum { offset: offset + wrong as u64 }),
        };
        if result.is_err() {
            self.forget();
        }
        result
    }

    /// Bytes of so many blocks.
    fn bytes_of(&self, first: u64, count: usize) -> usize {
        let start = self.header.block(first).0;
        (self.header.file_bytes().saturating_sub(start) as usize).min(count * BLOCK)
    }

    /// Holds nothing any more.
    fn forget(&mut self) {
        self.state = State::Blocks;
        self.buffer.forget_blocks();
    }

    /// The block in which the byte at `offset` is.
    fn block_of(&self, offset: u64) -> u64 {
        (offset - self.header.body()) / BLOCK as u64
    }

    /// A window over what follows from the byte at `from` on, of which at least one block is read.
    fn open(&mut self, from: u64) -> Result<Window, StreamError<R::Error>> {
        let first = self.block_of(from);
        let count = self.blocks_from(first);
        self.forget();
        self.read_blocks((first, count), (0, 0), |_| ())?;
        let start = self.header.block(first).0;
        let window = Window::new(start, self.bytes_of(first, count), first + count as u64);
        self.state = State::Window(window);
        Ok(window)
    }

    /// How many blocks from `first` on fill a half, as far as the file has them.
    fn blocks_from(&self, first: u64) -> usize {
        (self.header.blocks() - first).min(self.buffer.blocks() as u64) as usize
    }

    /// The window moved on to the blocks that follow, with what it has from the byte at `from` on in front of them.
    fn advance(&mut self, window: Window, from: u64) -> Result<Window, StreamError<R::Error>> {
        let mut window = window;
        if window.ahead == 0 {
            window = self.read_ahead(window, self.buffer.blocks(), |_| ())?;
        }
        let kept = window.range().end.saturating_sub(from) as usize;
        self.buffer.carry(window.half, window.len(), kept);
        let moved = window.moved(kept, |first, count| self.bytes_of(first, count));
        self.state = State::Window(moved);
        Ok(moved)
    }

    /// Does `work` with the bytes of the window's half, and reads up to `count` blocks more ahead meanwhile.
    fn read_ahead(
        &mut self,
        window: Window,
        count: usize,
        work: impl FnOnce(&[u8]),
    ) -> Result<Window, StreamError<R::Error>> {
        let first = window.next + window.ahead as u64;
        let room = self.blocks_from(window.next) - window.ahead;
        let count = count.min(room);
        if count == 0 {
            work(self.buffer.half(window.half));
            return Ok(window);
        }
        self.read_blocks((first, count), (1 - window.half, window.ahead), work)?;
        let window = window.with_ahead(count);
        self.state = State::Window(window);
        Ok(window)
    }

    /// Copies `extent` to the scratch memory at `at`.
    fn copy(&mut self, extent: Extent, at: usize) -> Result<(), StreamError<R::Error>> {
        let (start, end) = (self.base + extent.offset, self.base + extent.offset + extent.bytes);
        if let State::Window(mut window) = self.state
            && window.reaches(start)
        {
            // A few arrays stand between the panels: in the window, or where it goes next.
            while window.range().end < end {
                window = self.advance(window, start)?;
            }
            let place = window.place(start, self.buffer.carry_bytes());
            self.buffer.copy_from_half(window.half, place..place + extent.bytes as usize, at);
            return Ok(());
        }
        if matches!(self.state, State::Window(_)) {
            self.forget();
        }
        let mut from = start;
        while from < end {
            let block = self.block_of(from);
            let slot = match self.buffer.slot_of(block) {
                Some(slot) => slot,
                None => {
                    let slot = self.buffer.take_slot();
                    self.read_blocks((block, 1), self.buffer.place_of(slot), |_| ())?;
                    self.buffer.fill_slot(slot, block);
                    slot
                }
            };
            let (offset, length) = self.header.block(block);
            let to = end.min(offset + length);
            let part = (from - offset) as usize..(to - offset) as usize;
            self.buffer.copy_from_slot(slot, part, at + (from - start) as usize);
            from = to;
        }
        Ok(())
    }
}

impl<R: Storage> Source for Stream<'_, R> {
    type Error = StreamError<R::Error>;

    fn get<const N: usize>(&mut self, extents: [Extent; N]) -> Result<[&[u8]; N], Self::Error> {
        const { assert!(N <= CONSTANT_ARRAYS) };
        let mut places = [const { 0..0 }; N];
        let mut at = 0;
        for (place, extent) in places.iter_mut().zip(extents) {
            *place = at..at + extent.bytes as usize;
            self.copy(extent, at)?;
            at += place.len().next_multiple_of(ALIGN);
        }
        Ok(places.map(|place| self.buffer.scratch(place)))
    }

    fn panels(
        &mut self,
        extent: Extent,
        panel: usize,
        mut work: impl FnMut(usize, &[u8]),
    ) -> Result<(), Self::Error> {
        let (start, end) = (self.base + extent.offset, self.base + extent.offset + extent.bytes);
        let mut window = match self.state {
            State::Window(window) if window.reaches(start) => window,
            _ => self.open(start)?,
        };
        let (mut at, panel) = (start, panel.max(1));
        while at < end {
            let there = window.range().end.clamp(at, end) - at;
            let panels = there as usize / panel;
            // Kernels work on several panels at once: others wait for the rest, where it is still to come.
            let whole = if at + there < end {
                panels - panels.checked_rem(buffer::GROUP).unwrap_or(0)
            } else {
                panels
            };
            if whole == 0 {
                window = self.advance(window, at)?;
                continue;
            }
            let (first, bytes) = ((at - start) as usize / panel, whole * panel);
            let place = window.place(at, self.buffer.carry_bytes());
            // As fast as it is used; checksums are made of four blocks at a time.
            let ahead = bytes.div_ceil(BLOCK).next_multiple_of(4);
            window = self.read_ahead(window, ahead, |half| {
                work(first, half.get(place..place + bytes).unwrap_or(&[]));
            })?;
            at += bytes as u64;
        }
        Ok(())
    }
}
