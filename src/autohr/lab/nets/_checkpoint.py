"""Weights on disk: safetensors, with a JSON header that says what they are. Pickles are never opened.

    metadata["autohr"]   the header, JSON text: schema and the fields of ``HEADER``
    metadata["sha256"]   over that text and every tensor's name, type, shape and bytes

The checksum finds damage and careless edits. It is no signature: it does not say who made the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from autohr.errors import BadWeights, UnknownName
from autohr.files import check_file, write_bytes
from autohr.lab.nets._spec import make_net

SCHEMA = "autohr.weights/1"
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
"""Every header has these keys; a caller who leaves one out gets null there."""
MAX_WEIGHTS_BYTES = 2**31
"""Largest weights file that is opened, 2 GiB. The largest network here, I3D, has 50 MB; ours."""
_WRITTEN_HERE = ("net", "config", "genotype")


def save_weights(
    path: Path, net: nn.Module, *, name: str, header: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write the weights of ``net``, which is ``NETS[name]``, whole or not at all.

    ``dtype`` float32 or bfloat16 is for the parameters; running means and counts stay as they are. Raises ValueError
    for an unknown header key, a header that is not JSON, a net that is not ``name`` or was folded, and weights that are
    not finite; AutoHRError where the file cannot be written.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"dtype={dtype} is not a storage type of weights. Use torch.float32 or torch.bfloat16.")
    allowed = [key for key in HEADER if key not in _WRITTEN_HERE]
    unknown = sorted(set(header) - set(allowed))
    if unknown:
        raise ValueError(f"A header has no key {', '.join(map(repr, unknown))}. Keys: {', '.join(allowed)}.")
    config: Any = net.config
    with torch.device("meta"):
        wanted = make_net(name, config).state_dict()
    if {key: value.shape for key, value in wanted.items()} != {k: v.shape for k, v in net.state_dict().items()}:
        raise ValueError(f"These tensors are not those of a fresh {name} of its config. Save it before it is folded.")
    genotype = getattr(config, "genotype", None)
    whole = {
        "schema": SCHEMA,
        "net": name,
        "config": dataclasses.asdict(config),
        "genotype": genotype.name if genotype is not None else None,
        **{key: header.get(key) for key in allowed},
    }
    try:
        text = json.dumps(whole, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The header must be plain JSON: {error}.") from error

    parameters = {key for key, _ in net.named_parameters()}
    tensors: dict[str, Tensor] = {}
    for key, value in net.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{key} of {name} holds numbers that are not finite: training diverged. Not saved.")
        stored = value.detach().cpu().to(dtype) if key in parameters else value.detach().cpu()
        # A copy in the usual layout: safetensors refuses channels_last_3d and shared memory.
        tensors[key] = stored.clone(memory_format=torch.contiguous_format)

    # Not save_file: what that makes only its owner may read, whatever the umask.
    write_bytes(Path(path), save(tensors, metadata={"autohr": text, "sha256": _checksum(text, tensors)}))


def read_header(path: Path) -> dict[str, Any]:
    """The header alone, without reading the tensors. Raises BadWeights for what is not a weights file of ours."""
    with _open(Path(path)) as file:
        return _header(Path(path), file.metadata())[0]


def load_net(path: Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """The net that the file describes, float32, in eval mode, and the header.

    Raises BadWeights, one line, for a file that is absent, truncated, altered, foreign, or whose tensors do not fit
    the net that its header names.
    """
    path = Path(path)
    with _open(path) as file:
        header, text, checksum = _header(path, file.metadata())
        try:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
        except SafetensorError as error:
            raise BadWeights(f"{str(path)!r} is damaged ({in_short(error)}). Fetch or copy it again.") from error
    if _checksum(text, tensors) != checksum:
        raise BadWeights(f"{str(path)!r} was altered after it was saved: its checksum does not fit. Fetch it again.")

    try:
        # On meta no memory is taken, however large the sizes that a header claims.
        with torch.device("meta"):
            net = make_net(header["net"], header["config"])
    except (UnknownName, ValueError, TypeError) as error:
        raise BadWeights(f"{str(path)!r} describes a net that this version cannot build: {in_short(error)}") from error
    _check_fit(path, header["net"], net.state_dict(), tensors)
    for key, value in tensors.items():
        if value.is_floating_point():
            tensors[key] = value.float()
            if not bool(torch.isfinite(tensors[key]).all()):
                raise BadWeights(f"{str(path)!r}: {key} holds numbers that are not finite. Train or fetch it again.")
    net.load_state_dict(tensors, assign=True)
    return net.to(device).eval(), header


def trained_crop(path: Path, header: Mapping[str, Any]) -> tuple[int, int, Literal["tracked", "first"], float]:
    """How the header of ``path`` says that faces were cropped: side of the crop that was stored, side of what the net
    is given (pixels), whether the face's box is followed or the first one kept, and the margin on each of its sides.

    Raises:
        BadWeights: the header does not say.
    """
    said = header["input"]
    if isinstance(said, dict):
        stored_px, size_px, box, margin = (said.get(key) for key in ("crop_size_px", "size_px", "box", "margin"))
        if (
            isinstance(stored_px, int)
            and isinstance(size_px, int)
            and 16 <= size_px <= stored_px <= 1024
            and box in ("tracked", "first")
            and isinstance(margin, (int, float))
            and 0 <= margin <= 1
        ):
            return stored_px, size_px, box, float(margin)
    raise BadWeights(
        f"{str(path)!r} does not say how its faces were cropped: input={said!r} must have crop_size_px and size_px "
        "(16 to 1024), box (tracked or first) and margin (0 to 1). Save it again, as autohr train does."
    )


def _open(path: Path) -> Any:
    """The file, opened by safetensors, which reads its table of contents and checks that the size fits."""
    check_file(path, "weights file", MAX_WEIGHTS_BYTES, BadWeights)
    try:
        with path.open("rb") as file:
            start = file.read(8)
        return safe_open(path, framework="pt")
    except OSError as error:
        raise BadWeights(f"Cannot read weights {str(path)!r}: {error.strerror or error}.") from error
    except SafetensorError as error:
        # Only now: a sound safetensors file starts with its table's length, which may look like a pickle's first byte.
        if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
            raise BadWeights(
                f"{str(path)!r} is a pickle (.pt, .pth), which can run code and is never loaded here. "
                "Give a .safetensors file made by autohr."
            ) from error
        raise BadWeights(
            f"{str(path)!r} is not a whole safetensors file ({in_short(error)}). Fetch or copy it again."
        ) from error


def _header(path: Path, metadata: Mapping[str, str] | None) -> tuple[dict[str, Any], str, str]:
    """(header, its text, checksum)."""
    text, checksum = (metadata or {}).get("autohr"), (metadata or {}).get("sha256")
    if text is None or checksum is None:
        raise BadWeights(f"{str(path)!r} is a safetensors file, but not of autohr: it has no autohr header.")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"{str(path)!r}: its header is not JSON ({in_short(error)}). Fetch it again.") from error
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        schema = header.get("schema") if isinstance(header, dict) else None
        raise BadWeights(f"{str(path)!r} has schema {schema!r}; this version reads {SCHEMA!r}. Update autohr.")
    missing = [key for key in HEADER if key not in header]
    if missing:
        raise BadWeights(f"{str(path)!r}: its header lacks {', '.join(missing)}. Save it again with this version.")
    return header, text, checksum


def in_short(error: Exception) -> str:
    """In one line that fits a screen, whatever the file put into it."""
    return textwrap.shorten(str(error), 200, placeholder=" ...")


def _check_fit(path: Path, name: str, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or extra:
        raise BadWeights(
            f"{str(path)!r} does not fit {name}: lacks {len(missing)} tensors ({', '.join(missing[:3]) or '-'}), "
            f"has {len(extra)} unknown ({', '.join(extra[:3]) or '-'}). It was saved from another net or version."
        )
    for key, value in wanted.items():
        if found[key].shape != value.shape or found[key].is_floating_point() != value.is_floating_point():
            raise BadWeights(
                f"{str(path)!r} does not fit {name}: {key} is {found[key].dtype} {tuple(found[key].shape)}, the net "
                f"of its config has {value.dtype} {tuple(value.shape)}. It was saved from another net or version."
            )


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        value = tensors[key].contiguous()
        digest.update(f"\n{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
