# %% [markdown]
# # A sensor of your own
#
# At the end crdkit reads a sensor that it has no view for, and you have measured
# whether your view is worth its ten lines. You need one file and one decorator.
#
# The example is a heat camera in a hall without heating. On a cold morning every
# part is colder than on a summer's day, and that is no defect.
#
# ## 1. The scans
#
# Synthetic biscuits, seen in heat. The room's temperature differs from part to part
# by up to 30 K.

# %% fold="Draw heat images of parts on colder and warmer days"
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from crdkit.data.images import read_file
from crdkit.data.synthetic import (
    make_scene,
    render_infrared,
    sample_key,
    scanner_camera,
)


def write_part(folder, index, *, split, defect=None):
    """Write one part's heat, in hundredths of a kelvin, and its mask."""
    key = sample_key(2, "biscuit", split, defect or "good", index)
    scene = make_scene(
        "biscuit", camera=scanner_camera(96), key=key, defect=defect
    )
    room = np.random.default_rng(key).uniform(-1500, 1500)
    pictures = {
        "infrared": (render_infrared(scene) + room).astype(np.uint16)
    }
    if defect:
        pictures["mask"] = scene.mask.astype(np.uint8) * 255
    for name, pixels in pictures.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{index:02d}.png")


for split, number in (("train", 24), ("validation", 10), ("test", 8)):
    for index in range(number):
        write_part(Path(f"scans/{split}/good"), index, split=split)
for index in range(8):
    write_part(Path("scans/test/void"), index, split="test", defect="void")

# %%
heat = {
    name: read_file(Path("scans/test") / name)
    for name in ("good/infrared/00.png", "void/infrared/00.png")
}
for name, pixels in heat.items():
    print(
        f"{name}: {pixels.dtype} {pixels.shape}, "
        f"{pixels.min() / 100:.1f} K to {pixels.max() / 100:.1f} K"
    )

# %% [markdown]
# ## 2. The view
#
# A view turns sensors into an image between 0 and 1. This one shows how much warmer
# a pixel is than its surroundings, so the temperature of the room cancels out. Its
# docstring is what `crdkit list` prints, and its `Config` holds its options.

# %%
import torch
from pydantic import Field
from torch import nn

from crdkit.views import View, ViewConfig, views
from crdkit.views.geometry import resize_float


@views.register("local_contrast")
class LocalContrast(View):
    """How much warmer a pixel is than its surroundings."""

    class Config(ViewConfig):
        """Options of ``local_contrast``."""

        name: str = "local_contrast"
        span: float = Field(
            8, gt=0, description="kelvin from black to white"
        )

    sensors = ("infrared",)
    channels = 1

    def __call__(self, sensors, *, image_size):
        """Return (1, S, S) in [0, 1]; grey is as warm as the surroundings."""
        kelvin = (
            torch.from_numpy(resize_float(sensors["infrared"], image_size))[
                None
            ]
            / 100
        )
        surroundings = nn.functional.avg_pool2d(
            kelvin, 15, stride=1, padding=7, count_include_pad=False
        )
        return (0.5 + (kelvin - surroundings) / self.config.span).clamp(
            0, 1
        )


# %% [markdown]
# ## 3. Hold it to the contract
#
# These are the checks that crdkit's own views pass: values in [0, 1], any size,
# inputs left alone, a description. If a promise is broken, the error names it.

# %%
import crdkit.testing

crdkit.testing.check("modality", "local_contrast")
print("local_contrast keeps every promise of a view")

# %% [markdown]
# ## 4. Look at it
#
# Two good parts of two days, and one with a void below its surface. As stored, days
# differ more than the defect does. In the view of your own they look alike, and the
# void stands out.

# %% alt="Heat images of two good parts and one with a void: above as stored, below as the new view" fold="Draw it"
from crdkit.views.single_channel import SingleChannel

stored = SingleChannel(SingleChannel.Config(range=(27000, 33000)))
own = LocalContrast(LocalContrast.Config())
files = {
    "good, one day": "good/infrared/02.png",
    "good, another": "good/infrared/03.png",
    "void": "void/infrared/00.png",
}
figure, axes = plt.subplots(2, 3, figsize=(6, 4.2))
for (above, below), (title, file) in zip(
    axes.T, files.items(), strict=True
):
    sensors = {"infrared": read_file(Path("scans/test", file))}
    for place, view in ((above, stored), (below, own)):
        place.imshow(
            view(sensors, image_size=96)[0], cmap="gray", vmin=0, vmax=1
        )
        place.set(xticks=[], yticks=[])
    above.set_title(title)
axes[0, 0].set_ylabel("single_channel")
axes[1, 0].set_ylabel("local_contrast")
plt.show()

# %% [markdown]
# ## 5. Train with either
#
# Same scans, same teacher, same seed. Only the view differs.

# %%
import crdkit

modalities = {
    "as stored": {
        "name": "single_channel",
        "range": [27000, 33000],
        "encoder": "efficientnet_lite0",
    },
    "your view": {
        "name": "local_contrast",
        "encoder": "efficientnet_lite0",
    },
}
print(f"{'':12}{'I-AUROC':>10}{'P-AUROC':>10}{'AU-PRO@30%':>12}")
for title, modality in modalities.items():
    run = crdkit.RunConfig.preset("quick").with_overrides(
        {"modalities.heat": modality},
        "modalities.rgb=null",
        "modalities.depth=null",
        {"data": {"name": "folder", "root": "scans", "image_size": 96}},
        "training.epochs=6",
        "scoring.sigma=2",
    )
    detector = crdkit.fit(run, f"runs/{title.replace(' ', '-')}")
    found = detector.metrics["aggregate"]
    keys = ("image_auroc", "pixel_auroc", "aupro_0.30")
    print(
        f"{title:12}{100 * found[keys[0]]:10.1f}"
        f"{100 * found[keys[1]]:10.1f}{100 * found[keys[2]]:12.1f}"
    )

# %% [markdown]
# ## 6. Use it from the command line
#
# Put the class into a file, `my_views.py`, and name the file in the configuration.
# A file that names code could be somebody else's, so commands import it only with
# `--allow-plugins` ([Whose code runs](../configure.md#whose-code-runs)).
#
# ```yaml title="heat.yaml"
# plugins: [my_views.py]
# data: {name: folder, root: scans}
# modalities:
#   heat: {name: local_contrast, span: 8, encoder: efficientnet_lite0}
# ```
#
# ## Next
#
# - [A teacher of your own](own-teacher.py) for images that no photograph is like.
# - [Compose a branch](compose-a-branch.py): join the sensor with others.
# - [Testing your parts](../reference/testing.md): what each contract promises.
