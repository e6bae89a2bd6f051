"""One trial on several processes: rank zero chooses its values, the others take them over."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

FIRST = "LIGHTNING_PLATEAU_TRIAL"
"""Where processes that Lightning starts with the first fit find the values of that trial."""


def rank() -> int:
    """Return the rank of this process among those that train together; 0 where it is alone."""
    if _is_joined():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def processes() -> int:
    """Return how many processes train together."""
    if _is_joined():
        return torch.distributed.get_world_size()
    return int(os.environ.get("WORLD_SIZE", "1"))


def agreed(values: Any) -> Any:
    """Return what rank zero says, on every rank.

    Args:
        values: What this rank would say, in plain types; only that of rank zero counts.
    """
    if rank() > 0 and FIRST in os.environ:
        return json.loads(os.environ.pop(FIRST))
    if processes() == 1:
        os.environ[FIRST] = json.dumps(values)
        return values
    os.environ.pop(FIRST, None)
    if not _is_joined():
        _join()
    said = [values]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]


def forget() -> None:
    """Take back what was left for processes that were never started."""
    os.environ.pop(FIRST, None)


def _is_joined() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _join() -> None:
    """Join the processes as Lightning would: values travel by gloo, tensors by what is fastest."""
    cuda = torch.cuda.is_available() and torch.distributed.is_nccl_available()
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(minutes=30)
    )
