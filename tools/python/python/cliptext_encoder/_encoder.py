"""Encoders."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, List, NoReturn, Optional, Sequence, Union

import numpy as np

from . import _core
from ._arrays import from_rows
from ._embeddings import Embeddings
from ._plan import Plan, StrPath
from ._prompt import PLAIN, Chunks, Weights, chunks_of, options, texts

if TYPE_CHECKING:
    from ._arrays import Row
    from ._prompt import Options


class Encoder:
    """Turns prompts into embeddings, with a plan or the plan in a file.

    `threads` share the work: as many as there are fast cores, unless given. `kernel` forces the kernels of an instruction set
    by name; all give the same bytes. `read` reads the plan into memory instead of mapping it (see Plan, which also says what
    errors there are).

    An encoder may be used by several Python threads: they take turns, and the interpreter's lock is released meanwhile. Encoders
    on one Plan work at the same time. In a forked child an encoder starts its threads anew at the first call.
    """

    __slots__ = ("plan", "_core", "_process", "_threads", "_kernel")

    #: The plan, which other encoders may share.
    plan: Plan

    def __init__(
        self,
        plan: Union[Plan, StrPath],
        *,
        threads: Optional[int] = None,
        read: bool = False,
        kernel: Optional[str] = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 or more, not {threads}")
        if isinstance(plan, Plan):
            if read:
                raise ValueError("read: the Plan is open already: Plan(path, read=True)")
            self.plan = plan
        else:
            self.plan = Plan(plan, read=read)
        self._threads = threads
        self._kernel = kernel
        self._start()

    def _start(self) -> None:
        self._core = _core.Encoder(self.plan._core, self._threads, self._kernel)
        self._process = os.getpid()

    def encode(
        self,
        prompt: Union[str, Sequence[str]],
        *,
        negative: Union[None, str, Sequence[str]] = None,
        pad: bool = True,
        weights: Weights = "none",
        chunks: Optional[Chunks] = None,
        comma_backtrack: int = 0,
    ) -> Embeddings:
        """Encodes a prompt, or several.

        `negative` is a negative prompt for each, or one for all. Without `pad` there are rows for a prompt's own tokens only, start
        and end included; they equal the first rows with it. Several prompts then need as many tokens each.

        `weights` reads `(word:1.3)` and its like as that program does. `chunks` takes prompts that are longer than the context: so many
        chunks, or "auto", as many as the longest prompt or negative prompt needs; all are filled up to the same number, and there
        are that many times the context's rows. A full chunk ends behind its last comma if that is among its last `comma_backtrack`
        tokens; AUTOMATIC1111's web UI has 20.

        Warns with PromptTruncated of what does not fit.
        """
        prompts = texts("prompt", prompt)
        negatives = [] if negative is None else texts("negative", negative)
        if negatives and not isinstance(negative, str) and len(negatives) != len(prompts):
            raise ValueError(
                f"negative has {len(negatives)} texts for {len(prompts)} prompts: give one each, or one for all"
            )
        read_as = options(weights, chunks, comma_backtrack)
        names = _names("prompt", prompt, prompts) + _names("negative", negative, negatives)
        most = max(chunks_of(self.plan._core, *named, read_as) for named in zip(names, prompts + negatives))
        if not pad:
            self._refuse_unequal(prompts, negatives, read_as)
        if read_as == PLAIN:
            rows = self._passes(prompts + negatives, pad)
        else:
            rows = [self._running().encode_prompt(text, read_as, most) for text in prompts + negatives]
        hidden, pooled = from_rows(rows[: len(prompts)], self.width)
        if not negatives:
            return Embeddings(hidden, pooled_prompt_embeds=pooled)
        negative_hidden, negative_pooled = from_rows(rows[len(prompts) :], self.width)
        if len(negatives) < len(prompts):
            negative_hidden = np.repeat(negative_hidden, len(prompts), axis=0)
            negative_pooled = None if negative_pooled is None else np.repeat(negative_pooled, len(prompts), axis=0)
        return Embeddings(hidden, negative_hidden, pooled, negative_pooled)

    def tokenize(self, text: str, *, pad: bool = False) -> List[int]:
        """As Plan.tokenize."""
        return self.plan.tokenize(text, pad=pad)

    @property
    def width(self) -> int:
        """Columns of the hidden states: 768 for Stable Diffusion 1, 2048 for XL."""
        return self.plan.width

    @property
    def context(self) -> int:
        """Tokens of a prompt, start and end token and padding included: 77."""
        return self.plan.context

    @property
    def plan_hash(self) -> str:
        """Which plan it is: 64 hexadecimal digits."""
        return self.plan.hash

    @property
    def threads(self) -> int:
        """Threads that share the work."""
        return self._core.threads

    @property
    def kernel(self) -> str:
        """The kernels in use, by the instruction set that they are made of."""
        return self._core.kernel

    def _refuse_unequal(self, prompts: List[str], negatives: List[str], read_as: Options) -> None:
        """Refuses texts that don't fit one array without padding."""
        if read_as != PLAIN:
            raise ValueError("pad=False: prompts with weights or in chunks are always padded")
        for name, given in (("prompt", prompts), ("negative", negatives)):
            lengths = {len(self.plan._core.tokenize(text, False)) for text in given}
            if len(lengths) > 1:
                raise ValueError(
                    f"pad=False: {name}s of {min(lengths)} and of {max(lengths)} tokens don't fit one array: "
                    "encode them one by one"
                )

    def _running(self) -> _core.Encoder:
        if self._process != os.getpid():  # forked: the threads are the parent's
            self._start()
        return self._core

    def _passes(self, prompts: List[str], pad: bool) -> List[Row]:
        rows: List[Row] = []
        while len(rows) < len(prompts):
            rows += self._running().encode(prompts[len(rows) :], pad)
        return rows

    def __repr__(self) -> str:
        return f"<cliptext_encoder.Encoder: {self.plan!r}, kernel {self.kernel}, {self.threads} threads>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Encoder can't be pickled: give the other process the plan's path and make one there")


def _names(name: str, given: object, prompts: List[str]) -> List[str]:
    """What each text is called in warnings."""
    return [name] if isinstance(given, str) else [f"{name}[{index}]" for index in range(len(prompts))]
