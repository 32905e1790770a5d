"""CLIP as transformers has it, with a forward pass of our own that may look at a part of the patches."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel

SIDE, PATCH = 64, 8
START, END = 49406, 49407
# OpenAI's, of each colour.
MEAN, DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def config(text, image, projection):
    """`text` and `image`: (width, layers, heads)."""
    def tower(width, layers, heads):
        return {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * width,
                "hidden_act": "quick_gelu", "projection_dim": projection}

    return CLIPConfig(
        text_config={**tower(*text), "vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": START, "eos_token_id": END, "pad_token_id": END},
        vision_config={**tower(*image), "image_size": SIDE, "patch_size": PATCH},
        projection_dim=projection)


class Words(nn.Module):
    """Token embeddings `vectors · P + own`: what word vectors say of a word, and what training says beside it.

    Words that no caption has keep the first part, so that "puppy" stands near "dog".
    """

    def __init__(self, vectors, width, generator):
        super().__init__()
        self.register_buffer("vectors", vectors)
        known = vectors.abs().sum(1, keepdim=True) > 0
        self.projection = nn.Parameter(torch.randn(vectors.shape[1], width, generator=generator) * 0.02)
        self.own = nn.Parameter(torch.randn(len(vectors), width, generator=generator) * 0.02 * ~known)
        self.register_buffer("known", known.float())
        self.generator = generator

    def forward(self, ids):
        vectors, own = self.vectors[ids], F.embedding(ids, self.own)
        if self.training:
            # For the fourth part of the words that have vectors the vector must do.
            dropped = (torch.rand(ids.shape, generator=self.generator) < 0.25).unsqueeze(-1) * self.known[ids]
            own = own * (1 - dropped)
        return vectors @ self.projection + own

    @torch.no_grad()
    def table(self):
        return self.vectors @ self.projection + self.own


def word_vectors(file, vocabulary):
    """`[49408, 100]`: each token's word vector of length 1, zero where it is no whole word or has none."""
    stored = np.load(file)
    rows = {word: row for row, word in enumerate(stored["words"])}
    known = torch.from_numpy(stored["vectors"])
    vectors = torch.zeros(49408, known.shape[1])
    for token, id in vocabulary.items():
        if token.endswith("</w>") and (row := rows.get(token[:-4])) is not None:
            vectors[id] = F.normalize(known[row], dim=0)
    return vectors


def blocks(x, layers, causal):
    """Pre-norm transformer blocks, `[n, t, width]`."""
    for layer in layers:
        attention = layer.self_attn
        y = layer.layer_norm1(x)
        n, t, width = y.shape
        heads = attention.num_heads
        q, k, v = (p(y).view(n, t, heads, width // heads).transpose(1, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        # For rows this short PyTorch's fused attention takes several times as long on a CPU, backwards.
        scores = q @ k.transpose(2, 3) * (width // heads) ** -0.5
        if causal:
            scores = scores + torch.full((t, t), float("-inf")).triu(1)
        y = (scores.softmax(3).to(v.dtype) @ v).transpose(1, 2).reshape(n, t, width)
        x = x + attention.out_proj(y)
        y = layer.mlp.fc1(layer.layer_norm2(x))
        x = x + layer.mlp.fc2(y * torch.sigmoid(1.702 * y))
    return x


class Clip(nn.Module):
    def __init__(self, config, vectors, generator):
        super().__init__()
        self.clip = CLIPModel(config)
        self.words = Words(vectors, config.text_config.hidden_size, generator)
        # The table is made of `words` when the model is written.
        self.clip.text_model.embeddings.token_embedding.weight.requires_grad_(False)
        self.generator = generator
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1))

    def texts(self, ids):
        """`[n, projection]` of `[n, t]` ids; the first end token's row."""
        text = self.clip.text_model
        x = self.words(ids) + text.embeddings.position_embedding.weight[: ids.shape[1]]
        x = text.final_layer_norm(blocks(x, text.encoder.layers, True))
        return self.clip.text_projection(x[torch.arange(len(ids)), (ids == END).int().argmax(1)])

    def images(self, pixels, kept=1.0):
        """`[n, projection]` of `[n, 3, 64, 64]` from 0 to 1; `kept` of the patches are looked at (FLIP, arXiv:2212.00794)."""
        vision = self.clip.vision_model
        x = vision.embeddings((pixels - self.mean) / self.deviation)
        if kept < 1:
            n, t, width = x.shape
            some = torch.rand(n, t - 1, generator=self.generator).argsort(1)[:, : int(kept * (t - 1))] + 1
            x = torch.cat([x[:, :1], x.gather(1, some.unsqueeze(-1).expand(-1, -1, width))], 1)
        x = blocks(vision.pre_layrnorm(x), vision.encoder.layers, False)
        return self.clip.visual_projection(vision.post_layernorm(x[:, 0]))

    def loss(self, pixels, ids, kept):
        """The paper's symmetric cross entropy (arXiv:2103.00020, figure 3)."""
        images, texts = F.normalize(self.images(pixels, kept).float(), dim=1), F.normalize(self.texts(ids).float(), dim=1)
        logits = self.clip.logit_scale.exp() * images @ texts.T
        same = torch.arange(len(ids))
        return (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2

    @torch.no_grad()
    def save(self, folder):
        """A Hugging Face folder: `config.json`, `model.safetensors`."""
        self.clip.text_model.embeddings.token_embedding.weight.copy_(self.words.table())
        self.clip.save_pretrained(folder)
