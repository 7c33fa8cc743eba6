"""Torch in forked processes, the default of multiprocessing on Linux up to Python 3.13.

The threads that torch keeps (libgomp's) do not exist in a forked child, which would wait for them for ever in its first
layer. With one thread torch asks for none. Programs that fork have a process for each core already.
"""

from __future__ import annotations

import os

import torch

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
