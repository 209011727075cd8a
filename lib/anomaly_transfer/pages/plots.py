"""Every figure style of the book in one place: one palette, readable in print, in dark mode and at 400 px."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter
from PIL import Image
from scikit_posthocs import critical_difference_diagram

from anomaly_transfer.data.annotations import NORMAL

#: Okabe-Ito, safe for colour-blind readers. Normal is always blue, anomalous always vermillion.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
NORMAL_COLOUR, ANOMALOUS_COLOUR = PALETTE[:2]
HEAT = "inferno"


def use_style() -> None:
    """Set the book's style for all figures and tables of this session."""
    pd.set_option("display.max_colwidth", None)
    sns.set_theme(
        style="whitegrid",
        palette=PALETTE,
        rc={
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            # SVG and PNG without a date, so that equal figures are equal files.
            "svg.hashsalt": "anomaly-transfer",
        },
    )


def with_interval(frame: pd.DataFrame, spec: str = ".3f") -> pd.Series:
    """Each row's value with its interval as text, for tables.

    Parameters
    ----------
    frame : DataFrame
        With ``value``, ``low`` and ``high``.
    spec : str
        How a number is written.

    Returns
    -------
    Series of str

    Examples
    --------
    >>> with_interval(pd.DataFrame({"value": [0.5], "low": [0.25], "high": [0.75]}), "+.2f")[0]
    '+0.50 [+0.25, +0.75]'
    """
    rows = frame[["value", "low", "high"]].itertuples(index=False)
    words = [f"{value:{spec}} [{low:{spec}}, {high:{spec}}]" for value, low, high in rows]
    return pd.Series(words, index=frame.index, dtype=str)


def close(figure: Figure) -> None:
    """Free a figure."""
    plt.close(figure)


def image_sheet(
    rows: dict[str, Sequence[Image.Image]],
    size: float = 1.15,
    aspect: float = 1.0,
    mark: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Figure:
    """Pictures in rows, one row a name.

    Parameters
    ----------
    rows : dict of row name to images (rows may differ in length)
    size : float
        Height of a picture, inches.
    aspect : float
        Width of a picture divided by its height.
    mark : sequence of str
        Names of rows drawn in the anomalous colour.
    columns : sequence of str, optional
        Titles above the pictures of the first row; row names then stand at the left.
    """
    n = max(len(images) for images in rows.values())
    figure, axes = plt.subplots(len(rows), n, figsize=(size * aspect * n, (size + 0.2) * len(rows)), squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
            sns.despine(ax=axis, left=True, bottom=True)
        for axis, image in zip(line, images, strict=False):
            axis.imshow(image, cmap="gray")
        colour = ANOMALOUS_COLOUR if name in mark else "black"
        if columns:
            line[0].set_ylabel(name, fontsize="small", color=colour)
        else:
            line[0].set_title(name, loc="left", fontsize="small", color=colour)
    for axis, title in zip(axes[0], columns, strict=False):
        axis.set_title(title, fontsize="small")
    return figure


def intervals(
    frame: pd.DataFrame,
    row: str,
    hue: str | None = None,
    column: str | None = None,
    label: str = "AUROC",
    chance: float | None = 0.5,
    own_scales: bool = False,
) -> Figure:
    """Points with intervals, one line a method: the book's standard comparison.

    Parameters
    ----------
    frame : DataFrame
        With ``value``, ``low``, ``high`` and the columns named by the other parameters.
    row, hue, column : str
        Columns for the lines, the colours and the panels; lines and colours keep their order of appearance.
    chance : float, optional
        Where a dashed line marks chance.
    own_scales : bool
        Panels of different quantities: each has an axis of its own.
    """
    panels = list(frame[column].unique()) if column else [None]
    lines, hues = list(frame[row].unique()), list(frame[hue].unique()) if hue else [None]
    # More than three panels in a row are too small to read on a telephone.
    n_columns = len(panels) if len(panels) <= 3 else 2
    n_rows = -(-len(panels) // n_columns)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(2.5 * n_columns + 1.4, (0.36 * len(lines) + 0.9) * n_rows + 0.6),
        sharey=True,
        sharex=not own_scales,
        squeeze=False,
    )
    step = 0.6 / len(hues)
    markers = ["o", "s", "D", "^", "v"]
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for number, colour in enumerate(hues):
            part = frame
            part = part[part[column] == panel] if column else part
            part = part[part[hue] == colour] if hue else part
            y = np.array([lines.index(name) for name in part[row]]) + (number - (len(hues) - 1) / 2) * step
            bars = [part["value"] - part["low"], part["high"] - part["value"]]
            style = {"fmt": markers[number], "color": PALETTE[number], "markersize": 5, "elinewidth": 1.5}
            axis.errorbar(part["value"], y, xerr=np.clip(bars, 0, None), label=colour, **style)
        if chance is not None:
            axis.axvline(chance, color="grey", linestyle="--", linewidth=1)
        axis.set(xlabel=label, title=panel or "")
        axis.grid(axis="y", visible=False)
        axis.tick_params(labelbottom=True)
        if len(panels) > 1:
            axis.locator_params(axis="x", nbins=3)
    axes[0][0].set_yticks(range(len(lines)), lines)
    axes[0][0].set_ylim(len(lines) - 0.5, -0.5)
    if hue:
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(hues))
    return figure


#: What a case says of a claim: colour and marker, so that neither has to be seen alone.
STATES = {"met": (PALETTE[2], "o"), "open": ("#999999", "D"), "missed": (PALETTE[1], "s")}


def claim_cases(frame: pd.DataFrame, thresholds: Sequence[float], label: str) -> Figure:
    """The cases of a claim with their intervals, coloured by what they say of it.

    Parameters
    ----------
    frame : DataFrame
        With ``case``, ``value``, ``low`` and ``high`` (NaN for none) and ``state``, a key of :data:`STATES`; rows are
        numbered from 0.
    thresholds : sequence of float
        Where dashed lines are drawn.
    label : str
        What the values are.
    """
    figure, axis = plt.subplots(figsize=(6.4, 0.27 * len(frame) + 1.3))
    for state, (colour, marker) in STATES.items():
        part = frame[frame["state"] == state]
        if len(part):
            bars = [part["value"] - part["low"], part["high"] - part["value"]]
            style = {"color": colour, "marker": marker, "markersize": 5, "linestyle": ""}
            axis.errorbar(part["value"], part.index, xerr=np.clip(bars, 0, None), label=state, **style)
    for threshold in thresholds:
        axis.axvline(threshold, color="black", linestyle="--", linewidth=1)
    axis.set_yticks(range(len(frame)), frame["case"])
    axis.set_ylim(len(frame) - 0.5, -0.5)
    axis.set_xlabel(textwrap.fill(label, 32))
    axis.locator_params(axis="x", nbins=6)
    axis.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=len(STATES))
    return figure


def claim_board(shares: pd.DataFrame, groups: Sequence[str]) -> Figure:
    """All claims at a glance: of each the share of its cases that meet it, leave it open or miss it.

    Parameters
    ----------
    shares : DataFrame
        Indexed by what names a claim, with the keys of :data:`STATES` as columns (0 to 1; all zero: not tested) and
        ``verdict``, which is written beside the bar.
    groups : sequence of str
        To which group each row belongs; a line separates groups.
    """
    figure, axis = plt.subplots(figsize=(8.6, 0.25 * len(shares) + 1.0))
    left = np.zeros(len(shares))
    for state, (colour, _) in STATES.items():
        axis.barh(range(len(shares)), shares[state], left=left, color=colour, height=0.7, label=state)
        left += shares[state].to_numpy()
    for place in range(1, len(shares)):
        if groups[place] != groups[place - 1]:
            axis.axhline(place - 0.5, color="black", linewidth=0.8)
    axis.set_yticks(range(len(shares)), shares.index, fontsize="small")
    axis.set_ylim(len(shares) - 0.5, -0.5)
    axis.set(xlim=(0, 1), xlabel="share of cases")
    axis.grid(axis="y", visible=False)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    right = axis.secondary_yaxis("right")
    right.set_yticks(range(len(shares)), shares["verdict"], fontsize="small")
    right.spines["right"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(STATES))
    return figure


def level_profile(
    frame: pd.DataFrame,
    level: str,
    hue: str,
    label: str = "AUROC",
    xlabel: str = "level of the network, input to output",
) -> Figure:
    """A metric along named steps, e.g. the levels of a network, as a line with its interval band for each ``hue``."""
    figure, axis = plt.subplots(figsize=(6.2, 3.4))
    order = list(frame[level].unique())
    for number, (name, part) in enumerate(frame.groupby(hue, sort=False)):
        x = [order.index(value) for value in part[level]]
        axis.plot(x, part["value"], marker="os^D"[number % 4], color=PALETTE[number], label=name)
        axis.fill_between(x, part["low"], part["high"], color=PALETTE[number], alpha=0.18, linewidth=0)
    axis.axhline(0.5, color="grey", linestyle="--", linewidth=1)
    turned = {"rotation": 45, "ha": "right"} if max(map(len, order)) > 3 else {}
    axis.set_xticks(range(len(order)), order, **turned)
    axis.set(ylabel=label, xlabel=xlabel)
    axis.legend()
    return figure


def class_colours(classes: pd.Series) -> dict[str, tuple[str, bool]]:
    """Colour of each class, normal first, and whether it is hatched: colours are few.

    >>> class_colours(pd.Series(["crack", "normal"]))
    {'normal': ('#0072B2', False), 'crack': ('#D55E00', False)}
    """
    names = sorted(classes.unique(), key=lambda name: (name != NORMAL, name))
    return {name: (PALETTE[k % len(PALETTE)], k // len(PALETTE) % 2 == 1) for k, name in enumerate(names)}


def score_histogram(table: pd.DataFrame, threshold: float | None = None, names: bool = True) -> Figure:
    """Distribution of scores by class; the threshold as a line.

    Parameters
    ----------
    table : DataFrame
        Columns ``score`` and ``anomaly_class``.
    names : bool
        Whether the figure names the classes, or what stands beside it does (see :func:`class_colours`).
    """
    colours = class_colours(table["anomaly_class"])
    figure, axis = plt.subplots(figsize=(6.4, 3.2), constrained_layout=True)
    bins = np.histogram_bin_edges(table["score"], bins=30)
    for name, (colour, hatched) in colours.items():
        values = table.loc[table["anomaly_class"] == name, "score"]
        style = {"alpha": 0.35, "color": colour, "edgecolor": colour, "hatch": "///" if hatched else None}
        axis.hist(values, bins=bins, histtype="stepfilled", label=f"{name} ({len(values)})", **style)
    if threshold is not None:
        axis.axvline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    axis.set(xlabel="anomaly score", ylabel="images")
    if names:
        # Names of folders are no formulas; and many of them would cover the bars.
        with plt.rc_context({"text.parse_math": False}):
            if len(colours) < 4:
                axis.legend()
            else:
                figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    return figure


def counts(table: pd.DataFrame, label: str) -> Figure:
    """Counts of a two-way table, each row shaded by its shares.

    Parameters
    ----------
    table : DataFrame of int
        Rows and columns are named.
    label : str
        What a count counts.
    """
    figure, axis = plt.subplots(figsize=(1.1 * table.shape[1] + 2.4, 0.42 * len(table) + 1.2))
    shares = table.div(table.sum(axis=1), axis=0)
    bar = {"label": f"share of the row's {label}"}
    sns.heatmap(shares, annot=table, fmt="d", cmap="Blues", vmin=0, vmax=1, linewidths=1, cbar_kws=bar, ax=axis)
    axis.tick_params(axis="y", rotation=0)
    axis.set(xlabel="", ylabel="")
    return figure


def score_panels(panels: dict[str, pd.DataFrame], xlabel: str = "anomaly score") -> Figure:
    """Distributions of normal and anomalous scores, one panel a model; each panel has its own scale.

    Parameters
    ----------
    panels : dict of title to DataFrame
        Columns ``score`` and ``anomaly_class``.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels), 2.8), sharey=True, squeeze=False)
    for axis, (title, table) in zip(axes[0], panels.items(), strict=True):
        bins = np.histogram_bin_edges(table["score"], bins=25)
        is_normal = table["anomaly_class"] == NORMAL
        for name, part, colour in (
            ("normal", table[is_normal], NORMAL_COLOUR),
            ("anomalous", table[~is_normal], ANOMALOUS_COLOUR),
        ):
            axis.hist(part["score"], bins=bins, density=True, alpha=0.5, color=colour, label=name)
        axis.set(xlabel=xlabel, title=title, yticks=[])
    axes[0][0].set_ylabel("density")
    axes[0][-1].legend()
    return figure


def scores_by_grade(panels: dict[str, pd.DataFrame]) -> Figure:
    """Box plots of the score by anomaly class in order of grade, one panel a category.

    Parameters
    ----------
    panels : dict of title to DataFrame
        Columns ``score``, ``grade`` and ``anomaly_class``.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.0), squeeze=False)
    for axis, (title, table) in zip(axes[0], panels.items(), strict=True):
        order = table.sort_values("grade")["anomaly_class"].unique()
        colours = [NORMAL_COLOUR, *["#F2A679", "#E57F3D", ANOMALOUS_COLOUR][-(len(order) - 1) :]]
        sns.boxplot(
            table, x="anomaly_class", y="score", hue="anomaly_class", order=order, hue_order=order,
            palette=colours, legend=False, fliersize=2, linewidth=1, ax=axis,
        )  # fmt: skip
        axis.set(xlabel="", ylabel="anomaly score", title=title)
    return figure


def heat(scores: np.ndarray) -> Image.Image:
    """A map of scores as a picture, from its own lowest to its own highest value."""
    share = (scores - scores.min()) / max(np.ptp(scores), 1e-12)
    return Image.fromarray((matplotlib.colormaps[HEAT](share)[..., :3] * 255).astype(np.uint8))


def overlay(image: Image.Image, scores: np.ndarray, low: float, high: float) -> Image.Image:
    """The image beside itself with its heat map laid over.

    Parameters
    ----------
    image : PIL image
    scores : float array, shape (height, width), of any size
        Of the whole image, whatever its shape: networks see it squeezed to a square. What comes back has the image's
        shape again, and as many pixels as there are scores.
    low, high : float
        Scores drawn as the first and last colour; use the same for all images that will be compared.
    """
    long = np.sqrt(image.width / image.height)
    side = tuple(max(1, round(np.sqrt(scores.size) * factor)) for factor in (long, 1 / long))
    picture = image.convert("RGB").resize(side, Image.Resampling.BICUBIC)
    share = np.clip((scores - low) / max(high - low, 1e-12), 0, 1)
    colours = Image.fromarray((matplotlib.colormaps[HEAT](share)[..., :3] * 255).astype(np.uint8))
    colours = colours.resize(side, Image.Resampling.BILINEAR)
    both = Image.new("RGB", (2 * side[0] + 4, side[1]), "white")
    both.paste(picture, (0, 0))
    both.paste(Image.blend(picture, colours, 0.55), (side[0] + 4, 0))
    return both


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size below one another, with a thin white line between them."""
    width, height = pictures[0].size
    tall = Image.new("RGB", (width, len(pictures) * (height + 4) - 4), "white")
    for number, picture in enumerate(pictures):
        tall.paste(picture, (0, number * (height + 4)))
    return tall


def heat_table(table: pd.DataFrame, label: str = "AUROC", low: float = 0.5, high: float = 1.0) -> Figure:
    """Numbers of a two-way table, shaded from ``low`` to ``high``; what is missing stays blank.

    Parameters
    ----------
    table : DataFrame of float
        Rows and columns are named.
    label : str
        What a number is.
    """
    # Dark is good; the text stays readable on every shade.
    return _two_way(table, label, "Blues", low, high)


def correlation_table(table: pd.DataFrame, label: str = "rank correlation") -> Figure:
    """Correlations in -1..1 of a two-way table, blue above zero and red below; what is missing stays blank.

    Parameters
    ----------
    table : DataFrame
    label : str
        What a number is.
    """
    return _two_way(table, label, "RdBu", -1, 1)


def _two_way(table: pd.DataFrame, label: str, colours: str, low: float, high: float) -> Figure:
    figure, axis = plt.subplots(figsize=(0.95 * table.shape[1] + 2.6, 0.36 * len(table) + 1.4))
    bar = {"label": label}
    sns.heatmap(table, annot=True, fmt=".2f", cmap=colours, vmin=low, vmax=high, linewidths=1, cbar_kws=bar, ax=axis)
    axis.tick_params(axis="x", rotation=30)
    axis.tick_params(axis="y", rotation=0)
    for text in axis.get_xticklabels():
        text.set_horizontalalignment("right")
    axis.set(xlabel="", ylabel="")
    axis.grid(visible=False)
    return figure


def critical_difference(ranks: pd.Series, p_values: pd.DataFrame) -> Figure:
    """Mean ranks on a line, best at the left; a bar joins those that could not be told apart (Demsar, 2006).

    Parameters
    ----------
    ranks : Series
        Mean rank of each detector, 1 for the best.
    p_values : DataFrame
        Of each pair; joined are those with 0.05 or more.
    """
    figure, axis = plt.subplots(figsize=(7.0, 0.22 * len(ranks) + 1.3))
    critical_difference_diagram(
        ranks, p_values, ax=axis, label_fmt_left="{label} ({rank:.1f})", label_fmt_right="({rank:.1f}) {label}"
    )
    return figure


def trade(frame: pd.DataFrame, x: str, y: str, name: str) -> Figure:
    """What is reached over what it takes: named points, on a logarithmic axis.

    Parameters
    ----------
    frame : DataFrame
        One row a point.
    x, y, name : str
        Its columns: what it takes (positive), what is reached, and what stands beside the point.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    axis.scatter(frame[x], frame[y], s=30)
    for number, (_, row) in enumerate(frame.sort_values(y).iterrows()):
        # Neighbours write away from each other.
        place = {"xytext": (5, 4 if number % 2 else -10), "textcoords": "offset points", "fontsize": "small"}
        axis.annotate(row[name], (row[x], row[y]), **place)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    # Room for the names of the last points.
    axis.set_xlim(right=3 * frame[x].max())
    axis.set(xlabel=x, ylabel=y)
    return figure


#: Of the distances of which nearness is made: to normal in full colour, to the rival pale.
LADDER = [NORMAL_COLOUR, ANOMALOUS_COLOUR, "#E9A36D", "#7FB2D6"]


def ladder(distances: pd.Series, label: str) -> Figure:
    """Four distances on one axis, from which nearness is read.

    Parameters
    ----------
    distances : Series of float
        By name, in the order in which they are listed.
    """
    figure, axis = plt.subplots(figsize=(6.4, 1.9))
    axis.scatter(distances, range(len(distances)), color=LADDER, s=60, zorder=2)
    axis.set_yticks(range(len(distances)), distances.index)
    axis.set(ylim=(len(distances) - 0.5, -0.5), xlabel=label)
    axis.grid(axis="y", visible=False)
    return figure


def scatter(frame: pd.DataFrame, x: str, y: str, hue: str) -> Figure:
    """Points by two numbers, coloured by class; ``normal`` and ``anomalous`` have their usual colours."""
    figure, axis = plt.subplots(figsize=(5.6, 3.6))
    usual = {NORMAL: NORMAL_COLOUR, "anomalous": ANOMALOUS_COLOUR}
    names = list(frame[hue].unique())
    colours = {name: usual.get(name, PALETTE[number % len(PALETTE)]) for number, name in enumerate(names)}
    sns.scatterplot(frame, x=x, y=y, hue=hue, style=hue, palette=colours, s=28, alpha=0.8, ax=axis)
    axis.get_legend().set_title("")
    return figure


def curves(
    frame: pd.DataFrame, x: str, hue: str, label: str, xlabel: str, chance: float | None = None, log: bool = False
) -> Figure:
    """A value along a number, one line for each ``hue``, with its interval as a band where there is one.

    Parameters
    ----------
    frame : DataFrame
        With ``value``, the columns named by ``x`` and ``hue`` and, optionally, ``low`` and ``high``.
    x, hue : str
        Columns for the axis and for the lines, which keep their order of appearance.
    label, xlabel : str
        What is drawn along either axis.
    chance : float, optional
        Where a dashed line marks chance, or no relation.
    log : bool
        Whether steps along ``x`` are factors.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    styles = ["-", "--", ":", "-."]
    for number, (name, part) in enumerate(frame.groupby(hue, sort=False)):
        colour = PALETTE[number % len(PALETTE)]
        style = styles[number // len(PALETTE) % len(styles)]
        axis.plot(part[x], part["value"], marker="os^Dv<>"[number % 7], color=colour, linestyle=style, label=name)
        if "low" in part:
            axis.fill_between(part[x], part["low"], part["high"], color=colour, alpha=0.15, linewidth=0)
    if chance is not None:
        axis.axhline(chance, color="grey", linestyle="--", linewidth=1)
    if log:
        axis.set_xscale("log", base=2)
        ticks = sorted(frame[x].unique())
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    axis.set(xlabel=xlabel, ylabel=label)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    return figure


def curve_grid(
    frame: pd.DataFrame,
    x: str,
    hue: str,
    panel: str,
    label: str,
    xlabel: str,
    chance: float | None = None,
    log: bool = False,
    own_scales: bool = False,
) -> Figure:
    """Small panels of :func:`curves`, one for each ``panel``.

    Parameters
    ----------
    frame, x, hue, label, xlabel, chance, log
        See :func:`curves`.
    panel : str
        Column of the panels, which keep their order of appearance.
    own_scales : bool
        Whether they show different quantities.
    """
    panels, hues = list(frame[panel].unique()), list(frame[hue].unique())
    n_columns = min(2, len(panels))
    n_rows = -(-len(panels) // n_columns)
    width = 2.7 if own_scales else 2.2
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(width * n_columns + 0.6, 1.9 * n_rows + 0.8),
        sharex=True,
        sharey=not own_scales,
        squeeze=False,
    )
    ticks = sorted(frame[x].unique())
    for axis, name in zip(axes.flat, panels, strict=False):
        for number, line in enumerate(hues):
            part = frame[(frame[panel] == name) & (frame[hue] == line)]
            style = {"marker": "os^D"[number % 4], "markersize": 4, "color": PALETTE[number], "label": line}
            axis.plot(part[x], part["value"], **style)
            if "low" in part:
                axis.fill_between(part[x], part["low"], part["high"], color=PALETTE[number], alpha=0.15, linewidth=0)
        if chance is not None:
            axis.axhline(chance, color="grey", linestyle="--", linewidth=1)
        axis.set_title(name, fontsize="small")
        if log:
            axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel(xlabel, fontsize="medium")
    figure.supylabel(label, fontsize="medium")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize="small")
    return figure


def time_panels(
    frame: pd.DataFrame, x: str, hue: str, panel: str, label: str, xlabel: str, reference: float | None = None
) -> Figure:
    """Lines along a continuous number, one panel below the other, for up to seven ``hue``.

    Parameters
    ----------
    frame : DataFrame
        With ``value`` and the columns named by the other parameters, which keep their order of appearance.
    reference : float, optional
        Where a dashed line marks chance, or no change.
    """
    panels = list(frame[panel].unique())
    figure, axes = plt.subplots(len(panels), 1, figsize=(6.2, 2.1 * len(panels) + 1.2), sharex=True, squeeze=False)
    for axis, name in zip(axes[:, 0], panels, strict=True):
        for number, (line, part) in enumerate(frame[frame[panel] == name].groupby(hue, sort=False)):
            marker = {"marker": "os^Dv<>"[number], "markersize": 4, "markevery": max(1, len(part) // 6)}
            axis.plot(part[x], part["value"], color=PALETTE[number], label=line, **marker)
        if reference is not None:
            axis.axhline(reference, color="grey", linestyle="--", linewidth=1)
        axis.set_title(name, fontsize="small", loc="left")
        axis.set_ylabel(label)
    axes[-1, 0].set_xlabel(xlabel)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    return figure
