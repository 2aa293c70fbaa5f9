"""From a decision to its reasons: the regions of a mask, and which modality raised an alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F

from crdkit._core.branches import by_branch, side_by_side
from crdkit._core.progress import track
from crdkit.detector._decide import Decides
from crdkit.detector._engine import Engine
from crdkit.detector._predictor import judge
from crdkit.detector.prediction import Prediction
from crdkit.errors import ConfigError
from crdkit.model.paths import without_amplifiers
from crdkit.report.gallery import most_telling
from crdkit.scoring.aggregations import Aggregation
from crdkit.scoring.attribution import Attribution, attribute
from crdkit.scoring.regions import Region, find_regions
from crdkit.scoring.scorer import Maps
from crdkit.scoring.table import Verdict
from crdkit.views.split import LoadedSplit

ATTRIBUTED = 200
"""The most samples of a split, worst mistakes first, whose alarms are attributed: each takes a prediction's time."""
WhenAttributed = Literal["alarms", "always", "never"]
"""Which predictions say which modality raised them."""


def regions_of(found: Prediction, aggregation: Aggregation) -> list[Region]:
    """Return the regions of a prediction's mask; none without a mask, and none of an empty one, at almost no cost.

    How surprised a modality is follows from its smoothed map, and only at the pixels of the mask.
    """
    mask = found.mask
    if mask is None or not mask.any():
        return []
    device, held = aggregation.mean.device, np.flatnonzero(mask)
    maps = {
        name: torch.from_numpy(found.maps[name].reshape(-1)[held]).to(device)[None, None]
        if name in found.maps
        else torch.zeros(1, 1, len(held), device=device)  # of a missing modality: not asked for
        for name in aggregation.modalities
    }
    surprise = {}
    for name, values in aggregation.surprise(maps).items():
        if name in found.maps:
            surprise[name] = np.zeros(mask.shape, np.float32)
            surprise[name].reshape(-1)[held] = values.cpu().numpy().ravel()
    return find_regions(mask, found.anomaly_map, surprise)


@torch.inference_mode()
def attribution_of(found: Prediction, views: Mapping[str, torch.Tensor], engine: Engine) -> Attribution:
    """Return which modalities raised a sample's fused map, in its highest region or, without one, at the map's peak.

    The networks run once more, as PyTorch has them: a CUDA graph and compiled networks return no map without an
    amplifier, and stay as fast as they are.

    Args:
        found: of the sample, with its regions.
        views: of the sample, (1, C, S, S) by modality.
        engine: that predicted it.
    """
    scorer, names = engine.scorer, list(found.maps)
    place = scorer.smoothing(_place(found, size=scorer.size).to(engine.device))
    with side_by_side(len(engine.branches), engine.device) as each:
        features = by_branch(each, lambda name: engine.teachers[name](views[name].to(engine.device)), engine.branches)

        def compare(name: str) -> tuple[list[str], torch.Tensor]:
            sources, output = without_amplifiers(engine.branches[name], features, found.missing)
            teacher = [level.expand(len(output[0]), -1, -1, -1) for level in features[name]]
            maps = scorer.raw_maps({name: teacher}, {name: output})[name]
            # a decoder alone imitates less well everywhere: that is not what the amplifier brought to this place
            return sources, maps + (maps[:1] - maps).flatten(1).median(dim=1).values[:, None, None]

        compared = by_branch(each, compare, names)
    return attribute(
        scorer.aggregation,
        {name: maps[0] for name, (_, maps) in compared.items()},
        without_amplifier={
            name: dict(zip(sources, maps[1:], strict=True)) for name, (sources, maps) in compared.items()
        },
        place=place,
    )


def _place(found: Prediction, *, size: int) -> torch.Tensor:
    """Return where the alarm is, (S, S): the highest region's share of each pixel, or that of the map's peak."""
    if found.regions and found.mask is not None:
        inside = found.regions[0].inside(found.mask)
    else:
        inside = np.zeros(found.anomaly_map.shape, dtype=bool)
        inside.reshape(-1)[found.anomaly_map.argmax()] = True
    return F.interpolate(torch.from_numpy(inside).float()[None, None], size=(size, size), mode="area")[0, 0]


class Explains(Decides):
    """The part of a detector that says where an alarm is, and which modality raised it."""

    _attribution: WhenAttributed = "alarms"

    @property
    def attribution(self) -> WhenAttributed:
        """Which predictions say which modality raised them: those of "alarms", "always" all of them, "never" none.

        It takes the networks' time once more. It can be set, and is not saved.
        """
        return self._attribution

    @attribution.setter
    def attribution(self, value: WhenAttributed) -> None:
        if value not in get_args(WhenAttributed):
            raise ConfigError(f"attribution (={value!r}) must be one of {', '.join(get_args(WhenAttributed))}")
        self._attribution = value

    def _finish(
        self, found: Sequence[Prediction], views: Mapping[str, torch.Tensor], engine: Engine
    ) -> list[Prediction]:
        """Return the predictions of a batch, judged, with regions, and with attributions where they are due.

        Args:
            found: the predictions, not judged.
            views: of the batch, (B, C, S, S) by modality.
            engine: that predicted it.
        """
        finished = []
        for row, prediction in enumerate(self._with_regions(found, engine.scorer.aggregation)):
            due = self._attribution == "always" or (self._attribution == "alarms" and prediction.label)
            one = {name: view[row : row + 1] for name, view in views.items()}
            finished.append(self._attributed(prediction, one, engine) if due else prediction)
        return finished

    def _with_regions(self, found: Sequence[Prediction], aggregation: Aggregation) -> list[Prediction]:
        judged = judge(found, self.thresholds)
        return [replace(prediction, regions=regions_of(prediction, aggregation)) for prediction in judged]

    def _attributed(self, found: Prediction, views: Mapping[str, torch.Tensor], engine: Engine) -> Prediction:
        shares = attribution_of(found, views, engine)
        return replace(
            found,
            attribution=shares.modalities,
            attribution_paths=shares.paths,
            attribution_sensors=shares.sensors({name: view.sensors for name, view in self.views.items()}),
        )

    def decide_split(self, split: LoadedSplit, maps: Maps) -> list[Verdict] | None:
        """Return what is decided of a scored split; None without thresholds.

        Alarms among the `ATTRIBUTED` worst mistakes and closest calls are attributed.

        Args:
            split: the samples.
            maps: of `score`.
        """
        if self.thresholds is None:
            return None
        shown = most_telling(split.labels, maps.pred_score, size=ATTRIBUTED)
        fused, scores = maps.anomaly_map.cpu().numpy(), maps.pred_score.tolist()
        branches = {name: values.cpu().numpy() for name, values in maps.branches.items()}
        has = {name: None if maps.present is None else maps.present[name].tolist() for name in branches}
        found = []
        for row, record in enumerate(split.records):
            seen = {name: values[row] for name, values in branches.items() if (has[name] or [True] * len(fused))[row]}
            found.append(
                Prediction(
                    anomaly_map=fused[row],
                    score=scores[row],
                    maps=seen,
                    scores={name: float(values.max()) for name, values in seen.items()},
                    missing=tuple(name for name in branches if name not in seen),
                    image_path=str(record.image_path),
                )
            )
        engine = self._engine()
        decided = self._with_regions(found, engine.scorer.aggregation)
        alarms = [row for row in shown if decided[row].label]
        for row in track(alarms, description="attributing alarms", total=len(alarms)):
            decided[row] = self._attributed(decided[row], split.batch(slice(row, row + 1))[0], engine)
        names = [part.name for part in fields(Verdict)]
        return [Verdict(**{name: getattr(prediction, name) for name in names}) for prediction in decided]
