"""Sum of the normalised maps with weights that the user gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

from crdkit.errors import ConfigError, unknown_name
from crdkit.scoring.aggregations import AggregationConfig, aggregations
from crdkit.scoring.surprise import SurpriseAggregation


class WeightedConfig(AggregationConfig):
    """Options of the weighted sum.

    Examples:
        >>> WeightedConfig(weights={"rgb": 2, "dept": 1}).check_modalities(["rgb", "depth"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        crdkit.errors.UnknownNameError: unknown modality in aggregation.weights: 'dept' - did you mean 'depth'? ...
    """

    name: Literal["weighted"] = "weighted"
    weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        {}, description="weight of each modality's normalised map; every modality needs one, 0 leaves it out"
    )

    def check_modalities(self, modalities: Sequence[str]) -> None:
        """Refuse weights of unknown modalities, and weights that leave one out or are all 0.

        Without any weights only building the aggregation fails: a run may set its options after the part's name.

        Raises:
            ConfigError: the message names the modality.
        """
        for name in self.weights:
            if name not in modalities:
                raise unknown_name("modality in aggregation.weights:", name, modalities)
        missing = [name for name in modalities if name not in self.weights]
        if self.weights and missing:
            raise ConfigError(
                f"aggregation.weights (={self.weights}) has no weight for modality {', '.join(map(repr, missing))}; "
                "give every modality one, 0 to leave it out"
            )
        if self.weights and max(self.weights.values()) < 1e-6:
            raise ConfigError(
                f"aggregation.weights (={self.weights}) are all 0; give one modality a weight of 1e-6 or more"
            )


@aggregations.register("weighted")
class Weighted(SurpriseAggregation):
    """Weighted sum of the maps after subtracting the validation mean and dividing by the standard deviation.

    Weights of 1 give the normalised sum. Choose them on other data than the test samples. A missing branch
    counts as the weighted mean of those that are there. Where only branches of weight 0 are, these decide, all alike.

    Examples:
        >>> fuse = Weighted(WeightedConfig(weights={"rgb": 2, "depth": 1}), modalities=["rgb", "depth"])
        >>> fuse({"rgb": torch.tensor([[[0.0, 2.0]]]), "depth": torch.tensor([[[1.0, 1.5]]])})  # not calibrated yet
        tensor([[[1.0000, 5.5000]]])
    """

    Config = WeightedConfig
    weights: torch.Tensor

    def __init__(self, config: WeightedConfig, *, modalities: Sequence[str]) -> None:
        """Build the aggregation for ``modalities``.

        Raises:
            ConfigError: there are no weights, or they do not fit the modalities.
        """
        super().__init__(config, modalities=modalities)
        if not config.weights:
            example = ", ".join(f"{name}: 1" for name in self.modalities)
            raise ConfigError(f"aggregation.weights is missing: give every modality one, e.g. {{{example}}}")
        weights = torch.tensor([config.weights[name] for name in self.modalities], dtype=torch.float32)
        self.register_buffer("weights", weights.view(-1, 1, 1, 1), persistent=False)

    @property
    def shares(self) -> torch.Tensor:
        """The weights, (M, 1, 1, 1)."""
        return self.weights

    def surprise(self, maps: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what each branch adds to the sum, (B, H, W): 0 for one of weight 0."""
        return dict(zip(self.modalities, self.units(maps) * self.weights, strict=True))

    def combine(self, units: torch.Tensor) -> torch.Tensor:
        """Fuse the normalised maps, (M, B, H, W), to (B, H, W)."""
        return (units * self.weights).sum(dim=0)
