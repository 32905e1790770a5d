//! Plan, arena and code in one image, no operating system: encodes a prompt and prints the first values.
//!
//! ```sh
//! cargo build --release -p bare-metal --target aarch64-unknown-none
//! qemu-aarch64-static target/aarch64-unknown-none/release/bare-metal
//! ```
//!
//! It prints by semihosting, which debuggers and QEMU answer. On a board, start-up code must have set the stack and enabled the
//! FPU (CPACR_EL1.FPEN) before [`encode`] runs. On a host with an operating system the same function runs in an ordinary `main`.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::fmt::{self, Write};

use cliptext::{ArenaBuf, Encoder, Plan, include_plan};

static PLAN: &[u8] = include_plan!("../../../models/demo.plan");

/// Encodes a prompt with the plan in the image; everything that it needs is on the stack or in the image.
fn encode(out: &mut impl Write) -> fmt::Result {
    let plan = match Plan::load(PLAN) {
        Ok(plan) => plan,
        Err(error) => return writeln!(out, "the plan: {error}"),
    };
    let mut arena = ArenaBuf::<{ 160 * 1024 }>::new();
    let mut encoder = match Encoder::new(&plan, arena.bytes()) {
        Ok(encoder) => encoder,
        Err(error) => return writeln!(out, "the arena: {error}"),
    };
    let embedding = encoder.encode("a running dog");
    writeln!(out, "a running dog: {:?} …", &embedding.ids()[..5])?;
    for row in embedding.hidden().chunks_exact(embedding.width()).take(5) {
        writeln!(out, "{:08x} {:08x} {:08x} …", row[0].to_bits(), row[1].to_bits(), row[2].to_bits())?;
    }
    Ok(())
}

#[cfg(not(target_os = "none"))]
fn main() -> Result<(), fmt::Error> {
    let mut text = String::new();
    encode(&mut text)?;
    print!("{text}");
    Ok(())
}

#[cfg(target_os = "none")]
mod image {
    //! What an operating system would do.

    use core::arch::asm;
    use core::fmt::{self, Write};

    /// Semihosting: a debugger or an emulator does the work.
    struct Console;

    impl Console {
        const WRITE0: usize = 0x04;
        const EXIT: usize = 0x18;
        const APPLICATION_EXIT: usize = 0x2_0026;

        fn call(operation: usize, argument: *const ()) {
            // SAFETY: `argument` is what the operation wants, by the two callers below.
            unsafe {
                asm!("hlt #0xf000", inout("x0") operation => _, in("x1") argument, options(nostack));
            }
        }

        fn exit(code: usize) -> ! {
            let block = [Self::APPLICATION_EXIT, code];
            Self::call(Self::EXIT, block.as_ptr().cast());
            loop {
                core::hint::spin_loop();
            }
        }
    }

    impl Write for Console {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            // WRITE0 takes a string that ends in a zero byte.
            let mut chunk = [0u8; 65];
            for bytes in text.as_bytes().chunks(64) {
                chunk[..bytes.len()].copy_from_slice(bytes);
                chunk[bytes.len()] = 0;
                Self::call(Self::WRITE0, chunk.as_ptr().cast());
            }
            Ok(())
        }
    }

    #[unsafe(no_mangle)]
    extern "C" fn _start() -> ! {
        Console::exit(usize::from(super::encode(&mut Console).is_err()))
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        let _ = writeln!(Console, "{info}");
        Console::exit(1)
    }
}
