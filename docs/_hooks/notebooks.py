"""MkDocs hook: the notebooks of this documentation are run by its build and become pages of it.

A notebook is a .py file below docs/ in jupytext's percent format. Each runs in an empty folder of its own, two at a
time, and a cell that fails ends the build. Pages are Markdown when MkDocs gets them, so links are checked, and colours
and search are those of every other page. A cell may say, behind its ``# %%``:

- ``alt="..."``: what its picture shows. Required of a cell that makes a picture, which becomes a file beside the page.
- ``fold="..."``: its source is folded away under that title.
- ``publish="runs/x/report.html"``: a file that it wrote, shown in a frame of the page.

CRDKIT_NOTEBOOKS=off builds the pages without running them.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jupytext
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from PIL import Image

BASH = "%%bash\n"
SHARPNESS = 2
"""Pixels of a picture for each pixel of the page."""
ENVIRONMENT = {
    "MATPLOTLIBRC": str(Path(__file__).with_name("matplotlibrc")),
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    "OMP_NUM_THREADS": "1",  # two notebooks at a time
    "COLUMNS": "76",  # what fits on a page
    "PYTHONWARNINGS": "ignore:IProgress not found",  # progress bars of others, which nothing here shows
    "NO_COLOR": "1",
    "SHELLOPTS": "errexit:pipefail",  # of bash cells: each command must succeed, not only the last
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


class Notebook(File):
    """A .py file that is a page."""

    def is_documentation_page(self) -> bool:
        """Return True: it is."""
        return True


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Put pages in the place of notebooks, with the files that they show; leave other .py files out."""
    found: dict[str, NotebookNode] = {}
    for file in [one for one in files if one.src_uri.endswith(".py")]:
        files.remove(file)
        if file.content_string.startswith("# %%"):
            found[file.src_uri] = jupytext.reads(file.content_string, fmt="py:percent")
    with TemporaryDirectory(prefix="crdkit-notebooks-") as folder, ThreadPoolExecutor(2) as pool:
        places = {name: Path(folder, Path(name).stem) for name in found}
        if os.environ.get("CRDKIT_NOTEBOOKS") != "off":
            try:
                list(pool.map(run, found, found.values(), places.values()))
            except PluginError:
                pool.shutdown(cancel_futures=True)  # the rest need not run
                raise
        for name, notebook in found.items():
            for file in page_and_files(name, notebook, places[name], config):
                files.append(file)
    return files


def run(name: str, notebook: NotebookNode, folder: Path) -> None:
    """Run every cell in the new folder; outputs are left in the cells.

    Raises:
        PluginError: a cell fails, or takes a quarter of an hour.
    """
    folder.mkdir()
    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(env={**os.environ, **ENVIRONMENT})
    except (CellExecutionError, CellTimeoutError) as error:
        raise PluginError(f"{name}: {error}") from error


def page_and_files(name: str, notebook: NotebookNode, folder: Path, config: MkDocsConfig) -> Iterator[File]:
    """Yield what a notebook's page shows, the notebook itself to take away, and the page."""
    parts, files = [], dict[str, bytes | str]()  # names beside the page
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts += source(cell)
        for output in cell.get("outputs", []):
            parts += shown(output, cell=cell, stem=Path(name).stem, files=files)
        if (published := cell.metadata.get("publish")) and (folder / published).is_file():
            target = f"{Path(name).stem}-{Path(published).name}"
            files[target] = (folder / published).read_bytes().replace(f"{folder}/".encode(), b"")
            parts.append(frame(target))
    files[f"{Path(name).stem}.ipynb"] = jupytext.writes(without_outputs(notebook), fmt="ipynb")
    parts.append(
        "---\n\n*This page is a notebook; its outputs are from the run that built this site. "
        f"[Take it with you]({Path(name).stem}.ipynb).*"
    )
    text = "\n\n".join(parts).replace(f"{folder}/", "").replace(str(folder), ".")
    for target, content in files.items():
        yield File.generated(config, Path(name).with_name(target).as_posix(), content=content)
    yield Notebook.generated(config, name, content=text)


def source(cell: NotebookNode) -> list[str]:
    """Return a code cell's source as a block of Markdown, or nothing if it has none."""
    if not cell.source.strip():
        return []
    shell = cell.source.startswith(BASH)
    block = f"```{'sh' if shell else 'python'}\n{cell.source.removeprefix(BASH)}\n```"
    if title := cell.metadata.get("fold"):
        return [f'??? example "{title}"\n\n' + re.sub(r"^(?=.)", "    ", block, flags=re.MULTILINE)]
    return [block]


def shown(output: NotebookNode, *, cell: NotebookNode, stem: str, files: dict[str, bytes | str]) -> list[str]:
    """Return an output as Markdown or HTML, and put its pictures into ``files``.

    Raises:
        PluginError: a picture is not described.
    """
    data: dict[str, Any] = output.get("data", {"text/plain": output.get("text", "")})
    if output.get("name") == "stderr" and not cell.source.startswith(BASH):  # progress bars
        return []
    if "image/png" in data:
        if not (alt := cell.metadata.get("alt")):
            raise PluginError(f'{stem}: a cell makes a picture and has no alt="...":\n{cell.source}')
        picture, width = webp(base64.b64decode(data["image/png"]))
        files[target := f"{stem}-{len(files) + 1}.webp"] = picture
        return [f'![{alt}]({target}){{ .output width="{width}" }}']
    if "text/markdown" in data:
        return [str(data["text/markdown"])]
    if "text/html" in data:

        def keep(found: re.Match[str]) -> str:
            files[target := f"{stem}-{len(files) + 1}.jpg"] = base64.b64decode(found[1])
            return f'src="../{target}"'

        html = re.sub(r'src="data:image/jpeg;base64,([^"]+)"', keep, data["text/html"])
        html = re.sub(r"\n\s*\n", "\n", html)  # an empty line would end the block
        return [f'<div class="output">{html}</div>']
    text = re.sub(r"\x1b\[[0-9;]*m", "", data["text/plain"]).strip("\n")
    return [f"``` {{ .text .output .no-copy }}\n{text}\n```"]


def webp(png: bytes) -> tuple[bytes, int]:
    """Return a picture as WebP, which takes a fifth of the bytes, and its width on the page."""
    picture, out = Image.open(io.BytesIO(png)), io.BytesIO()
    picture.save(out, "WEBP", quality=88, method=6)
    return out.getvalue(), round(picture.width / SHARPNESS)


def frame(target: str) -> str:
    """Return a frame that shows a published page, and a link to it."""
    shown = f'<iframe class="output" title="{target}" src="../{target}" loading="lazy"></iframe>'
    return f"{shown}\n\n[Open it alone]({target})"


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook as it was before it ran."""
    copy = jupytext.reads(jupytext.writes(notebook, fmt="py:percent"), fmt="py:percent")
    copy.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return copy
