//! What the device does: finds its plan, and answers on the serial port.

use core::fmt::{self, Display, Write};

use cliptext::plan::format::{HEADER, Header};
use cliptext::prompt::Prompt;
use cliptext::serve::{Counters, Receiver, Server};
use cliptext::stream::{Storage, Stream};
use cliptext::threads::Crew;
use cliptext::{ArenaBuf, Encoder, Kernels, Plan, Program};

use crate::board::{self, clock, reset};
use crate::constants::Constants;
use crate::cores::{self, CREW};
use crate::disk::Disk;
use crate::once::Once;
use crate::serial::Serial;
use crate::stack;

/// RAM for a prompt and its negative of Stable Diffusion 1.5 in one pass.
static ARENA: Once<ArenaBuf<{ 4 << 20 }>> = Once::new(ArenaBuf::new());
/// The longest request, and so the longest text.
static REQUEST: Once<[u8; 4096]> = Once::new([0; 4096]);
/// Where texts of several chunks are read to.
static PROMPT: Once<Prompt> = Once::new(Prompt::new());
/// Of a plan on a disk: the head, and the buffer that its weights pass through.
static HEAD: Once<ArenaBuf<{ 2 << 20 }>> = Once::new(ArenaBuf::new());
static BUFFER: Once<ArenaBuf<{ 3 << 20 }>> = Once::new(ArenaBuf::new());

static COUNTERS: Counters = Counters::new();

/// Runs for ever.
pub(crate) fn run() -> ! {
    stack::paint();
    cores::start();
    // SAFETY: this is the one who uses the port.
    let mut serial = unsafe { Serial::new() };
    #[cfg(feature = "self-test")]
    serial.in_silence(|serial| {
        let _ = stack::tell(serial);
        crate::fault::provoke();
    });
    // Where it was made: it is too large to be moved about.
    if let Ok(server) = &mut start(&mut serial) {
        answer(server, &mut serial);
    }
    // Long enough to be read.
    let told = clock();
    while clock() < told + 1_000_000 {}
    reset()
}

/// Says why the device can't work.
#[inline(never)]
fn give_up<T>(serial: &mut Serial, what: &str, why: impl Display) -> Result<T, fmt::Error> {
    writeln!(serial, "\n{what}: {why}")?;
    Err(fmt::Error)
}

/// What answers.
type Device = Server<'static, &'static Crew, Constants>;

/// Finds the plan. In a function of its own, as are those below: what making a server takes of the stack is given back before
/// anything is answered.
#[inline(never)]
fn start(serial: &mut Serial) -> Result<Device, fmt::Error> {
    match Disk::find() {
        Some(disk) => from_disk(disk, serial),
        None => from_memory(serial),
    }
}

/// With the plan in the image, or the one that was loaded beside it.
#[inline(never)]
fn from_memory(serial: &mut Serial) -> Result<Device, fmt::Error> {
    let plan = match plan_in_memory().and_then(Plan::load) {
        Ok(plan) => plan,
        Err(error) => return give_up(serial, "no plan", error),
    };
    server(plan.program(), Constants::Memory(plan.constants()), serial)
}

/// The bytes of the plan.
fn plan_in_memory() -> Result<&'static [u8], cliptext::LoadError> {
    if cfg!(feature = "linked") {
        #[cfg(feature = "linked")]
        return Ok(cliptext::include_plan!("../../../models/demo.plan"));
    }
    let start = board::PLAN.start as *const u8;
    // SAFETY: that memory is there, nobody writes to it, and any bytes will do.
    let front = unsafe { core::slice::from_raw_parts(start, HEADER) };
    let bytes = Header::read(front)?.file_bytes();
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= board::PLAN.len());
    let bytes = bytes.ok_or(cliptext::LoadError::Truncated)?;
    // SAFETY: as above; it ends before the memory does.
    Ok(unsafe { core::slice::from_raw_parts(start, bytes) })
}

/// With the plan on a disk, of which only the head is in memory.
#[inline(never)]
fn from_disk(mut disk: Disk, serial: &mut Serial) -> Result<Device, fmt::Error> {
    let (Some(head), Some(buffer)) = (HEAD.take(), BUFFER.take()) else { return Err(fmt::Error) };
    let head = head.bytes();
    let mut front = [0; HEADER];
    if let Err(error) = disk.read(0, &mut front) {
        return give_up(serial, "the disk", error);
    }
    let header = match Header::read(&front) {
        Ok(header) => header,
        Err(error) => return give_up(serial, "the disk", error),
    };
    let length = usize::try_from(header.head_bytes()).unwrap_or(usize::MAX);
    let Some(head) = head.get_mut(..length) else {
        return give_up(serial, "the disk", "the plan's head is larger than the memory for it");
    };
    if header.file_bytes() > disk.bytes() {
        return give_up(serial, "the disk", cliptext::LoadError::Truncated);
    }
    if let Err(error) = disk.read(0, head) {
        return give_up(serial, "the disk", error);
    }
    let program = match Program::load(head) {
        Ok(program) => program,
        Err(error) => return give_up(serial, "the plan on the disk", error),
    };
    match Stream::new(&program, disk, buffer.bytes()) {
        Ok(stream) => server(program, Constants::Disk(stream), serial),
        Err(error) => give_up(serial, "the plan on the disk", error),
    }
}

/// A server over the plan.
#[inline(never)]
fn server(
    program: Program<'static>,
    constants: Constants,
    serial: &mut Serial,
) -> Result<Device, fmt::Error> {
    let (Some(arena), Some(prompt)) = (ARENA.take(), PROMPT.take()) else { return Err(fmt::Error) };
    // SAFETY: all cores are alike, and the identification registers of this one say what it has.
    let assumed = board::kernels().filter_map(|name| unsafe { Kernels::assume(name) }.ok());
    let packing = program.manifest().packing;
    let kernels = assumed.chain(Kernels::named("scalar")).find(|kernels| kernels.reads(packing));
    let Some(kernels) = kernels else {
        return give_up(serial, "the plan", "no kernels here read its weights");
    };
    let encoder = match Encoder::over(program, constants, arena.bytes(), kernels, &CREW) {
        Ok(encoder) => encoder,
        Err(error) => return give_up(serial, "the plan", error),
    };
    let name = concat!("cliptext-firmware ", env!("CARGO_PKG_VERSION"));
    Ok(Server::new(encoder, &COUNTERS, prompt).named(name).with_clock(clock))
}

/// Answers what the line brings.
#[inline(never)]
fn answer(server: &mut Device, serial: &mut Serial) {
    let Some(request) = REQUEST.take() else { return };
    // The line has no end.
    let _ = server.serve(serial, &mut Receiver::new(request));
}
