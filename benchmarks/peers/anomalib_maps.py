"""anomalib's PatchCore, PaDiM and STFPM, trained and run on given views; it runs in the peers' environment.

    python anomalib_maps.py METHOD JOB.json     # writes the maps, prints one line of JSON

They see the RGB view alone, in [0, 1] and of the size that crdkit sees, with ImageNet's normalisation, and have
crdkit's teacher with its weights. Everything else is anomalib's own: coreset, optimiser, batch size, smoothing, image
score, and its layers by stride (PatchCore 8 and 16, PaDiM and STFPM 4, 8 and 16). What its trainer would decide on test
images (when to stop, thresholds, the range of scores) is left out. PaDiM keeps ``padim_features`` random channels.
"""

import json
import os
import random
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from anomalib.models import Padim, Patchcore
from anomalib.models.components import KCenterGreedy
from anomalib.models.image.stfpm import torch_model
from anomalib.models.image.stfpm.loss import STFPMLoss

MEAN, STD = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
BATCH = 32
CORESET = 0.1  # anomalib's default, as is the batch of 32


def read(job, split):
    with np.load(job["scans"]) as scans:
        return (torch.from_numpy(scans[f"{split}_rgb"]) - MEAN) / STD


def give_teacher(extractor, job):
    missing = extractor.feature_extractor.load_state_dict(
        torch.load(job["teacher"], weights_only=True), strict=False
    ).missing_keys
    if missing:
        raise SystemExit(f"{job['teacher']}: lacks {missing[:3]}")


def distances_by_products(sampler, cluster_center):
    """Update the sampler's distances as anomalib does, but by a matrix product, which takes a fraction of the time."""
    features = sampler.features
    if sampler.min_distances is None:
        sampler.squares = features.square().sum(1, keepdim=True)
    center = features[cluster_center].flatten()
    found = (sampler.squares + center.square().sum() - 2 * (features @ center)[:, None]).clamp_min_(0).sqrt_()
    known = sampler.min_distances
    sampler.min_distances = found if known is None else torch.minimum(known, found)


def patchcore(job, images):
    module = Patchcore(layers=[2, 3], backbone=job["backbone"], pre_trained=False)
    give_teacher(module.model.feature_extractor, job)
    model = module.model.train()
    model.feature_extractor.eval()
    with torch.no_grad(), mock.patch.object(KCenterGreedy, "update_distances", distances_by_products):
        for batch in images.split(BATCH):
            model(batch)
        model.subsample_embedding(CORESET)
    return model


def padim(job, images):
    module = Padim(layers=[1, 2, 3], n_features=job["padim_features"], backbone=job["backbone"], pre_trained=False)
    give_teacher(module.model.feature_extractor, job)
    model = module.model.train()
    model.feature_extractor.eval()
    with torch.no_grad():
        for batch in images.split(BATCH):
            model(batch)
        model.fit()
    return model


def stfpm(job, images):
    """Train a student for 100 epochs with anomalib's SGD: its trainer's default, which stops early on test images."""
    build = torch_model.TimmFeatureExtractor
    with mock.patch.object(torch_model, "TimmFeatureExtractor", lambda **kw: build(**{**kw, "pre_trained": False})):
        model = torch_model.STFPMModel(layers=[1, 2, 3], backbone=job["backbone"])
    give_teacher(model.teacher_model, job)
    loss_of = STFPMLoss()
    optimiser = torch.optim.SGD(model.student_model.parameters(), lr=0.4, momentum=0.9, weight_decay=0.001)
    for epoch in range(job["stfpm_epochs"]):
        model.train()
        model.teacher_model.eval()
        losses = []
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = loss_of(*model(images[rows]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        if epoch % 10 == 0:
            print(f"epoch {epoch}: loss {np.mean(losses):.3f}", file=sys.stderr, flush=True)
    return model


METHODS = {"PatchCore": patchcore, "PaDiM": padim, "STFPM": stfpm}


def tensors_of(model):
    """Return the bytes of what is needed to predict."""
    return sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])


def measure(method, job):
    for seed in (random.seed, np.random.seed, torch.manual_seed):  # PaDiM's channels are drawn by random
        seed(job["seed"])
    images, test = read(job, "train"), read(job, "test")
    began = time.process_time()
    model = METHODS[method](job, images).eval()
    train = time.process_time() - began
    found, began = [], time.process_time()
    with torch.inference_mode():
        for image in test.split(1):
            result = model(image)
            found.append((result.anomaly_map[0, 0].numpy(), float(result.pred_score)))
    predict = (time.process_time() - began) / len(test)
    maps, scores = zip(*found, strict=True)
    np.savez(job["maps"], maps=np.stack(maps).astype(np.float32), scores=np.array(scores))
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))  # getrusage counts the parent's
    return {
        "train_cpu_s": train,
        "predict_cpu_s": predict,
        "peak_bytes": 1024 * peak,
        "model_bytes": tensors_of(model),
    }


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    torch.set_num_threads(job["threads"])
    print(json.dumps(measure(sys.argv[1], job)))
