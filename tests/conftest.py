"""Shared fixtures: a tiny data set, a tiny run, and `golden` importable from every test."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, and for the processes that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from crdkit._core.progress import set_quiet
from crdkit.config import RunConfig
from crdkit.data.synthetic import write_mvtec3d

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a background job, and so in programs that tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["CRDKIT_CACHE"] = ""  # tests decode, and write nothing into the cache of who runs them
sys.path.insert(0, str(Path(__file__).parent))

TINY = (
    "data.category=biscuit",
    "data.image_size=64",
    "modalities.rgb.encoder={name: timm, model: test_resnet, pretrained: false}",
    "modalities.depth.encoder={name: timm, model: test_resnet, pretrained: false}",
    "graph.filter.size=2",
    "student.depths=1",
    "student.embedding_blocks=1",
    "training.epochs=2",
    "training.batch_size=4",
    "training.device=cpu",
)

# a busy machine fails no test: the base profile is hypothesis' own, which is another one in CI
settings.register_profile("crdkit", settings(), deadline=None)
settings.load_profile("crdkit")
# for thousands of runs that are expected to fail: the same few examples each time, and no search for the smallest
settings.register_profile(
    "mutation",
    max_examples=20,
    phases=(Phase.explicit, Phase.generate),
    derandomize=True,
    database=None,
    deadline=None,
)

GIBIBYTES = ("tests/test_golden_student.py", "tests/test_published_model.py")
"""Files whose tests need 6 GiB and more: one after the other, never side by side."""


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, or processes that are done would wait for one that has just begun them.

    Tests marked ``gpu`` are skipped where there is none.
    """
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none here"))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With ``-n``, the tests of a file run in one process, in order: they share fixtures."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            if file.startswith("tests/browser/"):
                return "browser"  # one browser for all
            return "gibibytes" if file in GIBIBYTES else file

    config.option.loadscopereorder = False  # not by the number of tests: slow files are first already
    return Files(config, log)


@pytest.fixture(autouse=True)
def quiet():
    set_quiet(True)
    yield
    set_quiet(False)


@pytest.fixture
def without_reports(monkeypatch):
    """No report.html and figures/, most of a tiny run's time: for tests of what else a run writes."""
    monkeypatch.setattr("crdkit.runs.directory.write_report", lambda *_args, **_options: None)


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """Where `export_once` keeps networks, for all processes of this session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exports"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def export_once(exports, monkeypatch):
    """The same network with the same weights is exported to ONNX once, which takes most of the time of compiling."""
    from crdkit.detector import _onnx

    export = _onnx.export_network

    def export_or_copy(network, example, file):
        tensors = [*network.state_dict().values(), *network.buffers(), *example]
        key = hashlib.sha256(f"{network!r} {[tensor.shape for tensor in tensors]}".encode())
        for tensor in tensors[: -len(example)]:
            key.update(tensor.detach().contiguous().numpy().tobytes())
        kept = exports / key.hexdigest()
        if not kept.exists():
            own = kept.with_name(f"{kept.name}.{os.getpid()}")
            own.mkdir()
            export(network, example, own / file.name)
            with contextlib.suppress(OSError):  # another process was faster
                own.rename(kept)
        shutil.copytree(kept, file.parent, dirs_exist_ok=True)

    monkeypatch.setattr(_onnx, "export_network", export_or_copy)


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """A tiny synthetic data set in the MVTec 3D-AD layout."""
    set_quiet(True)
    folder = tmp_path_factory.mktemp("scans") / "data"
    return write_mvtec3d(folder, categories=["biscuit"], train=6, validation=3, test_good=3, test_per_defect=2, size=64)


@pytest.fixture(scope="session")
def tiny(scans):
    """A run that takes seconds: 64 x 64, an untrained four-stage ResNet as the teacher, two epochs."""
    return RunConfig.preset("quick").with_overrides(f"data.root={scans}", *TINY)


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory):
    """The run directory of the tiny run."""
    import crdkit

    set_quiet(True)
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    crdkit.fit(tiny, folder)
    return folder


@pytest.fixture(scope="module")
def detector(finished):
    """The detector of the tiny run."""
    from crdkit.detector import Detector

    return Detector.load(finished / "detector", device="cpu")


@pytest.fixture(scope="session")
def exported(finished, tmp_path_factory):
    """The ONNX file of the tiny run's detector, with what lies beside it."""
    from crdkit.detector import Detector

    set_quiet(True)
    loaded = Detector.load(finished / "detector", device="cpu")
    return loaded.export(tmp_path_factory.mktemp("exported") / "part.onnx")


@pytest.fixture(scope="module")
def samples(tiny):
    """The raw sensors of five test samples of the tiny data set."""
    from crdkit.config.build import build_dataset

    dataset = build_dataset(tiny)
    return [dataset.read(record).sensors for record in dataset.records("test")[:5]]
