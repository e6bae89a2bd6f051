"""Reading scalars from the event files of TensorBoard, without TensorBoard.

A file is a row of records: length (8 bytes), checksum of the length (4), data, checksum of the data
(4). The data is an ``Event`` in the wire format of protocol buffers; of its fields only the step
and the scalars of its summary are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

Points = dict[str, list[tuple[int, float]]]
Field = int | bytes

HEADER, CHECKSUM = 12, 4
STEP, SUMMARY = 2, 5
"""Fields of ``Event``."""
VALUE = 1
"""Field of ``Summary``."""
TAG, SIMPLE_VALUE, TENSOR = 1, 2, 8
"""Fields of ``Summary.Value``."""
DTYPE, CONTENT, FLOATS, DOUBLES = 1, 4, 5, 6
"""Fields of ``TensorProto``."""
FLOAT32, FLOAT64 = 1, 2


def read_events(path: Path) -> Points:
    """Return the scalars of one event file: step and value of each point, by tag.

    A record that was cut off by a crash, or is still being written, ends the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no event file.
    """
    points: Points = {}
    for number, record in enumerate(_records(path), start=1):
        try:
            _read_event(record, points)
        except (ValueError, IndexError, struct.error) as error:
            raise ValueError(
                f"expected an event file of TensorBoard at {path}, but record {number} is none: "
                f"{error}"
            ) from error
    return points


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        size = path.stat().st_size
        while len(header := file.read(HEADER)) == HEADER:
            (length,) = struct.unpack("<Q", header[:8])
            if length > size:
                if file.tell() == HEADER:
                    raise ValueError(
                        f"expected an event file of TensorBoard at {path}, but its first record "
                        f"would be {length} bytes long in a file of {size}"
                    )
                return
            record = file.read(length)
            if len(record) < length or len(file.read(CHECKSUM)) < CHECKSUM:
                return
            yield record


def _read_event(record: bytes, points: Points) -> None:
    step, summaries = 0, []
    for number, value in _fields(record):
        if number == STEP and isinstance(value, int):
            step = value
        elif number == SUMMARY and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for number, value in _fields(summary):
            if number == VALUE and isinstance(value, bytes):
                _read_value(value, step, points)


def _read_value(data: bytes, step: int, points: Points) -> None:
    fields = dict(_fields(data))
    tag, simple, tensor = fields.get(TAG), fields.get(SIMPLE_VALUE), fields.get(TENSOR)
    value = None
    if isinstance(simple, bytes):
        (value,) = struct.unpack("<f", simple)
    elif isinstance(tensor, bytes):
        value = _scalar(dict(_fields(tensor)))
    if isinstance(tag, bytes) and value is not None:
        points.setdefault(tag.decode("utf-8", "replace"), []).append((step, float(value)))


def _scalar(tensor: dict[int, Field]) -> float | None:
    """Return the value of a tensor of one float; None for any other."""
    form = {FLOAT32: "<f", FLOAT64: "<d"}.get(int(tensor.get(DTYPE, 0) or 0))
    held = tensor.get(CONTENT) or tensor.get(FLOATS) or tensor.get(DOUBLES)
    if form is None or not isinstance(held, bytes) or len(held) != struct.calcsize(form):
        return None
    return float(struct.unpack(form, held)[0])


def _fields(data: bytes) -> Iterator[tuple[int, Field]]:
    """Yield number and value of each field of a message; numbers of fixed width as bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        if kind == 2:
            length, place = _varint(data, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"field {number} has the unknown type {kind}")
        if place + length > len(data):
            raise ValueError(f"field {number} ends after the record")
        yield number, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number is longer than ten bytes")
