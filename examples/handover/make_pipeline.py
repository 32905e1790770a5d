"""Makes a small Stable Diffusion pipeline with random weights: what the hand-over is tried with.

    python make_pipeline.py FOLDER

FOLDER becomes what diffusers' `save_pretrained` writes (text encoder, UNet, VAE, scheduler, tokenizer), with `unet.onnx`
beside it: inputs `sample` [2, 4, 16, 16], `timestep` [1], `encoder_hidden_states` [2, 77, 64], output `out_sample`;
`unet-1.onnx` is the same for a batch of one and in the operators that OnnxStream knows: for its `onnx2txt`.

    pip install diffusers transformers torch onnx onnxscript onnxsim
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxsim
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH = 64


def tokenizer():
    """CLIP's, from its merges alone: the vocabulary is bytes, bytes at a word's end, merges, start and end."""
    lines = (pathlib.Path(__file__).parents[2] / "models/vocabulary/merges.txt").read_text().splitlines()
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    bytes_ = [chr(b) for b in plain] + [chr(256 + n) for n in range(256 - len(plain))]
    words = bytes_ + [b + "</w>" for b in bytes_] + ["".join(pair) for pair in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: id for id, word in enumerate(words)}, merges=merges, model_max_length=77)


def text_encoder():
    config = CLIPTextConfig(
        hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=4, num_attention_heads=4, projection_dim=WIDTH
    )
    model = CLIPTextModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding" in name:
                parameter.normal_(0, 0.3)
            elif parameter.ndim == 2:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
    return model


class Unet(torch.nn.Module):
    """The UNet with plain tensors in and out."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


def for_onnxstream(file):
    """Folds the shapes, and writes products of several rows as MatMul and Add: OnnxStream's Gemm takes one row."""
    model, _ = onnxsim.simplify(onnx.load(file))
    graph = model.graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    known = [*graph.value_info, *graph.input]
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in known}
    nodes = []
    for node in graph.node:
        if node.op_type != "Gemm" or shapes[node.input[0]][0] == 1:
            nodes.append(node)
            continue
        input, weight, bias = node.input
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        matrix = weights[weight].T if transposed else weights[weight]
        product, weight = f"{node.output[0]}_product", f"{weight}_{node.name}"
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(matrix), weight))
        graph.value_info.append(onnx.helper.make_tensor_value_info(product, onnx.TensorProto.FLOAT, shapes[node.output[0]]))
        nodes.append(onnx.helper.make_node("MatMul", [input, weight], [product], f"{node.name}_product"))
        nodes.append(onnx.helper.make_node("Add", [product, bias], [node.output[0]], f"{node.name}_sum"))
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, file)


def main(folder):
    torch.manual_seed(77)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "attn2" in name and parameter.ndim == 2:
                parameter.mul_(3)  # so that a picture depends on its prompt
    vae = AutoencoderKL(block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2,
                        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=8, latent_channels=4)
    pipe = StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=text_encoder().eval(), tokenizer=tokenizer(), unet=unet.eval(),
        scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    names = ["sample", "timestep", "encoder_hidden_states"]
    for batch, file, opset in ((2, "unet.onnx", 17), (1, "unet-1.onnx", 14)):
        inputs = (torch.randn(batch, 4, 16, 16), torch.tensor([1]), torch.randn(batch, 77, WIDTH))
        torch.onnx.export(Unet(unet), inputs, f"{folder}/{file}", input_names=names, output_names=["out_sample"],
                          opset_version=opset, dynamo=False)
    for_onnxstream(f"{folder}/unet-1.onnx")


if __name__ == "__main__":
    main(sys.argv[1])
