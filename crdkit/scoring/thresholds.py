"""The thresholds of a detector: for images and for pixels, one for every set of sensors that samples may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from crdkit.scoring.conformal import Normals, Threshold, percent

Modalities = tuple[str, ...]
"""Those that a sample has, in the order of the configuration."""
DEFAULT_RATE = 0.01
_ENOUGH = 20  # held-out normal samples: one in 21 is then called anomalous


class Decision(NamedTuple):
    """What thresholds say of one sample; each None where there are no normal samples with its modalities."""

    threshold: float | None
    pixel_threshold: float | None
    p_value: float | None


class Thresholds:
    """The image and pixel thresholds of a detector, one of each for every set of modalities that samples have.

    Args:
        scores: normal samples' image scores, by the modalities that they were scored with.
        peaks: maxima of their fused, smoothed maps: at the same rate of samples, no pixel is above the pixel threshold.
        false_alarms: the wanted rate.
        extrapolate: whether rates that are not supported are extrapolated.
        sha256: of the normal samples; empty if unknown.

    Examples:
        >>> both = ("rgb", "depth")
        >>> scores = {both: Normals(range(1, 100), rule="split")}
        >>> found = Thresholds(scores=scores, peaks={}, false_alarms=0.05)
        >>> found.decide(both, 97.0)
        Decision(threshold=95, pixel_threshold=None, p_value=0.04)
        >>> found.decide(("rgb",), 97.0).threshold
        >>> found.at(0.01).images[both].value
        99
    """

    def __init__(
        self,
        *,
        scores: Mapping[Modalities, Normals],
        peaks: Mapping[Modalities, Normals],
        false_alarms: float,
        extrapolate: bool = False,
        sha256: str = "",
    ) -> None:
        self.scores, self.peaks = dict(scores), dict(peaks)
        self.false_alarms, self.extrapolate, self.sha256 = false_alarms, extrapolate, sha256
        self.images: dict[Modalities, Threshold] = _cut(self.scores, false_alarms, extrapolate)
        """Image thresholds, by modalities."""
        self.pixels: dict[Modalities, Threshold] = _cut(self.peaks, false_alarms, extrapolate)
        """Pixel thresholds, by modalities."""

    def decide(self, modalities: Modalities, score: float) -> Decision:
        """Return the thresholds for a sample with these modalities, and the p-value of its score."""
        image, pixel = self.images.get(modalities), self.pixels.get(modalities)
        normals = self.scores.get(modalities)
        return Decision(
            threshold=None if image is None else image.value,
            pixel_threshold=None if pixel is None else pixel.value,
            p_value=None if normals is None else normals.p_value(score),
        )

    def at(self, false_alarms: float, *, extrapolate: bool = False) -> Thresholds:
        """Return the thresholds for another rate, from the same normal samples."""
        return Thresholds(
            scores=self.scores,
            peaks=self.peaks,
            false_alarms=false_alarms,
            extrapolate=extrapolate,
            sha256=self.sha256,
        )

    @property
    def complete(self) -> Modalities:
        """The largest set of modalities that there is an image threshold for; empty if there is none."""
        return max(self.images, key=len, default=())

    def describe(self) -> str:
        """Return what they are and how often they are wrong, in one line for each set of modalities."""
        lines = []
        for modalities, image in self.images.items():
            lacking = ", ".join(name for name in self.complete if name not in modalities)
            without = f"without {lacking}: " if lacking else ""
            pixel = self.pixels.get(modalities)
            pixels = "" if pixel is None else f"; for pixels {pixel.value:.6g}"
            lines.append(f"{without}{image.describe()}{pixels}")
        return "\n".join(lines)

    def facts(self) -> dict[str, str]:
        """Return what tables of a run or detector show of them, by name."""
        if not self.images:
            return {}
        complete = self.images[self.complete]
        wanted = f" ({percent(complete.asked)} needs {complete.needed} more normal samples)" if complete.needed else ""
        found = {"false alarms": f"{percent(complete.rate)}{' extrapolated' if complete.extrapolated else ''}{wanted}"}
        for modalities, image in self.images.items():
            lacking = ", ".join(name for name in self.complete if name not in modalities)
            pixel = self.pixels.get(modalities)
            pixels = "" if pixel is None else f", for pixels {pixel.value:.6g}"
            made = f"{image.normals} normal sample{'s' if image.normals > 1 else ''}, {image.rule}"
            found[f"threshold without {lacking}" if lacking else "threshold"] = f"{image.value:.6g}{pixels}; {made}"
        return found

    def summary(self) -> str:
        """Return in plain words what the threshold for whole samples is, whether it will do, and what to do if not."""
        image = self.images[self.complete]
        what = f"threshold {image.value:.6g} between good and defective"
        if note := image.note():
            more = "`crdkit decide RUN --normals FOLDER` takes more without training again"
            return f"{what}: {note}; it will do for a trial, and {more}"
        often = f"about 1 good part in {round(1 / image.rate)} ({percent(image.rate)}) raises a false alarm"
        return f"{what}: {often}, as asked for; it comes from {image.normals} good parts"

    def note(self) -> str:
        """Return what is missing for the wanted rate with all modalities; empty if it is supported."""
        return self.images[self.complete].note() if self.images else ""


def _cut(found: Mapping[Modalities, Normals], false_alarms: float, extrapolate: bool) -> dict[Modalities, Threshold]:
    return {names: normals.threshold(false_alarms, extrapolate=extrapolate) for names, normals in found.items()}


def warn_of_few(count: int) -> str:
    """Return what decisions from so few held-out normal samples mean; empty for 20 and more, and for none.

    Examples:
        >>> warn_of_few(2).partition(";")[0]
        'only 2 good parts are held out, so about 1 in 3 good parts will be called anomalous by mistake'
        >>> warn_of_few(20)
        ''
    """
    if not 0 < count < _ENOUGH:
        return ""
    parts = "1 good part is" if count == 1 else f"{count} good parts are"
    return (
        f"only {parts} held out, so about 1 in {count + 1} good parts will be called anomalous by mistake; hold out "
        f"{_ENOUGH} or more if you can (data.validation_share, or a larger validation split)"
    )
