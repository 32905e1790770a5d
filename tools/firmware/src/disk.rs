//! A virtio block device that holds a plan.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use cliptext::stream::Storage;
use virtio_drivers::device::blk::{BlkReq, BlkResp, SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::board;

/// Pages for the queue that device and driver share.
const PAGES: usize = 4;

#[repr(align(4096))]
#[derive(Clone, Copy)]
struct Page(#[expect(dead_code, reason = "only the device and its driver look into it")] [u8; PAGE_SIZE]);

static mut POOL: [Page; PAGES] = [Page([0; PAGE_SIZE]); PAGES];
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Memory is mapped to where it is, and caches see what devices write.
struct Identity;

// SAFETY: pages of the pool are given once each, and are zero; addresses are the same for the device.
unsafe impl Hal for Identity {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let first = TAKEN.fetch_add(pages, Ordering::Relaxed);
        assert!(first + pages <= PAGES, "the disk's queue takes more pages than there are");
        // SAFETY: the pages lie in the pool.
        let place = unsafe { (&raw mut POOL).cast::<u8>().add(first * PAGE_SIZE) };
        (place as PhysAddr, NonNull::new(place).unwrap_or(NonNull::dangling()))
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        // The disk stays.
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(address as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.as_ptr().cast::<u8>() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// The disk.
pub(crate) struct Disk(VirtIOBlk<Identity, MmioTransport<'static>>);

impl Disk {
    /// The first block device, if there is one.
    pub(crate) fn find() -> Option<Self> {
        board::VIRTIO.step_by(board::VIRTIO_STEP).find_map(|address| {
            let header = NonNull::new(ptr::with_exposed_provenance_mut(address))?;
            // SAFETY: the machine has virtio devices at these places, mapped as devices; each is looked at once.
            let transport = unsafe { MmioTransport::new(header, board::VIRTIO_STEP) }.ok()?;
            if transport.device_type() != DeviceType::Block {
                return None;
            }
            VirtIOBlk::new(transport).ok().map(Self)
        })
    }

    /// Bytes of the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.capacity() * SECTOR_SIZE as u64
    }

    /// Copies a part of one sector.
    fn part(&mut self, offset: u64, into: &mut [u8]) -> Result<(), virtio_drivers::Error> {
        if into.is_empty() {
            return Ok(());
        }
        let mut sector = [0; SECTOR_SIZE];
        self.0.read_blocks((offset / SECTOR_SIZE as u64) as usize, &mut sector)?;
        let start = (offset % SECTOR_SIZE as u64) as usize;
        into.iter_mut().zip(sector.iter().skip(start)).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// A plan's blocks do not begin where sectors do: the beginning and the end are copied, what is between goes straight to its place.
fn sectors(offset: u64, length: usize) -> (usize, usize) {
    let before = (offset.next_multiple_of(SECTOR_SIZE as u64) - offset).min(length as u64) as usize;
    let whole = (length - before) / SECTOR_SIZE * SECTOR_SIZE;
    (before, whole)
}

impl Storage for Disk {
    type Error = virtio_drivers::Error;

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Self::Error> {
        self.read_while(offset, into, &|_| (), || ())
    }

    fn read_while(
        &mut self,
        offset: u64,
        into: &mut [u8],
        check: &(dyn Fn(&[u8]) + Sync),
        work: impl FnOnce(),
    ) -> Result<(), Self::Error> {
        let (before, whole) = sectors(offset, into.len());
        let (first, rest) = into.split_at_mut(before);
        let (middle, last) = rest.split_at_mut(whole);
        let result = if middle.is_empty() {
            work();
            Ok(())
        } else {
            let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
            let sector = ((offset + before as u64) / SECTOR_SIZE as u64) as usize;
            // SAFETY: nobody touches the three until the request is complete, below.
            match unsafe { self.0.read_blocks_nb(sector, &mut request, middle, &mut response) } {
                Ok(token) => {
                    work();
                    while self.0.peek_used() != Some(token) {
                        core::hint::spin_loop();
                    }
                    // SAFETY: they are those of the request.
                    unsafe { self.0.complete_read_blocks(token, &request, middle, &mut response) }
                }
                Err(error) => {
                    work();
                    Err(error)
                }
            }
        };
        result?;
        self.part(offset, first)?;
        self.part(offset + (before + whole) as u64, last)?;
        check(into);
        Ok(())
    }
}
