from __future__ import annotations

import sys
from typing import Literal

import pytest

from crdkit._core.registry import Registry
from crdkit.errors import ConfigError, DuplicateNameError, UnknownNameError
from crdkit.scoring.aggregations import Aggregation, AggregationConfig, aggregations


@pytest.fixture
def registry():
    return Registry("aggregation", package="crdkit.scoring.aggregations")


def part(module="somewhere", name="Part"):
    return type(name, (Aggregation,), {"__module__": module})


def test_unknown_name_gives_nearest_match_and_list():
    with pytest.raises(
        UnknownNameError, match=r"unknown aggregation 'normalized_sum' - did you mean 'normalised_sum'\?.*known: "
    ):
        aggregations.get("normalized_sum")


def test_duplicate_names_both_modules(registry):
    registry.register("mine")(part("first.module"))
    with pytest.raises(DuplicateNameError, match=r"'mine'.*first\.module\.Part.*second\.module\.Part"):
        registry.register("mine")(part("second.module"))


def test_registering_a_reloaded_module_again_is_no_conflict(registry):
    registry.register("mine")(part("first.module"))
    reloaded = part("first.module")
    registry.register("mine")(reloaded)
    assert registry.get("mine") is reloaded


def test_every_builtin_is_found_without_importing_it_first():
    from crdkit.config.catalogue import REGISTRIES

    assert {kind: bool(registry.names()) for kind, registry in REGISTRIES.items()} == dict.fromkeys(REGISTRIES, True)
    assert "normalised_sum" in aggregations
    assert list(aggregations) == aggregations.names()


def test_a_missing_optional_dependency_hides_no_other_name(tmp_path, monkeypatch):
    package = tmp_path / "parts"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from crdkit._core.registry import Registry\nparts = Registry('part', package=__name__)\n"
    )
    (package / "broken.py").write_text("import a_package_that_is_not_installed\n")
    (package / "sound.py").write_text(
        "from parts import parts\nfrom crdkit._core.registry import Component\n"
        "@parts.register('sound')\nclass Sound(Component):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        from parts import parts

        assert parts.get("sound").__name__ == "Sound"
        with pytest.raises(UnknownNameError, match=r"parts\.broken could not be imported: No module named 'a_package"):
            parts.get("broken")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "parts"]:
            del sys.modules[name]


def test_build_config_takes_a_name_a_mapping_or_a_config(registry):
    class Options(AggregationConfig):
        name: Literal["mine"] = "mine"
        power: int = 2

    cls = part()
    cls.Config = Options
    registry.register("mine")(cls)
    assert registry.build_config("mine") == registry.build_config({"name": "mine", "power": 2}) == Options()
    assert registry.build_config(Options(power=3)).power == 3
    with pytest.raises(ConfigError, match=r"unknown key 'pwoer' - did you mean 'power'\? known: name, power"):
        registry.build_config({"name": "mine", "pwoer": 1})
    for value in (3, {"power": 1}, None):
        with pytest.raises(ConfigError, match="must be a name or a mapping with the key 'name'"):
            registry.build_config(value)
