"""Fixtures that several test modules share; what they are made of is in made.py.

They import on demand: a room that cannot be imported must not keep test_house.py from saying why.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Nothing here is timed: a busy machine must not fail a test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread: small nets gain nothing by more, and no sum depends on how many cores there are.

    For a whole module: ``pytestmark = pytest.mark.usefixtures("one_thread")``.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of two steps, and five recordings in place of a cache on disk."""
    from made import made_recording, pretend_cached, write_recipe

    pretend_cached(monkeypatch, [made_recording(subject) for subject in range(5)])
    (tmp_path / "cache").mkdir()
    return write_recipe(tmp_path)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the shipped weights."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setattr("autohr.methods.WEIGHTS_DIR", folder)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, object]]:
    """Address of a scheduler with two worker processes of one thread, and the cluster itself."""
    distributed = pytest.importorskip("distributed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    # Any free port, for tests side by side: None is not "no port" but 8787.
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as local:
        yield local.scheduler_address, local
