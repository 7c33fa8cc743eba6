"""The header of a weights file: which network it holds and where it came from, read without torch or onnxruntime.

    NAME.onnx          a protobuf message; its metadata_props hold "autohr" and, at the end of the file, "sha256"
    NAME.safetensors   8 bytes with the length of a JSON table; its "__metadata__" holds "autohr" and "sha256"

"autohr" is JSON text. In a .safetensors file it is the header (``HEADER``). In an .onnx file it also describes the
inputs and outputs of the network, and the header stands under "weights". The checksum finds damage and careless edits.
It is no signature: it does not say who made the file. Pickles are never opened.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from autohr.errors import BadWeights, in_short
from autohr.files import check_file, parse_json, read_limited

HEADER: dict[str, str] = {
    "net": "name in NETS; written by save_weights",
    "config": "fields of its config; written by save_weights",
    "genotype": "name of its genotype, or null; written by save_weights",
    "input": "what the crops were: size_px, n_frames, box, margin, ...",
    "fps": "frames per second it was trained at, or null for any",
    "training_data": "names and versions of the recordings it saw",
    "licence": "under which the weights may be used",
    "provenance": "run, recipe, version, date",
    "measured_accuracy": "what was measured, on what",
}
"""Keys that every header has; one that the writer left out holds null."""
SCHEMA = "autohr.weights/1"
"""Schema of the header."""
ONNX_SCHEMA = "autohr.onnx/1"
"""Schema of the description in an .onnx file."""

MAX_WEIGHTS_BYTES = 2**31
"""Largest .safetensors file that is opened, 2 GiB. The largest network here has 71 MB."""
MAX_ONNX_BYTES = 2**29
"""Largest .onnx file that is opened, 512 MiB, for it is read into memory whole."""
MAX_TABLE_BYTES = 2**24
"""Largest JSON text that is read from a weights file, 16 MiB. The largest network's has 60 kB."""
MAX_PROTOBUF_FIELDS = 10_000
"""Largest number of top-level fields that are read from an .onnx file. Ours have about ten."""

GRAPH_FIELD, METADATA_FIELD = 7, 14
"""Numbers of the fields ``graph`` and ``metadata_props`` of an ONNX ModelProto."""


@dataclass(frozen=True)
class Header:
    """The header of a weights file, with the text and the checksum that it was read from."""

    values: dict[str, Any]
    text: str
    sha256: str


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a .safetensors or .onnx file, whose weights are not read.

    Raises
    ------
    BadWeights
        One line: the file is missing, too large, truncated, or not a weights file of autohr.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        return read_safetensors_header(path).values
    check_file(path, "weights file", MAX_ONNX_BYTES, BadWeights)
    with path.open("rb") as file:
        described, _ = _read_onnx_metadata(path, file, path.stat().st_size)
    header: dict[str, Any] = described["weights"]
    return header


def read_safetensors_header(path: Path) -> Header:
    """Return the header of a .safetensors file with its checksum, which is not compared.

    Raises
    ------
    BadWeights
        As ``read_header``.
    """
    check_file(path, "weights file", MAX_WEIGHTS_BYTES, BadWeights)
    if path.suffix.lower() == ".onnx":
        raise BadWeights(f"{str(path)!r} is an ONNX file, for measuring alone. Give the .safetensors file beside it.")
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        try:
            if len(start) < 8 or length > MAX_TABLE_BYTES:
                raise ValueError("its table of contents has no sensible length")
            table = parse_json(file.read(length), "its table of contents", BadWeights, advice="")
            metadata = table.pop("__metadata__", {})
            end = max((tensor["data_offsets"][1] for tensor in table.values()), default=0)
            if 8 + length + end != path.stat().st_size:
                raise ValueError("its size is not what its table of contents says")
            text, sha256 = metadata.get("autohr"), metadata.get("sha256")
        except (BadWeights, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            # Only now: a sound safetensors file may start with a pickle's first byte.
            if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
                raise BadWeights(
                    f"{str(path)!r} is a pickle (.pt, .pth), which can run code and is never loaded here. "
                    "Give a .safetensors file made by autohr."
                ) from error
            why = in_short(error).rstrip(".")
            raise BadWeights(
                f"{str(path)!r} is not a whole safetensors file ({why}). Fetch or copy it again."
            ) from error
    if not isinstance(text, str) or not isinstance(sha256, str):
        raise BadWeights(f"{str(path)!r} is a safetensors file, but not of autohr: it has no autohr header.")
    values = parse_json(text, f"{str(path)!r}: its header", BadWeights, "Fetch it again.")
    check_header(path, values)
    return Header(values, text, sha256)


def read_onnx(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the content of an .onnx file and its description, both checked against the checksum.

    Raises
    ------
    BadWeights
        As ``read_header``; also where the file was altered after it was written.
    """
    content = read_limited(Path(path), "weights file", MAX_ONNX_BYTES, BadWeights)
    described, (signed, sha256) = _read_onnx_metadata(path, io.BytesIO(content), len(content))
    if hashlib.sha256(memoryview(content)[:signed]).hexdigest() != sha256:
        raise altered(path)
    return content, described


def sign_onnx(model: bytes, described: Mapping[str, Any]) -> bytes:
    """Return a serialised ONNX model without metadata, followed by its description and the checksum of both."""
    text = json.dumps(described, allow_nan=False, sort_keys=True)
    whole = model + _metadata_entry("autohr", text)
    return whole + _metadata_entry("sha256", hashlib.sha256(whole).hexdigest())


def altered(path: Path) -> BadWeights:
    """Return the error for a file whose content does not fit its checksum."""
    return BadWeights(f"{str(path)!r} was altered after it was saved: its checksum does not fit. Fetch it again.")


def check_header(path: Path, header: Any) -> None:
    """Raise BadWeights for what is not a header that this version reads."""
    schema = header.get("schema") if isinstance(header, dict) else None
    if not isinstance(header, dict) or schema != SCHEMA:
        raise BadWeights(f"{str(path)!r} has schema {schema!r}; this version reads {SCHEMA!r}. Update autohr.")
    missing = [key for key in HEADER if key not in header]
    if missing:
        raise BadWeights(f"{str(path)!r}: its header lacks {', '.join(missing)}. Save it again with this version.")


def _read_onnx_metadata(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], tuple[int, str]]:
    """Return the description, and the number of bytes that the checksum is over with that checksum."""
    try:
        metadata, last = _walk_model(file, size)
    except ValueError as error:
        raise BadWeights(f"{str(path)!r} is not a whole ONNX file ({error}). Fetch or copy it again.") from error
    if "autohr" not in metadata:
        raise BadWeights(f"{str(path)!r} is an ONNX file, but not of autohr: it has no autohr header.")
    if "sha256" not in metadata:
        raise BadWeights(f"{str(path)!r} has no checksum: it was cut or made by an older version. Export it again.")
    described = parse_json(metadata["autohr"], f"{str(path)!r}: its header", BadWeights, "Fetch it again.")
    schema = described.get("schema") if isinstance(described, dict) else None
    if schema != ONNX_SCHEMA:
        raise BadWeights(f"{str(path)!r} has schema {schema!r}; this version reads {ONNX_SCHEMA!r}. Update autohr.")
    check_header(path, described.get("weights"))
    return described, (last, metadata["sha256"].decode("utf-8", "replace"))


def _walk_model(file: BinaryIO, size: int) -> tuple[dict[str, bytes], int]:
    """Return the metadata of an ONNX model, and where in the file its last field begins.

    The checksum counts only in that last place, so that nothing can follow what it is over.
    """
    metadata: dict[str, bytes] = {}
    has_graph, begin, number = False, 0, 0
    for _ in range(MAX_PROTOBUF_FIELDS):
        if file.tell() == size:
            break
        begin = file.tell()
        number, length = _read_field(file, size)
        end = file.tell() + length
        has_graph |= number == GRAPH_FIELD
        if number == METADATA_FIELD:
            if length > MAX_TABLE_BYTES:
                raise ValueError("its metadata are too long")
            entry = {}
            while file.tell() < end:
                part, length = _read_field(file, end)
                entry[part] = file.read(length)
            metadata.pop("sha256", None)
            metadata.setdefault(entry.get(1, b"").decode("utf-8", "replace"), entry.get(2, b""))
        else:
            metadata.pop("sha256", None)
        file.seek(end)
    else:
        raise ValueError("it has too many fields")
    if not has_graph:
        raise ValueError("it has no graph")
    return metadata, begin


def _read_field(file: BinaryIO, end: int) -> tuple[int, int]:
    """Return the number of the protobuf field that begins here and the bytes of its content, before which it stops."""
    number, wire_type = divmod(_read_varint(file), 8)
    length = {1: 8, 5: 4}.get(wire_type, 0)
    if wire_type in (0, 2):
        value = _read_varint(file)
        length = value if wire_type == 2 else 0
    elif not length:
        raise ValueError("it has a field of an unknown type")
    if file.tell() + length > end:
        raise ValueError("it ends within a field")
    return number, length


def _read_varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("it has a number of more than 64 bits")


def _metadata_entry(key: str, value: str) -> bytes:
    entry = b"".join(_with_length(number, text.encode()) for number, text in ((1, key), (2, value)))
    return _with_length(METADATA_FIELD, entry)


def _with_length(number: int, content: bytes) -> bytes:
    """Return a protobuf field of bytes: its number and type, its length, and its content."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
