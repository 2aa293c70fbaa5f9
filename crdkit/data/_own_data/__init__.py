"""Which of one's own files belong to a sample: arranged folders, manifests, tables; for ``folder`` and the import."""
