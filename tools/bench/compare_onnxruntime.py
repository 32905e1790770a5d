#!/usr/bin/env python3
"""Compares cliptext-run with ONNX Runtime's dynamic int8 on the full-size model, in turns.

    pip install onnxruntime onnx numpy
    cargo build --release -p cliptext-run -p cliptext-bench
    target/release/cliptext-bench /tmp/models
    python3 tools/bench/compare_onnxruntime.py /tmp/models

/tmp/models then also has model.int8.onnx, quantized per channel, which CLIPTEXT_INT8_ONNX may name for
`cargo bench -p cliptext-bench`.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time


def quantized(folder: pathlib.Path) -> pathlib.Path:
    """The per-channel int8 form of the model, made once."""
    path = folder / "model.int8.onnx"
    if not path.exists():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        # Only the matrix products: quantizing the embedding as well makes ONNX Runtime no faster.
        quantize_dynamic(folder / "model.onnx", path, per_channel=True, reduce_range=False,
                         weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    return path


def session(path: pathlib.Path, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads that spin would take the other's turn away.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def ours(arguments, threads: int) -> float:
    """The median of a few encodings by cliptext-run, in ms."""
    command = [arguments.cliptext_run, "bench", arguments.folder / "model.plan", "--threads", str(threads),
               "--runs", str(arguments.runs), "--only-warm", "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return report[0]["warm_ms"]["median"]


def theirs(session, ids, runs: int) -> float:
    """The median of a few runs of ONNX Runtime, in ms."""
    times = []
    for _ in range(3 + runs):
        start = time.perf_counter()
        session.run(None, {session.get_inputs()[0].name: ids})
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[3:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="with model.plan and model.onnx, from cliptext-bench")
    parser.add_argument("--cliptext-run", default="target/release/cliptext-run", type=pathlib.Path)
    parser.add_argument("--threads", default="1,2", help="numbers of threads (default: 1,2)")
    parser.add_argument("--turns", default=9, type=int, help="turns of each (default: 9)")
    parser.add_argument("--runs", default=10, type=int, help="encodings in a turn, whose median counts (default: 10)")
    arguments = parser.parse_args()

    import numpy

    path = quantized(arguments.folder)
    ids = numpy.full((1, 77), 49407, dtype=numpy.int64)
    ids[0, :8] = [49406, 320, 8853, 539, 550, 18376, 6765, 320]
    print(f"{'threads':>7} {'cliptext ms':>12} {'ONNX Runtime ms':>16} {'ratio':>7}")
    for threads in map(int, arguments.threads.split(",")):
        peer = session(path, threads)
        pairs = []
        for _ in range(arguments.turns):
            pairs.append((ours(arguments, threads), theirs(peer, ids, arguments.runs)))
        mine, other = (statistics.median(column) for column in zip(*pairs))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{threads:>7} {mine:>12.2f} {other:>16.2f} {ratio:>7.3f}", flush=True)


if __name__ == "__main__":
    main()
