"""A fresh working directory, the data of a first user in it, and the command line as that user types it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.data.synthetic import write_folder, write_mvtec3d
from crdkit.data.synthetic.staging import save_tiff

TEACHER = "{name: timm, model: test_resnet, pretrained: false}"
SMALL = (
    "data.image_size=64 graph.filter.size=2 student.depths=1 student.embedding_blocks=1 training.epochs=1 "
    f"training.batch_size=4 training.device=cpu modalities.rgb.encoder='{TEACHER}' modalities.depth.encoder='{TEACHER}'"
)
"""What makes a run of the preset quick take a second or two; every journey about a training adds it."""
CASTINGS = f"""\
data: {{name: folder, root: castings, image_size: 64}}
modalities:
  left: {{name: rgb, sensor: cam-left, encoder: &teacher {TEACHER}}}
  heat: {{name: single_channel, sensor: ir2, range: [28000, 32000], encoder: *teacher}}
  laser: {{name: depth, sensor: laser, encoder: *teacher}}
graph: {{filter: {{name: bottleneck, size: 2}}}}
student: {{depths: 1, embedding_blocks: 1}}
training: {{epochs: 1, batch_size: 4, device: cpu}}
"""


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that a refused command ends with."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert "Traceback" not in self.err
        last = self.err.splitlines()[-1]
        assert last.startswith("error: ")
        assert len(last) < 2000
        return last


def start(command, folder, *, program=(sys.executable, "-m", "crdkit")):
    """Start a command as a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*program, *shlex.split(command)], cwd=folder, **pipes)


@pytest.fixture(autouse=True)
def reports(request):
    """Reports take most of the time of a tiny run; a test that looks at one asks for the fixture `with_reports`."""
    if "with_reports" not in request.fixturenames:
        request.getfixturevalue("without_reports")


@pytest.fixture
def with_reports():
    """Let runs write their reports."""


@pytest.fixture
def crdkit(capsys):
    """Run a command line in this process, in the working directory."""

    def run(command):
        capsys.readouterr()
        code = main(shlex.split(command))
        captured = capsys.readouterr()
        set_quiet(True)
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def desk(tmp_path_factory):
    """The folder of a first user: scans in the MVTec layout, and castings of three odd sensors."""
    folder = tmp_path_factory.mktemp("desk")
    counts = {"train": 6, "validation": 3, "test_good": 2, "test_per_defect": 1}
    write_mvtec3d(folder / "scans", categories=["gear"], size=64, **counts)
    counts = {"train": 8, "validation": 0, "test_good": 2, "test_per_defect": 0}
    write_folder(folder / "made", categories=["gear"], size=64, **counts)
    for part, count in (("train", 8), ("new", 2)):
        for number in range(count):
            source = folder / "made/gear" / ("train/good" if part == "train" else "test/good")
            stem = sorted(file.stem for file in (source / "rgb").iterdir())[number]
            for sensor, name in (("rgb", "cam-left"), ("infrared", "ir2"), ("xyz", "laser")):
                (file,) = (source / sensor).glob(f"{stem}.*")
                target = folder / "castings" / part / name / f"{part[0]}{number}{file.suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                if name == "ir2":
                    heat = np.asarray(Image.open(file)).astype(np.float64)
                    Image.fromarray((29000 + heat / 65535 * 2000).astype(np.uint16)).save(target)
                else:
                    target.write_bytes(file.read_bytes())
    (folder / "castings.yaml").write_text(CASTINGS)
    return folder


@pytest.fixture(scope="session")
def trained(desk):
    """Two finished runs: runs/gear on the scans, and runs/castings on good parts only."""
    set_quiet(True)
    for command in (
        f"-q train quick data.root={desk}/scans data.category=gear {SMALL} --out {desk}/runs/gear",
        f"-q train {desk}/castings.yaml data.root={desk}/castings --out {desk}/runs/castings",
    ):
        assert main(shlex.split(command)) == 0
    return desk


@pytest.fixture
def here(desk, tmp_path, monkeypatch):
    """A fresh working directory with copies of the scans and the castings."""
    for name in ("scans", "castings"):
        shutil.copytree(desk / name, tmp_path / name)
    shutil.copy(desk / "castings.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def runs(here, trained):
    """The working directory, with copies of the finished runs."""
    shutil.copytree(trained / "runs", here / "runs")
    return here


def change_scan(path: Path, change):
    """Write a scan again with other values."""
    save_tiff(change(tifffile.imread(path)).astype(np.float32), path)
