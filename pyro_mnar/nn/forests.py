"""What random forests (Breiman 2001) expect of columns, given complete ones, where no line says it.

Each row is asked of trees that were grown without it: what a tree says of a value that it has seen is nearly that one,
and a regression on it would trust it too much.  So rows are dealt into folds, each with forests of its own that were
grown on the others; and as it is a row's numbers that deal it, forests are functions of these, which new rows can be
asked of too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

FOLDS = 5
TREES = 25  # of a forest
DEPTH, MOST_LEAVES = 8, 32  # of a tree
MOST_NODES = 2 * MOST_LEAVES - 1
SHARE = 0.5  # of the columns that a split may choose from
PRIME = 2_038_074_743


class Forests(nn.Module):
    """Functions of complete columns: means over trees, each of which is constant on boxes.

    Nothing in it is learned by training.

    Args:
        num_columns: Width of a row.
        num_outputs: How many columns something is expected of.
    """

    column: Tensor
    threshold: Tensor
    child: Tensor
    value: Tensor

    def __init__(self, num_columns: int, num_outputs: int) -> None:
        super().__init__()
        self.num_columns, self.num_outputs = num_columns, num_outputs
        shape = (FOLDS, num_outputs, TREES, MOST_NODES)
        itself = torch.arange(MOST_NODES)[:, None].expand(*shape, 2)  # where no split is, a row stays
        # Positions are held as other numbers are, so that a file may hold any; where they are used, they are in range.
        self.register_buffer("column", torch.zeros(shape))
        self.register_buffer("threshold", torch.zeros(shape))
        # Of a node first where higher values go, then where others do.
        self.register_buffer("child", itself.to(torch.get_default_dtype(), copy=True))
        self.register_buffer("value", torch.zeros(shape))

    def forward(self, columns: Float[Tensor, "*rows columns"]) -> Float[Tensor, "*rows outputs"]:
        """What trees that were grown without the row expect of each output."""
        flat = columns.reshape(-1, self.num_columns)
        trees = torch.arange(self.num_outputs * TREES, device=flat.device)
        root = ((fold_of(flat)[:, None] * len(trees) + trees) * MOST_NODES).flatten()
        row = torch.arange(len(flat), device=flat.device)[:, None].expand(-1, len(trees)).flatten() * self.num_columns
        column = self.column.flatten().long().clamp(0, self.num_columns - 1)
        child = self.child.flatten().long().clamp(0, MOST_NODES - 1)
        numbers, threshold = flat.flatten(), self.threshold.flatten()
        node = root
        for _ in range(DEPTH):  # flat positions, which are looked up three times as fast as those of a matrix
            is_low = numbers.index_select(0, row + column.index_select(0, node)) <= threshold.index_select(0, node)
            node = root + child.index_select(0, 2 * node + is_low)
        expected = self.value.flatten().index_select(0, node)
        return expected.reshape(*columns.shape[:-1], self.num_outputs, TREES).mean(-1)

    @classmethod
    def grown(
        cls,
        columns: Float[NDArray, "rows columns"],
        y: Float[NDArray, "rows outputs"],
        seen: Bool[NDArray, "rows outputs"],
    ) -> Forests:
        """Forests of some rows.

        Args:
            columns: Complete.
            y: What is to be expected, any number where it is not seen.
            seen: Where it is; somewhere in each column.
        """
        from sklearn.ensemble import RandomForestRegressor

        forests = cls(columns.shape[1], y.shape[1]).double()
        fold = fold_of(torch.tensor(columns)).numpy()
        limits = {"max_leaf_nodes": MOST_LEAVES, "max_depth": DEPTH, "max_features": SHARE}
        for number in range(FOLDS):
            for output in range(y.shape[1]):
                others = seen[:, output] & (fold != number)
                used = others if others.any() else seen[:, output]
                forest = RandomForestRegressor(TREES, **limits, random_state=0).fit(columns[used], y[used, output])
                for at, tree in enumerate(forest.estimators_):
                    forests._put((number, output, at), tree.tree_)
        return forests

    def of(self, outputs: list[int]) -> Forests:
        """The same of some outputs, by position."""
        forests = Forests(self.num_columns, len(outputs))
        for name, tensor in self.named_buffers():
            setattr(forests, name, tensor[:, outputs].clone())
        return forests

    def _put(self, at: tuple[int, int, int], tree: Any) -> None:
        """Copy one of scikit-learn's."""
        splits = np.flatnonzero(tree.children_left >= 0)
        self.value[at][: tree.node_count] = torch.as_tensor(tree.value[:, 0, 0])
        self.column[at][splits] = torch.as_tensor(tree.feature[splits]).to(self.column)
        self.threshold[at][splits] = torch.as_tensor(tree.threshold[splits])
        children = np.stack([tree.children_right, tree.children_left], axis=-1)
        self.child[at][splits] = torch.as_tensor(children[splits]).to(self.child)


def fold_of(columns: Float[Tensor, "rows columns"]) -> Int[Tensor, " rows"]:
    """The fold that a row is dealt into, by the bits of its numbers in single precision."""
    bits = columns.detach().float().contiguous().view(torch.int32).long()
    powers = torch.tensor([pow(PRIME, at + 1, 2**31 - 1) for at in range(columns.shape[1])], device=columns.device)
    mixed = (bits * powers).remainder(2**31 - 1).sum(1)
    return mixed.remainder(FOLDS)
