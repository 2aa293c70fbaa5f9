"""Decoded splits on disk: equal bits, missed when anything changes, and never in the way."""

from __future__ import annotations

import errno
import functools
import importlib
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

import crdkit.views._sources
from crdkit import fit
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_views
from crdkit.data.synthetic import LAYOUTS
from crdkit.errors import BadSampleWarning, CacheWarning, DataError
from crdkit.views import views
from crdkit.views.split import list_split, load_split

CPU = torch.device("cpu")


@pytest.fixture
def kept(tiny, scans, tmp_path):
    """The tiny run on a copy of its data, with a cache."""
    shutil.copytree(scans, tmp_path / "data")
    return tiny.with_overrides(f"data.root={tmp_path / 'data'}", f"data.cache={tmp_path / 'cache'}")


def load(config, split="test", *, incomplete=False):
    dataset, views = build_dataset(config), build_views(config)
    records = list_split(dataset, split, views=views, incomplete=incomplete)
    return load_split(dataset, split, views=views, records=records)


def entries(config):
    return sorted(config.data.cache.glob("*.safetensors"))


def same(one, other):
    assert one.records == other.records
    assert one.skipped == other.skipped
    assert one.inputs.keys() == other.inputs.keys()
    assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in one.inputs)
    assert torch.equal(one.masks, other.masks)
    assert one.labels.tolist() == other.labels.tolist()
    assert (one.present is None) == (other.present is None)
    for name, has in (one.present or {}).items():
        assert torch.equal(has, other.present[name])


def good(split):
    return [number for number, record in enumerate(split.records) if record.defect_type == "good"]


def image(config, name="good/rgb/000.png"):
    return config.data.root / "biscuit/test" / name


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_cached_split_has_the_same_bits_and_reads_no_file(kept, split, monkeypatch):
    decoded = load(kept, split)
    monkeypatch.setattr(type(build_dataset(kept)), "read", None)
    cached = load(kept, split)
    same(decoded, cached)
    assert (decoded.cached, cached.cached, len(entries(kept))) == (False, True, 1)


def test_without_a_folder_nothing_is_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("crdkit.views._cache.CacheEntry", None)
    assert not load(tiny).cached
    assert tiny.data.cache is None


def test_the_environment_variable_names_a_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("CRDKIT_CACHE", str(tmp_path / "shared"))
    assert [load(tiny).cached for _ in range(2)] == [False, True]
    assert len(list((tmp_path / "shared").iterdir())) == 1


@pytest.mark.parametrize(
    "override",
    ["data.image_size=32", "data.missing=zero", "modalities.depth.closing=2", "modalities.depth=null"],
)
def test_an_option_that_changes_values_misses(kept, override):
    load(kept)
    assert not load(kept.with_overrides(override)).cached
    assert len(entries(kept)) == 2


def test_an_option_that_changes_none_hits(kept):
    load(kept)
    other = ("data.workers=1", "data.on_bad_sample=skip", "data.cache_gib=3", "training.seed=9", "graph.topology=none")
    assert load(kept.with_overrides(*other)).cached


def test_a_changed_file_misses(kept):
    load(kept)
    file = image(kept)
    times = file.stat()
    shutil.copy(image(kept, "good/rgb/001.png"), file)
    changed = load(kept)
    assert not changed.cached
    first, second = (changed.inputs["rgb"][number] for number in good(changed)[:2])
    assert torch.equal(first, second)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps times
    assert not load(kept).cached
    for name in ("rgb/002.png", "xyz/002.tiff", "gt/002.png"):
        image(kept, f"good/{name}").unlink()
    assert len(load(kept)) == len(changed) - 1


def test_other_code_misses(kept, monkeypatch):
    load(kept)
    monkeypatch.setattr(crdkit.views._sources, "_hash_of_rooms", lambda: "another version")
    assert not load(kept).cached


def test_only_the_code_that_views_depend_on_counts(tmp_path):
    package = tmp_path / "crdkit"
    shutil.copytree(Path(crdkit.views.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    hash_of = crdkit.views._sources._hash_of_rooms.__wrapped__
    before = hash_of(package)
    unneeded = ("check.py", "agreement/__init__.py", "importing/_words.py", "synthetic/scene.py")
    for elsewhere in ("cli/app.py", "training/loop.py", "model/crd.py", *(f"data/{name}" for name in unneeded)):
        (package / elsewhere).write_text((package / elsewhere).read_text() + "# other\n")
    assert hash_of(package) == before
    needed = ("images.py", "adapters/mvtec3d.py", "_formats/png.py", "_own_data/table.py", "registration/_warp.py")
    for here in ("views/depth.py", "views/_background.py", *(f"data/{name}" for name in needed)):
        (package / here).write_text((package / here).read_text() + "# other\n")
        assert hash_of(package) != before
        before = hash_of(package)


PLUGIN = """
import torch
from crdkit.views import View, ViewConfig, views
{imports}

class CachedConfig(ViewConfig):
    name: str = "cached_example"

@views.register("cached_example")
class Cached(View):
    Config = CachedConfig
    sensors = ("rgb",)

    def __call__(self, sensors, *, image_size):
        {inside}
        return torch.full((1, image_size, image_size), float({value}))
"""


@pytest.fixture
def plugged(kept, tmp_path, monkeypatch):
    """A function that writes a plug-in, and one that loads the split as a process of its own would."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which sees no edit of equal size in the same second
    monkeypatch.setattr(views, "_entries", dict(views._entries))
    folder = tmp_path / "parts"
    folder.mkdir()

    def write(imports="", inside="", value=0.25, *, file="cached_example.py"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(PLUGIN.format(imports=imports, inside=inside, value=value))
        return folder

    def start(name=str(folder / "cached_example.py")):
        for loaded in [name for name, module in sys.modules.items() if is_in(tmp_path, module)]:
            del sys.modules[loaded]
        sys.path[:] = [entry for entry in sys.path if entry != str(folder)]
        views._entries.pop("cached_example", None)
        importlib.invalidate_caches()
        return kept.with_overrides(f"plugins=[{name}]", "modalities.depth.name=cached_example")

    yield write, start
    for loaded in [name for name, module in sys.modules.items() if is_in(tmp_path, module)]:
        del sys.modules[loaded]


def is_in(folder, module):
    return (getattr(module, "__file__", None) or "").startswith(str(folder))


def edit(file, text):
    """Write a file anew; not within the tick of the clock that the first version was written in."""
    time.sleep(0.02)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def shown(split):
    assert split.inputs["depth"].unique().numel() == 1
    return float(split.inputs["depth"].unique())


def test_the_code_of_a_plugin_and_of_what_it_imports_counts(plugged):
    write, start = plugged
    folder = write("from cached_helper import value", value="value()")
    edit(folder / "cached_helper.py", "def value():\n    return 0.25\n")
    assert [load(start()).cached for _ in range(2)] == [False, True]
    for name in ("cached_example.py", "cached_helper.py"):
        edit(folder / name, (folder / name).read_text() + "# other\n")
        assert [load(start()).cached for _ in range(2)] == [False, True]


WAYS = {
    "a constant": ("from cached_helper import VALUE", "", "VALUE", "cached_helper.py"),
    "everything": ("from cached_helper import *", "", "VALUE", "cached_helper.py"),
    "a module's constant": ("import cached_helper", "", "cached_helper.VALUE", "cached_helper.py"),
    "inside a function": ("", "from cached_helper import VALUE", "VALUE", "cached_helper.py"),
    "a package in the folder": ("from cached_pack.deep import VALUE", "", "VALUE", "cached_pack/deep.py"),
    "a package beside the folder": ("from cached_beside.deep import VALUE", "", "VALUE", "../cached_beside/deep.py"),
    "a folder without __init__": ("import cached_space.deep as d", "", "d.VALUE", "cached_space/deep.py"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_constant_that_a_plugin_imports_counts(plugged, tmp_path, monkeypatch, way):
    monkeypatch.syspath_prepend(tmp_path)  # for what lies beside the folder of the plug-in
    write, start = plugged
    imports, inside, value, file = WAYS[way]
    folder = write(imports, inside, value)
    if file.count("/") and "space" not in file:
        edit((folder / file).parent / "__init__.py", "")
    edit(folder / file, "VALUE = 0.25\n")
    assert [(shown(split), split.cached) for split in (load(start()), load(start()))] == [(0.25, False), (0.25, True)]
    edit(folder / file, "VALUE = 0.75\n")
    assert [(shown(split), split.cached) for split in (load(start()), load(start()))] == [(0.75, False), (0.75, True)]


def test_what_an_installed_plugin_imports_counts_and_of_a_library_its_version(plugged, tmp_path, monkeypatch):
    site = tmp_path / "parts" / "site-packages"
    monkeypatch.syspath_prepend(site)
    write, start = plugged
    imports = "from .constants import VALUE\nfrom cached_library import FACTOR"
    write(imports, value="VALUE * FACTOR", file="site-packages/cached_pack/parts.py")
    edit(site / "cached_pack/__init__.py", "")
    edit(site / "cached_pack/constants.py", "VALUE = 0.25\n")
    edit(site / "cached_library.py", "FACTOR = 1.0\n__version__ = '1'\n")
    run = functools.partial(start, "cached_pack.parts")
    assert [load(run()).cached for _ in range(2)] == [False, True]
    edit(site / "cached_pack/constants.py", "VALUE = 0.5\n")
    assert [(shown(split), split.cached) for split in (load(run()), load(run()))] == [(0.5, False), (0.5, True)]
    edit(site / "cached_library.py", "FACTOR = 1.5\n__version__ = '2'\n")
    assert [(shown(split), split.cached) for split in (load(run()), load(run()))] == [(0.75, False), (0.75, True)]


@pytest.mark.parametrize("name", ["cached_example.py", "cached_helper.py"])
def test_code_that_was_edited_since_it_was_loaded_neither_fills_nor_reads_the_cache(kept, plugged, name):
    write, start = plugged
    folder = write("from cached_helper import VALUE", value="VALUE")
    edit(folder / "cached_helper.py", "VALUE = 0.25\n")
    run = start()
    edit(folder / name, (folder / name).read_text().replace("0.25", "0.75"))
    with pytest.warns(CacheWarning, match=f"{name} may have changed since this process loaded it; start a new one"):
        old = load(run)
    assert (shown(old), old.cached) == (0.25, False)
    assert not kept.data.cache.exists()
    new = load(start())
    assert (shown(new), new.cached) == (0.75 if name == "cached_helper.py" else 0.25, False)


def test_code_that_is_edited_while_files_are_decoded_fills_no_cache(kept, plugged, monkeypatch):
    write, start = plugged
    folder = write("", "from cached_helper import VALUE", "VALUE")  # imported by the first call
    edit(folder / "cached_helper.py", "VALUE = 0.25\n")
    run, decode = start(), crdkit.views.split.decode_split

    def edited(*args, **options):
        edit(folder / "cached_helper.py", "VALUE = 0.75\n")
        return decode(*args, **options)

    monkeypatch.setattr("crdkit.views.split.decode_split", edited)
    with pytest.warns(CacheWarning, match=r"is not written: .*cached_helper\.py has changed while the files were"):
        assert shown(load(run)) == 0.75
    assert not kept.data.cache.exists()


def test_code_of_crdkit_that_was_edited_is_not_trusted(kept, monkeypatch):
    import crdkit.views.depth

    load(kept)
    monkeypatch.setitem(crdkit._core.sources._loaded, crdkit.views.depth.__file__, (1, 2, 3))
    with pytest.warns(CacheWarning, match=r"views/depth\.py may have changed"):
        assert not load(kept).cached


def test_a_module_imported_by_hand_is_noted_when_it_registers_its_part(kept, plugged, tmp_path, monkeypatch):
    write, _ = plugged
    monkeypatch.syspath_prepend(write(file="cached_by_hand.py"))
    importlib.invalidate_caches()
    importlib.import_module("cached_by_hand")
    run = kept.with_overrides("modalities.depth.name=cached_example")
    assert [load(run).cached for _ in range(2)] == [False, True]


def test_code_without_a_file_is_not_cached(kept, monkeypatch):
    module = type(sys)("typed_in")
    rgb = type(build_views(kept)["rgb"])
    monkeypatch.setitem(sys.modules, "typed_in", module)
    views = {"rgb": type("Typed", (rgb,), {"__module__": "typed_in"})(rgb.Config())}
    with pytest.warns(CacheWarning, match="the code of module 'typed_in' is not in a file"):
        load_split(build_dataset(kept), "test", views=views)
    assert not kept.data.cache.exists()


def test_the_file_with_the_range_of_eyecandies_depth_counts(tmp_path):
    root = tmp_path / "data"
    LAYOUTS["eyecandies"](root, categories=["biscuit"], size=32, train=3, validation=1, test_good=1, test_per_defect=1)
    config = RunConfig.preset("crd-eyecandies").with_overrides(
        f"data.root={root}", "data.category=Biscuit", "data.image_size=32", f"data.cache={tmp_path / 'cache'}"
    )
    dataset = build_dataset(config)
    for split in ("train", "test"):
        for record in dataset.records(split):
            assert all(path.is_file() for path in dataset.files(record))
            assert any(path.name.endswith("info_depth.yaml") for path in dataset.files(record))
    load(config, "train")
    assert load(config, "train").cached
    ranges = next(root.rglob("train/data/*_info_depth.yaml"))
    ranges.write_text(ranges.read_text() + "# touched\n")
    assert not load(config, "train").cached


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "one byte", "another file"])
def test_a_damaged_file_is_said_and_written_anew(kept, damage):
    decoded = load(kept)
    (file,) = entries(kept)
    content = file.read_bytes()
    middle = len(content) // 2
    broken = {
        "truncated": content[:middle],
        "garbage": os.urandom(1000),
        "empty": b"",
        "one byte": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "another file": (Path(__file__).parent / "conftest.py").read_bytes(),
    }[damage]
    file.unlink()  # the first split is mapped from the file as it was
    file.write_bytes(broken)
    with pytest.warns(CacheWarning, match="is damaged") as caught:
        again = load(kept)
    assert len(caught) == 1
    same(decoded, again)
    assert file.read_bytes() == content
    assert load(kept).cached


def test_a_foreign_safetensors_file_is_damage(kept):
    from safetensors.torch import save_file

    load(kept)
    (file,) = entries(kept)
    for metadata in (None, {"crdkit": "no JSON"}, {"crdkit": "[]"}, {"crdkit": '{"checksums": {}, "skipped": {}}'}):
        file.unlink()
        save_file({"inputs.rgb": torch.zeros(1, 3, 4, 4)}, file, metadata=metadata)
        with pytest.warns(CacheWarning, match="is damaged"):
            assert not load(kept).cached
        assert load(kept).cached


def test_a_full_disk_is_said_and_the_run_goes_on(kept, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    decoded = load(kept.with_overrides("data.cache=null"))
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.warns(CacheWarning, match="No space left on device; the run goes on without it"):
        same(decoded, load(kept))
    assert list(kept.data.cache.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(kept, tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(CacheWarning, match="cannot be written"):
        load(kept.with_overrides(f"data.cache={tmp_path / 'file' / 'cache'}"))


def test_the_least_recently_used_is_removed(kept):
    for number, split in enumerate(("train", "validation")):
        load(kept, split)
        os.utime(next(kept.data.cache.glob(f"{split}-*")), ns=(number, number))
    assert load(kept, "train").cached  # used again: now the newer one
    sizes = {file.name.partition("-")[0]: file.stat().st_size for file in entries(kept)}
    load(kept)
    test_size = next(kept.data.cache.glob("test-*")).stat().st_size
    next(kept.data.cache.glob("test-*")).unlink()
    limit = (sizes["train"] + test_size) / 2**30
    load(kept.with_overrides(f"data.cache_gib={limit}"))
    assert [file.name.partition("-")[0] for file in entries(kept)] == ["test", "train"]
    with pytest.warns(CacheWarning, match=r"data\.cache_gib \(=1e-06\) is too small for .* GiB"):
        load(kept.with_overrides("data.cache_gib=0.000001", "data.image_size=32"))


def test_no_file_of_others_is_removed(kept):
    kept.data.cache.mkdir()
    theirs = [
        kept.data.cache / name for name in ("model.safetensors", "test-1.safetensors", ".m.safetensors.1.partial")
    ]
    for file in theirs:
        file.write_bytes(bytes(100_000))
        os.utime(file, (0, 0))
    load(kept)
    size = sum(file.stat().st_size for file in entries(kept) if file not in theirs)
    next(file for file in entries(kept) if file not in theirs).unlink()
    load(kept.with_overrides(f"data.cache_gib={size / 2**30}"))
    assert all(file.exists() for file in theirs)
    assert load(kept).cached


def test_what_a_killed_process_left_is_removed_after_a_day(kept):
    kept.data.cache.mkdir()
    old, new = (kept.data.cache / f".test-{name}.safetensors.1234.partial" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    load(kept)
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("bad", [["good/rgb/000.png"], ["good/rgb/000.png", "good/xyz/001.tiff"]])
def test_skipped_samples_are_skipped_alike(kept, bad):
    for name in bad:
        image(kept, name).write_bytes(b"no image")
    skipping = kept.with_overrides("data.on_bad_sample=skip")
    found, messages = [], []
    for _ in range(2):
        with pytest.warns(BadSampleWarning, match=f"skipped {len(bad)} of") as caught:
            found.append(load(skipping))
        messages.append([str(one.message) for one in caught])
    same(*found)
    assert [split.cached for split in found] == [False, True]
    assert (messages[0], found[1].skipped) == (messages[1], len(bad))
    with pytest.raises(DataError, match=r"good/rgb/000\.png"):
        load(kept)


def test_samples_that_lack_a_sensor_are_cached(kept):
    image(kept, "good/xyz/001.tiff").unlink()
    found = [load(kept, incomplete=True) for _ in range(2)]
    same(*found)
    assert found[1].cached
    assert not found[1].present["depth"].all()


WRITER = """
import sys, torch
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_views
from crdkit.views.split import load_split
config = RunConfig.from_yaml(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
load_split(build_dataset(config), "train", views=build_views(config))
"""


def test_two_processes_leave_one_complete_file(kept, tmp_path):
    (tmp_path / "run.yaml").write_text(kept.to_yaml())
    command = [sys.executable, "-c", WRITER, str(tmp_path / "run.yaml")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 2
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [file.suffix for file in kept.data.cache.iterdir()] == [".safetensors"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached = load(kept, "train")
    assert cached.cached
    same(cached, load(kept.with_overrides("data.cache=null"), "train"))


@pytest.mark.usefixtures("without_reports")
def test_a_run_from_the_cache_has_the_same_bytes(finished, tiny, tmp_path):
    from crdkit.runs.directory import read_metrics

    run = tiny.with_overrides(f"data.cache={tmp_path / 'cache'}")
    fit(run)  # without the test split
    fit(run, tmp_path / "run")
    cached = {split: view["cached"] for split, view in read_metrics(tmp_path / "run")["resident"]["views"].items()}
    assert cached == {"train": True, "validation": True, "test": False}
    for name in ("scores.csv", "detector/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()
