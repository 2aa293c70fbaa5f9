"""The model card of a saved detector: README.md with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import crdkit
from crdkit._core.printable import printable
from crdkit.config.build import build_views
from crdkit.config.run_config import RunConfig
from crdkit.scoring.names import METRICS, label, percent

CARD = "README.md"
TAGS = ("crdkit", "anomaly-detection", "industrial-inspection", "reverse-distillation")
_MEANING = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&$])")
_LICENSE = "# license: the weights are yours to license; name one here, e.g. apache-2.0\n"


def model_card(config: RunConfig, *, metrics: Mapping[str, Any] | None = None) -> str:
    r"""Return the card of a detector; the same run gives the same bytes.

    Thresholds, which may be set anew later, are not in it, nor is a license, which is for the owner of the data and
    the teachers' weights to choose.

    Args:
        config: of the run.
        metrics: the content of its metrics.json; None if that is not known.

    Examples:
        >>> from crdkit.config import RunConfig
        >>> card = model_card(RunConfig.preset("quick").with_overrides("data.category=*bold*"))
        >>> card.splitlines()[:2], "# \\*bold\\*: an anomaly detector" in card
        (['---', 'library_name: crdkit'], True)
    """
    about = (
        f"It finds and localises defects from {_listed(_sensors(config))}, and was trained on good parts only, by "
        f"crdkit {crdkit.__version__}: Crossmodal Reverse Distillation "
        "([arXiv 2412.08949](https://arxiv.org/abs/2412.08949)).\n"
    )
    return "\n".join(
        [
            f"---\n{_front_matter(config, metrics)}---\n",
            f"# {_plain(_name(config))}: an anomaly detector\n",
            about,
            _parts(config),
            *_measured(metrics),
            _use(_sensors(config)),
        ]
    )


def _name(config: RunConfig) -> str:
    return config.data.category or (config.data.root or Path(config.data.name)).name


def _sensors(config: RunConfig) -> list[str]:
    return sorted({sensor for view in build_views(config).values() for sensor in view.sensors})


def _front_matter(config: RunConfig, metrics: Mapping[str, Any] | None) -> str:
    front: dict[str, Any] = {
        "library_name": "crdkit",
        "tags": [*TAGS, *(f"sensor:{name}" for name in _sensors(config))],
    }
    values = {key: value for key, value in _aggregate(metrics).items() if value is not None}
    if values:
        name = printable(_name(config))
        task = {"type": "anomaly-detection", "name": "Anomaly detection"}
        dataset = {"type": config.data.name, "name": name}
        found = [{"type": key, "name": label(key), "value": round(float(value), 6)} for key, value in values.items()]
        front["model-index"] = [{"name": name, "results": [{"task": task, "dataset": dataset, "metrics": found}]}]
    return _LICENSE.join(_split(yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000)))


def _split(text: str) -> tuple[str, str]:
    """Return the first line and the rest."""
    first, _, rest = text.partition("\n")
    return f"{first}\n", rest


def _aggregate(metrics: Mapping[str, Any] | None) -> Mapping[str, Any]:
    known = (metrics or {}).get("aggregate") or {}
    return {key: known[key] for key in METRICS if key in known}


def _parts(config: RunConfig) -> str:
    views = build_views(config)
    lines = ["| modality | sensors | teacher |", "|---|---|---|"]
    for name, modality in config.modalities.items():
        encoder = modality.encoder
        teacher = f"{encoder.name} {getattr(encoder, 'model', '')}".strip()
        lines.append(f"| {_plain(name)} | {_listed(views[name].sensors)} | {_plain(teacher)} |")
    size = config.data.image_size
    lines.append(f"\nEvery modality is seen at {size} x {size} pixels; results have the size of the input.\n")
    return "\n".join(lines)


def _measured(metrics: Mapping[str, Any] | None) -> list[str]:
    rows = [(label(key), percent(value)) for key, value in _aggregate(metrics).items() if value is not None]
    counts = (metrics or {}).get("counts") or {}
    trained = f"Trained on {counts['train']} good samples" if counts.get("train") else "Trained on good samples"
    if metrics is None:
        return ["## Measured\n\nThe folder of its run says what was measured.\n"]
    if not rows:
        return [f"## Measured\n\n{trained}. Nothing was measured: there was no test split, or it has no labels.\n"]
    table = "\n".join(["| metric | percent |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows)])
    tested = f", measured on {counts['test']} test samples" if counts.get("test") else ""
    return [f"## Measured\n\n{trained}{tested}; see the run's report.html for more.\n\n{table}\n"]


def _use(sensors: Sequence[str]) -> str:
    names = [printable(name).replace("`", "'") for name in sensors]
    return _USE.format(
        pairs=" ".join(f"{name}=FILE" for name in names),
        files=", ".join(f"{json.dumps(name, ensure_ascii=False)}: FILE" for name in names),
    )


_USE = """## Use

```sh
crdkit predict THIS_FOLDER {pairs}
crdkit predict THIS_FOLDER SAMPLES --out found     # a folder of samples
crdkit describe THIS_FOLDER                        # configuration and thresholds
```

```python
import crdkit

detector = crdkit.Detector.load("THIS_FOLDER")
result = detector.predict({{{files}}})
result.score, result.label, result.anomaly_map
```

`config.json` and `model.safetensors` hold no code. A detector that names code of its own is loaded only with
`allow_plugins=True`.

## Limits

It judges parts and sensors like those that it was trained on; another product, unit, resolution or light needs a
training of its own. Whether a threshold fits is for good parts of the place of use to say: `crdkit decide`.
"""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(_plain(name) for name in names)


def _plain(text: str) -> str:
    """Return a name that Markdown and HTML show as it is, in one line."""
    return _MEANING.sub(r"\\\1", printable(text)).replace("\\<", "&lt;").replace("\\>", "&gt;")
