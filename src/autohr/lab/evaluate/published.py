"""Figures printed in papers, as data, to stand beside what is measured here.

Tables I, II, III and Fig. 4 of AutoHR's paper, and what MCD-rPPG's authors print:

    AutoHR: A Strong End-to-end Baseline for Remote Heart Rate Measurement with Neural Searching
    (Yu, Li, Niu, Shi, Zhao, IEEE Signal Processing Letters 2020, arXiv:2004.12292).

Nothing here was measured by this program. The rows of one table are not comparable with each other: only those of
PhysNet and AutoHR were run by the paper's authors, the others are quoted from the papers of the methods, which differ
in the videos, the length of a clip, the folds, and in what the true rate is (from memory of those papers).
The paper's text loses the columns of Table II; where its figures belong was inferred from the papers that it quotes.
Fig. 4 prints no figures: its values were read off the bars and curve of one copy, but for those that the text states
(``stated``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

PAPER = "AutoHR (Yu et al. 2020)"

Kind = Literal["traditional", "learned", "end-to-end"]
"""Kind of method, in the paper's three classes: traditional; non-end-to-end learning; end-to-end learning."""

RMSE_ROUNDING = 1.01
"""Largest SD over RMSE of a row that does not contradict itself. RMSE squared is bias squared plus SD squared, so an SD
above the RMSE cannot be, but for the rounding of two figures, or n - 1 under the SD."""


@dataclass(frozen=True)
class PublishedRow:
    """Row of a table. None where the paper prints a dash."""

    method: str
    """Name in ``METHODS`` and recipes, whether or not this version has it."""
    title: str
    """Name as the paper spells it."""
    kind: Kind
    sd_bpm: float | None
    mae_bpm: float | None
    rmse_bpm: float | None
    pearson_r: float | None
    digits: int = 2
    """Decimals of the rates as printed; r has two."""

    @property
    def contradicts_itself(self) -> bool:
        """True for a row whose SD is above its RMSE by more than rounding."""
        return self.sd_bpm is not None and self.rmse_bpm is not None and self.sd_bpm > RMSE_ROUNDING * self.rmse_bpm


@dataclass(frozen=True)
class PublishedTable:
    """Table, in the paper's order."""

    number: int
    roman: str
    title: str
    trained_on: str
    """Name in ``DATASETS``."""
    tested_on: str
    columns: tuple[str, ...]
    """Fields of a row that the table prints."""
    source: str
    rows: tuple[PublishedRow, ...]
    about: str = (
        "Its rows are quoted from many papers, each with its own protocol, but for PhysNet and AutoHR: they do not "
        "compare with each other"
    )
    """Remark on the published figures."""

    @property
    def heading(self) -> str:
        """Title with the table's number, where it is one of AutoHR's paper."""
        return f"Table {self.roman} of the paper: {self.title}" if self.roman else self.title

    def row(self, method: str) -> PublishedRow | None:
        """Return the row of a method, if the table has one."""
        return next((row for row in self.rows if row.method == method), None)


ALL_FOUR = ("sd_bpm", "mae_bpm", "rmse_bpm", "pearson_r")


def _table(
    number: int, title: str, datasets: tuple[str, str], columns: tuple[str, ...], rows: tuple[PublishedRow, ...]
) -> PublishedTable:
    roman = "I" * number
    return PublishedTable(number, roman, title, *datasets, columns, f"{PAPER}, Table {roman}", rows)


TABLES: dict[int, PublishedTable] = {
    1: _table(
        1,
        "Intra-dataset results on VIPL-HR",
        ("vipl_hr", "vipl_hr"),
        ALL_FOUR,
        (
            PublishedRow("samc", "Tulyakov2016", "traditional", 18.0, 15.9, 21.0, 0.11, 1),
            PublishedRow("pos", "POS", "traditional", 15.3, 11.5, 17.2, 0.30, 1),
            PublishedRow("chrom", "CHROM", "traditional", 15.1, 11.4, 16.9, 0.28, 1),
            PublishedRow("rhythmnet", "RhythmNet", "learned", 8.11, 5.30, 8.14, 0.76),
            PublishedRow("i3d", "I3D", "end-to-end", 15.9, 12.0, 15.9, 0.07, 1),
            PublishedRow("physnet", "PhysNet", "end-to-end", 14.9, 10.8, 14.8, 0.20, 1),
            PublishedRow("deepphys", "DeepPhys", "end-to-end", 13.6, 11.0, 13.8, 0.11, 1),
            PublishedRow("autohr", "AutoHR", "end-to-end", 8.48, 5.68, 8.68, 0.72),
        ),
    ),
    2: _table(
        2,
        "Intra-dataset results on MAHNOB-HCI",
        ("mahnob_hci", "mahnob_hci"),
        ALL_FOUR,
        (
            PublishedRow("ica", "Poh2011", "traditional", 13.5, None, 13.6, 0.36, 1),
            PublishedRow("chrom", "CHROM", "traditional", None, 13.49, 22.36, 0.21),
            PublishedRow("li2014", "Li2014", "traditional", 6.88, None, 7.62, 0.81),
            PublishedRow("samc", "Tulyakov2016", "traditional", 5.81, 4.96, 6.23, 0.83),
            PublishedRow("synrhythm", "SynRhythm", "learned", 10.88, None, 11.08, None),
            PublishedRow("rhythmnet", "RhythmNet", "learned", 3.99, None, 3.99, 0.87),
            PublishedRow("hrcnn", "HR-CNN", "end-to-end", None, 7.25, 9.24, 0.51),
            PublishedRow("rppgnet", "rPPGNet", "end-to-end", 7.82, 5.51, 7.82, 0.78),
            PublishedRow("deepphys", "DeepPhys", "end-to-end", None, 4.57, None, None),
            PublishedRow("autohr", "AutoHR", "end-to-end", 4.73, 3.78, 5.10, 0.86),
        ),
    ),
    3: _table(
        3,
        "Cross-dataset results on MMSE-HR, trained on VIPL-HR",
        ("vipl_hr", "mmse_hr"),
        ("sd_bpm", "rmse_bpm", "pearson_r"),
        (
            PublishedRow("li2014", "Li2014", "traditional", 20.02, None, 19.95, 0.38),
            PublishedRow("chrom", "CHROM", "traditional", 14.08, None, 13.97, 0.55),
            PublishedRow("samc", "Tulyakov2016", "traditional", 12.24, None, 11.37, 0.71),
            PublishedRow("rhythmnet", "RhythmNet", "learned", 6.98, None, 7.33, 0.78),
            PublishedRow("physnet", "PhysNet", "end-to-end", 12.76, None, 13.25, 0.44),
            PublishedRow("autohr", "AutoHR", "end-to-end", 5.71, None, 5.87, 0.89),
        ),
    ),
}

MCD = "the dataset's page, huggingface.co/datasets/kyegorov/mcd_rppg (Egorov et al. 2025)"


def _from_mcd(tested_on: str, title: str) -> PublishedTable:
    rows = [("pos", "POS", "traditional"), ("chrom", "CHROM", "traditional"), ("omit", "OMIT", "traditional")]
    rows += [("physnet", "PhysNet", "end-to-end"), ("autohr", "AutoHR", "end-to-end")]
    return PublishedTable(
        0,
        "",
        f"Cross-dataset results on {title}, trained on MCD-rPPG",
        "mcd_rppg",
        tested_on,
        (),
        "none is known",
        tuple(PublishedRow(name, shown, cast(Kind, kind), None, None, None, None) for name, shown, kind in rows),
        "Nobody has printed this test",
    )


OTHER_TABLES: dict[str, PublishedTable] = {
    "mcd": PublishedTable(
        0,
        "",
        "Intra-dataset results on MCD-rPPG",
        "mcd_rppg",
        "mcd_rppg",
        ("mae_bpm",),
        MCD,
        (
            PublishedRow("pbv", "PBV", "traditional", None, 15.37, None, None),
            PublishedRow("omit", "OMIT", "traditional", None, 4.78, None, None),
            PublishedRow("pos", "POS", "traditional", None, 3.80, None, None),
            PublishedRow("physformer", "PhysFormer", "end-to-end", None, 4.08, None, None),
            PublishedRow("scnn", "the authors' own", "end-to-end", None, 4.86, None, None),
            PublishedRow("physnet", "PhysNet", "end-to-end", None, None, None, None),
            PublishedRow("autohr", "AutoHR", "end-to-end", None, None, None, None),
        ),
        "Windows, cameras and folds behind its figures are not on that page",
    ),
    "mcd-vipl": _from_mcd("vipl_hr", "VIPL-HR"),
    "mcd-mmse": _from_mcd("mmse_hr", "MMSE-HR"),
    "mcd-ubfc": _from_mcd("ubfc_rppg_2", "UBFC-rPPG"),
    "mcd-pure": _from_mcd("pure", "PURE"),
}
"""Tables that are not of AutoHR's paper."""


@dataclass(frozen=True)
class PublishedBar:
    """Bar or point of Fig. 4: the RMSE on fold 1 of VIPL-HR."""

    key: str
    label: str
    rmse_bpm: float
    stated: bool = False
    """True where the paper's text has this figure; otherwise it was read off the figure."""


@dataclass(frozen=True)
class PublishedPanel:
    """Panel of Fig. 4."""

    panel: str
    name: str
    """Name in ``autohr ablate``."""
    title: str
    source: str
    bars: tuple[PublishedBar, ...]

    def bar(self, key: str) -> PublishedBar:
        """Return the bar of a key."""
        return next(bar for bar in self.bars if bar.key == key)


def _panel(panel: str, name: str, title: str, *bars: PublishedBar) -> PublishedPanel:
    source = f"{PAPER}, Fig. 4({panel}): fold 1 of VIPL-HR, RMSE, read off the figure where the text does not state it"
    return PublishedPanel(panel, name, title, source, bars)


_THETA_RMSE_BPM = (9.9, 9.63, 9.07, 9.72, 9.12, 9.14, 10.45, 11.09, 12.97, 9.25, 9.10)
"""RMSE of theta = 0, 0.1, ... 1 in panel (b)."""

PANELS: dict[str, PublishedPanel] = {
    panel.name: panel
    for panel in (
        _panel(
            "a",
            "loss",
            "Loss functions, on PhysNet",
            PublishedBar("time", "L_time", 14.8),
            # The text: "reduces 4.3 bpm RMSE compared with L_time".
            PublishedBar("frequency", "L_fre", 10.5),
            PublishedBar("overall", "L_overall", 9.9, stated=True),
        ),
        _panel(
            "b",
            "theta",
            "Theta of the temporal difference convolution, in PhysNet",
            *(
                PublishedBar(
                    f"{tenths / 10:.1f}", f"{tenths / 10:g}" if tenths < 10 else "1.0", rmse_bpm, tenths in (2, 10)
                )
                for tenths, rmse_bpm in enumerate(_THETA_RMSE_BPM)
            ),
        ),
        _panel(
            "c",
            "nas",
            "Architecture search",
            PublishedBar("none", "no search (PhysNet)", 9.9),
            PublishedBar("shared_tdc", "shared, with TDC", 8.59),
            PublishedBar("shared", "shared, without TDC", 8.67),
            PublishedBar("varied_tdc", "varied, with TDC", 9.41),
            PublishedBar("varied", "varied, without TDC", 9.64),
        ),
        _panel(
            "d",
            "augmentation",
            "Data augmentation, on the searched net",
            PublishedBar("none", "none", 8.59),
            PublishedBar("da1", "DA1", 9.08),
            PublishedBar("da2", "DA2", 8.42),
            PublishedBar("both", "DA1 + DA2", 8.16),
        ),
    )
}
"""Fig. 4(d) ends at 8.16, Table I has 8.68 for the same net: fold 1 alone against all five, so they do not contradict
each other, and must not be mixed."""
