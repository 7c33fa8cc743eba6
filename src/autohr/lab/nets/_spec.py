"""What stands in the table ``NETS``, and how a net is made from its name and a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from autohr.errors import UnknownName


@dataclass(frozen=True)
class Preset:
    """A config with a name, and the clips it was sized for. The net itself takes any."""

    config: Any
    size_px: int
    n_frames: int
    what: str
    """One line: what it is for, and what it costs."""


@dataclass(frozen=True)
class NetSpec:
    """One net. Every net is a module with ``.config``: clip (B, 3, T, H, W) float in [0, 1], RGB -> bvp (B, T) or, of
    kind "rate", clip and fps (B,) -> hr_bpm (B,), see ``rates.py``."""

    name: str
    title: str
    """As papers and table captions spell it."""
    config: type[Any]
    """A frozen dataclass, every field with a default, which refuses with ValueError what cannot be built."""
    build: Callable[[Any], nn.Module]
    kind: Literal["wave", "rate"]
    presets: Mapping[str, Preset] = field(default_factory=dict)


def make_config(spec: NetSpec, config: Mapping[str, Any] | object | None) -> Any:
    """A config of ``spec`` from a dict of its fields, from one, or the defaults.

    A dict may hold "preset", a name of ``spec.presets``: its other fields then change that preset. Raises ValueError
    that lists the known fields or presets.
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
    """The net called ``name`` in ``NETS``, with fresh weights, in training mode.

    Raises UnknownName, and ValueError for a config that does not fit (see ``make_config``).
    """
    from autohr.lab.nets import NETS

    if name not in NETS:
        raise UnknownName("net", name, NETS)
    spec = NETS[name]
    return spec.build(make_config(spec, config))
