"""The records of the table ``NETS``, and how a network is made from its name and a config."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from autohr.errors import UnknownName

if hasattr(os, "register_at_fork"):
    # Torch's threads do not exist in a forked child, which would wait for them for ever in its first layer; with one
    # thread it asks for none. Programs that fork have a process for each core.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@dataclass(frozen=True)
class Preset:
    """A config with a name, and the clips it was sized for. The network itself takes any."""

    config: Any
    size_px: int
    n_frames: int
    what: str
    """One line: what it is for, and what it costs."""


@dataclass(frozen=True)
class NetSpec:
    """One network.

    It is a module with ``.config``. It takes clips (B, 3, T, H, W), float in [0, 1], RGB, and returns bvp (B, T) or, of
    kind "rate", takes also fps (B,) and returns hr_bpm (B,).
    """

    name: str
    title: str
    """Spelling of papers and table captions."""
    config: type[Any]
    """A frozen dataclass, every field with a default, which raises ValueError for what cannot be built."""
    build: Callable[[Any], nn.Module]
    kind: Literal["wave", "rate"]
    presets: Mapping[str, Preset] = field(default_factory=dict)
    package: str = "autohr"
    """The package it comes from; of another one also the version (``autohr.plugins``)."""


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Raise ValueError for a field of a config that is no whole number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name}={value!r} must be a whole number from {least} to {most}.")


def as_channels(value: Any) -> tuple[int, int, int, int]:
    """Return the channels of four stages, which JSON has as a list. Raises ValueError for what is none."""
    channels = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(channels) != 4:
        raise ValueError(f"channels={value!r} must be four numbers.")
    for one in channels:
        check_whole("channels", one, 1, 512)
    return channels[0], channels[1], channels[2], channels[3]


def make_config(spec: NetSpec, config: Mapping[str, Any] | object | None) -> Any:
    """Return a config of ``spec`` from a dict of its fields, from one, or the defaults.

    A dict may hold "preset", a name in ``spec.presets``: its other fields then change that preset.

    Raises
    ------
    ValueError
        An unknown field or preset; the message lists the known ones.
    """
    if config is None:
        return spec.config()
    if isinstance(config, spec.config):
        return config
    if not isinstance(config, Mapping):
        raise ValueError(f"{spec.name} takes a {spec.config.__name__} or a dict of its fields, not {config!r}.")
    fields = {name: value for name, value in config.items() if name != "preset"}
    known = [field.name for field in dataclasses.fields(spec.config)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise ValueError(f"{spec.name} has no field {', '.join(map(repr, unknown))}. Fields: {', '.join(known)}.")
    if "preset" not in config:
        return spec.config(**fields)
    preset = config["preset"]
    if preset not in spec.presets:
        raise ValueError(f"{spec.name} has no preset {preset!r}. Presets: {', '.join(spec.presets) or 'none'}.")
    return dataclasses.replace(spec.presets[preset].config, **fields)


def make_net(name: str, config: Mapping[str, Any] | object | None = None) -> nn.Module:
    """Return the network called ``name`` in ``NETS``, with fresh weights, in training mode.

    Raises
    ------
    UnknownName
        No such network.
    ValueError
        As ``make_config``.
    """
    from autohr.lab.nets import NETS

    if name not in NETS:
        raise UnknownName("net", name, NETS)
    spec = NETS[name]
    return spec.build(make_config(spec, config))
