"""CLIP's text encoder on the CPU: prompts to the embeddings that a diffusion UNet reads.

>>> from cliptext_encoder import Encoder
>>> encoder = Encoder("sd15.plan")
>>> result = encoder.encode("a running dog", negative="blurry")
>>> result.prompt_embeds.shape, result.negative_prompt_embeds.shape
((1, 77, 768), (1, 77, 768))
"""

try:
    import numpy as _numpy  # noqa: F401
except ImportError as error:
    raise ImportError("cliptext_encoder needs NumPy: pip install numpy") from error

from ._core import PackError, PlanError, __version__
from ._embeddings import Embeddings
from ._encoder import Encoder
from ._pack import Pack, PackEntry
from ._plan import Plan
from ._prompt import PromptTruncated

__all__ = ["Embeddings", "Encoder", "Pack", "PackEntry", "PackError", "Plan", "PlanError", "PromptTruncated", "__version__"]
