"""Arrays out of the values that the core gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]
    #: Hidden states and a pooled row.
    Row = Tuple[bytearray, Optional[bytearray]]


def from_rows(rows: List[Row], width: int) -> Tuple[Array, Optional[Array]]:
    """Hidden states, [rows, tokens, width], and pooled rows, where all have one."""
    hidden = _joined([values for values, _ in rows]).reshape(len(rows), -1, width)
    pooled = [values for _, values in rows if values is not None]
    return hidden, _joined(pooled).reshape(len(rows), -1) if len(pooled) == len(rows) else None


def _joined(parts: List[bytearray]) -> Array:
    """Values one behind the other, in memory of their own: a single part's, or a copy."""
    arrays = [np.frombuffer(values, np.float32) for values in parts]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
