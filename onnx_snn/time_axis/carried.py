"""What a Loop carries from block to block, and what it stacks."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs


class Carried:
    """Lists of tensors in step with each other: per carried tensor its four names.

    Attributes:
        starts: before the Loop.
        inside: as its body reads them.
        next: as its body leaves them.
        finals: behind the Loop.
        scans: what every block gives, to be stacked.
        scanned: the stacks behind the Loop.
    """

    def __init__(self) -> None:
        self.starts: list[gs.Tensor] = []
        self.inside: list[gs.Variable] = []
        self.next: list[gs.Variable] = []
        self.finals: list[gs.Variable] = []
        self.scans: list[gs.Variable] = []
        self.scanned: list[gs.Variable] = []

    def add(
        self,
        name: str,
        dtype: np.dtype[np.generic],
        start: gs.Tensor,
        final: gs.Variable | None = None,
    ) -> tuple[gs.Variable, gs.Variable]:
        """Carry one more tensor; returns it as the body reads it, and as the body leaves it.

        Args:
            name: of all its tensors, with a suffix.
            dtype: its type.
            start: a scalar; it has its full shape from the first block on.
            final: what it is behind the Loop, if that tensor is there already.
        """
        before, after = (gs.Variable(f"{name}{suffix}", dtype) for suffix in ("", "_next"))
        self.starts.append(start)
        self.inside.append(before)
        self.next.append(after)
        self.finals.append(gs.Variable(f"{name}_final", dtype) if final is None else final)
        return before, after

    def add_zero(
        self, name: str, dtype: np.dtype[np.generic], rows: gs.Variable
    ) -> tuple[gs.Variable, gs.Variable]:
        """Carry a tensor that starts at 0."""
        return self.add(name, dtype, gs.Constant(f"{name}/zero", np.zeros((), dtype)))

    def scan(self, name: str, dtype: np.dtype[np.generic], block: gs.Variable) -> gs.Variable:
        """Stack what every block gives: [blocks, *shape of one]."""
        self.scans.append(block)
        self.scanned.append(gs.Variable(name, dtype))
        return self.scanned[-1]
