"""Studies of many runs: every artefact is there, and its numbers are those of metrics.json and of publications."""

from __future__ import annotations

import csv
import html
import re
import runpy
import shutil
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest
import yaml
from made_up_runs import make_up, metrics_of

from crdkit.paper.ablation import PAPER, AblationRow, ablate
from crdkit.paper.reproduce import published_values, reproduce
from crdkit.report.page import label
from crdkit.runs import sweep as sweep_module

EXAMPLES = Path(__file__).parent.parent / "examples"
CATEGORIES, SEEDS = ("biscuit", "gear"), (0, 1)
PUBLISHED = {
    ("mvtec3d", "CRD", "image_auroc"): {"biscuit": 90.0, "gear": 95.0, "mean": 92.5},
    ("mvtec3d", "CRD", "aupro100t_0.30"): {"gear": 91.0},
    ("mvtec3d", "CRD, RGB", "pixel_ap"): {"mean": 37.7},
}


def published(dataset, method, metric):
    return PUBLISHED.get((dataset, method, metric), {})


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    monkeypatch.setattr(sweep_module, "fit", make_up)


def read_csv(path):
    with path.open() as file:
        return {(row["table"], row["row"], row["column"], row["kind"]): row for row in csv.DictReader(file)}


def percent(folders, key, branch=None):
    runs = [metrics_of(folder) for folder in folders]
    return [100 * (run["branches"][branch] if branch else run["aggregate"])[key] for run in runs]


def check_artefacts(out, title, categories=CATEGORIES):
    page = (out / "comparison.html").read_text()
    assert f"<h1>{html.escape(title)}</h1>" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]*\"|url\(|@import", page)
    assert page.count("data:image/jpeg;base64,") == len(categories)
    assert (out / "comparison.md").read_text().startswith(f"# {title}\n")
    assert (out / "comparison.tex").read_text().count(r"\begin{tabular}") >= 4
    assert sorted(path.stem for path in (out / "figures").iterdir()) == sorted(categories)
    return page


def test_reproduction_stands_beside_what_was_published(tiny, tmp_path):
    study = {"method": "CRD", "published": published, "title": "CRD & friends", "seeds": SEEDS}
    reproduce(tiny, out=tmp_path, categories=CATEGORIES, **study)
    check_artefacts(tmp_path, "CRD & friends")
    cells = read_csv(tmp_path / "comparison.csv")
    tables = {
        "Images": ("image_auroc", "image_ap"),
        "Pixels": ("pixel_auroc", "pixel_ap"),
        "Regions, exact": ("aupro_0.30", "aupro_0.01"),
        "Regions, 100 thresholds": ("aupro100t_0.30", "aupro100t_0.01"),
    }
    for table, keys in tables.items():
        for key in keys:
            for category in CATEGORIES:
                values = percent([tmp_path / category / f"seed{seed}" for seed in SEEDS], key)
                cell = cells[table, category, label(key), "measured"]
                assert float(cell["value"]) == pytest.approx(mean(values), rel=1e-5)
                assert float(cell["std"]) == pytest.approx(stdev(values), rel=1e-5)
                shown = f"{mean(values):.1f} ± {stdev(values):.1f}"
                assert shown in (tmp_path / "comparison.md").read_text()
                assert f">{shown}<" in (tmp_path / "comparison.html").read_text()
                assert shown.replace("±", r"$\pm$") in (tmp_path / "comparison.tex").read_text()
    for name, value in PUBLISHED["mvtec3d", "CRD", "image_auroc"].items():
        ours = float(cells["Images", name, "I-AUROC", "measured"]["value"])
        assert float(cells["Images", name, "I-AUROC", "published"]["value"]) == value
        assert float(cells["Images", name, "I-AUROC", "difference"]["value"]) == pytest.approx(ours - value, abs=1e-3)
    sampled = label("aupro100t_0.30")
    assert cells["Regions, 100 thresholds", "biscuit", sampled, "published"]["value"] == ""
    assert float(cells["Regions, 100 thresholds", "gear", sampled, "published"]["value"]) == 91
    assert ("Regions, exact", "gear", "AU-PRO@30%", "published") not in cells  # the two kinds never share a column


def test_a_mean_over_other_categories_is_not_compared(tiny, tmp_path):
    study = {"method": "CRD", "published": published, "title": "One", "seeds": (0,)}
    reproduce(tiny, out=tmp_path, categories=["gear", "bad"], **study)
    cells = read_csv(tmp_path / "comparison.csv")
    assert cells["Images", "mean", "I-AUROC", "published"]["value"] == "92.5"
    assert cells["Images", "mean", "I-AUROC", "difference"]["value"] == ""
    assert cells["Images", "gear", "I-AUROC", "difference"]["value"] != ""
    assert "skipped: bad seed 0: " in check_artefacts(tmp_path, "One", ["gear"])


def test_ablations_show_variants_and_branches(tiny, tmp_path):
    tables = {
        "Branches": {
            "RGB": AblationRow(variant="neither", branch="rgb", published="CRD, RGB"),
            "both": AblationRow(variant="full"),
        },
        "Assistants": {"neither": AblationRow(variant="neither"), "both": AblationRow(variant="full")},
    }
    variants = {"neither": ["graph.topology=none"], "full": []}
    study = {"variants": variants, "tables": tables, "method": "CRD", "published": published, "seeds": SEEDS}
    ablate(tiny, out=tmp_path, categories=CATEGORIES, title="Ablations", **study)
    check_artefacts(tmp_path, "Ablations")
    cells = read_csv(tmp_path / "comparison.csv")
    folders = [tmp_path / "neither" / category / f"seed{seed}" for category in CATEGORIES for seed in SEEDS]
    rgb = cells["Branches", "RGB", "P-AP", "measured"]
    assert float(rgb["value"]) == pytest.approx(mean(percent(folders, "pixel_ap", branch="rgb")), rel=1e-5)
    difference = float(cells["Branches", "RGB", "P-AP", "difference"]["value"])
    assert difference == pytest.approx(float(rgb["value"]) - 37.7, abs=1e-3)
    fused = cells["Assistants", "neither", "P-AP", "measured"]
    assert float(fused["value"]) == pytest.approx(mean(percent(folders, "pixel_ap")), rel=1e-5)
    per_seed = {
        variant: [
            mean(percent([tmp_path / variant / category / f"seed{seed}" for category in CATEGORIES], "pixel_auroc"))
            for seed in SEEDS
        ]
        for variant in ("neither", "full")
    }
    changes = [after - before for before, after in zip(*per_seed.values(), strict=True)]
    change = cells["Changes", "both against neither (Assistants)", "P-AUROC", "measured"]
    assert float(change["value"]) == pytest.approx(mean(changes), rel=1e-4)
    assert float(change["std"]) == pytest.approx(stdev(changes), rel=1e-4)
    gear = cells["P-AP per category", "full", "gear", "measured"]
    folders = [tmp_path / "full" / "gear" / f"seed{seed}" for seed in SEEDS]
    assert float(gear["value"]) == pytest.approx(mean(percent(folders, "pixel_ap")), rel=1e-5)
    assert (tmp_path / "full" / "results.csv").is_file()


def test_ablations_say_what_does_not_move_as_published(tiny, tmp_path):
    """Every I-AUROC is published to rise by a point: what falls here is named, what rises is counted."""
    names = ("none", "one", "two", "three")
    parts = ("sum", "max", "normalised_sum", "product")
    variants = {name: [f"aggregation.name={part}"] for name, part in zip(names, parts, strict=True)}
    rows = {name: AblationRow(variant=name, published=f"CRD, {name}") for name in names}
    rows["three"] = AblationRow(variant="three", published="CRD, three", against="two")

    def rising(_dataset, method, metric):
        return {"mean": 90.0 + names.index(method.removeprefix("CRD, "))} if metric == "image_auroc" else {}

    study = {"variants": variants, "tables": {"Parts": rows}, "method": "CRD", "published": rising, "seeds": SEEDS}
    study["method"] = "CRD, none"
    ablate(tiny, out=tmp_path, categories=CATEGORIES, title="Ablations", **study)
    cells = read_csv(tmp_path / "comparison.csv")
    page = (tmp_path / "comparison.md").read_text()
    same = 0
    for name, base, theirs in (("one", "none", 1.0), ("two", "none", 2.0), ("three", "two", 1.0)):
        title = f"{name} against {base} (Parts)"
        assert float(cells["Changes", title, "I-AUROC", "published"]["value"]) == theirs
        rises = float(cells["Changes", title, "I-AUROC", "measured"]["value"]) > 0
        same += rises
        assert (f"I-AUROC of {title}: " in page) is not rises
    assert f"Of 3 published changes {same} have the same sign here" in page


@pytest.mark.parametrize("name", ["reproduce_mvtec3d", "reproduce_eyecandies", "ablations"])
def test_examples(name, tiny, tmp_path, monkeypatch, capsys):
    config = tmp_path / "tiny.yaml"
    values = yaml.safe_load(tiny.to_yaml())
    values["data"]["category"] = None
    config.write_text(yaml.safe_dump(values))
    out = tmp_path / "out"
    arguments = ["--data", str(tmp_path), "--preset", str(config), "--categories", *CATEGORIES, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [name, *arguments, "--seeds", "0", "1"])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert f"page: {out / 'comparison.html'}" in printed
    assert "AU-PRO@30% (100 thresholds)" in printed
    first = (out / "comparison.csv").read_bytes()
    shutil.rmtree(out / "figures")
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")  # the same command goes on
    assert (out / "comparison.csv").read_bytes() == first
    monkeypatch.setattr(sys, "argv", [name, *arguments, "training.epochs=7"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert "training.epochs is 2 there, but 7 now" in capsys.readouterr().err


def test_published_values_of_the_studies_exist(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    study = runpy.run_path(str(EXAMPLES / "ablations.py"))
    for rows in study["TABLES"].values():
        for row in rows.values():
            assert row.variant in study["VARIANTS"]
            assert row.against in ("", *rows)
            for key in PAPER:
                assert set(published_values("mvtec3d", row.published, key)) == {"mean"}, row
    for key in PAPER:
        assert len(published_values("mvtec3d", "CRD, normalised sum (Table 13)", key)) == 11
    assert len(published_values("mvtec3d", "TRD, RGB+normals", "aupro100t_0.30")) == 11
    assert published_values("eyecandies", "CRD", "image_auroc") == {}  # the body of Table 14 is missing
    assert published_values("mvtec3d", "CRD", "aupro_0.01") == {}
