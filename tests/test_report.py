"""The report: complete, self-contained, escaped, worst first, and the same bytes for the same data."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crdkit.errors import CrdkitError
from crdkit.report import gallery
from crdkit.report.data import ReportData
from crdkit.report.gallery import Scale, mistakes, order
from crdkit.report.marks import colour_of
from crdkit.report.page import write_report
from crdkit.report.pictures import SIZES, pictures
from crdkit.scoring import metrics
from crdkit.scoring.names import METRICS, MISSING, label, percent
from crdkit.scoring.regions import Region
from crdkit.scoring.table import Verdict

CURVES = ("histogram", "loss", "pro", "roc")
VOID = {"meta", "img", "br", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and fails on an element that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self._open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def document(self) -> dict[str, Any]:
        """What the page's program works on."""
        return dict(json.loads(self.scripts[0]))

    @property
    def pictures(self) -> list[dict[str, Any]]:
        return [json.loads(script) for script in self.scripts[1:-1]]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def make(
    modalities: tuple[str, ...] = ("rgb", "depth"), labels: list[int] | None = None, side: int = 24, **changes: Any
) -> ReportData:
    """Random samples with a bright blob where the anomalous ones have their mask."""
    generator = np.random.default_rng(0)
    labels = [0, 0, 0, 1, 1, 1] if labels is None else labels
    count = len(labels)
    masks = np.zeros((count, side, side), dtype=bool)
    masks[np.array(labels) == 1, 4:9, 5:12] = True
    branches = {name: (generator.random((count, side, side)) + masks).astype(np.float32) for name in modalities}
    fused = np.mean(list(branches.values()), axis=0)
    types = ["good" if not value else ("hole", "scratch")[index % 2] for index, value in enumerate(labels)]
    found: dict[str, Any] = {
        "aggregate": metrics.evaluate(fused, masks, labels=np.array(labels)),
        "branches": {name: metrics.evaluate(maps, masks, labels=np.array(labels)) for name, maps in branches.items()},
        "defect_types": {"hole": {"image_auroc": 0.4321, "aupro_0.30": None}},
        "seconds": {"load": 1.0, "teacher": 2.0, "train": 33.25, "evaluate": 4.0, "total": 40.25},
        "counts": {"train": 10, "validation": 2, "test": count},
        "environment": {"device": "cpu", "torch": "2.8.0", "crdkit": "0.1.0", "python": "3.11.9"},
        "parameters": {"student": 1234567, "teacher": 7654321},
    }
    shapes = {name: (3 if index % 2 == 0 else 1, side, side) for index, name in enumerate(modalities)}
    data = ReportData(
        title="cable_gland",
        subtitle="crd-mvtec3d, 2025-01-01",
        metrics=found,
        config_yaml="data:\n  category: cable_gland\n",
        sample_ids=[f"{name}/{index:03d}" for index, name in enumerate(types)],
        defect_types=types,
        labels=np.array(labels),
        scores=fused.max(axis=(1, 2)),
        maps=fused,
        branch_maps=branches,
        masks=masks,
        inputs={name: generator.random((count, *shape)).astype(np.float32) for name, shape in shapes.items()},
        history=[{"epoch": epoch, "loss": 3.0 / epoch, "seconds": 0.1} for epoch in (1, 2, 3)],
    )
    return dataclasses.replace(data, **changes)


def without_values(data: ReportData) -> dict[str, Any]:
    """The same metrics with None for every value, as unlabelled data has them."""
    empty = dict.fromkeys(METRICS)
    return {**data.metrics, "aggregate": empty, "branches": dict.fromkeys(data.branch_maps, empty), "defect_types": {}}


def unlabelled() -> ReportData:
    data = make(labels=[0, 1])
    return dataclasses.replace(data, labels=None, masks=None, metrics=without_values(data))


def all_normal() -> ReportData:
    data = make(labels=[0, 0])
    return dataclasses.replace(data, metrics=without_values(data))


def constant() -> ReportData:
    data = make(labels=[0, 1])
    flat = np.ones_like(data.maps)
    return dataclasses.replace(
        data, maps=flat, branch_maps=dict.fromkeys(data.branch_maps, flat), scores=np.ones(len(flat))
    )


CASES: dict[str, Callable[[], ReportData]] = {
    "one modality": lambda: make(("rgb",), labels=[0, 1, 1]),
    "six modalities": lambda: make(("rgb", "depth", "normals", "infrared", "uv", "mask"), labels=[0, 1]),
    "unlabelled": unlabelled,
    "labels without masks": lambda: make(masks=None),
    "one sample": lambda: make(labels=[1]),
    "all normal": all_normal,
    "all anomalous": lambda: make(labels=[1, 1]),
    "constant maps": constant,
    "no history, empty metrics": lambda: make(history=[], metrics={}),
    "bytes, wide": lambda: make(inputs={"rgb": np.full((6, 3, 20, 50), 200, dtype=np.uint8)}),
    "odd names": lambda: make(("_rgb", "fused"), labels=[0, 1], defect_types=["good", "$\\frac{1}$ \u6b20\u9665 <i>"]),
    "diverged": lambda: make(history=[{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": float("nan")}]),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_data_gives_a_self_contained_page(name: str, tmp_path: Path) -> None:
    data = CASES[name]()
    write_report(data, tmp_path / "new" / "report.html")
    text = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(target.startswith("#") for target in page.values("src") + page.values("href"))
    assert not re.search(r"https?://|//cdn|@import|url\((?!#)|fetch\(|XMLHttp", text)
    assert not {"link", "iframe", "object", "img"} & set(page.tags)
    assert "default-src 'none'" in page.values("content")[-1]
    assert len(page.values("id")) == len(set(page.values("id")))
    assert sorted(sample["id"] for sample in page.document["samples"]) == sorted(data.sample_ids)
    assert len(page.pictures) == len(data.sample_ids)
    for picture in page.pictures:
        assert [opened(part).format for part in picture["inputs"]] == ["JPEG"] * len(data.inputs)
        assert [opened(part).mode for part in picture["runs"][0]["maps"]] == ["L"] * (len(data.branch_maps) + 1)
    assert "nan" not in page.text.split()
    assert "None" not in page.text
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]


def test_every_number_is_shown(tmp_path: Path) -> None:
    data = make(notes=["two samples were skipped"])
    extra = {"aupro100t_0.30": 0.1234, "custom": 0.5678}
    data = dataclasses.replace(data, metrics={**data.metrics, "aggregate": {**data.metrics["aggregate"], **extra}})
    write_report(data, tmp_path / "report.html")
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    for values in (data.metrics["aggregate"], *data.metrics["branches"].values()):
        assert all(label(key) in text and f" {percent(value)}" in text for key, value in values.items())
    for expected in ("12.3", "56.8", "43.2", "33.2", "40.2", "1,234,567", "7,654,321", "2.8.0", "3.11.9"):
        assert expected in text
    for expected in ("two samples were skipped", "category: cable_gland", "6 samples: 3 normal, 3 anomalous"):
        assert expected in text


def test_what_cannot_be_computed_is_a_dash_with_a_footnote(tmp_path: Path) -> None:
    write_report(unlabelled(), tmp_path / "report.html")
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert text.count(MISSING) == len(METRICS) * 3 + 1
    assert f"{MISSING} cannot be computed" in text
    assert percent(float("nan")) == percent(None) == MISSING
    complete = make()
    write_report(
        dataclasses.replace(complete, metrics={**complete.metrics, "defect_types": {}}), tmp_path / "complete.html"
    )
    assert "cannot be computed" not in (tmp_path / "complete.html").read_text(encoding="utf-8")


def test_all_text_is_escaped(tmp_path: Path) -> None:
    bad = "<b>&\"'</script><script>"
    data = make((bad, "depth"), labels=[0, 1], title=bad, subtitle=bad, config_yaml=bad, notes=[bad])
    named = {**data.metrics, "defect_types": {bad: {bad: 0.5}}, "environment": {bad: bad}}
    data = dataclasses.replace(data, metrics=named, sample_ids=[bad, "good/001"], defect_types=["good", bad])
    data = dataclasses.replace(data, history=[{"epoch": 1, "loss": 1.0, f"loss{bad}": 2.0}])
    write_report(data, tmp_path / "report.html", figures=tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "<b>" not in text
    assert page.tags.count("script") == text.count("<script") == text.count("</script>") == 4
    assert page.text.count(bad) >= 10
    assert {sample["id"] for sample in page.document["samples"]} == {bad, "good/001"}
    assert page.document["runs"][0]["layers"] == ["fused", bad, "depth"]


def test_worst_mistakes_come_first(tmp_path: Path) -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.8, 0.15, 0.75, 0.9])
    # 4 lies below 3 of 4 normals, 3 above 2 of 3 anomalous, 1 and 2 above 1 of 3, 5 below 1 of 4; 0 and 6 are right
    assert mistakes(labels, scores) == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 3 / 4, 1 / 4, 0])
    assert order(labels, scores) == [4, 3, 2, 1, 5, 0, 6]
    assert order(None, scores) == order(np.zeros(7), scores) == [6, 3, 5, 2, 1, 4, 0]
    assert order(np.ones(7), scores) == [0, 4, 1, 2, 5, 3, 6]
    assert mistakes(np.array([0, 1]), np.array([0.5, 0.5])) == pytest.approx([0.5, 0.5])

    data = make(labels=labels.tolist(), scores=scores)
    write_report(data, tmp_path / "report.html", gallery_size=4)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    samples = page.document["samples"]
    assert [sample["id"] for sample in samples] == [data.sample_ids[index] for index in (4, 3, 2, 1, 5, 0, 6)]
    assert [sample["label"] for sample in samples] == [1, 0, 0, 0, 1, 0, 1]
    ranks = [sample["runs"][0]["rank"] for sample in samples]
    assert ranks[:2] == ["ranked below 75% of the normal samples", "ranked above 67% of the anomalous samples"]
    assert ranks[-1] == "ranked above every normal sample"
    assert len(page.pictures) == 4


def test_same_data_same_bytes_whatever_the_settings(tmp_path: Path) -> None:
    import matplotlib

    data = make(("rgb",), labels=[0, 1])
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        write_report(data, tmp_path / "a.html", figures=tmp_path / "a")
        assert matplotlib.rcParams["font.size"] == 30
    write_report(make(("rgb",), labels=[0, 1]), tmp_path / "b.html", figures=tmp_path / "b")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("case", "missing"), [(CASES["one modality"], ()), (unlabelled, ("roc", "pro")), (all_normal, ("roc", "pro"))]
)
def test_figures_are_written(case: Any, missing: tuple[str, ...], tmp_path: Path) -> None:
    from PIL import Image

    write_report(case(), tmp_path / "report.html", figures=tmp_path / "figures")
    names = {f"{curve}.{kind}" for curve in CURVES if curve not in missing for kind in ("png", "svg")}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names | {"gallery.png"}
    with Image.open(tmp_path / "figures" / "gallery.png") as gallery:
        assert gallery.format == "PNG"
        assert min(gallery.size) > 200


def test_an_older_report_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    write_report(make(labels=[0, 1]), path)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("budget", [400_000, 120_000, 60_000])
def test_pictures_get_smaller_until_they_fit(budget: int) -> None:
    data = make(labels=[0, 1] * 4, side=300)
    made = pictures(data, range(8), budget=budget)
    assert sum(len(json.dumps(picture)) for picture in made) <= budget
    sides = {opened(text).size for picture in made for text in picture["inputs"]}
    assert sides == {(size.side, size.side) for size in SIZES if size.side == max(sides)[0]}
    assert pictures(data, [2], budget=1)[0]["maps"]  # the smallest are made, whatever the budget


def test_a_sample_that_lacks_a_sensor_shows_nothing_of_it(tmp_path: Path) -> None:
    data = make(labels=[0, 1], present={"rgb": np.array([True, True]), "depth": np.array([True, False])})
    write_report(data, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    by_id = {sample["id"]: place for place, sample in enumerate(page.document["samples"])}
    for index, missing in ((0, []), (1, ["depth"])):
        place = by_id[data.sample_ids[index]]
        judged = page.document["samples"][place]["runs"][0]
        assert judged["lacks"] == missing
        assert [score is None for score in judged["scores"]] == [False, bool(missing)]
        shown = page.pictures[place]
        assert [part is None for part in shown["inputs"]] == [False, bool(missing)]
        assert [part is None for part in shown["runs"][0]["maps"]] == [False, False, bool(missing)]


def test_colour_scale_is_common_and_survives_constant_maps() -> None:
    maps = np.concatenate([np.zeros((1, 10, 10)), np.full((1, 10, 10), 4.0)])
    scale = Scale.of(maps)
    assert (scale.low, scale.high) == (2.0, 4.0)
    assert scale(np.array([0.0, 3.0, 9.0])) == pytest.approx([0.0, 0.5, 1.0])
    assert Scale.of(np.ones((2, 4, 4)))(np.ones((4, 4))).max() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.zeros(5)}, "scores holds 5 samples, but sample_ids holds 6"),
        ({"inputs": {"rgb": np.zeros((6, 2, 8, 8))}}, r"inputs\['rgb'\] \(shape \(6, 2, 8, 8\)\) must be"),
        ({"sample_ids": []}, "sample_ids is empty"),
    ],
)
def test_data_that_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CrdkitError, match=message):
        make(**changes)


def test_import_is_light() -> None:
    import subprocess
    import sys

    code = "import sys, crdkit.report.page; print([m for m in ('matplotlib', 'jinja2', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_gallery_shows_what_was_decided(tmp_path):
    mask = np.zeros((24, 24), dtype=bool)
    mask[3:10, 4:13] = True
    region = Region(box=(3, 4, 10, 13), area=63, peak=(5, 6), score=2.0, modality="depth")
    normal = Verdict(
        label=False,
        threshold=1.0,
        p_value=0.5,
        mask=np.zeros_like(mask),
        pixel_threshold=1.5,
        regions=(),
        attribution=None,
        attribution_paths=None,
        attribution_sensors=None,
    )
    seen = dataclasses.replace(normal, label=True, p_value=0.25, attribution={"rgb": 0.24, "depth": 0.76})
    found = dataclasses.replace(seen, mask=mask, regions=[region])
    unknown = dataclasses.replace(normal, label=None, p_value=None, mask=None)
    data = make(decided=[normal, normal, unknown, found, seen, found])
    write_report(data, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    judged = [sample["runs"][0] for sample in page.document["samples"]]
    words = [one["words"] for one in judged]
    assert words.count("decided normal (p 0.5)") == 2
    assert words.count("decided anomalous (p 0.25), 1 region above the pixel threshold") == 2
    assert words.count("decided anomalous (p 0.25), no region above the pixel threshold") == 1
    assert words.count("") == 1
    assert [one["raised"] for one in judged].count("raised by depth 76 %, rgb 24 %") == 3
    assert [one["shares"] for one in judged].count([0.24, 0.76]) == 3
    assert page.document["runs"][0]["threshold"] == 1.0
    assert page.document["runs"][0]["why"] == "decided"
    drawn = [picture["runs"][0]["regions"] for picture in page.pictures]
    assert sorted(drawn) == [[], [], [], [], *[[["M4 3h9v7h-9z", 1]]] * 2]
    assert [one["regions"] for one in judged].count([[3, 4, 10, 13, 63, "2", 1]]) == 2
    for index, outlined in ((3, True), (4, False)):
        (*_, (_, fused, text)) = gallery._images(data, index, scales=[Scale(0, 1)] * 3, side=160)
        assert (fused == colour_of("depth", ["rgb", "depth"])).all(axis=2).any() == outlined
        assert ("1 region outlined" in text) == outlined
    write_report(make(), tmp_path / "before.html")
    before = Page((tmp_path / "before.html").read_text(encoding="utf-8")).document
    assert before["runs"][0]["why"] == "best"
    assert all(sample["runs"][0]["words"] == "" for sample in before["samples"])
