#!/usr/bin/env python3
"""Compares cliptext-run with other runtimes' int8 on the full-size model, in turns: ONNX Runtime, OpenVINO, LiteRT.

    pip install onnxruntime onnx numpy
    pip install openvino nncf                                  # OpenVINO
    pip install ai-edge-litert ai-edge-quantizer litert-torch transformers   # LiteRT
    cargo build --release -p cliptext-run -p cliptext-bench
    target/release/cliptext-bench /tmp/models
    python3 tools/bench/compare.py /tmp/models

Their models are made once, beside model.onnx; whoever is not installed is left out and told:

- model.int8.onnx: `quantize_dynamic`, per channel, the matrix products only (CLIPTEXT_INT8_ONNX may name it for `cargo bench -p cliptext-bench`);
- model.int8.xml: `nncf.quantize` for transformers, static, calibrated with 64 rows of random tokens;
- model.int8.tflite: the folder's `hf` (a Hugging Face folder of such a text model, as `cliptext-synthetic safetensors` writes one) through
  litert-torch, then ai-edge-quantizer's `dynamic_wi8_afp32`: int8 weights per channel, activations quantized as they come.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time


class OnnxRuntime:
    name = "ONNX Runtime"

    def __init__(self, folder: pathlib.Path, threads: int, ids):
        import onnxruntime

        path = folder / "model.int8.onnx"
        if not path.exists():
            from onnxruntime.quantization import QuantType, quantize_dynamic

            # Only the matrix products: quantizing the embedding as well makes ONNX Runtime no faster.
            quantize_dynamic(folder / "model.onnx", path, per_channel=True, reduce_range=False,
                             weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads that spin would take the other's turn away.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {self.session.get_inputs()[0].name: ids}

    def run(self):
        self.session.run(None, self.inputs)


class OpenVino:
    name = "OpenVINO"

    def __init__(self, folder: pathlib.Path, threads: int, ids):
        import numpy
        import openvino

        path = folder / "model.int8.xml"
        core = openvino.Core()
        if not path.exists():
            import nncf

            random = numpy.random.default_rng(77)
            rows = [random.integers(0, 49406, ids.shape, dtype=numpy.int64) for _ in range(64)]
            model = core.read_model(folder / "model.onnx")
            model = nncf.quantize(model, nncf.Dataset(rows), model_type=nncf.ModelType.TRANSFORMER)
            openvino.save_model(model, path)
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        self.request = core.compile_model(path, "CPU", settings).create_infer_request()
        self.ids = ids

    def run(self):
        self.request.infer([self.ids])


class LiteRt:
    name = "LiteRT"

    def __init__(self, folder: pathlib.Path, threads: int, ids):
        from ai_edge_litert.interpreter import Interpreter

        path = folder / "model.int8.tflite"
        if not path.exists():
            self.make(folder, path, ids)
        self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]
        self.ids = ids.astype(self.input["dtype"])

    @staticmethod
    def make(folder: pathlib.Path, path: pathlib.Path, ids):
        import litert_torch
        import torch
        from ai_edge_quantizer import quantizer, recipe
        from transformers import CLIPTextModel

        class Hidden(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = CLIPTextModel.from_pretrained(folder / "hf", attn_implementation="eager")

            def forward(self, ids):
                return self.model(input_ids=ids).last_hidden_state

        float_path = folder / "model.f32.tflite"
        litert_torch.convert(Hidden().eval(), (torch.from_numpy(ids),)).export(str(float_path))
        made = quantizer.Quantizer(str(float_path), recipe.dynamic_wi8_afp32())
        made.quantize().export_model(str(path), overwrite=True)
        float_path.unlink()

    def run(self):
        self.interpreter.set_tensor(self.input["index"], self.ids)
        self.interpreter.invoke()


PEERS = [OnnxRuntime, OpenVino, LiteRt]


def ours(arguments, threads: int) -> float:
    """The median of a few encodings by cliptext-run, in ms."""
    command = [arguments.cliptext_run, "bench", arguments.folder / "model.plan", "--threads", str(threads),
               "--runs", str(arguments.runs), "--only-warm", "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return report[0]["warm_ms"]["median"]


def theirs(peer, runs: int) -> float:
    """The median of a few runs of a peer, in ms."""
    times = []
    for _ in range(3 + runs):
        start = time.perf_counter()
        peer.run()
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

    ids = numpy.full((1, 77), 49407, dtype=numpy.int64)
    ids[0, :8] = [49406, 320, 8853, 539, 550, 18376, 6765, 320]
    print(f"{'threads':>7} {'runtime':<14} {'cliptext ms':>12} {'its ms':>9} {'ratio':>7}")
    for threads in map(int, arguments.threads.split(",")):
        peers = []
        for peer in PEERS:
            try:
                peers.append(peer(arguments.folder, threads, ids))
            except (ImportError, OSError) as error:
                print(f"{threads:>7} {peer.name:<14} left out: {error}", flush=True)
        turns = [(ours(arguments, threads), [theirs(peer, arguments.runs) for peer in peers])
                 for _ in range(arguments.turns)]
        mine = statistics.median(own for own, _ in turns)
        for index, peer in enumerate(peers):
            other = statistics.median(times[index] for _, times in turns)
            ratio = statistics.median(own / times[index] for own, times in turns)
            print(f"{threads:>7} {peer.name:<14} {mine:>12.2f} {other:>9.2f} {ratio:>7.3f}", flush=True)


if __name__ == "__main__":
    main()
