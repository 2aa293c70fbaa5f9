"""anomalib's PatchCore and PaDiM, from a file to a decision; `benchmarks.latency` runs it in the peers' environment.

    python anomalib_latency.py prepare JOB.json             # fits both on the training images and exports them
    python anomalib_latency.py MODEL,RUNTIME JOB.json       # prints one line of JSON

Both get the teacher of crdkit's `quick`, and its weights as a file. They see the RGB image alone; neither can read a
scan. PatchCore's memory bank has the size of its coreset (10 %), but is drawn at random: a prediction costs the same,
and the search for the coreset takes minutes.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from anomalib.data.utils import read_image
from anomalib.models import Padim, Patchcore

NAMES = ("PatchCore", "PaDiM")
RUNTIMES = ("PyTorch", "OpenVINO")
CORESET = 0.1


def build(name, job):
    """Return an anomalib model with the given teacher: PatchCore at two stages, PaDiM at three, as is their default."""
    options = {"backbone": job["backbone"], "pre_trained": False}
    if name == "PatchCore":
        module = Patchcore(layers=[2, 3], **options)
    else:
        module = Padim(layers=[1, 2, 3], n_features=job["padim_features"], **options)
    weights = torch.load(job["teacher"], weights_only=True)
    own = module.model.feature_extractor.feature_extractor
    missing = own.load_state_dict(weights, strict=False).missing_keys
    if missing:
        raise SystemExit(f"{job['teacher']}: lacks {missing[:3]}")
    return module


def fit(name, job):
    """Fit a model on the training images."""
    module = build(name, job)
    model = module.model.train()
    model.feature_extractor.eval()
    with torch.no_grad():
        for file in job["train"]:
            model(module.pre_processor(read_image(file, as_tensor=True)[None]))
        if name == "PatchCore":
            patches = torch.vstack(model.embedding_store)
            model.embedding_store.clear()
            kept = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))
            model.memory_bank = patches[kept[: int(CORESET * len(patches))]]
        else:
            model.fit()
    return module.eval()


def saved(name, job):
    return Path(job["work"], f"anomalib-{name}")


def prepare(job):
    for name in NAMES:
        module, folder = fit(name, job), saved(name, job)
        folder.mkdir(exist_ok=True)
        torch.save(dict(module.model.named_buffers()), folder / "fitted.pt")
        outputs = ["pred_score", "pred_label", "anomaly_map", "pred_mask"]
        image = torch.rand(1, 3, *job["input_size"])  # `to_onnx` of anomalib fixes the batch to two
        torch.onnx.export(
            module, (image,), folder / "model.onnx", opset_version=18, input_names=["input"], output_names=outputs
        )


def in_pytorch(name, job):
    module = build(name, job).eval()
    for key, value in torch.load(saved(name, job) / "fitted.pt", weights_only=True).items():
        owner, _, buffer = key.rpartition(".")
        setattr(module.model.get_submodule(owner), buffer, value)

    def predict(files):
        with torch.inference_mode():
            found = module(read_image(files["rgb"], as_tensor=True)[None])
        return float(found.pred_score), bool(found.pred_label)

    return predict


def in_openvino(name, job):
    import openvino

    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": job["threads"],
    }
    request = openvino.Core().compile_model(saved(name, job) / "model.onnx", "CPU", hints).create_infer_request()

    def predict(files):
        request.infer([read_image(files["rgb"], as_tensor=True)[None].numpy()], share_inputs=True)
        score = request.get_tensor("pred_score").data.ravel()[0]
        return float(score), bool(request.get_tensor("pred_label").data.ravel()[0])

    return predict


def measure(way, job):
    name, runtime = way.split(",")
    began = time.perf_counter()
    predict = {"PyTorch": in_pytorch, "OpenVINO": in_openvino}[runtime](name, job)
    found = [predict(files) for files in job["samples"]]
    ready = time.perf_counter() - began
    seconds = []
    for files in job["samples"] * job["repeats"]:
        began = time.perf_counter()
        predict(files)
        seconds.append(time.perf_counter() - began)
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))  # getrusage counts the parent's
    return {"seconds": seconds, "found": found, "ready_seconds": ready, "peak_bytes": 1024 * peak}


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    torch.set_num_threads(job["threads"])
    print(json.dumps(prepare(job) or {} if sys.argv[1] == "prepare" else measure(sys.argv[1], job)))
