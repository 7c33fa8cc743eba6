"""Tables of ``autohr list`` that the laboratory knows; each returns its columns and its rows."""

from __future__ import annotations

from autohr.cli.listing import Rows
from autohr.lab.commands.options import recipe_command


def list_datasets() -> Rows:
    """Return the datasets that there are readers for."""
    from autohr.lab.datasets import DATASETS

    rows = []
    for name, spec in DATASETS.items():
        title = spec.title if spec.package == "autohr" else f"{spec.title} (package {spec.package})"
        number = "any number" if spec.n_recordings is None else str(spec.n_recordings)
        rows.append((name, title, number, spec.access, spec.basis))
    return ("name", "title", "recordings", "access", "basis"), rows


def list_nets() -> Rows:
    """Return the networks."""
    from autohr.lab.nets import NETS

    return ("name", "system", "gives", "package"), [
        (name, net.title, "a pulse wave" if net.kind == "wave" else "a rate", net.package) for name, net in NETS.items()
    ]


def list_presets() -> Rows:
    """Return the named configurations of the networks."""
    from autohr.lab.nets import NETS

    return ("net", "preset", "frames", "side", "what"), [
        (name, preset_name, str(preset.n_frames), f"{preset.size_px} px", preset.what)
        for name, net in NETS.items()
        for preset_name, preset in net.presets.items()
    ]


def list_protocols() -> Rows:
    """Return the protocols of evaluation."""
    from autohr.lab.evaluate.protocols import PROTOCOLS

    return ("name", "what", "scoring", "source", "basis"), [
        (one.name, one.title, one.preset, one.source, one.basis) for one in PROTOCOLS.values()
    ]


def list_scoring() -> Rows:
    """Return the rules by which an evaluation is scored."""
    from autohr.lab.evaluate.presets import PRESETS

    rows = []
    for rule in PRESETS.values():
        least = f" Windows of {rule.least_s:g} s or more: {rule.least_why}." if rule.least_s else ""
        rows.append((rule.name, rule.title, f"{rule.limits}.{least}", rule.source, rule.basis))
    return ("name", "what", "limits", "source", "basis"), rows


def list_recipes() -> Rows:
    """Return the shipped recipes of trainings and searches."""
    from autohr.lab.recipes.files import read_recipe_table, shipped_recipes

    tables = {name: read_recipe_table(path) for name, path in shipped_recipes().items()}
    return ("name", "command", "what"), [
        (name, recipe_command(content), str(content["title"])) for name, content in tables.items()
    ]
