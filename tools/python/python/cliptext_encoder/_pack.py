"""Prompt packs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Iterator, List, Mapping, NoReturn, Optional, Union

from . import _core
from ._arrays import from_rows
from ._embeddings import Embeddings
from ._plan import StrPath


@dataclass(frozen=True)
class PackEntry:
    """What an embedding of a pack is of."""

    name: str
    #: The text that was encoded.
    prompt: str
    #: How it was encoded, in the words of the program that made the pack.
    options: str
    #: The token ids, one per row of the hidden states.
    ids: List[int]
    #: The part of the prompt that was left out because it did not fit.
    dropped: Optional[str]


class Pack(Mapping[str, Embeddings]):
    """A prompt pack: a file of named embeddings, read without a plan. `pack["a dog"]` has the arrays of one prompt.

    The file is mapped unless `read`; what that asks for, and the errors of files, are those of Plan. Raises PackError where it is no
    pack, is damaged, or has another format version. Values stored in half precision come out as float32, each as it is.
    """

    __slots__ = ("_core", "path")

    #: Where the file is; None where the pack came from bytes.
    path: Optional[str]

    def __init__(self, path: StrPath, *, read: bool = False) -> None:
        self.path = os.fsdecode(path)
        self._core = _core.Pack(self.path, read)

    @classmethod
    def from_bytes(cls, data: Union[bytes, bytearray, memoryview]) -> Pack:
        """The pack in `data`, which is copied."""
        pack = cls.__new__(cls)
        pack.path = None
        pack._core = _core.Pack.from_bytes(bytes(data))
        return pack

    def embeddings(self, prompt: str, *, negative: Optional[str] = None) -> Embeddings:
        """The arrays of two entries by their names, as `Encoder.encode` gives them."""
        one = self[prompt]
        if negative is None:
            return one
        other = self[negative]
        return Embeddings(
            one.prompt_embeds, other.prompt_embeds, one.pooled_prompt_embeds, other.pooled_prompt_embeds
        )

    def entry(self, name: str) -> PackEntry:
        """What the embedding called `name` is of."""
        entry = self._core.entry(name)
        if entry is None:
            raise KeyError(name)
        return PackEntry(name, *entry)

    @property
    def width(self) -> int:
        """Columns of the hidden states."""
        return self._core.width

    @property
    def pooled_width(self) -> Optional[int]:
        """Columns of the pooled rows; None where there are none."""
        return self._core.pooled_width

    @property
    def plan_hash(self) -> str:
        """Which plan encoded the prompts: its `Plan.hash`."""
        return self._core.plan_hash

    @property
    def source(self) -> str:
        """The model that the plan was made from."""
        return self._core.source

    @property
    def producer(self) -> str:
        """The program that made the pack."""
        return self._core.producer

    def __getitem__(self, name: str) -> Embeddings:
        row = self._core.values(name)
        if row is None:
            raise KeyError(name)
        hidden, pooled = from_rows([row], self.width)
        return Embeddings(hidden, pooled_prompt_embeds=pooled)

    def __iter__(self) -> Iterator[str]:
        return iter(self._core.names())

    def __len__(self) -> int:
        return len(self._core)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._core.entry(name) is not None

    def __repr__(self) -> str:
        return f"<cliptext_encoder.Pack {self.path or 'from bytes'}: {len(self)} prompts of {self.source}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pack can't be pickled: give the other process its path; a mapped file is in memory once")
