"""Folders of sensors without a split: samples to predict, and nothing to train on."""

from __future__ import annotations

from pathlib import Path

from crdkit.data import Dataset
from crdkit.data._names import is_like_good
from crdkit.data._own_data.manifest import holds_only_samples
from crdkit.data.adapters.folder import Folder
from crdkit.data.findings import Finding


def find_new_samples(dataset: Dataset, folder: Path) -> list[Finding]:
    """Return a note that says what the data folder of ``dataset`` is for, if it holds nothing but such samples."""
    if not isinstance(dataset, Folder) or dataset.config.manifest is not None or not holds_only_samples(folder):
        return []
    if is_like_good(folder.name):
        how = f"rename the folder to 'train', or let `crdkit data import {folder.parent}` describe it as it is"
    else:
        how = f"move its folders into {folder / 'train'}"
    message = (
        f"{folder}: holds samples without labels, which `crdkit predict RUN {folder}` reads; if they are good parts to "
        f"train on, {how}"
    )
    return [Finding(severity="note", path=folder, message=message)]
