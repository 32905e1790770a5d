"""What prompts become."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, Optional

import numpy as np

if TYPE_CHECKING:
    from ._arrays import Array


@dataclass(frozen=True, eq=False, repr=False)
class Embeddings:
    """What prompts become: arrays of float32 under the names that diffusers has for them. They own their memory."""

    #: The hidden states, [prompts, tokens, width].
    prompt_embeds: Array
    #: Those of the negative prompts, where there are any.
    negative_prompt_embeds: Optional[Array] = None
    #: The pooled rows, [prompts, pooled width], where the plan has them.
    pooled_prompt_embeds: Optional[Array] = None
    #: Those of the negative prompts.
    negative_pooled_prompt_embeds: Optional[Array] = None

    def arrays(self, *, pooled: bool = False) -> Dict[str, Array]:
        """The arrays that there are by their names, the pooled ones where asked for: Stable Diffusion 1 and 2 take none."""
        if pooled and self.pooled_prompt_embeds is None:
            raise ValueError("the plan has no pooled output")
        return {name: array for name, array in self._all().items() if pooled or "pooled" not in name}

    def torch(self, *, pooled: bool = False, device: Any = None, dtype: Any = None) -> Dict[str, Any]:
        """The same as tensors of PyTorch, for a pipeline of diffusers: `pipe(**result.torch())`, and of Stable Diffusion XL
        `pipe(**result.torch(pooled=True))`. On the CPU in float32 they share the arrays' memory.
        """
        torch = import_module("torch")
        return {
            name: torch.from_numpy(array).to(device=device, dtype=dtype)
            for name, array in self.arrays(pooled=pooled).items()
        }

    def batch(self, *, prompt_first: bool = False) -> Array:
        """Negative prompts and prompts in one array, [2 * prompts, tokens, width]: what a UNet takes for classifier-free
        guidance. The negative ones come first, as in diffusers, unless `prompt_first`.
        """
        negative = self.negative_prompt_embeds
        if negative is None:
            raise ValueError('a batch needs a negative prompt: encode(..., negative="")')
        if negative.shape != self.prompt_embeds.shape:
            raise ValueError(
                f"prompts {list(self.prompt_embeds.shape)} and negative prompts {list(negative.shape)} don't fit one array: "
                "encode them with padding"
            )
        both = (self.prompt_embeds, negative) if prompt_first else (negative, self.prompt_embeds)
        return np.concatenate(both)

    def _all(self) -> Dict[str, Array]:
        names = self.__dataclass_fields__
        return {name: array for name in names if (array := getattr(self, name)) is not None}

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self._all().items())
        return f"<cliptext_encoder.Embeddings: {shapes}>"
