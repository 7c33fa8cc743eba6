"""ONNX files at run time: the same wave as torch, no torch needed, and one clear line for every wrong file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from autohr import runtime
from autohr.errors import BadWeights
from autohr.lab.nets._inference import load_torch
from autohr.measure import measure
from autohr.methods import DEFAULT_METHOD, find_weights, load_method, shipped_weights
from autohr.runtime import load_onnx, thread_count, wave_function
from autohr.types import FaceClip, Pulse
from autohr.weights import header
from autohr.weights.header import _metadata_entry, read_header, read_onnx, sign_onnx
from test_golden import CLIPS, film

ONNX, TORCH = (find_weights("autohr", None, suffix)[0] for suffix in (".onnx", ".safetensors"))


def refusal(path: Path, read: Callable[[Path], Any] = load_onnx) -> str:
    with pytest.raises(BadWeights) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message and len(message) < 400
    return message


@pytest.mark.slow
@pytest.mark.parametrize("name", ["found", "gap", "uneven_clock"])
def test_the_shipped_files_give_the_same_wave(name: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    film(CLIPS[name], path)
    given: list[FaceClip] = []

    def keep(clip: FaceClip) -> Pulse:
        given.append(clip)
        return Pulse(np.sin(7.5 * np.arange(clip.n_frames) / clip.fps), clip.fps, clip.start_s)

    measure(path, replace(load_method("autohr"), wave=keep))
    by_onnx, by_torch = (wave_function(net) for net in (load_onnx(ONNX), load_torch(TORCH)))
    assert given
    for clip in given:
        exact, found = by_torch(clip).bvp, by_onnx(clip).bvp
        assert np.abs(exact - found).max() < 1e-4 * exact.std()


def test_both_shipped_files_hold_the_same_weights_and_only_the_default_is_trusted() -> None:
    for name, path in shipped_weights(".safetensors").items():
        other = shipped_weights()[name]
        assert other.suffix == ".onnx" and read_header(other) == read_header(path)
        assert other.stat().st_size < 3e6 and path.stat().st_size < 3e6
        # The confidence was fitted on the default net alone; a net of rates is judged by MVDR in any case.
        given = [load_method(weights=name), load_method(weights=path)]
        assert all(one.rate is not None or one.trusted == (name == DEFAULT_METHOD) for one in given)
        assert load_method(weights=name).weights == name


def test_the_product_measures_without_the_laboratory() -> None:
    code = """
import sys
for name in ("torch", "safetensors", "onnx", "pydantic"):
    sys.modules[name] = None
from autohr.errors import AutoHRError
from autohr.methods import find_weights, load_method
from autohr.weights.header import read_header
print(load_method().name, [room for room in sys.modules if room.startswith("autohr.lab")])
path = find_weights("autohr", None, ".safetensors")[0]
print(read_header(path)["net"])
for arguments in ({"weights": path}, {"device": "cuda"}, {"weights": find_weights("autohr", None)[0], "device": "mps"}):
    try:
        load_method(**arguments)
    except AutoHRError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    default, net, given, device, onnx_file = done.stdout.splitlines()
    assert (default, net) == ("autohr []", "autohr")
    assert "needs torch: pip install 'autohr[lab]', or give the .onnx file" in given
    assert "on cuda needs torch: pip install 'autohr[lab]', or choose --device cpu" in device
    assert "runs on the cpu alone. For mps, give the .safetensors file" in onnx_file


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    whole, path = ONNX.read_bytes(), tmp_path / "x.onnx"
    for at in [*range(0, len(whole), len(whole) // 40), len(whole) - 1, len(whole) - 70]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        refusal(path)
    path.write_bytes(whole + _metadata_entry("note", "harmless"))
    assert "has no checksum" in refusal(path)
    path.write_bytes(whole + whole)
    assert "altered" in refusal(path)


@pytest.mark.parametrize("read", [load_onnx, read_header])
def test_files_that_are_not_ours(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    whole, path = ONNX.read_bytes(), tmp_path / "x.onnx"
    for size in (len(whole) - 1, len(whole) // 2, 100, 3, 0):
        path.write_bytes(whole[:size])
        assert "not a whole ONNX file" in refusal(path, read), size
    path.write_text("this is no network at all, only text")
    assert "not a whole ONNX file" in refusal(path, read)
    path.write_bytes(TORCH.read_bytes())
    assert "not a whole ONNX file" in refusal(path, read)
    model = onnx.load(ONNX)
    del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    assert "not of autohr" in refusal(path, read)
    path.write_bytes(b"\x08\x00" * header.MAX_PROTOBUF_FIELDS)
    assert "too many fields" in refusal(path, read)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(whole)
    assert "not a whole safetensors file" in refusal(copy, load_torch)
    assert "an ONNX file, for measuring alone" in refusal(ONNX, load_torch)


def test_descriptions_and_graphs_that_do_not_fit(tmp_path: Path) -> None:
    """With a checksum that does: whoever edits a file can write that too."""
    path = tmp_path / "x.onnx"
    model, (_, described) = onnx.load(ONNX), read_onnx(ONNX)
    del model.metadata_props[:]
    body = model.SerializeToString()
    path.write_bytes(sign_onnx(body, {**described, "schema": "autohr.onnx/2"}))
    assert "schema 'autohr.onnx/2'; this version reads 'autohr.onnx/1'" in refusal(path)
    path.write_bytes(sign_onnx(body, {**described, "weights": None}))
    assert "schema None" in refusal(path)
    without = {key: value for key, value in described["weights"].items() if key != "licence"}
    path.write_bytes(sign_onnx(body, {**described, "weights": without}))
    assert "header lacks licence" in refusal(path)
    text = body + _metadata_entry("autohr", "[" * 100_000)
    path.write_bytes(text + _metadata_entry("sha256", hashlib.sha256(text).hexdigest()))
    assert "its header is JSON nested too deeply" in refusal(path)
    deep = "[" * 500 + "]" * 500  # within Python's limit, but not that of what would walk it
    text = body + _metadata_entry("autohr", deep)
    path.write_bytes(text + _metadata_entry("sha256", hashlib.sha256(text).hexdigest()))
    assert "its header is JSON nested too deeply" in refusal(path)
    model.graph.output[0].name = "pulse"
    path.write_bytes(sign_onnx(model.SerializeToString(), described))
    assert "cannot be run by onnxruntime" in refusal(path)
    model.graph.node[-1].output[0] = "pulse"
    path.write_bytes(sign_onnx(model.SerializeToString(), described))
    assert "inputs and outputs (['clip'], ['pulse'])" in refusal(path)


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, count in (("1", 1), ("7", 7), (" 3,2", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert thread_count() == count
    for asked in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert thread_count() == runtime.DEFAULT_THREADS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.parametrize(
    ("suffix", "load"),
    [
        (".onnx", "from autohr.runtime import load_onnx as load"),
        (
            ".safetensors",
            "import torch; torch.set_num_threads(2); from autohr.lab.nets._inference import load_torch as load",
        ),
    ],
    ids=["onnx", "torch"],
)
def test_a_net_that_has_run_runs_and_ends_in_a_forked_child(suffix: str, load: str) -> None:
    """multiprocessing forks by default on Linux up to Python 3.13, and so does `gunicorn --preload`."""
    code = f"""
import os, sys, time, numpy as np
from autohr.methods import find_weights
{load}
net = load(find_weights("autohr", None, {suffix!r})[0])
clip = np.random.default_rng(0).random((1, 3, 32, 32, 32), dtype=np.float32)
before = net.run(clip, 30.0)
child = os.fork()
if child == 0:
    after = net.run(clip, 30.0)
    sys.exit(0 if np.abs(after - before).max() < 1e-3 * before.std() else 5)
for _ in range(600):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.1)
os.kill(child, 9)
sys.exit(6)
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment)
