"""State that a training or a search resumes from, in one safetensors file: no pickle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from autohr.errors import AutoHRError, BadWeights, in_short
from autohr.files import parse_json, replacing

RESUME = "resume.safetensors"
RESUME_FORMAT = "autohr.resume/1"


@dataclasses.dataclass
class TrainingState:
    """Numbers that a run resumes from, beside its tensors."""

    step: int = 0
    best: dict[str, Any] | None = None
    """Validation of the best weights; of a search, what ``search`` keeps of its epochs."""
    last: dict[str, Any] | None = None
    """The last validation."""
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Precision of the steps so far; None in older files."""
    n_skipped: int = 0
    """Steps left out because a gradient was not finite."""
    n_skipped_in_row: int = 0
    """Steps left out just before ``step`` without a good one between."""
    loss_scale: float = 65536.0
    """Factor of the loss in fp16, whose smallest gradients would else be zero. The value to begin with, and the way it
    changes, are those of torch's GradScaler."""
    n_at_scale: int = 0
    """Good steps in fp16 since ``loss_scale`` changed."""


def save_state(
    path: Path, net: nn.Module, averaged: nn.Module | None, optimiser: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write all that ``load_state`` needs; the file replaces the one before at once.

    Tensors are named net.*, average.* and optimiser.<parameter>.*; the numbers are JSON in the header.
    """
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    if averaged is not None:
        tensors |= {f"average.{name}": value for name, value in averaged.state_dict().items()}
    for index, memory in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in memory.items()}
    # A copy each: safetensors refuses tensors that share memory, and those of channels_last layout.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    # One entry, because safetensors writes several in random order and equal states should make equal files.
    header = {"autohr": json.dumps({"format": RESUME_FORMAT, **dataclasses.asdict(state)})}
    try:
        with replacing(path) as aside:
            save_file(tensors, aside, header)
    except SafetensorError as error:
        raise AutoHRError(f"Cannot write {str(path)!r}: {error}. Make room, and run again to go on.") from None


def load_state(
    path: Path, net: nn.Module, averaged: nn.Module | None, optimiser: torch.optim.Optimizer
) -> TrainingState:
    """Put the tensors of ``save_state`` back in place, bit for bit, and return its numbers.

    Raises
    ------
    BadWeights
        The file is damaged, or belongs to another net or config.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get("autohr", "{}")
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise BadWeights(f"{str(path)!r} is damaged ({in_short(error)}); remove it to start again.") from None
    fields = parse_json(text, f"{str(path)!r} is damaged: its header", BadWeights, "Remove it to start again.")
    if not isinstance(fields, dict) or fields.get("format") != RESUME_FORMAT:
        raise BadWeights(f"{str(path)!r} is no {RESUME_FORMAT} file; remove it to start again.")
    # Older files lack the newer fields.
    known = {field.name for field in dataclasses.fields(TrainingState)} & fields.keys()
    try:
        state = TypeAdapter(TrainingState).validate_python({name: fields[name] for name in known})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadWeights(
            f"{str(path)!r} is damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}); remove it to start again."
        ) from None
    wanted = {f"net.{name}": value for name, value in net.state_dict().items()}
    if averaged is not None:
        wanted |= {f"average.{name}": value for name, value in averaged.state_dict().items()}
    odd = wanted.keys() ^ {name for name in tensors if not name.startswith("optimiser.")}
    if odd:
        raise BadWeights(
            f"{str(path)!r} is the state of another net: {min(odd)!r} is on one side only. Use another run."
        )
    with torch.no_grad():
        for name, value in wanted.items():
            if value.shape != tensors[name].shape:
                raise BadWeights(
                    f"{str(path)!r} is the state of another net: {name!r} is {tuple(tensors[name].shape)} there and "
                    f"{tuple(value.shape)} here. Use another run."
                )
            value.copy_(tensors[name])
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for index, parameter in enumerate(parameters):
        prefix = f"optimiser.{index}."
        for name in [name for name in tensors if name.startswith(prefix)]:
            value = tensors[name]
            # In the parameter's own memory layout, as the optimiser itself would have made it.
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter, requires_grad=False).copy_(value)
            optimiser.state[parameter][name.removeprefix(prefix)] = value
    return state
