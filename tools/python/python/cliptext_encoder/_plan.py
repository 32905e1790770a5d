"""Plans."""

from __future__ import annotations

import os
from typing import List, NoReturn, Optional, Tuple, Union

from . import _core
from ._prompt import PLAIN, Chunks, Weights, chunks_of, options

StrPath = Union[str, "os.PathLike[str]"]


class Plan:
    """A plan: a model's text encoder, compiled by `cliptext compile`. Encoders share it, and so do threads.

    The file is mapped: nothing is copied, processes share it, and the system may drop its pages where memory is short. It must
    stay as it is meanwhile: one that is overwritten in place changes the weights, and one that is cut short ends the process
    with a bus error (SIGBUS). Put a new plan in its place by renaming. With `read` it is read into memory instead: that takes
    the plan's size in RAM and needs the file no more. A pipe or a device is always read.

    Raises OSError where the file can't be read (FileNotFoundError, IsADirectoryError, PermissionError), and PlanError where it
    is no plan, is damaged, or has another format version.
    """

    __slots__ = ("_core", "path")

    #: Where the file is; None where the plan came from bytes.
    path: Optional[str]

    def __init__(self, path: StrPath, *, read: bool = False) -> None:
        self.path = os.fsdecode(path)
        self._core = _core.Plan(self.path, read)

    @classmethod
    def from_bytes(cls, data: Union[bytes, bytearray, memoryview]) -> Plan:
        """The plan in `data`, which is copied."""
        plan = cls.__new__(cls)
        plan.path = None
        plan._core = _core.Plan.from_bytes(bytes(data))
        return plan

    @property
    def context(self) -> int:
        """Tokens of a prompt, start and end token and padding included: 77."""
        return self._core.context

    @property
    def width(self) -> int:
        """Columns of the hidden states, of all text towers together: 768 for Stable Diffusion 1, 2048 for XL."""
        return self._core.width

    @property
    def pooled_width(self) -> Optional[int]:
        """Columns of the pooled output; None where the plan has none."""
        return self._core.pooled_width

    @property
    def projected(self) -> bool:
        """Whether the pooled output is a projection, as Stable Diffusion XL takes it, and zero-shot models."""
        return self._core.projected

    @property
    def logit_scale(self) -> Optional[float]:
        """What CLIP multiplies cosines between texts and images with, where the model's files say it."""
        return self._core.logit_scale

    @property
    def hash(self) -> str:
        """Which plan it is: 64 hexadecimal digits."""
        return self._core.hash

    @property
    def source(self) -> str:
        """The model that it was made from."""
        return self._core.source

    @property
    def producer(self) -> str:
        """The program that made it."""
        return self._core.producer

    @property
    def file_bytes(self) -> int:
        """Bytes of the plan."""
        return self._core.file_bytes

    def arena_bytes(self, sequences: int = 1) -> int:
        """Bytes of working memory for so many prompts in one pass."""
        return self._core.arena_bytes(sequences)

    def tokenize(self, text: str, *, pad: bool = False) -> List[int]:
        """The token ids of a text, start and end token included; with `pad` as many as the context. Warns with PromptTruncated of what
        does not fit.
        """
        chunks_of(self._core, "text", text, PLAIN)
        return self._core.tokenize(text, pad)

    def chunks(
        self,
        text: str,
        *,
        weights: Weights = "none",
        chunks: Optional[Chunks] = "auto",
        comma_backtrack: int = 0,
    ) -> List[Tuple[List[int], List[float]]]:
        """The ids of each chunk of a prompt and their weights, without start and end token and padding: how Encoder.encode reads it."""
        read_as = options(weights, chunks, comma_backtrack)
        chunks_of(self._core, "text", text, read_as)
        return self._core.chunks("text", text, read_as)

    def __repr__(self) -> str:
        return f"<cliptext_encoder.Plan {self.path or 'from bytes'}: {self.source}, [{self.context}, {self.width}]>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Plan can't be pickled: give the other process its path; a mapped file is in memory once")
