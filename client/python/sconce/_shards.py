"""A tensor of which this process has pieces: what a rank saves of one that is sharded over several."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Tuple

Dims = Tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Shards:
    """Saved as one sharded tensor (docs/formats/manifest.md). Each piece is where it begins in the whole, and a strided tensor."""

    size: Dims
    pieces: List[Tuple[Dims, Any]]
