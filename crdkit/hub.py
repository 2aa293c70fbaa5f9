"""Detectors on the Hugging Face Hub: pushed with their model card, and loaded under the rules of every detector.

Needs the package huggingface_hub: ``pip install 'crdkit[hub]'``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crdkit.errors import ConfigError, CrdkitError, UntrustedCodeError, first_line

if TYPE_CHECKING:
    from crdkit.detector import Detector

__all__ = ["load", "push"]

_FILES = ("config.json", "model.safetensors")
_CARD = "README.md"


def push(
    detector: Detector | Path | str,
    repository: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "A detector of crdkit",
    replace_card: bool = False,
    token: str | None = None,
) -> str:
    """Upload a detector, and return the address of what was uploaded.

    Only config.json, model.safetensors and README.md are uploaded, whatever else lies in the folder. They hold the
    configuration, thresholds with the scores of normal samples, and the weights; no image, and no path of your data.

    Args:
        detector: one in memory, or the folder of a run or of a saved detector.
        repository: ``"user/name"``; created if there is none.
        private: whether a new repository is; None: as the account has it.
        revision: the branch; None: the main one.
        message: of the commit.
        replace_card: replace the README.md of the repository too, which may name a license by now.
        token: of the account; None: that of ``hf auth login``.

    Raises:
        ConfigError: huggingface_hub is missing.
        DetectorFormatError: the folder holds no detector.
        CrdkitError: it cannot be uploaded.

    Examples:
        >>> with tempfile.TemporaryDirectory() as empty:
        ...     push(empty, "me/gear")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        crdkit.errors.DetectorFormatError: ...: holds no detector (no config.json); ...
    """
    from crdkit.detector import Detector, detector_folder, read_config

    hub = _hub()
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(detector, Detector):
            folder = Path(scratch) / "detector"
            detector.save(folder)
        else:
            folder = detector_folder(detector)
            with suppress(UntrustedCodeError):  # code that it names is for those who load it to trust
                read_config(folder)
        with _explained(repository):
            api = hub.HfApi(token=token, library_name="crdkit")
            api.create_repo(repository, private=private, exist_ok=True)
            keeps_card = not replace_card and api.file_exists(repository, _CARD, revision=revision)
            files = list(_FILES if keeps_card else (*_FILES, _CARD))
            done = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                allow_patterns=files,
                commit_message=message,
                revision=revision,
            )
            return str(done.commit_url)


def load(
    repository: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    allow_plugins: bool = False,
    cache: Path | str | None = None,
    offline: bool = False,
    token: str | None = None,
) -> Detector:
    """Download a detector, or take it from the cache, and load it as `Detector.load` does.

    Only config.json and model.safetensors are downloaded. Name a commit as ``revision`` to get the same detector each
    time: a branch may hold another one tomorrow.

    Args:
        repository: ``"user/name"``.
        revision: a commit, tag or branch; None: the main branch.
        device: as for `Detector.load`.
        allow_plugins: as for `Detector.load`: only if you trust who made it is code that it names imported and run.
        cache: folder for downloads; None: that of huggingface_hub.
        offline: take it from the cache, without a network.
        token: of the account, for private repositories; None: that of ``hf auth login``.

    Raises:
        ConfigError: huggingface_hub is missing.
        UntrustedCodeError: it names code to import, and ``allow_plugins`` is false.
        DetectorFormatError: the repository holds no detector, or one that cannot be used.
        CrdkitError: it cannot be downloaded.

    Examples:
        >>> with tempfile.TemporaryDirectory() as cache:
        ...     load("me/gear", cache=cache, offline=True)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        crdkit.errors.CrdkitError: repository 'me/gear': LocalEntryNotFoundError: ...
    """
    from crdkit.detector import Detector

    hub = _hub()
    with _explained(repository):
        folder = hub.snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache,
            allow_patterns=list(_FILES),
            local_files_only=offline,
            token=token,
            library_name="crdkit",
        )
    return Detector.load(folder, device=device, allow_plugins=allow_plugins)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError(
            "the package huggingface_hub is missing, which crdkit.hub needs: pip install 'crdkit[hub]'"
        ) from error
    return huggingface_hub


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn what the hub's client raises into one clear message."""
    try:
        yield
    except CrdkitError:
        raise
    except Exception as error:  # of the client, of its HTTP library, or of the file system
        raise CrdkitError(f"repository {repository!r}: {type(error).__name__}: {first_line(error)}") from error
