"""TensorBoard as one function that is called with each line of a run's log; the log itself stays the source.

train("release", on_log=tensorboard_writer(Path("board/release")))
tensorboard --logdir board
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autohr.errors import AutoHRError
from autohr.lab.runs import OnLog


def tensorboard_writer(folder: Path) -> OnLog:
    """Return a function that writes every number of a log line, and its notes, into ``folder`` for TensorBoard.

    A run that goes on from its checkpoint replaces what TensorBoard has of the steps that are made again. Raises
    AutoHRError where the extra is not installed.
    """
    try:
        import tensorboard  # noqa: F401
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise AutoHRError("--tensorboard needs tensorboard: pip install 'autohr[tensorboard]'.") from None
    writers: list[SummaryWriter] = []

    def write(record: Mapping[str, Any]) -> None:
        step = int(record.get("step", 0))
        if not writers:
            writers.append(SummaryWriter(str(folder), purge_step=step))
        for name, value in numbers_in(record):
            writers[0].add_scalar(name, value, step)
        if "note" in record:
            writers[0].add_text("note", str(record["note"]), step)
        writers[0].flush()

    return write


def numbers_in(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a log line as ("loss", 0.5) or, of what is nested, ("val/mae_bpm", 3.1)."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from numbers_in(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield prefix + name, float(value)
