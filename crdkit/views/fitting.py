"""Whether the samples of a dataset have the sensors that the modalities read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crdkit.data import Dataset, SampleRecord
from crdkit.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from crdkit.views.split import Views


def require_known_sensors(dataset: Dataset, records: Sequence[SampleRecord], *, views: Views) -> None:
    """Refuse modalities that read a sensor which the dataset does not have, before anything is decoded.

    Raises:
        ConfigError: there is one; the message names the key that says which sensor is read.
        DataError: the dataset itself knows why it has no such sensor.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from crdkit.data.adapters.mvtec3d import MVTec3D
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> from crdkit.views.single_channel import SingleChannel
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_mvtec3d(Path(folder, "scans"), categories=["gear"], train=1, test_per_defect=0, size=32)
        ...     dataset = MVTec3D(MVTec3D.Config(root=root, category="gear"))
        ...     views = {"heat": SingleChannel(SingleChannel.Config(sensor="thermal"))}
        ...     require_known_sensors(dataset, dataset.records("train"), views=views)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        crdkit.errors.ConfigError: modalities.heat.sensor (='thermal'): the data has no such sensor, but rgb, xyz; ...
    """
    known = dataset.sensors
    for name, view in views.items():
        for sensor in view.sensors:
            if sensor in known or not records:
                continue
            try:
                dataset.read(records[0], [sensor])
            except UnknownNameError:
                asked = getattr(view.config, "sensor", None) == sensor
                key = f"modalities.{name}.sensor (={sensor!r})" if asked else f"modalities.{name}: sensor {sensor!r}"
                raise ConfigError(
                    f"{key}: the data has no such sensor, but {', '.join(known)}; name one of them, or leave the "
                    f"modality out with modalities.{name}=null"
                ) from None


def require_registrable(dataset: Dataset, *, views: Views) -> None:
    """Refuse a registration with sensors that the data does not have, or whose grid predictions could not know.

    Raises:
        DataError: it names a sensor that the dataset does not have.
        ConfigError: no modality reads the reference, and its size is not given.
    """
    registration = dataset.config.registration
    if registration is None:
        return
    registration.require_known(dataset.sensors)
    reads = {sensor for view in views.values() for sensor in view.sensors}
    if registration.size is None and registration.reference not in reads:
        raise ConfigError(
            f"data.registration.reference (={registration.reference!r}) is read by no modality, so predictions would "
            "not know its pixels; set data.registration.size=[HEIGHT, WIDTH]"
        )
