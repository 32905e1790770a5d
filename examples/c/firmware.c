/*
 * No operating system and no heap: the plan is in the image, the arena in .bss. Prints what `cargo run -p bare-metal` prints.
 *
 *     cargo rustc --release -p cliptext-ffi --lib --crate-type staticlib --no-default-features --features panic-handler \
 *         --target aarch64-unknown-none
 *     aarch64-linux-gnu-gcc -nostdlib -static -ffreestanding -DPLAN='"models/demo.plan"' -Iinclude examples/c/firmware.c \
 *         target/aarch64-unknown-none/release/libcliptext_ffi.a -o firmware
 *     qemu-aarch64-static firmware
 *
 * It prints by semihosting, which debuggers and QEMU answer. On a board, start-up code must have set the stack and
 * enabled the FPU before encode() runs.
 */
#include <cliptext.h>

#define ALIGNED __attribute__((aligned(64)))

/* The plan, where it will be read: in flash. */
__asm__(".section .rodata\n"
        ".globl plan_start, plan_end\n"
        ".balign 64\n"
        "plan_start:\n"
        ".incbin \"" PLAN "\"\n"
        "plan_end:\n"
        ".text\n");
extern const unsigned char plan_start[], plan_end[];

/* All that the encoder needs besides some stack. */
static unsigned char arena[160 * 1024] ALIGNED;
static unsigned char plan_memory[CLIPTEXT_PLAN_BYTES] ALIGNED;
static unsigned char encoder_memory[CLIPTEXT_ENCODER_BYTES] ALIGNED;

/* Semihosting: a debugger or an emulator does the work. */
static void host(unsigned long operation, const void *argument) {
    register unsigned long x0 __asm__("x0") = operation;
    register const void *x1 __asm__("x1") = argument;
    __asm__ volatile("hlt #0xf000" : "+r"(x0) : "r"(x1) : "memory");
}

static void print(const char *text) { host(0x04, text); }

static void leave(unsigned long code) {
    unsigned long block[2] = {0x20026, code};
    host(0x18, block);
    for (;;) {
    }
}

static void print_number(unsigned long number, unsigned base, int digits) {
    char text[24], *at = text + sizeof text - 1;
    *at = 0;
    do {
        *--at = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0 || text + sizeof text - 1 - at < digits);
    print(at);
}

static int encode(void) {
    cliptext_plan *plan;
    cliptext_encoder *encoder;
    cliptext_embedding dog;
    size_t row, column;
    if (cliptext_plan_load(plan_start, (size_t)(plan_end - plan_start), plan_memory, sizeof plan_memory, &plan) ||
        cliptext_encoder_init(plan, encoder_memory, sizeof encoder_memory, arena, sizeof arena, NULL, &encoder) ||
        cliptext_encode(encoder, "a running dog", CLIPTEXT_CSTR, 0, &dog)) {
        print(cliptext_last_error());
        print("\n");
        return 1;
    }
    print("a running dog: [");
    for (row = 0; row < 5; row++) {
        print(row > 0 ? ", " : "");
        print_number(dog.ids[row], 10, 1);
    }
    print("] \xe2\x80\xa6\n");
    for (row = 0; row < 5; row++) {
        for (column = 0; column < 3; column++) {
            union {
                float value;
                uint32_t bits;
            } as = {dog.hidden[row * dog.width + column]};
            print_number(as.bits, 16, 8);
            print(" ");
        }
        print("\xe2\x80\xa6\n");
    }
    return 0;
}

/* What a panic of the library calls, which no text and no checked plan causes. */
_Noreturn void cliptext_panic(void) {
    print("cliptext: a bug\n");
    leave(2);
    __builtin_unreachable();
}

void _start(void) { leave((unsigned long)encode()); }
