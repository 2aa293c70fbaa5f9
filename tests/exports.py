"""What tests of exported detectors share: running a file with nothing but numpy and a runtime."""

from __future__ import annotations

import json

import numpy as np


def self_test(file):
    """Return the inputs and the expected outputs of the sample beside an exported file, by name."""
    found = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["selftest"]
    folder = file.with_name(found["folder"])
    return tuple({name: np.load(folder / f"{name}.npy") for name in found[kind]} for kind in ("inputs", "outputs"))


def onnx_runtime(file):
    """Return a function from inputs to outputs by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def openvino(file):
    """Return a function from inputs to outputs by name; thresholds are fixed in what OpenVINO makes of a file."""
    import openvino

    compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in compiled.outputs]
    return lambda inputs: {name: np.asarray(compiled(inputs)[name]) for name in names}


def close(found, expected, *, rel=1e-4):
    """Compare outputs by name: numbers relative to the largest, decisions exactly."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert (found[name].shape, found[name].dtype) == (values.shape, values.dtype), name
        if values.dtype == bool:
            assert (found[name] == values).all(), name
        else:
            np.testing.assert_allclose(found[name], values, atol=rel * np.abs(values).max(), rtol=0, err_msg=name)


def inputs_of(detector, samples):
    """Return what a file with inputs for RGB and a depth view reads, for samples of one size."""
    views = [detector.prepare(sample).views["depth"].numpy() for sample in samples]
    return {"rgb": np.stack([sample["rgb"] for sample in samples]), "depth_view": np.stack(views)}
