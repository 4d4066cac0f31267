"""Figures of an anomaly search: significance improvement, mass sculpting, signals against scores, latent collapse.

All numbers come from `jetsweep.metrics`; here they are only drawn.
"""

# Shapes: J jets, K points of a curve, R runs, L latents.

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jetsweep.errors import MetricError
from jetsweep.metrics import Sculpting, SicCurve, SignalMatrix, TradeOff, sic_band, sic_curve
from jetsweep.tasks._anomaly_jets import ACTIVE_NATS, AnomalyJets
from jetsweep.tasks._style import COLORS, hep_figure, hep_panels, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X"
GREY = "#888888"

_BINS = 40
"""At most, of the mass spectra that are drawn."""


def anomaly_figures(jets: AnomalyJets) -> dict[str, Figure]:
    """Every figure that can be measured on these jets, by file name; of too few jets some are left out."""
    found = {}
    for name, make in figure_makers(jets).items():
        try:
            found[name] = make()
        except MetricError:
            continue
    return found


def figure_makers(jets: AnomalyJets) -> dict[str, Callable[[], Figure]]:
    """What makes each figure, by file name; a call raises `MetricError` where there are too few jets for it."""
    makers: dict[str, Callable[[], Figure]] = {"scores": lambda: scores_figure(jets)}
    if jets.signals:
        makers |= {
            "sic": lambda: sic_figure({signal: jets.sic(signal) for signal in jets.signals}),
            "signal-matrix-auc": lambda: matrix_figure(jets.matrix(), "AUC"),
            "signal-matrix-sic": lambda: matrix_figure(jets.matrix(max_sic), "max SIC"),
            "jsd-rejection": lambda: trade_off_figure(trade_offs(jets), jets.scan()),
        }
    makers |= {
        "mass": lambda: mass_figure({name: jets.sculpting(name) for name in jets.before_and_after}),
        "mass-jsd": lambda: jsd_figure({name: jets.scan(name) for name in jets.scores}),
    }
    if jets.latent_kl is not None:
        makers["latent-kl"] = lambda: latent_figure(jets)
    return makers


def max_sic(roc: Any) -> float:
    """Largest significance improvement with at least 100 background jets above the cut."""
    return sic_curve(roc).maximum.sic


def sic_figure(curves: Mapping[str, SicCurve]) -> Figure:
    """Significance improvement against signal efficiency, one line per entry, with its statistical error.

    A point marks each maximum. The error is that of the background efficiency; the dashed line is a random score.
    """
    with hep_figure() as (figure, axes):
        for name, curve in curves.items():
            shown = np.unique(told_apart(curve.signal_efficiency, curve.background_efficiency))
            x, y, best = curve.signal_efficiency[shown], curve.sic[shown], curve.maximum
            half = y * curve.relative_error[shown] / 2
            (line,) = axes.plot(x, y, lw=2, label=f"{name} (max {_with_error(best.sic, best.error)})")
            axes.fill_between(x, y - half, y + half, color=line.get_color(), alpha=0.2, lw=0)
            axes.plot(best.signal_efficiency, best.sic, "o", ms=7, color=line.get_color())
        _finish_sic(axes)
    return figure


def sic_band_figure(runs: Mapping[str, Sequence[SicCurve]], level: float = 0.68) -> Figure:
    """Median significance improvement of several runs with their central interval, one band per entry.

    Parameters
    ----------
    runs : mapping of str to sequence of SicCurve
        Curves of at least two runs, by signal.
    level : float
        Share of the runs inside the band.
    """
    grid_K = np.linspace(0.01, 1.0, 199)
    with hep_figure() as (figure, axes):
        for name, curves in runs.items():
            band = sic_band(curves, grid_K, level)
            (line,) = axes.plot(grid_K, band.median, lw=2, label=f"{name} (max {_largest(band.median)} in the median)")
            axes.fill_between(grid_K, band.low, band.high, color=line.get_color(), alpha=0.25, lw=0)
        _finish_sic(axes)
    return figure


def _largest(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{known.max():.2f}" if len(known) else "—"


def _with_error(value: float, error: float) -> str:
    digits = 2 if error <= 0 else min(max(1, 1 - math.floor(math.log10(error))), 4)
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _finish_sic(axes: Axes) -> None:
    x = np.linspace(0.0, 1.0, 200)
    axes.plot(x, np.sqrt(x), ls="--", color=GREY, lw=1.5, label="random")
    axes.set(
        xlabel="Signal efficiency $\\varepsilon_S$",
        ylabel="SIC = $\\varepsilon_S\\,/\\,\\sqrt{\\varepsilon_B}$",
        xlim=(0, 1),
    )
    # the legend is above the curves: a line of it takes about a sixteenth of the axes
    share = max(0.4, 1 - len(axes.get_legend_handles_labels()[1]) / 16)
    axes.set_ylim(0, axes.get_ylim()[1] / share)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left")


def mass_figure(found: Mapping[str, Sculpting]) -> Figure:
    """Background mass spectra before and after cuts, normalised, one panel per score.

    Parameters
    ----------
    found : mapping of str to Sculpting
        With the same bins, by score.
    """
    with hep_panels(1, len(found), 1 + 7.0 * len(found), 7.0) as (figure, panels):
        for axes, (name, one) in zip(panels, found.items()):
            _draw_spectra(axes, one)
            axes.set(
                xlabel="Jet mass [GeV]",
                ylabel="Background jets per GeV (normalised)",
                title=f"cut on {name}",
                ylim=(0, None),
            )
            axes.title.set_fontsize(14)
            axes.legend(frameon=False)
        top = max(axes.get_ylim()[1] for axes in panels)
        for axes in panels:
            axes.set_ylim(0, top)
    return figure


def _draw_spectra(axes: Axes, found: Sculpting) -> None:
    edges = found.measure.edges
    step = next(n for n in range(1, len(edges)) if (len(edges) - 1) % n == 0 and (len(edges) - 1) // n <= _BINS)
    edges = edges[::step]
    spectra = [("before the cut", found.histogram)]
    spectra += [(f"$\\varepsilon_B$ = {cut.efficiency:.2g}", cut.histogram) for cut in found.cuts]
    for i, (label, contents) in enumerate(spectra):
        counts = contents.reshape(-1, step).sum(axis=1)
        unit = counts.sum() * np.diff(edges)
        density = counts / unit
        if i == 0:
            axes.stairs(density, edges, fill=True, color="#d9d9d9", label=label)
        else:
            axes.stairs(density, edges, lw=2, color=COLORS[(i - 1) % len(COLORS)], label=label)
            axes.errorbar(
                (edges[1:] + edges[:-1]) / 2,
                density,
                yerr=np.sqrt(found.cuts[i - 1].squared.reshape(-1, step).sum(axis=1)) / unit,
                fmt="none",
                ecolor=COLORS[(i - 1) % len(COLORS)],
                elinewidth=1,
                alpha=0.6,
            )
    filled = np.flatnonzero(found.histogram.reshape(-1, step).sum(axis=1))  # a cut adds no jets
    axes.set_xlim(edges[filled[0]], edges[filled[-1] + 1])


def jsd_figure(found: Mapping[str, Sculpting]) -> Figure:
    """Mass sculpting of every score against the background efficiency, with the range of random cuts of equal size.

    Parameters
    ----------
    found : mapping of str to Sculpting
        Under the same conventions, by score.
    """
    first = next(iter(found.values()))
    with hep_figure(9.0) as (figure, axes):
        axes.set_prop_cycle(color=COLORS)
        for (name, one), marker in zip(found.items(), itertools.cycle(MARKERS)):
            x = [cut.efficiency for cut in one.cuts]
            axes.plot(x, [cut.jsd for cut in one.cuts], marker=marker, ms=6, lw=2, label=name)
        floors = [(cut.efficiency, cut.floor) for cut in first.cuts]
        x = [efficiency for efficiency, _ in floors]
        low, high = [floor.low for _, floor in floors], [floor.high for _, floor in floors]
        axes.fill_between(x, low, high, color=GREY, alpha=0.4, lw=0, label="random cut (68 %)")
        axes.plot(x, [floor.median for _, floor in floors], color=GREY, ls="--", lw=1.5)
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="Background efficiency $\\varepsilon_B$",
            ylabel="Mass sculpting: JS distance" if first.measure.root else "Mass sculpting: JSD",
        )
        axes.set_title(first.measure.name, fontsize=11, loc="right")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=12)
    return figure


def trade_offs(jets: AnomalyJets) -> dict[str, dict[str, TradeOff]]:
    """Points of `trade_off_figure` by score and signal; those that leave too few background jets are left out.

    Raises
    ------
    MetricError
        If all of them do.
    """
    found: dict[str, dict[str, TradeOff]] = {}
    error: MetricError | None = None
    for score, signal in itertools.product(jets.scores, jets.signals):
        try:
            found.setdefault(score, {})[signal] = jets.trade_off(signal, score)
        except MetricError as reason:
            error = reason
    found = {score: points for score, points in found.items() if points}
    if not found and error is not None:
        raise error
    return found


def trade_off_figure(points: Mapping[str, Mapping[str, TradeOff]], floor: Sculpting) -> Figure:
    """Inverse JSD against background rejection, a colour per score and a marker per signal: up and right is better.

    Parameters
    ----------
    points : mapping of str to mapping of str to TradeOff
        By score and signal.
    floor : Sculpting
        On a grid of cuts of the same background; no score can be told from the dashed line, a random cut.
    """
    signals = dict.fromkeys(itertools.chain.from_iterable(points.values()))
    markers = dict(zip(signals, itertools.cycle(MARKERS)))
    efficiency = next(p.signal_efficiency for of_score in points.values() for p in of_score.values())
    with hep_figure(9.0) as (figure, axes):
        for i, (score, of_score) in enumerate(points.items()):
            for signal, point in of_score.items():
                axes.errorbar(
                    point.rejection,
                    point.inverse_jsd,
                    xerr=point.rejection_error,
                    fmt=markers[signal],
                    color=COLORS[i % len(COLORS)],
                    ms=9,
                    capsize=3,
                )
            axes.plot([], [], "s", color=COLORS[i % len(COLORS)], label=score)
        for signal, marker in markers.items():
            axes.plot([], [], marker, color="black", mfc="none", label=signal)
        random = [(1 / cut.efficiency, 1 / cut.floor.median) for cut in floor.cuts if cut.floor.median > 0]
        if random:
            axes.plot(*zip(*sorted(random)), color=GREY, ls="--", lw=1.5, label="random cut of equal size")
        axes.set(
            xscale="log",
            yscale="log",
            xlabel=f"Background rejection $1/\\varepsilon_B$ at $\\varepsilon_S = {efficiency:g}$",
            ylabel="1 / JSD of the mass",
        )
        axes.set_title(floor.measure.name, fontsize=11, loc="right")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=12)
    return figure


def matrix_figure(matrix: SignalMatrix, label: str) -> Figure:
    """Figure of merit of every score (column) on every signal (row), as colours with numbers.

    Parameters
    ----------
    matrix : SignalMatrix
    label : str
        Of the figure of merit.
    """
    rows, columns = matrix.values.shape
    with hep_figure(3.5 + 1.35 * columns, 2.5 + 0.75 * rows) as (figure, axes):
        image = axes.imshow(matrix.values, cmap="viridis", aspect="auto")
        for (i, j), value in np.ndenumerate(matrix.values):
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", color="white" if dark else "black", fontsize=13)
        axes.set_xticks(range(columns), matrix.scores, rotation=35, ha="right", rotation_mode="anchor", fontsize=13)
        axes.set_yticks(range(rows), matrix.signals, fontsize=13)
        axes.tick_params(which="both", length=0)
        axes.minorticks_off()
        figure.colorbar(image, ax=axes, label=label)
    return figure


def scores_figure(jets: AnomalyJets) -> Figure:
    """Distribution of every score, background and signals apart, each with unit area, a panel per score.

    Scores beyond the central 99.8 % of all jets are in the outer bins.
    """
    columns = min(3, len(jets.scores))
    rows = -(-len(jets.scores) // columns)
    with hep_panels(rows, columns, 1 + 5.5 * columns, 0.8 + 5.0 * rows) as (figure, panels):
        for axes, (name, score) in zip(panels, jets.scores.items()):
            edges, scale = _score_bins(score)
            for label, chosen in _roles(jets):
                weight = jets.weight_of(chosen)
                contents = np.histogram(score[chosen].clip(edges[0], edges[-1]), edges, weights=weight)[0]
                # of bins of equal width on the axis as drawn
                share = contents / (contents.sum() or 1)
                if label == "background":
                    axes.stairs(share, edges, fill=True, color="#d9d9d9", label=label)
                else:
                    axes.stairs(share, edges, lw=2, label=label)
            axes.set(xlabel=f"score {name}", ylabel="Share of jets per bin", xscale=scale, yscale="log")
            axes.set_xlim(edges[0], edges[-1])
            if scale == "log":
                _label_few(axes.xaxis)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=14)
        for axes in panels[len(jets.scores) :]:
            axes.set_axis_off()
    return figure


def _label_few(axis: Axis) -> None:
    """Label 1, 2 and 5 times powers of ten: a logarithmic axis of one decade would be labelled ten times."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _roles(jets: AnomalyJets) -> Iterator[tuple[str, np.ndarray]]:
    yield "background", jets.is_background
    for signal in jets.signals:
        yield signal, jets.is_class(signal)


def _score_bins(score: np.ndarray) -> tuple[np.ndarray, str]:
    """Edges of 50 bins, of equal width in the logarithm where a positive score has a long tail."""
    if not np.isfinite(score).all():
        raise MetricError(f"{int((~np.isfinite(score)).sum())} of {len(score)} scores are not finite")
    low, middle, high = np.quantile(score, [0.001, 0.5, 0.999])
    if not low < high:
        low, high = low - 0.5, high + 0.5
    if low > 0 and high - middle > 3 * (middle - low):
        return np.geomspace(low, high, 51), "log"
    return np.linspace(low, high, 51), "linear"


def latent_figure(jets: AnomalyJets) -> Figure:
    """Mean divergence of every latent from its prior: bars for the background, a marker per signal.

    Latents are in the order of the background's divergence. Those below `ACTIVE_NATS` carry nothing: they collapsed.
    """
    if not jets.is_background.any():
        raise MetricError("the latent space is shown for background jets, and there are none")
    mean_L = jets.mean_kl(jets.is_background)
    order = np.argsort(-mean_L, kind="stable")
    x = np.arange(len(order))
    active = int((mean_L > ACTIVE_NATS).sum())
    with hep_figure(max(8.0, 2 + 0.45 * len(order))) as (figure, axes):
        axes.bar(x, mean_L[order], color="#bdbdbd", label=f"background: {active} of {len(order)} latents active")
        for i, signal in enumerate(jets.signals):
            mean_kl_L = jets.mean_kl(jets.is_class(signal))
            axes.plot(x, mean_kl_L[order], MARKERS[i % len(MARKERS)], ms=7, label=signal)
        axes.axhline(ACTIVE_NATS, color=GREY, ls="--", lw=1.5, label=f"collapsed below {ACTIVE_NATS:g} nat")
        axes.set_xticks(x, [str(i) for i in order], fontsize=12 if len(order) <= 20 else 8)
        axes.minorticks_off()
        axes.set(xlabel="Latent", ylabel="Mean KL divergence [nat]", yscale="log")
        low = min(ACTIVE_NATS, float(mean_L[mean_L > 0].min(initial=ACTIVE_NATS)))
        axes.set_ylim(max(low, 1e-6) / 3, None)
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom, top * (top / bottom) ** 0.35)  # room for the legend
        axes.legend(frameon=False, fontsize=12, loc="upper center", ncols=2)
    return figure
