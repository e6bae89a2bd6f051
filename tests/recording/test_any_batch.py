"""Whatever a batch is made of, it is looked at without an error, and left as it was."""

from __future__ import annotations

import collections
import dataclasses
import json
import types
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_plateau.core.plain import to_plain
from lightning_plateau.core.samples import Samples
from lightning_plateau.core.tape import Operand
from lightning_plateau.recording.batch import MOST, batch_size, leaves
from lightning_plateau.recording.census import Census
from lightning_plateau.recording.delivery import Delivery
from lightning_plateau.recording.inputs import record_inputs

DTYPES = [
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
]  # fmt: skip
ODD = [0.0, -0.0, 1.0, -100.0, 65504.0, 1e30, -1e30, float("inf"), float("-inf"), float("nan")]
Pair = collections.namedtuple("Pair", "image label")


@dataclasses.dataclass
class Sample:
    image: Any
    label: Any = None


class Custom:
    def __init__(self, image: Any, label: Any) -> None:
        self.image, self.label, self.owner = image, label, self


@st.composite
def dense(draw: Any) -> Tensor:
    """Draw a tensor of no or a few elements and of any type; some are views."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    dtype = draw(st.sampled_from(DTYPES))
    values = draw(st.lists(st.sampled_from(ODD), min_size=1, max_size=6))
    count = int(np.prod(shape))
    wide = torch.tensor(values, dtype=torch.float64).repeat(-(-max(1, count) // len(values)))
    whole = not (dtype.is_floating_point or dtype.is_complex)
    wide = wide.nan_to_num(7.0, 120.0, 0.0).clamp(-100, 120) if whole else wide
    wide = wide.clamp(min=0) if dtype is torch.uint8 else wide
    made = wide[:count].reshape(shape).to(dtype)
    view = draw(st.sampled_from(["", "turned", "expanded", "grown", "conjugate"]))
    if view == "turned" and made.dim() > 1:
        made = made.transpose(0, 1)
    elif view == "expanded":
        made = made.unsqueeze(0).expand(3, *made.shape)
    elif view == "grown" and not whole:
        made = made.requires_grad_()
    elif view == "conjugate" and dtype.is_complex:
        made = made.conj()
    return made


@st.composite
def other_layouts(draw: Any) -> Tensor:
    """Draw a sparse or nested tensor, full or empty."""
    rows, full = draw(st.integers(1, 3)), draw(st.booleans())
    plain = torch.full((rows, 2), float(full))
    layout = draw(st.sampled_from(["coo", "csr", "hybrid", "jagged", "nested"]))
    if layout == "coo":
        return plain.to_sparse()
    if layout == "csr":
        return plain.to_sparse_csr()
    if layout == "hybrid":
        return plain.to_sparse(1)
    ragged = [torch.ones(rows * full, 2), torch.ones(rows, 2) * full]
    kind = torch.jagged if layout == "jagged" else torch.strided
    return torch.nested.nested_tensor(ragged, layout=kind)


def batches() -> st.SearchStrategy[Any]:
    """Return a strategy of what collate functions make: nested, ragged, empty, of any types."""
    plain = st.none() | st.text(max_size=5) | st.floats() | st.booleans() | st.binary(max_size=3)
    arrays = st.builds(np.zeros, st.integers(0, 3))
    leaf = st.one_of(dense(), dense(), other_layouts(), plain, arrays)
    keys = st.text(max_size=4) | st.integers() | st.none() | st.tuples(st.integers())

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(keys, inner, max_size=4),
            st.dictionaries(keys, inner, max_size=2).map(collections.UserDict),
            st.builds(Pair, inner, inner),
            st.builds(Sample, inner, inner),
            st.builds(Custom, inner, inner),
            st.builds(lambda one: types.SimpleNamespace(x=one), inner),
        )

    return st.recursive(leaf, around, max_leaves=10)


def state(batch: Any) -> list[Any]:
    """Return what would tell of a change: places, versions, types, gradients and bytes."""
    return [
        (path, id(leaf), leaf._version, leaf.dtype, leaf.requires_grad, leaf.grad, content(leaf))
        for path, leaf in leaves(batch)
    ]


def content(leaf: Tensor) -> Any:
    """Return the bytes of a tensor, which are equal where NaN are."""
    if leaf.is_nested:
        return [content(part) for part in leaf.unbind()]
    dense = leaf.detach().to_dense().resolve_conj().contiguous()
    return tuple(dense.shape), dense.reshape(-1).view(torch.uint8).tolist() if dense.numel() else []


def census_of(names: list[str]) -> Census:
    """Return a census that takes every tensor for an input, and the last one for the labels."""
    operands = tuple(Operand("batch", i, name) for i, name in enumerate(names))
    roles = Samples(operands[:-1] or operands, operands[-1] if operands else None, 3, True)
    census = Census(lambda _: True)
    census.load_state_dict({**census.state_dict(), "roles": json.dumps(to_plain(roles))})
    return census


def look(batch: Any) -> None:
    """Look at a batch in every way in which batches are looked at."""
    paths = [path for path, _ in leaves(batch)]
    assert len(paths) <= MOST
    assert batch_size(batch) >= 0
    delivery = Delivery()
    record_inputs(delivery, 0, batch)
    for names in (paths, paths[:1], paths[-1:], [*paths, "absent"]):
        census = census_of(names)
        census.observe(batch, step=0, sampled=True)
        census.observe_validation(batch)
        census.close_step(0, delivery.transfer, delivery.store)
        census.close_validation(0, delivery.transfer, delivery.store)
    delivery.transfer.send(wait=True)


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested")
@settings(max_examples=150, deadline=None)
@given(batches())
@example(torch.zeros(3, 3).to_sparse())
def test_any_batch(batch: Any) -> None:
    before = state(batch)
    random = torch.get_rng_state()
    look(batch)
    assert state(batch) == before
    assert torch.equal(torch.get_rng_state(), random)
