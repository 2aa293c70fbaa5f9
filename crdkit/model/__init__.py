"""The paper's network: frozen teachers, a graph of filters and amplifiers, and one student per modality."""

from crdkit.model.crd import CRD, CRDOutput
from crdkit.model.graph import CrossmodalGraph, Edge
from crdkit.model.layers import FeatureSpec

__all__ = ["CRD", "CRDOutput", "CrossmodalGraph", "Edge", "FeatureSpec"]
