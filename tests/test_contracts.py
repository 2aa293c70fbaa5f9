"""One contract per kind, over every registered name: a new entry is tested without a new test."""

from __future__ import annotations

import pytest

from crdkit import testing
from crdkit.config.catalogue import REGISTRIES, catalogue
from crdkit.data.synthetic import LAYOUTS


@pytest.mark.parametrize(("kind", "name"), testing.registered())
def test_entry_keeps_the_contract_of_its_kind(kind, name):
    if kind == "dataset" and name not in LAYOUTS:
        pytest.fail(f"dataset {name!r} has no synthetic writer: add one to crdkit.data.synthetic.LAYOUTS: {[*LAYOUTS]}")
    testing.check(kind, name)


@pytest.mark.parametrize("kind", REGISTRIES)
def test_catalogue_gives_every_option(kind):
    for entry in catalogue(kind)[kind]:
        assert set(entry.options) == set(REGISTRIES[kind].get(entry.name).Config.model_fields) - {"name"}


OTHER_OPTIONS = [
    ("filter", "bottleneck", {"size": 1}),
    ("filter", "bottleneck", {"size": 5}),
    ("amplifier", "inverted_bottleneck", {"expansion": 4}),
    *(
        ("aggregation", "tail_norm", {"scale": scale, "power": power})
        for scale in ("tail", "std")
        for power in (1, 3.5, 64, None)
    ),
    ("aggregation", "tail_norm", {"quantile": 0.5}),
    ("aggregation", "tail_norm", {"quantile": 0.99999}),
    *(("score", "relative_maximum", {"power": power, "over": over}) for power in (0, 1) for over in ("object", "all")),
    *(("score", "top_mean", {"share": share, "over": over}) for share in (1e-6, 1) for over in ("object", "all")),
]


@pytest.mark.parametrize(("kind", "name", "options"), OTHER_OPTIONS, ids=str)
def test_other_options_keep_it_too(kind, name, options):
    testing.check(kind, name, options)
