"""TDC against Eq. 1 of the paper, written out with loops; against Conv3d where they must be the same; and refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autohr.lab.nets._tdc import TemporalDifferenceConv3d, Triple


def literal_equation_1(
    x: np.ndarray, weight: np.ndarray, theta: float, stride: Triple, dilation: Triple, groups: int
) -> np.ndarray:
    """(B, in, T, H, W) -> (B, out, T', H', W'): Eq. 1 position by position, tap by tap; nothing outside the clip."""
    B, _, *sizes = x.shape
    n_out, n_in, *kernel = weight.shape
    shape = [(size - 1) // step + 1 for size, step in zip(sizes, stride, strict=True)]
    out = np.zeros((B, n_out, *shape), x.dtype)

    def pixel(at: list[int], channels: slice) -> np.ndarray:
        inside = all(0 <= a < size for a, size in zip(at, sizes, strict=True))
        value: np.ndarray = x[:, channels, at[0], at[1], at[2]] if inside else np.zeros((B, n_in), x.dtype)
        return value

    for o, place in itertools.product(range(n_out), itertools.product(*map(range, shape))):
        group = o // (n_out // groups)
        channels = slice(group * n_in, (group + 1) * n_in)
        centre = [p * step for p, step in zip(place, stride, strict=True)]
        for tap in itertools.product(*map(range, kernel)):
            moved = [c + d * (k - size // 2) for c, d, k, size in zip(centre, dilation, tap, kernel, strict=True)]
            seen = pixel(moved, channels)
            if tap[0] != kernel[0] // 2:
                seen = seen - x.dtype.type(theta) * pixel(centre, channels)
            out[:, o, place[0], place[1], place[2]] += seen @ weight[o, :, tap[0], tap[1], tap[2]]
    return out


CASES: list[tuple[Triple, float, Triple, Triple, int]] = [
    ((3, 3, 3), 0.2, (1, 1, 1), (1, 1, 1), 1),
    ((3, 3, 3), 1.0, (1, 1, 1), (1, 1, 1), 1),
    ((3, 3, 3), -0.7, (2, 2, 1), (1, 1, 1), 2),
    ((3, 1, 1), 0.5, (1, 2, 2), (2, 1, 1), 1),
    ((5, 3, 1), 1.7, (1, 1, 1), (1, 2, 1), 1),
    ((1, 3, 5), 1.0, (1, 1, 1), (1, 1, 1), 1),
    ((3, 3, 3), 0.2, (2, 1, 1), (2, 2, 1), 4),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("kernel", "theta", "stride", "dilation", "groups"), CASES)
def test_tdc_is_equation_1(
    kernel: Triple, theta: float, stride: Triple, dilation: Triple, groups: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    layer = TemporalDifferenceConv3d(4, 4, kernel, theta=theta, stride=stride, dilation=dilation, groups=groups)
    layer.to(dtype)
    x = torch.randn(2, 4, 5, 4, 3, dtype=dtype)
    truth = literal_equation_1(x.numpy(), layer.weight.detach().numpy(), theta, stride, dilation, groups)
    ours = layer(x).detach().numpy()
    assert ours.shape == truth.shape
    assert np.abs(ours - truth).max() <= (1e-5 if dtype is torch.float32 else 1e-12)


@pytest.mark.parametrize(("kernel", "theta"), [((3, 3, 3), 0.0), ((1, 5, 5), 0.8), ((1, 1, 1), 1.0)])
def test_theta_zero_or_one_frame_is_conv3d_from_the_same_seed(kernel: Triple, theta: float) -> None:
    x = torch.randn(2, 3, 6, 7, 8)
    torch.manual_seed(1)
    layer = TemporalDifferenceConv3d(3, 5, kernel, theta=theta, stride=(1, 2, 2), bias=True)
    torch.manual_seed(1)
    conv = nn.Conv3d(3, 5, kernel, stride=(1, 2, 2), padding=(kernel[0] // 2, kernel[1] // 2, kernel[2] // 2))
    assert torch.equal(layer(x), conv(x))


def test_theta_one_is_blind_to_neighbours_where_nothing_changes() -> None:
    """On a picture constant in space and time only the current frame's slice is left, away from the borders."""
    torch.manual_seed(0)
    layer = TemporalDifferenceConv3d(2, 3, 3, theta=1.0)
    inner = layer(torch.full((1, 2, 5, 5, 5), 0.7))[0, :, 2, 2, 2]
    assert torch.allclose(inner, 0.7 * layer.weight[:, :, 1].sum((1, 2, 3)), atol=1e-6)


def two_convolutions(x: Tensor, weight: Tensor, theta: float) -> Tensor:
    """The author's form: a convolution minus theta times a 1x1x1 convolution with the neighbours' summed weights."""
    neighbours = (weight[:, :, 0] + weight[:, :, 2]).sum((2, 3))[:, :, None, None, None]
    return F.conv3d(x, weight, padding=1) - theta * F.conv3d(x, neighbours)


def test_gradients_are_those_of_the_two_convolution_form() -> None:
    torch.manual_seed(0)
    layer = TemporalDifferenceConv3d(2, 3, 3, theta=0.6).double()
    x = torch.randn(1, 2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = layer.weight.detach().clone().requires_grad_()
    ours, theirs = layer(x), two_convolutions(x, weight, 0.6)
    pull = torch.randn_like(ours)
    ours_x, ours_w = torch.autograd.grad(ours, (x, layer.weight), pull)
    theirs_x, theirs_w = torch.autograd.grad(theirs, (x, weight), pull)
    assert torch.allclose(ours, theirs)
    assert torch.allclose(ours_x, theirs_x) and torch.allclose(ours_w, theirs_w)


def test_as_conv3d_is_plain_and_equal() -> None:
    torch.manual_seed(0)
    layer = TemporalDifferenceConv3d(4, 6, (5, 3, 3), theta=0.9, stride=(2, 1, 1), dilation=2, groups=2, bias=True)
    conv = layer.as_conv3d()
    x = torch.randn(1, 4, 9, 8, 7)
    assert type(conv) is nn.Conv3d
    assert torch.allclose(conv(x), layer(x), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kernel_size": (4, 3, 3)}, r"kernel_size=\(4, 3, 3\) has no centre.*odd"),
        ({"kernel_size": 2}, "no centre"),
        ({"padding": 0}, r"padding=0 moves .* give \(1, 1, 1\)"),
        ({"padding": (1, 0, 1)}, "moves"),
        ({"padding": 1, "dilation": 2}, r"give \(2, 2, 2\)"),
        ({"kernel_size": (3, 3)}, "kernel_size="),
        ({"stride": 0}, "stride=0"),
        ({"theta": float("nan")}, "theta=nan"),
        ({"groups": 3}, "groups=3"),
    ],
)
def test_refusals_say_what_to_give(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TemporalDifferenceConv3d(4, 4, **{"theta": 0.5, **given})  # type: ignore[arg-type]


def test_padding_may_be_written_out() -> None:
    assert TemporalDifferenceConv3d(1, 1, (5, 3, 1), theta=1.0, dilation=(2, 1, 1), padding=(4, 1, 0)).padding == (
        4,
        1,
        0,
    )
