"""A look into an ONNX file before onnxruntime opens it: that it is one, and all there is.

An ONNX file may name other files that its weights are in, by any path. A release is one file, so
any such name is refused. The file is protocol buffers; this walks the messages in which a tensor
can stand, by the field numbers of onnx.proto3, and reads nothing else.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from schemas.errors import ReleaseError

__all__ = ["check_self_contained"]

DEEPEST = 64  # a graph within a graph within ... : no real model is nested so

# Message: field number to the message that stands in it.
NESTED: Final[Mapping[str, Mapping[int, str]]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
EXTERNAL_DATA, DATA_LOCATION, GRAPH = 13, 14, 7


def check_self_contained(model: bytes) -> None:
    """Refuse what is no ONNX file, and one that names other files.

    Raises
    ------
    ReleaseError
        If it is either.
    """
    if model[:1] == b"\x80" or model[:4] == b"PK\x03\x04":
        raise ReleaseError(
            "the model is a pickle or an archive, as torch.save writes: those run code when they "
            "are opened; export it to ONNX with `groundswell encoder train`"
        )
    try:
        has_graph = any(number == GRAPH for number, _ in _fields(memoryview(model)))
        _walk(memoryview(model), "Model", 0)
    except (IndexError, ValueError) as error:
        raise ReleaseError(f"the model is no ONNX file: {error}") from error
    if not has_graph:
        raise ReleaseError("the model is no ONNX file: it has no graph")


def _walk(message: memoryview, kind: str, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST}")
    nested = NESTED[kind]
    for number, value in _fields(message):
        if kind == "Tensor" and (
            number == EXTERNAL_DATA or (number == DATA_LOCATION and value not in (0, None))
        ):
            raise ReleaseError(
                "the model keeps weights in other files (ONNX external data): a release is one "
                "file; export it without"
            )
        if number in nested and isinstance(value, memoryview):
            _walk(value, nested[number], depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview | None]]:
    """Field numbers with their values: protocol buffers' wire format."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        value: int | memoryview | None = None
        if wire == 0:
            value, at = _varint(message, at)
        elif wire == 1:
            at += 8
        elif wire == 2:
            length, at = _varint(message, at)
            value = message[at : at + length]
            at += length
        elif wire == 5:
            at += 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        # Readers cut a key to 32 bits: more would hide a field from this scan.
        if number == 0 or key >= 1 << 32 or at > len(message):
            raise ValueError(f"cut off or garbled at byte {at}")
        yield number, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number without end at byte {at}")
