"""Nets, one visible table: name -> what it is and how it is built. Importing it imports torch."""

from autohr.nets.autohr import PRESETS, AutoHR, AutoHRConfig
from autohr.nets.physnet import PhysNet, PhysNetConfig
from autohr.nets.spec import NetSpec, Preset, make_config, make_net

NETS: dict[str, NetSpec] = {
    "autohr": NetSpec("autohr", "AutoHR", AutoHRConfig, AutoHR, "wave", PRESETS),
    "physnet": NetSpec("physnet", "PhysNet", PhysNetConfig, PhysNet, "wave"),
}

__all__ = ["NETS", "NetSpec", "Preset", "make_config", "make_net"]
