"""A reference-style CRD: the work that published code does, written by us for timing beside crdkit.

Every file is decoded every epoch by DataLoader workers that start anew, each modality has its own copy of the frozen
teacher and runs it every step, branches follow one another in eager float32, a loss is read to the host per step, and
test samples go one by one: SciPy smoothing, pixels in Python lists, scikit-learn's metrics. Decoding, views, student
network and aggregation are crdkit's own, so that both compute the same thing (`test_baseline.py`). Left out
is what only defects of published code cost, such as reading every TIFF twice.
"""
