"""How prompts are read."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, List, Literal, Optional, Sequence, Tuple, Union

from . import _core

#: Whose weights a prompt has: `(word:1.3)` as AUTOMATIC1111's web UI or ComfyUI reads it; `none` takes all of it for text.
Weights = Literal["none", "a1111", "comfy"]
#: How many chunks of 75 tokens a prompt takes: so many, or as many as it needs.
Chunks = Union[int, Literal["auto"]]

if TYPE_CHECKING:
    Options = Tuple[str, Optional[str], int]

#: As the tokenizer does: text, cut at the context.
PLAIN: Options = ("none", None, 0)

#: Characters of a cut prompt that a warning shows.
_SHOWN = 200


class PromptTruncated(UserWarning):
    """A prompt has more tokens than fit; the warning shows what fell off."""


def options(weights: str, chunks: Optional[Chunks], comma_backtrack: int) -> Options:
    """The options as the core takes them; those without an effect are refused."""
    if not isinstance(weights, str):
        raise TypeError(f"weights must be a str, not {type(weights).__name__}")
    if chunks is not None and (isinstance(chunks, bool) or not isinstance(chunks, (int, str))):
        raise TypeError(f'chunks must be an int, "auto" or None, not {type(chunks).__name__}')
    if not 0 <= comma_backtrack <= 255:
        raise ValueError(f"comma_backtrack is a number of tokens, 0 to 255, not {comma_backtrack}")
    if comma_backtrack and (weights == "comfy" or weights == "none" and chunks is None):
        raise ValueError('comma_backtrack has an effect on chunks, and weights="a1111", only')
    return weights, None if chunks is None else str(chunks), comma_backtrack


def texts(name: str, given: Union[str, Sequence[str]]) -> List[str]:
    """The texts in an argument; a wrong type is told by its place."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Sequence) or isinstance(given, (bytes, bytearray)):
        raise TypeError(f"{name} must be a str or a sequence of str, not {type(given).__name__}")
    if not given:
        raise ValueError(f"{name} is an empty sequence: give one text at least")
    for index, text in enumerate(given):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{index}] must be a str, not {type(text).__name__}")
    return list(given)


def chunks_of(plan: _core.Plan, name: str, text: str, read_as: Options) -> int:
    """How many chunks a text takes; what falls off is told."""
    chunks, dropped = plan.read(name, text, read_as)
    if dropped is not None:
        shown = repr(dropped if len(dropped) <= _SHOWN else dropped[:_SHOWN] + "…")
        room = f"{plan.context} tokens" if chunks == 1 else f"{chunks} chunks of {plan.context} tokens"
        more = '' if chunks > 1 else ', chunks="auto" takes all of it'
        _warn(f"{name}: cut to {room}{more}: without {shown}")
    return chunks


def _warn(message: str) -> None:
    """Warns at the line that called into this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, PromptTruncated, stacklevel=level)
