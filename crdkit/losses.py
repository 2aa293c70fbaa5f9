"""`crdkit.training.losses`, under the name that scripts import."""

from crdkit.training.losses import TERMS, branch_losses, cosine_loss, crd_losses

__all__ = ["TERMS", "branch_losses", "cosine_loss", "crd_losses"]
