"""Figures of merit of an anomaly search on a whole split."""

# Shapes: B jets of a batch, J jets of a split, L latents.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from jetsweep.data.batch import Batch
from jetsweep.errors import DataError
from jetsweep.losses.kl import kl_per_latent
from jetsweep.metrics import cross_fitted, distance_correlation, mean_signal, sic_curve, worst_signal
from jetsweep.metrics.ensembles import combine, standardise
from jetsweep.models._density import Density
from jetsweep.tasks._anomaly_jets import ACTIVE_NATS, DECORRELATED, OF_AUTOENCODERS, SCORE, AnomalyJets
from jetsweep.tasks._base import Evaluator, Gather

if TYPE_CHECKING:
    from jetsweep.tasks._anomaly_config import AnomalyConfig
    from jetsweep.tasks.anomaly import Anomaly

_CDF_FOLDS, _CDF_JETS = 5, 100
REPORTED = "reported_"
"""Begins the name of a metric of a signal that nothing may be chosen by."""


def metric_names(config: AnomalyConfig) -> tuple[str, ...]:
    """Metrics that objectives, constraints and the best epoch may be chosen by."""
    names = ["loss", "penalised_loss", *OF_AUTOENCODERS, "mass_correlation"]
    names += [f"mass_jsd_at_{efficiency:g}" for efficiency in config.background_efficiencies]
    if config.select_on:
        names += ["worst_signal_auc", "mean_signal_auc", "worst_signal_max_sic"]
        names += [f"{figure}_{signal}" for figure in ("auc", "max_sic") for signal in config.select_on]
    return tuple(names)


class AnomalyEvaluator(Evaluator):
    """Keeps the scores of a whole split; metrics see every jet once."""

    def __init__(self, task: Anomaly) -> None:
        self.task = task
        self._columns: dict[str, list[np.ndarray]] = {}
        self._gathered: dict[str, np.ndarray] = {}

    def update(self, outputs: Any, batch: Batch) -> None:
        columns = {
            "rows": batch.rows,
            "label": batch.targets["label"],
            "mass": batch.scalars["jet_mass"],
            "pt": batch.scalars["jet_pt"],
            "loss": self.task.validation_loss(outputs),
            **self.task.predictions(outputs),
        }
        if not isinstance(outputs, Density):
            columns["error"] = outputs.error
            if outputs.log_variance is not None:
                columns["latent_kl"] = kl_per_latent(outputs.mean, outputs.log_variance)
        weight = self.task.jet_weight(batch)
        if weight is not None:
            columns["weight"] = weight
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column.detach().cpu().numpy())

    def compute(self, gather: Gather) -> dict[str, float]:
        columns = {name: gather(np.concatenate(parts)) for name, parts in self._columns.items()}
        order = np.argsort(columns["rows"], kind="stable")
        self._gathered = {name: column[order] for name, column in columns.items()}
        scores = [column for name, column in self._gathered.items() if name.startswith(SCORE)]
        if not all(np.isfinite(score).all() for score in scores):
            return dict.fromkeys(self.task.metric_names(), float("nan"))
        self._check_weights()
        self._decorrelate()
        return self._of_outputs() | self._of_spectrum() | self._of_signals()

    def combine(
        self, members: Sequence[Mapping[str, np.ndarray]], how: str
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """See `jetsweep.tasks.anomaly.Anomaly.combine`."""
        shared = ("rows", "label", "mass", "pt", "weight")
        self._gathered = {name: column for name, column in members[0].items() if name in shared}
        for name in (f"{SCORE}{name}" for name in self.task.config.scores):
            scores = [standardise(arrays[name], self._is_background) for arrays in members]
            self._gathered[name] = combine(scores, how)
        self._check_weights()
        self._decorrelate()
        return self._of_spectrum() | self._of_signals(), self.arrays()

    @cached_property
    def _is_background(self) -> np.ndarray:
        background = [self.task.classes.index(name) for name in self.task.config.background]
        return np.isin(self._gathered["label"], background)

    def _check_weights(self) -> None:
        """Refuse weights that leave nothing of a class that is measured."""
        jets = self._jets()
        for name in (*jets.background, *jets.signals) if jets.weight is not None else ():
            weight = jets.weight_of(jets.is_class(name))
            if weight is not None and len(weight) and not weight.sum() > 0:
                raise DataError(
                    f"the weights of {len(weight)} jets of {name!r} add up to {weight.sum():g}, expected more than 0; "
                    "set task.use_weights: false"
                )

    def _decorrelate(self) -> None:
        """Add the main score after its conditional CDF, where there is enough background for it."""
        name = self.task.config.main_score.removesuffix(DECORRELATED)
        found, chosen = self._gathered, self._is_background
        wanted = self.task.config.main_score.endswith(DECORRELATED)
        if wanted or self._jets().num_background >= _CDF_FOLDS * _CDF_JETS:
            found[f"{SCORE}{name}{DECORRELATED}"] = cross_fitted(
                found[f"{SCORE}{name}"],
                found["mass"],
                chosen,
                event=found["rows"],
                folds=_CDF_FOLDS,
                min_jets=_CDF_JETS,
                weight=found.get("weight"),
            )

    def _mean(self, name: str) -> float:
        """Mean of an array over the background, of weighted jets that of weight times value, as the loss has it."""
        chosen, weight = self._is_background, self._gathered.get("weight")
        values = self._gathered[name][chosen].astype(np.float64)
        return float(values.mean() if weight is None else (values * weight[chosen]).mean())

    def _of_outputs(self) -> dict[str, float]:
        """Loss and its parts, over the background."""
        found, chosen = self._gathered, self._is_background
        values = {"loss": self._mean("loss")}
        if "error" in found:
            values |= {"reconstruction": self._mean("error"), "kl": 0.0, "active_latents": 0.0}
        jets = self._jets()
        weight = jets.weight_of(chosen)
        if "latent_kl" in found:
            mean_L = jets.mean_kl(chosen)
            # as the loss has it
            scale = 1.0 if weight is None else float(weight.mean(dtype=np.float64))
            values["kl"] = scale * float(mean_L.sum() if self.task.kl.convention == "sum" else mean_L.mean())
            values["active_latents"] = float((mean_L > ACTIVE_NATS).sum())
        values["penalised_loss"] = values["loss"] + self._penalty()
        return values

    def _of_spectrum(self) -> dict[str, float]:
        """What the main score does to the mass spectrum of the background."""
        config, found, chosen = self.task.config, self._gathered, self._is_background
        jets = self._jets()
        score, mass = found[f"{SCORE}{config.main_score}"][chosen], found["mass"][chosen]
        values = {"mass_correlation": distance_correlation(score, mass, jets.weight_of(chosen))}
        for efficiency in config.background_efficiencies:
            (cut,) = jets.sculpting(efficiencies=(efficiency,), measure=config.mass_jsd.measure()).cuts
            values[f"mass_jsd_at_{efficiency:g}"] = cut.jsd
        return values

    def _penalty(self) -> float:
        """What training adds for the correlation with the mass, here of scores without noise, fully weighted."""
        disco, found, chosen = self.task.config.disco, self._gathered, self._is_background
        if disco is None:
            return 0.0
        values = found["error" if disco.of == "reconstruction" else "loss"][chosen]
        weight = found["weight"][chosen] if "weight" in found else None
        if weight is not None and (weight < 0).any():
            raise DataError(
                f"task.disco: the correlation needs weights of 0 and above, {int((weight < 0).sum())} of {len(weight)} "
                "background jets have others; set task.use_weights: false"
            )
        return disco.weight * distance_correlation(values, found["mass"][chosen], weight, disco.power)

    def _of_signals(self) -> dict[str, float]:
        config, jets = self.task.config, self._jets()
        values: dict[str, float] = {}
        for prefix, signals in (("", config.select_on), (REPORTED, self.task.reported)):
            rocs = {name: jets.roc(name) for name in signals if jets.is_class(name).any()}
            if not rocs:
                continue
            areas = {name: roc.area for name, roc in rocs.items()}
            sic = {name: sic_curve(roc, config.min_background).maximum.sic for name, roc in rocs.items()}
            values[f"{prefix}worst_signal_auc"] = worst_signal(areas)
            values[f"{prefix}mean_signal_auc"] = mean_signal(areas)
            values[f"{prefix}worst_signal_max_sic"] = worst_signal(sic)
            values |= {f"{prefix}auc_{name}": area for name, area in areas.items()}
            values |= {f"{prefix}max_sic_{name}": value for name, value in sic.items()}
        return values

    def _jets(self) -> AnomalyJets:
        return self.task.jets(self._gathered)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: column for name, column in self._gathered.items() if name not in ("loss", "error")}
