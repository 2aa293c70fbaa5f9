"""The hook that runs the documentation's notebooks, the notebooks themselves, and the figure that a script draws."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed: pip install crdkit[docs]")
pytest.importorskip("nbclient", reason="nbclient is not installed: pip install crdkit[docs]")
pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install crdkit[docs]")

from nbformat import NotebookNode  # noqa: E402

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = [*sorted(DOCS.glob("start/*.py")), *sorted(DOCS.glob("tutorials/*.py")), DOCS / "gallery.py"]


def load(path):
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hook():
    return load(DOCS / "_hooks/notebooks.py")


def notebook(*cells):
    """Return a notebook of the given cells; a list is the outputs of the cell before it."""
    made = jupytext.reads("\n\n".join(cell for cell in cells if isinstance(cell, str)), fmt="py:percent")
    rest, last = iter(made.cells), None
    for cell in cells:
        if isinstance(cell, list):
            last.outputs = [NotebookNode(output) for output in cell]
        else:
            last = next(rest)
    return made


def built(hook, made, folder):
    config = SimpleNamespace(use_directory_urls=True, site_dir="site", plugins=SimpleNamespace(_current_plugin=None))
    files = {file.src_uri: file for file in hook.page_and_files("start/one.py", made, folder, config)}
    return files.pop("start/one.py").content_string, files


def image(kind):
    out = io.BytesIO()
    Image.new("RGB", (40, 20), (200, 30, 30)).save(out, kind)
    return base64.b64encode(out.getvalue()).decode()


def stream(name, text):
    return {"output_type": "stream", "name": name, "text": text}


def test_sources_and_outputs_become_a_page(hook, tmp_path):
    (tmp_path / "report.html").write_text("<h1>report</h1>")
    page, files = built(
        hook,
        notebook(
            "# %% [markdown]\n# # Title\n#\n# Text.",
            '# %% fold="More"\nprint(1)\n\nprint(2)',
            [stream("stdout", f"\x1b[31mread {tmp_path}/data in {tmp_path}\x1b[0m\n"), stream("stderr", "50 %")],
            '# %% language="bash"\n# crdkit list',
            [stream("stderr", "a warning\n")],
            '# %% publish="report.html"\n',
        ),
        tmp_path,
    )
    assert page.startswith("# Title\n\nText.")
    assert '??? example "More"\n\n    ```python\n    print(1)\n\n    print(2)\n    ```' in page
    assert "``` { .text .output .no-copy }\nread data in .\n```" in page
    assert "50 %" not in page
    assert "```sh\ncrdkit list\n```\n\n``` { .text .output .no-copy }\na warning\n```" in page
    assert '<iframe class="output" title="one-report.html" src="../one-report.html"' in page
    assert files["start/one-report.html"].content_string == "<h1>report</h1>"
    assert '"kernelspec"' in files["start/one.ipynb"].content_string
    assert "50 %" not in files["start/one.ipynb"].content_string


def test_pictures_become_files(hook, tmp_path):
    page, files = built(
        hook,
        notebook(
            '# %% alt="A red field"\nshow()',
            [{"output_type": "display_data", "data": {"image/png": image("PNG"), "text/plain": "<Figure>"}}],
            "# %%\nresult",
            [
                {
                    "output_type": "execute_result",
                    "data": {
                        "text/html": f'<p>\n\n<img src="data:image/jpeg;base64,{image("JPEG")}"></p>',
                        "text/plain": "Prediction()",
                    },
                },
                {"output_type": "display_data", "data": {"text/markdown": "| a |\n|---|", "text/plain": "table"}},
            ],
        ),
        tmp_path,
    )
    assert '![A red field](one-1.webp){ .output width="20" }' in page
    assert Image.open(io.BytesIO(files["start/one-1.webp"].content_bytes)).size == (40, 20)
    assert '<div class="output"><p>\n<img src="../one-2.jpg"></p></div>' in page
    assert files["start/one-2.jpg"].content_bytes[:2] == b"\xff\xd8"
    assert "| a |\n|---|" in page
    assert "Figure" not in page


def test_a_picture_must_be_described(hook, tmp_path):
    made = notebook("# %%\nshow()", [{"output_type": "display_data", "data": {"image/png": image("PNG")}}])
    with pytest.raises(hook.PluginError, match=r"one: a cell makes a picture and has no alt"):
        built(hook, made, tmp_path)


def test_a_command_that_fails_ends_the_build(hook, tmp_path):
    made = notebook("# %%\nfrom pathlib import Path", '# %% language="bash"\n# ls no-such-file\n# echo done')
    with pytest.raises(hook.PluginError, match=r"start/one.py: [\s\S]*ls no-such-file"):
        hook.run("start/one.py", made, tmp_path / "one")
    assert (tmp_path / "one").is_dir()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_a_page_that_leads_on(path):
    cells = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent").cells
    assert cells[0].cell_type == cells[-1].cell_type == "markdown"
    assert re.match(r"# \w", cells[0].source)
    assert cells[-1].source.partition("\n- [")[2], "the last cell says where to go on"
    assert all(not cell.get("outputs") for cell in cells), "outputs are not kept"
    assert f": {path.relative_to(DOCS).as_posix()}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_the_figure_of_the_method_is_what_its_script_draws():
    drawn = load(DOCS / "figures/method.py").figure()
    assert (DOCS / "images/method.svg").read_text(encoding="utf-8") == drawn
