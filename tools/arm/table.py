#!/usr/bin/env python3
"""Prints the aarch64 table: cycles of each kernel's inner loop by llvm-mca, and instructions per encode under QEMU.

    cargo build --release -p cliptext-run --target aarch64-unknown-linux-musl
    tools/arm/table.py target/aarch64-unknown-linux-musl/release/cliptext-run \\
        cortex-a76=generic.plan max=i8mm.plan cortex-a72=neon.plan

Needs (Debian): apt-get install llvm-19 qemu-user gcc. The plugin takes the dynamic qemu-aarch64.
Each CPU=PLAN is a core of QEMU's and a plan compiled for it (`cliptext compile --target`); without any, only the loops.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

PRODUCTS = {"sdot": 16, "smmla": 32, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}
# Cores to judge a kernel by, with the products per cycle that their multipliers allow.
CORES = {
    "i8mm": {"cortex-a710": 64, "neoverse-n2": 64, "neoverse-v1": 128},
    "dotprod": {"neoverse-n1": 32, "cortex-a55": 16},
    "neon": {"cortex-a72": 8, "cortex-a53": None},
}


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def instructions(program):
    """(address, mnemonic, operands, function) of the whole program."""
    function = ""
    listing = run("llvm-objdump-19", "-d", "--no-show-raw-insn", "--mattr=+dotprod,+i8mm", program)
    for line in listing.splitlines():
        if found := re.match(r"[0-9a-f]+ <(.*)>:", line):
            function = found[1]
        elif found := re.match(r"\s*([0-9a-f]+):\s+(\S+)\s*([^/<]*)", line):
            yield int(found[1], 16), found[2], found[3].strip(), function


def loops(program):
    """The straight loops of the int8 products: (kernel, packing, instructions)."""
    code = list(instructions(program))
    place = {instruction[0]: index for index, instruction in enumerate(code)}
    for index, (address, name, operands, function) in enumerate(code):
        kernel = re.search(r"kernels\d+table\d+(NEON|DOTPROD|I8MM)\d+(?:linear|tile)17", function)
        target = re.search(r"0x([0-9a-f]+)$", operands)
        if not (kernel and target and name.startswith("b.")) or int(target[1], 16) >= address:
            continue
        body = code[place[int(target[1], 16)] : index + 1]
        names = [name for _, name, _, _ in body]
        if any(re.match(r"b\b|b\.|cb|tb|bl|ret", name) for name in names[:-1]):
            continue
        if "smmla" in names or "ld1r" in names and "sdot" in names:
            packing = "int8x8"
        elif any(name == "sdot" and "[" in operands for _, name, operands, _ in body) or "smlal" in names:
            packing = "int8x4"
        elif "sdot" in names or "smlal2" in names:
            packing = "int8x16"
        else:
            continue
        yield kernel[1].lower(), packing, body


def products(body):
    return sum(PRODUCTS.get(name, 0) for _, name, _, _ in body)


def print_loops(program):
    best = {}
    for kernel, packing, body in loops(program):
        if products(body) > products(best.get((kernel, packing), [])):
            best[kernel, packing] = body
    if not best:
        sys.exit(f"{program}: no inner loops found: built for aarch64, with its symbols?")
    print("| kernel | weights | core | instructions | MAC | MAC/instruction | cycles | MAC/cycle | of peak |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (kernel, packing), body in sorted(best.items()):
        mac = products(body)
        lines = [f"{name} {operands}" for _, name, operands, _ in body[:-1]] + [f"{body[-1][1]} ."]
        for core, peak in CORES[kernel].items():
            command = ["llvm-mca-19", "-march=aarch64", f"-mcpu={core}", "-mattr=+dotprod,+i8mm", "-iterations=200"]
            report = run(*command, input="\n".join(lines))
            cycles = int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / 200
            share = f"{mac / cycles / peak:.1%}" if peak else ""
            print(f"| {kernel} | {packing} | {core} | {len(body)} | {mac} | {mac / len(body):.2f} | "
                  f"{cycles:.1f} | {mac / cycles:.2f} | {share} |")


def print_counts(program, plans):
    with tempfile.TemporaryDirectory() as work:
        plugin = f"{work}/insncount.so"
        source = pathlib.Path(__file__).with_name("insncount.c")
        run("gcc", "-O2", "-shared", "-fPIC", "-o", plugin, source)

        def count(core, plan, prompts):
            """Instructions by class that encoding `prompts` prompts takes, with all that comes before."""
            out = f"{work}/{prompts}"
            run("qemu-aarch64", "-cpu", core, "-plugin", f"{plugin},out={out}", program, "encode", plan,
                "--threads", "1", *["a photo of an astronaut riding a horse"] * prompts)
            classes = {}
            for line in open(out):
                name, number = line.rstrip().split("\t")
                classes[name] = classes.get(name, 0) + int(number)
            return classes

        print("\n| core | plan | million instructions per warm encode | of which |")
        print("|---|---|---|---|")
        for argument in plans:
            core, plan = argument.split("=", 1)
            once, thrice = count(core, plan, 1), count(core, plan, 3)
            each = {name: (thrice[name] - once[name]) / 2e6 for name in once}
            parts = ", ".join(f"{name} {number:.1f}" for name, number in each.items() if number >= 0.05)
            print(f"| {core} | {pathlib.Path(plan).name} | {sum(each.values()):.1f} | {parts} |")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print_loops(sys.argv[1])
    if sys.argv[2:]:
        print_counts(sys.argv[1], sys.argv[2:])


main()
