"""Every net of the table: shapes, finite numbers, a gradient for every parameter, equal when folded; and the counts."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autohr.errors import UnknownName
from autohr.lab.nets import NETS, make_net
from autohr.lab.nets._genotype import GENOTYPES, N_BLOCKS, Edge, Genotype
from autohr.lab.nets._inference import fold
from autohr.lab.nets._inputs import INPUTS, _difference_of_all_frames, difference, prepare_input
from autohr.lab.nets._rates import SPREAD_BPM
from autohr.lab.nets._tdc import TemporalDifferenceConv3d
from autohr.lab.nets.autohr import AutoHR, AutoHRConfig, SearchedCell
from autohr.lab.nets.hrcnn import HRCNN, HRCNNConfig
from autohr.lab.nets.rppgnet import RPPGNet

pytestmark = pytest.mark.usefixtures("one_thread")

VARIED = Genotype(
    name="varied",
    kind="varied",
    cells=(GENOTYPES["fig5_plausible_v1"].cells + GENOTYPES["fig5_plausible_v2"].cells) * (N_BLOCKS // 2),
    origin="a test",
)
# Every net of the table is tested as it is there; these are further forms, small so that the tests stay quick.
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "autohr rgb": ("autohr", {"channels": 4, "stem_channels": 4}),
    "autohr varied": ("autohr", {"channels": 4, "stem_channels": 4, "genotype": VARIED, "input": "rgb_difference"}),
    "autohr tiny": ("autohr", {"preset": "tiny"}),
    "autohr one cell": ("autohr", {"preset": "tiny", "cells_per_block": 1, "channels": 3}),
    "physnet theta": ("physnet", {"theta": 0.7, "input": "difference"}),
}
# Nets that would be slow at their full size, and windows so short that a tiny clip has several.
QUICK: dict[str, dict[str, Any]] = {
    "hrcnn": {"channels": [1, 2, 2, 2], "estimator_channels": 4},
    "rhythmnet": {"window_frames": 8, "stride_frames": 2, "hidden": 20},
}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {**{name: (name, QUICK.get(name, {})) for name in NETS}, **SMALL}


def make(form: str) -> nn.Module:
    torch.manual_seed(0)
    name, config = FORMS[form]
    return make_net(name, config)


def clips(B: int, T: int, H: int, W: int, seed: int = 0) -> Tensor:
    """Noise around grey: (B, 3, T, H, W) in [0, 1]."""
    random = torch.Generator().manual_seed(seed)
    return (0.5 + 0.1 * torch.randn(B, 3, T, H, W, generator=random)).clamp(0, 1)


def with_worn_statistics(net: nn.Module) -> nn.Module:
    """Batch norms with means and variances that are not those of a fresh net, so that folding has work to do."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2.0)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
    return net.eval()


def off(wave: Tensor, exact: Tensor) -> float:
    """Largest difference, in standard deviations of the exact wave (not of its mean, which says nothing); of rates, in
    those of people's."""
    return float((wave - exact).abs().max() / (exact.std() if exact.ndim == 2 else SPREAD_BPM))


@pytest.mark.parametrize("form", FORMS)
def test_any_number_of_clips_frames_and_pixels(form: str) -> None:
    net = make(form).eval()
    with torch.inference_mode():
        for B, T, H, W in ((1, 8, 32, 32), (2, 12, 16, 24), (1, 9, 33, 17), (1, 4, 16, 16), (1, 7, 40, 20)):
            out = net(clips(B, T, H, W))
            assert out.shape == ((B, T) if NETS[FORMS[form][0]].kind == "wave" else (B,)), (B, T, H, W)
            assert out.dtype == torch.float32 and bool(torch.isfinite(out).all())


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_gets_a_gradient(form: str) -> None:
    net = make(form).train()
    out = net(clips(2, 12, 48, 48))
    if isinstance(net, RPPGNet):  # whose further heads serve its loss only
        out = torch.cat([one.flatten(1) for one in net(clips(2, 12, 48, 48), parts=True)], dim=1)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        # A bias before a batch norm is subtracted again by it: its gradient is rightly zero but for rounding.
        if parameter.ndim > 1:
            assert bool((parameter.grad != 0).any()), name


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_eval_is_deterministic_and_clips_do_not_see_each_other(form: str) -> None:
    net = with_worn_statistics(make(form))
    batch = clips(3, 8, 32, 32)
    with torch.inference_mode():
        first, again = net(batch), net(batch)
        alone = torch.cat([net(batch[i : i + 1]) for i in range(3)])
    assert torch.equal(first, again)
    assert torch.allclose(first, alone, atol=1e-5 * float(first.abs().max()))


@pytest.mark.parametrize("form", FORMS)
def test_folded_is_equal_and_plain(form: str) -> None:
    net = with_worn_statistics(make(form))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    folded = fold(net)
    with torch.inference_mode():
        for clip in (clips(2, 8, 32, 32), clips(1, 10, 33, 17)):
            assert off(folded(clip), net(clip)) < 1e-4
    assert not any(isinstance(module, (nn.BatchNorm3d, TemporalDifferenceConv3d)) for module in folded.modules())
    kernels = [p for p in folded.parameters() if p.ndim == 5]
    assert all(p.is_contiguous(memory_format=torch.channels_last_3d) for p in kernels)
    assert folded.config == net.config
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items()), "the net itself changed"


# bfloat16 has 8 bits: about 20 layers in a row, each off by up to 1 part in 256. Found: 0.01 to 0.08, r from 0.9997.
BF16_OFF, BF16_R = 0.2, 0.999
# DeepPhys adds up the roundings of its steps. rPPGNet's heads are one mean of all places, in which little is left of a
# frame. HR-CNN's last batch norms see one number, of which they make anything. Found: 0.15 and r 0.998; 0.40 and 0.995;
# 0.28, which is 6 bpm.
BF16_OF: dict[str, tuple[float, float]] = {"deepphys": (0.3, 0.997), "rppgnet": (0.5, 0.994), "hrcnn": (0.5, 1.0)}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_bf16_is_close(form: str) -> None:
    net = with_worn_statistics(make(form))
    clip = clips(1, 12, 32, 32)
    with torch.inference_mode():
        exact = net(clip)
        with torch.autocast("cpu", torch.bfloat16):
            automatic = net(clip)
        half = fold(net, torch.bfloat16)(clip)
    for wave in (automatic, half):
        assert wave.dtype == torch.float32
        most, least_r = BF16_OF.get(form, (BF16_OFF, BF16_R))
        assert off(wave, exact) < most
        assert wave.ndim == 1 or float(torch.corrcoef(torch.cat([wave, exact]))[0, 1]) > least_r


@pytest.mark.parametrize("form", FORMS)
def test_bf16_begins_with_the_first_layer(form: str) -> None:
    """Colours rounded to bfloat16 before a layer sees them have no pulse left: they change by one in 250."""
    net = make(form).eval()
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0])

    layers = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, TemporalDifferenceConv3d)
    for module in net.modules():
        if isinstance(module, layers):
            module.register_forward_pre_hook(keep)
    with torch.inference_mode():
        net(clips(1, 12, 32, 32))
        exact = seen[0]
        seen.clear()
        with torch.autocast("cpu", torch.bfloat16):
            net(clips(1, 12, 32, 32))
    assert seen[0].dtype == torch.float32 and torch.equal(seen[0], exact)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["autohr one cell"])
def test_folded_nets_can_be_exported(form: str) -> None:
    """With one free number of frames, as a multiple of four; every form here is built of the same layers as these."""
    net = fold(make(form))
    frames = torch.export.Dim("frames", min=2, max=200)
    exported = torch.export.export(net, (clips(1, 12, 32, 32),), dynamic_shapes=({2: 4 * frames},)).module()
    clip = clips(1, 20, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(exported(clip), net(clip), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_config_goes_through_json(form: str) -> None:
    net = make(form)
    config: Any = net.config
    again = make_net(FORMS[form][0], json.loads(json.dumps(dataclasses.asdict(config))))
    assert again.config == config and type(again) is type(net)


@pytest.mark.parametrize("name", NETS)
def test_the_table_says_what_it_holds(name: str) -> None:
    spec = NETS[name]
    assert spec.name == name
    assert isinstance(make_net(name, spec.config()), nn.Module)
    for preset in spec.presets:
        assert make_net(name, {"preset": preset}).config == spec.presets[preset].config


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_parameter_counts_of_the_papers() -> None:
    """Parameter counts of the papers and of public versions."""
    assert n_parameters(make_net("autohr", {"genotype": "fig5_plausible_v1"})) == 1_037_681
    assert n_parameters(make_net("autohr", {"genotype": "fig5_plausible_v2"})) == 857_457
    assert n_parameters(make_net("physnet")) == n_parameters(make_net("physnet", {"theta": 1.0})) == 768_577
    of_size = {36: 532_899, 72: 2_228_643, 96: 4_096_419, 128: 7_504_291}
    assert {size_px: n_parameters(make_net("deepphys", {"size_px": size_px})) for size_px in of_size} == of_size
    assert n_parameters(make_net("rppgnet")) == 550_266
    assert n_parameters(make_net("i3d")) == 12_288_289
    assert n_parameters(make_net("i3d", {"n_outputs": 400})) == 12_697_264
    assert n_parameters(HRCNN().extractor) == 3_839_367
    assert n_parameters(HRCNN(HRCNNConfig((64, 64, 64, 64))).extractor) == 1_749_959
    second_head_of_the_re_implementation = 1001
    assert n_parameters(make_net("rhythmnet")) + second_head_of_the_re_implementation == 17_697_514
    assert n_parameters(make_net("synrhythm")) == 11_177_025


def block(net: AutoHR, index: int) -> list[nn.Module]:
    return list(net.blocks[index].children())


@pytest.mark.slow
def test_shapes_of_figure_3a() -> None:
    """At the paper's 160 frames of 112x112. On the meta device, which computes shapes and no numbers."""
    seen: list[tuple[int, ...]] = []
    with torch.device("meta"):
        net = AutoHR()
        for stage in (net.stem, *block(net, 0), net.pools[0], *block(net, 1), net.pools[1], *block(net, 2)):
            stage.register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape[1:])))
        for stage in (net.pools[2], *block(net, 3), net.upsample):
            stage.register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape[1:])))
        assert net(torch.empty(1, 3, 160, 112, 112)).shape == (1, 160)
    assert seen == [
        (16, 160, 56, 56),
        *[(96, 160, 56, 56)] * 2,
        (96, 160, 28, 28),
        *[(96, 160, 28, 28)] * 2,
        (96, 80, 14, 14),
        *[(96, 80, 14, 14)] * 2,
        (96, 40, 7, 7),
        *[(96, 40, 7, 7)] * 2,
        (96, 160, 7, 7),
    ]


def test_a_varied_genotype_gives_each_block_its_own_cell() -> None:
    net = AutoHR(AutoHRConfig(channels=4, genotype=VARIED))
    kernels = [tuple(block[0].ops[0][1][1].weight.shape[2:]) for block in net.blocks]  # type: ignore[index]
    assert kernels == [(3, 3, 3), (5, 1, 1), (3, 3, 3), (5, 1, 1)]


def test_a_cell_adds_what_its_genotype_says() -> None:
    """Skips only, on inputs of one number each: the sums can be done by hand."""
    nodes = (
        (Edge("skip", source=0), Edge("skip", source=1)),
        (Edge("skip", source=2), Edge("skip", source=1)),
        (Edge("skip", source=3), Edge("skip", source=0)),
    )
    cell = SearchedCell(nodes, (1, 1), 1, (1, 1, 1))
    cell.from_before_last = cell.from_last = nn.Sequential()
    out = cell(torch.full((1, 1, 4, 2, 2), 1.0), torch.full((1, 1, 4, 2, 2), 10.0))
    assert out[0, :, 0, 0, 0].tolist() == [1 + 10, 11 + 10, 21 + 1]


def test_frames_beyond_a_multiple_of_four_are_copies_of_the_last() -> None:
    net = with_worn_statistics(make("autohr rgb"))
    clip = clips(1, 10, 32, 32)
    filled = torch.cat([clip, clip[:, :, -1:], clip[:, :, -1:]], dim=2)
    with torch.inference_mode():
        assert torch.equal(net(clip), net(filled)[:, :10])


def test_rgb_is_the_papers_scaling() -> None:
    clip = torch.tensor([0.0, 127.5, 255.0]).div(255)[None, :, None, None, None].expand(1, 3, 4, 16, 16)
    x = prepare_input(clip, "rgb", torch.float32)
    assert torch.allclose(x[0, :, 0, 0, 0], torch.tensor([-127.5, 0.0, 127.5]) / 128)


def test_difference_ignores_brightness_and_still_pictures() -> None:
    T = 30
    pulse = 0.01 * torch.sin(torch.arange(T) * 0.6)
    skin = 0.6 * (1 + pulse)[None, None, :, None, None] * torch.ones(1, 3, T, 16, 16)
    bright, dark = (prepare_input(light * skin, "difference", torch.float32) for light in (1.0, 0.7))
    assert torch.allclose(bright, dark, atol=0.02)
    wave = bright[0, 1, :-1, 3, 3]
    assert float(torch.corrcoef(torch.stack([wave[: T - 1], pulse.diff()]))[0, 1]) > 0.999
    assert torch.equal(bright[:, :, T - 1], bright[:, :, T - 2]), "the last frame repeats the change before it"
    still = prepare_input(torch.full((1, 3, 8, 16, 16), 0.4), "difference", torch.float32)
    assert not bool(still.any())
    assert float(prepare_input(clips(1, 8, 16, 16).round(), "difference", torch.float32).abs().max()) <= 4.0


def test_difference_is_exported_as_it_is_trained() -> None:
    fade = clips(2, 9, 16, 16) * torch.linspace(0.1, 1, 9)[None, None, :, None, None]
    still = torch.full((1, 3, 8, 16, 16), 0.4)
    for clip in (clips(3, 4, 17, 16), fade, torch.cat([still, still.round()])):
        assert torch.allclose(_difference_of_all_frames(clip), difference(clip), atol=1e-5)


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_have_the_channels_they_state(name: str) -> None:
    assert prepare_input(clips(1, 5, 16, 16), name, torch.float32).shape == (1, INPUTS[name].channels, 8, 16, 16)
    assert prepare_input(clips(1, 4, 16, 16).bfloat16(), name, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("shape", "dtype", "said"),
    [
        ((1, 4, 8, 32, 32), torch.float32, r"\(B, 3, T, H, W\) floats in \[0, 1\], RGB"),
        ((1, 8, 32, 32), torch.float32, "has shape"),
        ((1, 3, 8, 32, 32), torch.uint8, "torch.uint8"),
        ((1, 3, 3, 32, 32), torch.float32, "3 frames of 32x32 is too small"),
        ((1, 3, 8, 15, 32), torch.float32, "at least 4 frames of 16x16"),
    ],
)
def test_a_tensor_that_is_no_clip_is_refused(shape: tuple[int, ...], dtype: torch.dtype, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make("autohr tiny")(torch.zeros(shape, dtype=dtype))


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(UnknownName, match="Unknown net 'autohrr'. Known: autohr, physnet.* Did you mean 'autohr'?"):
        make_net("autohrr")
    with pytest.raises(ValueError, match="autohr has no field 'width'. Fields: genotype, stem_channels, channels"):
        make_net("autohr", {"width": 3})
    with pytest.raises(ValueError, match="autohr has no preset 'huge'. Presets: paper, small, tiny"):
        make_net("autohr", {"preset": "huge"})
    with pytest.raises(ValueError, match="physnet has no preset 'tiny'. Presets: paper, small"):
        make_net("physnet", {"preset": "tiny"})
    with pytest.raises(ValueError, match="takes a PhysNetConfig"):
        make_net("physnet", AutoHRConfig())
    for config, said in (
        ({"channels": 0}, "channels=0"),
        ({"channels": True}, "channels=True"),
        ({"input": "yuv"}, "input='yuv' is not a transform. Known: rgb, difference, rgb_difference"),
        ({"genotype": "fig6"}, "Unknown genotype 'fig6'"),
    ):
        with pytest.raises(ValueError, match=said):
            make_net("autohr", config)
    with pytest.raises(ValueError, match="theta='0.5'"):
        make_net("physnet", {"theta": "0.5"})
