"""Weights on disk: safetensors, with a JSON header that says what they are. Pickles are never opened.

    metadata["autohr"]   the header, JSON text: schema and the fields of ``HEADER``
    metadata["sha256"]   over that text and every tensor's name, type, shape and bytes

The checksum finds damage and careless edits. It is no signature: it does not say who made the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from autohr.errors import BadWeights, UnknownName, in_short
from autohr.files import write_bytes
from autohr.lab.nets._spec import make_net
from autohr.weights.header import HEADER, SCHEMA, altered, read_safetensors_header
from autohr.weights.header import read_header as read_header

_WRITTEN_HERE = ("net", "config", "genotype")


def save_weights(
    path: Path, net: nn.Module, *, name: str, header: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write the weights of ``net``, which is ``NETS[name]``, whole or not at all.

    ``dtype`` float32, float16 or bfloat16 is for the parameters; running means and counts stay as they are. ValueError
    for an unknown header key, a header that is not JSON, a net that is not ``name`` or was folded, and weights that are
    not finite in that type; AutoHRError where the file cannot be written.
    """
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(
            f"dtype={dtype} is not a storage type of weights: torch.float32, torch.float16, torch.bfloat16."
        )
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
        stored = value.detach().cpu().to(dtype) if key in parameters else value.detach().cpu()
        if stored.is_floating_point() and not bool(torch.isfinite(stored).all()):
            raise ValueError(
                f"{key} of {name} holds numbers that are not finite in {stored.dtype}: training diverged, or that type "
                "is too small. Not saved."
            )
        # A copy in the usual layout: safetensors refuses channels_last_3d and shared memory.
        tensors[key] = stored.clone(memory_format=torch.contiguous_format)

    # Not save_file: what that makes only its owner may read, whatever the umask.
    write_bytes(Path(path), save(tensors, metadata={"autohr": text, "sha256": _checksum(text, tensors)}))


def load_net(path: Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Return the network that the file describes, float32, in eval mode, and the header.

    Raises BadWeights, one line, for a file that is absent, truncated, altered, foreign, or whose tensors do not fit
    the net that its header names.
    """
    path = Path(path)
    found = read_safetensors_header(path)
    header = found.values
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadWeights(
            f"{str(path)!r} is not a whole safetensors file ({in_short(error)}). Fetch or copy it again."
        ) from error
    if _checksum(found.text, tensors) != found.sha256:
        raise altered(path)

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
