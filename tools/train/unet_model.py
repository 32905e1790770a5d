"""A small conditional UNet: it draws pixels, and reads a text's hidden states as Stable Diffusion's does."""

import io
import math

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import helper, numpy_helper

SIDE, TOKENS = 32, 77
# What a timestep of 1, pure noise, is called outside, as in diffusers.
TIMESTEPS = 1000
HEAD = 32
#: What the program that draws must know. The keys are diffusers' names; no shift, as pictures this small lose little to noise.
RECIPE = {"prediction_type": "flow_prediction", "num_train_timesteps": str(TIMESTEPS), "shift": "1.0", "clip_sample": "true", "guidance_scale": "3.0"}


class Block(nn.Module):
    """Two convolutions with a skip; the time scales and shifts what is between them."""

    def __init__(self, inner, outer, time):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.time = nn.Linear(time, 2 * outer)
        self.norm2, self.conv2 = nn.GroupNorm(8, outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()
        # Begins as the identity.
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(time)[:, :, None, None].split(int(h.shape[1]), 1)
        return self.skip(x) + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))


class Attention(nn.Module):
    """Attention to `context`, or to `x` itself: `[n, t, width]`."""

    def __init__(self, width, context):
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.norm = nn.LayerNorm(width)
        self.query, self.key_value, self.out = nn.Linear(width, width), nn.Linear(context, 2 * width), nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)

    def forward(self, x, context=None):
        y = self.norm(x)
        context = y if context is None else context
        width, tokens = int(y.shape[2]), int(y.shape[1])
        each = width // self.heads
        def split(z):
            return z.reshape(-1, int(z.shape[1]), self.heads, each).transpose(1, 2)
        key, value = self.key_value(context).split(width, 2)
        # For rows this short PyTorch's fused attention takes several times as long on a CPU, backwards.
        weights = (split(self.query(y)) * each**-0.5 @ split(key).transpose(2, 3)).softmax(3).to(y.dtype)
        return x + self.out((weights @ split(value)).transpose(1, 2).reshape(-1, tokens, width))


class Reading(nn.Module):
    """A transformer layer over the places of a picture: they look at each other, then at the text."""

    def __init__(self, width, text):
        super().__init__()
        self.own, self.text = Attention(width, width), Attention(width, text)
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.zeros_(self.down.weight)

    def forward(self, x, text):
        width, height, wide = map(int, x.shape[1:])
        y = x.reshape(-1, width, height * wide).transpose(1, 2)
        y = self.text(self.own(y), text)
        y = y + self.down(F.silu(self.up(self.norm(y))))
        return y.transpose(1, 2).reshape(-1, width, height, wide)


class UNet(nn.Module):
    """`[n, 3, 32, 32]` of -1 to 1 with noise, `[n]` timesteps of 0 to 1000, `[n, 77, text]`: the flow from picture to noise.

    Pixels come in patches of two by two: at the full size a CPU would spend most of its time on norms and activations
    (patches as in simple diffusion, arXiv:2301.11093, appendix).
    """

    def __init__(self, text=64, channels=(64, 128), time=64):
        super().__init__()
        high, low = channels
        self.register_buffer("frequencies", torch.exp(-math.log(10000) * torch.arange(32) / 32))
        self.time = nn.Sequential(nn.Linear(64, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        # What a text says as a whole, beside its words.
        self.whole = nn.Linear(text, time)
        self.enter = nn.Conv2d(12, high, 3, padding=1)
        self.down = nn.ModuleList([Block(high, high, time), Block(high, high, time)])
        self.shrink = nn.Conv2d(high, low, 2, stride=2)
        self.below = nn.ModuleList([Block(low, low, time), Block(low, low, time)])
        self.middle = Block(low, low, time)
        self.rising = nn.ModuleList([Block(2 * low, low, time), Block(2 * low, low, time)])
        self.read = nn.ModuleList([Reading(low, text) for _ in range(3)])
        self.grow = nn.Conv2d(low, 4 * high, 1)
        self.up = nn.ModuleList([Block(2 * high, high, time), Block(2 * high, high, time)])
        self.norm, self.leave = nn.GroupNorm(8, high), nn.Conv2d(high, 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def forward(self, sample, timestep, encoder_hidden_states):
        text = encoder_hidden_states
        angles = timestep[:, None] * self.frequencies * (1000 / TIMESTEPS)
        time = self.time(torch.cat([angles.cos(), angles.sin()], 1))
        # The last row ends the text or pads it: of a causal encoder it has seen all words.
        time = time + self.whole(text[:, -1])
        x = self.enter(F.pixel_unshuffle(sample, 2))
        above = []
        for block in self.down:
            x = block(x, time)
            above.append(x)
        x = self.shrink(x)
        beside = []
        for block in self.below:
            x = block(x, time)
            beside.append(x)
        x = self.read[0](x, text)
        x = self.read[1](self.middle(x, time), text)
        for block in self.rising:
            x = block(torch.cat([x, beside.pop()], 1), time)
        x = F.pixel_shuffle(self.grow(self.read[2](x, text)), 2)
        for block in self.up:
            x = block(torch.cat([x, above.pop()], 1), time)
        return F.pixel_shuffle(self.leave(F.silu(self.norm(x))), 2)


def half(model):
    """Weights as f16, widened where the graph begins: runtimes compute in f32 and fold that away."""
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 64:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.f16"))
        model.graph.node.insert(0, helper.make_node("Cast", [f"{name}.f16"], [name], to=onnx.TensorProto.FLOAT, name=f"{name}.cast"))


def export(unet, width, recipe, file, side=SIDE):
    """Writes the UNet as ONNX, with what a sampler must know among its `metadata_props`."""
    unet = unet.float().eval()
    inputs = (torch.randn(2, 3, side, side), torch.tensor([900.0, 100.0]), torch.randn(2, TOKENS, width))
    names = ["sample", "timestep", "encoder_hidden_states"]
    buffer = io.BytesIO()
    torch.onnx.export(unet, inputs, buffer, input_names=names, output_names=["out_sample"], opset_version=17, dynamo=False,
                      dynamic_axes={name: {0: "n"} for name in [*names, "out_sample"]})
    model = onnx.load_from_string(buffer.getvalue())
    half(model)
    for node in model.graph.node:
        node.doc_string = ""
    helper.set_model_props(model, recipe)
    onnx.checker.check_model(model, full_check=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(model.SerializeToString())
    temporary.rename(file)


def difference(unet, width, file, side=SIDE):
    """The greatest difference of ONNX Runtime's output from PyTorch's, in parts of the greatest output; the export has f16 weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for n in (1, 3):
        generator = torch.Generator().manual_seed(n)
        sample, text = torch.randn(n, 3, side, side, generator=generator), torch.randn(n, TOKENS, width, generator=generator)
        timestep = torch.rand(n, generator=generator) * TIMESTEPS
        with torch.no_grad():
            expected = unet.float().eval()(sample, timestep, text).numpy()
        found = session.run(None, {"sample": sample.numpy(), "timestep": timestep.numpy(), "encoder_hidden_states": text.numpy()})[0]
        worst = max(worst, float(np.abs(found - expected).max() / np.abs(expected).max()))
    return worst
