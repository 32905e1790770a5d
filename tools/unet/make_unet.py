#!/usr/bin/env python3
"""Writes a small UNet with random weights whose cross-attention is Stable Diffusion 1.5's: what reads the embeddings.

    pip install torch diffusers onnx
    python3 tools/unet/make_unet.py tests/fixtures/unet.onnx

It has diffusers' UNet2DConditionModel with SD 1.5's kinds of blocks, cross-attention to [batch, 77, 768], and few channels, so that
it fits in a repository. Random weights answer to the embeddings less than trained ones do: the cross-attention's are scaled
up until the embedding of another prompt changes the output by about as much as the sample's own noise does.
Inputs: sample [1, 4, 16, 16], timestep [1], encoder_hidden_states [1, 77, 768], all f32; output [1, 4, 16, 16].
"""
import io
import sys
import warnings

import onnx
import torch
from diffusers import UNet2DConditionModel

warnings.filterwarnings("ignore")
WIDTH = 768
#: Factor on the cross-attention's value and output projections.
CROSS_GAIN = 4.0


class PlainAttention:
    """softmax(q kᵀ / √d) v in operators that every ONNX runtime knows: diffusers' own processors leave scratch tensors as
    large as the scores in the file."""

    def __call__(self, attention, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attention.head_to_batch_dim(attention.to_q(hidden_states))
        key = attention.head_to_batch_dim(attention.to_k(context))
        value = attention.head_to_batch_dim(attention.to_v(context))
        scores = torch.matmul(query, key.transpose(-1, -2)) * attention.scale
        mixed = attention.batch_to_head_dim(torch.matmul(scores.softmax(-1), value))
        return attention.to_out[1](attention.to_out[0](mixed))


class Plain(torch.nn.Module):
    """The output's tensor rather than diffusers' structure."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


def main(path):
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
    ).eval()
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if ".attn2." in name and ("to_v" in name or "to_out" in name):
                parameter.mul_(CROSS_GAIN)
            # Three digits are plenty for weights that were never trained, and pack better.
            parameter.copy_(parameter.half().float())
    unet.set_attn_processor(PlainAttention())
    inputs = (torch.randn(1, 4, 16, 16), torch.tensor([500.0]), torch.randn(1, 77, WIDTH))
    buffer = io.BytesIO()
    torch.onnx.export(
        Plain(unet),
        inputs,
        buffer,
        input_names=["sample", "timestep", "encoder_hidden_states"],
        output_names=["out_sample"],
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model)
    model.producer_name, model.producer_version, model.doc_string = "make_unet.py", "", ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, path)
    print(f"{path}: {len(model.graph.node)} nodes, {model.ByteSize()} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
