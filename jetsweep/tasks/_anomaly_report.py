"""The sections of an anomaly search in the report: signals and scores, SIC with bands, mass sculpting, latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from jetsweep.errors import MetricError
from jetsweep.metrics import SignalMatrix, distance_correlation, mean_signal, worst_signal
from jetsweep.tasks._anomaly_figures import (
    figure_makers,
    jsd_figure,
    matrix_figure,
    max_sic,
    sic_band_figure,
    trade_off_figure,
    trade_offs,
)
from jetsweep.tasks._anomaly_jets import ACTIVE_NATS, AnomalyJets
from jetsweep.tasks._report import Arrays, Cell, Part, Section, SplitResults, Table, make_part

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_JSD_AT = 0.1
_SIC_GRID = np.linspace(0.05, 0.95, 19)
_MIN_BACKGROUND = "Cuts leave 100 background jets or more"


def anomaly_sections(results: SplitResults, jets_of: Callable[[Arrays], AnomalyJets]) -> list[Section]:
    """Every section, in the order of the page.

    Parameters
    ----------
    results : SplitResults
    jets_of : callable
        Gives the arrays of a trial the roles of its classes.
    """
    jets = jets_of(results.best)
    sections = [_matrix_section(jets), _sic_section(jets, results, jets_of), _mass_section(jets)]
    if len(results.compared) > 1:
        sections.append(_compared_section({label: jets_of(x) for label, x in results.compared.items()}))
    return [*sections, _latent_section(jets), _score_section(jets)]


def _matrix_section(jets: AnomalyJets) -> Section:
    title = "Signals and scores"
    if not jets.signals:
        return Section(title, (), "The split has no jets of a signal.")
    kinds = {"auc": ("AUC", lambda: jets.matrix()), "sic": ("max SIC", lambda: jets.matrix(max_sic))}
    parts = [_matrix_part(f"signal-matrix-{key}", label, make) for key, (label, make) in kinds.items()]
    return Section(title, tuple(parts), f"Every score on every signal, against {_words(jets.background)}.")


def _matrix_part(name: str, label: str, make: Callable[[], SignalMatrix]) -> Part:
    try:
        matrix = make()
    except MetricError as error:
        return Part(name, label, reason=str(error))
    rows = tuple((signal, *values) for signal, values in zip(matrix.signals, matrix.values.tolist()))
    caption = f"{label}." if label == "AUC" else f"Largest SIC of any cut. {_MIN_BACKGROUND}."
    return Part(name, caption, matrix_figure(matrix, label), Table(("signal", *matrix.scores), rows))


def _sic_section(jets: AnomalyJets, results: SplitResults, jets_of: Callable[[Arrays], AnomalyJets]) -> Section:
    title = "Significance improvement"
    if not jets.signals:
        return Section(title, (), "The split has no jets of a signal.")
    makers = figure_makers(jets)
    parts = [
        make_part(
            "sic",
            f"Score {jets.main} of {results.label}; bands: error of the background efficiency. {_MIN_BACKGROUND}.",
            makers["sic"],
            lambda: _sic_table(jets),
        ),
        make_part("sic-maximum", f"The best cut on {jets.main} for every signal.", table=lambda: _maxima_table(jets)),
    ]
    if len(results.repeats) > 1:
        about = f"{len(results.repeats)} runs of {results.repeated} with other seeds"
        runs: Sequence[Arrays] = results.repeats
    elif results.is_front and len(results.compared) > 1:
        about = f"the {len(results.compared)} trials of the Pareto front"
        runs = list(results.compared.values())
    else:
        reason = "one run has no band; search.repeats makes several of the best configuration"
        return Section(title, (*parts, Part("sic-band", "SIC over several runs.", reason=reason)))
    caption = f"Score {jets.main}: median and central 68 % of {about}, where every one leaves 100 background jets."
    return Section(title, (*parts, make_part("sic-band", caption, lambda: _band(jets.signals, map(jets_of, runs)))))


def _band(signals: Sequence[str], runs: map[AnomalyJets]) -> Figure:
    all_runs = list(runs)
    return sic_band_figure({signal: [run.sic(signal) for run in all_runs] for signal in signals})


def _sic_table(jets: AnomalyJets) -> Table:
    """SIC at signal efficiencies."""
    columns = [jets.sic(signal).at_signal_efficiency(_SIC_GRID).tolist() for signal in jets.signals]
    return Table(("signal_efficiency", *jets.signals), tuple(zip(_SIC_GRID.round(4).tolist(), *columns)))


def _maxima_table(jets: AnomalyJets) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for signal in jets.signals:
        best = jets.sic(signal).maximum
        head = (signal, best.sic, best.error, best.signal_efficiency, best.background_efficiency)
        rows.append((*head, best.background_above, best.threshold))
    columns = ("signal", "max SIC", "max SIC_error", "εS", "εB", "background jets above", "threshold")
    return Table(columns, tuple(rows))


def _mass_section(jets: AnomalyJets) -> Section:
    makers, names = figure_makers(jets), jets.before_and_after
    both = f"{names[0]} before and after its conditional CDF" if len(names) > 1 else names[0]
    parts = [
        make_part("mass", f"Background jets before and after cuts on {both}; bars: statistical error.", makers["mass"]),
        make_part(
            "mass-jsd",
            "How far the background's mass spectrum after a cut is from that before it; a random cut of equal size "
            "has the band.",
            lambda: jsd_figure({name: jets.scan(name) for name in jets.scores}),
        ),
        *(make_part(f"mass-cuts-{name}", f"Cuts on {name}.", table=partial(_cuts_table, jets, name)) for name in names),
    ]
    if jets.signals:
        caption = "Decorrelation against rejection at a signal efficiency of 0.5; up and to the right is better."
        parts.append(_trade_off_part(jets, caption))
    return Section("Mass sculpting", tuple(parts))


def _cuts_table(jets: AnomalyJets, name: str) -> Table:
    rows = jets.sculpting(name).rows()
    return Table(tuple(rows[0]), tuple(tuple(row.values()) for row in rows))


def _trade_off_part(jets: AnomalyJets, caption: str) -> Part:
    try:
        points, floor = trade_offs(jets), jets.scan()
    except MetricError as error:
        return Part("jsd-rejection", caption, reason=str(error))
    rows = tuple(
        (score, signal, p.rejection, p.rejection_error, p.inverse_jsd, p.inverse_floor)
        for score, of_score in points.items()
        for signal, p in of_score.items()
    )
    columns = ("score", "signal", "R50", "R50_error", "1/JSD", "1/JSD of a random cut")
    return Part("jsd-rejection", caption, trade_off_figure(points, floor), Table(columns, rows))


def _compared_section(members: Mapping[str, AnomalyJets]) -> Section:
    main = next(iter(members.values())).main
    caption = (
        f"Score {main} on the same jets: AUC of every signal, and at a background efficiency of {_JSD_AT:g} the JSD of "
        "the background's mass with that of a random cut of equal size; dCorr: distance correlation of score and mass."
    )
    return Section("Trials compared", (make_part("trials-compared", caption, table=lambda: _compared_table(members)),))


def _compared_table(members: Mapping[str, AnomalyJets]) -> Table:
    signals = next(iter(members.values())).signals
    rows: list[tuple[Cell, ...]] = []
    for label, jets in members.items():
        areas = {signal: jets.roc(signal).area for signal in signals}
        summed = (worst_signal(areas), mean_signal(areas)) if areas else (None, None)
        (cut,) = jets.sculpting(efficiencies=(_JSD_AT,)).cuts
        chosen = jets.is_background
        correlation = distance_correlation(jets.scores[jets.main][chosen], jets.mass[chosen], jets.weight_of(chosen))
        rows.append((label, *areas.values(), *summed, cut.jsd, cut.floor.median, correlation))
    ends = ("worst AUC", "mean AUC", f"JSD at {_JSD_AT:g}", "random cut", "dCorr")
    return Table(("trial", *(f"AUC {signal}" for signal in signals), *ends), tuple(rows))


def _latent_section(jets: AnomalyJets) -> Section:
    title = "Latent space"
    if jets.latent_kl is None:
        return Section(title, (), "The model has no latent space with a prior.")
    caption = (
        "Mean divergence of every latent from its prior, largest first; a latent below the dashed line "
        f"({ACTIVE_NATS:g} nat) collapsed: it tells nothing about the jet."
    )
    return Section(
        title, (make_part("latent-kl", caption, figure_makers(jets)["latent-kl"], lambda: _latent_table(jets)),)
    )


def _latent_table(jets: AnomalyJets) -> Table:
    roles = {"background": jets.is_background} | {signal: jets.is_class(signal) for signal in jets.signals}
    means = [jets.mean_kl(chosen).tolist() for chosen in roles.values()]
    return Table(("latent", *roles), tuple(zip(range(len(means[0])), *means)))


def _score_section(jets: AnomalyJets) -> Section:
    caption = "Every distribution has unit area; scores beyond the central 99.8 % are in the outer bins."
    return Section("Score distributions", (make_part("scores", caption, figure_makers(jets)["scores"]),))


def _words(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
