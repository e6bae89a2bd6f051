from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_plateau.report.event_file import read_events


def varint(value: int) -> bytes:
    coded = b""
    while value > 0x7F:
        coded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return coded + bytes([value])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def fixed(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def record(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + b"\0" * 4 + data + b"\0" * 4


def event(step: int, *values: bytes) -> bytes:
    return record(field(2, step) + field(5, b"".join(field(1, value) for value in values)))


def simple(tag: str, value: float) -> bytes:
    return field(1, tag.encode()) + fixed(2, value)


def tensor(tag: str, value: float) -> bytes:
    content = field(1, 1) + field(4, struct.pack("<f", value))
    return field(1, tag.encode()) + field(8, content)


START = record(varint(1 << 3 | 1) + struct.pack("<d", 1.7e9) + field(3, b"brain.Event:2"))


def test_scalars_are_read_in_both_ways_in_which_they_are_written(tmp_path):
    path = tmp_path / "events.out.tfevents.1"
    text = field(1, b"note") + field(8, field(1, 7) + field(8, b"words"))
    path.write_bytes(START + event(9, simple("loss", 0.5), text) + event(300, tensor("loss", 0.25)))
    assert read_events(path) == {"loss": [(9, 0.5), (300, 0.25)]}


def test_a_record_that_is_cut_off_ends_the_file(tmp_path):
    path = tmp_path / "events.out.tfevents.1"
    whole = START + event(9, simple("loss", 0.5))
    for cut in range(1, 20):
        path.write_bytes(whole + event(10, simple("loss", 0.1))[:cut])
        assert read_events(path) == {"loss": [(9, 0.5)]}


def test_what_is_no_event_file_is_told(tmp_path):
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"PK\x03\x04" + bytes(range(200)))
    with pytest.raises(ValueError, match=r"expected an event file of TensorBoard at .*tfevents"):
        read_events(path)
    path.write_bytes(record(b"\xff" * 20))
    with pytest.raises(ValueError, match="record 1 is none"):
        read_events(path)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), framed=st.booleans())
def test_any_bytes_are_read_or_refused(tmp_path_factory, data, framed):
    path = tmp_path_factory.mktemp("events") / "file"
    path.write_bytes(START + (record(data) if framed else data))
    with suppress(ValueError):
        read_events(path)


def test_what_torch_writes_is_read(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        for step in range(100):
            writer.add_scalar("train/loss", 1.0 / (step + 1), step)
        writer.add_text("note", "words", 3)
    (path,) = tmp_path.iterdir()
    points = read_events(path)["train/loss"]
    assert [step for step, _ in points] == list(range(100))
    assert points[-1][1] == pytest.approx(0.01)
