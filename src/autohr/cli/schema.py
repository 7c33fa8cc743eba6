"""``autohr schema``: the layout of the JSON that the other commands write."""

from __future__ import annotations

import json

from autohr.cli.output import print_text


def schema() -> None:
    """Print the JSON Schema of a measurement, with a description and a unit for every field.

    It is the layout of each measured file in the output of `autohr measure --json` (refused ones have an "error" in
    place of faces), and of `Measurement.to_json()` in Python.
    """
    from autohr.schema import measurement_schema

    print_text(json.dumps(measurement_schema(), indent=2))
