# %% [markdown]
# # A teacher of your own
#
# At the end a network of yours is the teacher of a branch, and you have compared it
# with crdkit's on the same scans. Any frozen network will do that gives maps of
# features, fine to coarse.
#
# ## 1. The scans
#
# Synthetic capsules in colour. The stain on the second and the crack in the third
# are what a teacher must make visible.

# %% alt="A good capsule, one with a stain and one with a crack" fold="Write and draw them"
from pathlib import Path

import matplotlib.pyplot as plt

from crdkit.data.images import read_file
from crdkit.data.synthetic import write_folder

write_folder(
    Path("scans"),
    categories=["capsule"],
    train=24,
    validation=8,
    test_good=8,
    test_per_defect=3,
    size=96,
    sensors=["rgb"],
)
pictures = {
    kind: read_file(Path(f"scans/capsule/test/{kind}/rgb/000.png"))
    for kind in ("good", "stain", "crack")
}
figure, axes = plt.subplots(1, 3, figsize=(6, 2.2))
for place, (kind, picture) in zip(axes, pictures.items(), strict=True):
    place.imshow(picture)
    place.set(title=kind, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 2. The network
#
# A teacher says how many channels its levels have and how much smaller than the
# image they are. Nothing else in crdkit writes these numbers down: students and
# projections are built from them.
#
# This one was never trained. It measures brightness, and the strength of texture in
# eight directions, at three sizes.

# %%
import torch
from torch import nn

from crdkit.model.encoders import Encoder, encoders


@encoders.register("gabor")
class Gabor(Encoder):
    """Gabor filters: brightness, and texture in eight directions."""

    strides, channels = (4, 8, 16), (9, 9, 9)

    def __init__(self, config, *, load_weights=True):
        super().__init__(config, load_weights=load_weights)
        turn, y, x = torch.meshgrid(
            torch.arange(8) * torch.pi / 8,
            *[torch.arange(-3.0, 4)] * 2,
            indexing="ij",
        )
        waves = torch.exp(
            2j * (x * turn.cos() + y * turn.sin()) - (x**2 + y**2) / 4
        )
        self.register_buffer(
            "bank", torch.cat([waves.real, waves.imag])[:, None]
        )
        self.set_normalisation((0, 0, 0), (1, 1, 1))
        self.freeze()

    def features(self, images):
        """Return the levels of (B, 3, H, W) images, fine to coarse."""
        grey = [
            nn.functional.avg_pool2d(
                images.mean(dim=1, keepdim=True), stride
            )
            for stride in self.strides
        ]
        waves = [
            nn.functional.conv2d(level, self.bank, padding=3).chunk(
                2, dim=1
            )
            for level in grey
        ]
        return [
            torch.cat([level, torch.hypot(*wave)], dim=1)
            for level, wave in zip(grey, waves, strict=True)
        ]


# %% [markdown]
# ## 3. Hold it to the contract
#
# A teacher must be frozen, give what it declares at any size it is built for, and
# compute the same after it was saved.

# %%
import crdkit.testing

crdkit.testing.check("encoder", "gabor")
gabor = encoders.build(encoders.build_config("gabor"))
print(gabor.spec(96))

# %% [markdown]
# ## 4. Look at what it sees
#
# One channel of the finest level for each direction. A channel is bright where the
# capsule has edges of that direction.

# %% alt="The capsule with a crack, and four channels of the teacher's finest level" fold="Draw features"
image = torch.from_numpy(pictures["crack"]).permute(2, 0, 1)[None] / 255
level = gabor(image)[0][0]
figure, axes = plt.subplots(1, 5, figsize=(7.4, 1.8))
axes[0].imshow(pictures["crack"])
axes[0].set_title("image")
for place, channel in zip(axes[1:], (1, 3, 5, 7), strict=True):
    place.imshow(level[channel], cmap="magma")
    place.set_title(f"{180 * (channel - 1) // 8} degrees")
for place in axes:
    place.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 5. Train with either teacher

# %%
import crdkit

base = crdkit.RunConfig.preset("quick").with_overrides(
    {
        "data": {
            "name": "folder",
            "root": "scans",
            "category": "capsule",
            "image_size": 96,
        }
    },
    "modalities.depth=null",
    "training.epochs=8",
    "scoring.sigma=2",
)
detectors = {}
print(f"{'teacher':20}{'parameters':>12}{'I-AUROC':>10}{'AU-PRO@30%':>12}")
for name in ("efficientnet_lite0", "gabor"):
    detectors[name] = crdkit.fit(
        base.with_overrides(f"modalities.rgb.encoder.name={name}"),
        f"runs/{name}",
    )
    found, size = (
        detectors[name].metrics["aggregate"],
        detectors[name].metrics["parameters"]["teacher"],
    )
    print(
        f"{name:20}{size:12,}{100 * found['image_auroc']:10.1f}"
        f"{100 * found['aupro_0.30']:12.1f}"
    )

# %% [markdown]
# The teacher that was trained on photographs is ahead, as one would expect. A few
# scans and six epochs rank nothing for good, but the maps show what each is blind to.

# %% alt="Maps of both teachers on a stain, a crack and a good capsule" fold="Draw maps"
from crdkit.report.gallery import Scale, heat

figure, axes = plt.subplots(3, 3, figsize=(6, 6.2))
for column, (kind, picture) in zip(axes.T, pictures.items(), strict=True):
    column[0].imshow(picture)
    column[0].set_title(kind)
    for place, detector in zip(column[1:], detectors.values(), strict=True):
        found = detector.predict({"rgb": picture})
        scale = Scale(low=0, high=found.pixel_threshold)
        place.imshow(
            heat(found.anomaly_map, scale=scale, underlay=picture, side=96)
        )
for place, name in zip(axes[:, 0], ["image", *detectors], strict=True):
    place.set_ylabel(name)
for place in axes.flat:
    place.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Black is normal, and the brightest colour is at the threshold of
# pixels and above.
#
# ## 6. A network that exists already
#
# A network of your own needs no class. Name a function that returns it: any module
# that maps images to a list of maps.
#
# ```yaml
# modalities:
#   rgb: {encoder: {name: module, target: "my_package.networks:build"}}
# ```
#
# Networks of timm need no code at all: `encoder: {name: timm, model:
# resnet18.a1_in1k, weights: FILE}` ([Teachers and their
# weights](../install.md#teachers-and-their-weights)).
#
# ## Next
#
# - [Compose a branch](compose-a-branch.py): everything else that a branch is made
#   of.
# - [Whose code runs](../configure.md#whose-code-runs): how a saved detector finds
#   your code again.
