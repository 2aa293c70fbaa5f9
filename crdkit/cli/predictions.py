"""Predictions as lines of text: one for each sample, and of a single sample also where and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crdkit._core.printable import printable
from crdkit.detector import Prediction
from crdkit.detector.files import Inputs, Predicted
from crdkit.report.wording import reasons

_LABELS = {True: "anomalous", False: "normal", None: ""}


def table(inputs: Inputs, predicted: Iterable[Predicted], *, judged: bool) -> Iterator[str]:
    """Yield a header and a line for each sample, as they come; after the line of a single sample its reasons.

    Args:
        inputs: what is predicted.
        predicted: of `predict_inputs`.
        judged: whether there are thresholds.
    """
    width = max(len(printable(inputs.path(record))) for record in inputs.records)
    header = f"{'image_path':<{width}}  pred_score"
    yield f"{header}  p_value  pred_label  regions  raised_by" if judged else header
    for record, _, found in predicted:
        line = f"{printable(inputs.path(record)):<{width}}  {found.score:<10.6g}"
        if found.p_value is not None:
            regions = "" if found.mask is None else str(len(found.regions))
            line += f"  {found.p_value:<7.3g}  {_LABELS[found.label]:<10}  {regions:<7}  {_raised_by(found)}"
        without = f"  without {', '.join(found.missing)}" if found.missing else ""
        yield f"{line.rstrip() if not without else line}{without}"
        if len(inputs.records) == 1:
            yield from reasons(found)


def _raised_by(found: Prediction) -> str:
    """Return the modality with the largest share."""
    if not found.attribution:
        return ""
    name = max(found.attribution, key=lambda name: (found.attribution or {})[name])
    return f"{name} {100 * found.attribution[name]:.0f} %"
