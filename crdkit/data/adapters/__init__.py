"""The layouts that are read: one module for each registered dataset, and in private ones what a few of them share."""
