"""The page that ``python -m benchmarks.gpu`` writes beside its JSON."""

from __future__ import annotations

from typing import Any

from benchmarks.parts import done, not_done


def markdown(result: dict[str, Any]) -> str:
    """Lay the result out: one line per figure, then what failed or was skipped, then the machine."""
    environment = result["environment"]
    title = "Smoke test on the CPU: no measurement" if result["smoke"] else f"On a GPU: {environment['gpu']}"
    machine = ", ".join(f"{key} {value}" for key, value in environment.items() if value is not None)
    return "\n".join(
        [
            f"# {title}",
            "",
            "| what | measured | goal, on an H200 |",
            "|---|--:|--:|",
            *(f"| {what} | {value} | {goal_of(what, result)} |" for what, value in _rows(result)),
            "",
            *not_done(result),
            "",
            f"{machine}.",
            "",
            "Repeat: `python -m benchmarks.gpu`; everything that was measured is in gpu.json.",
            "",
        ]
    )


GOALS = {  # beginnings of rows
    "share of the ceiling": ">= 60 %",
    "whole job, 200 epochs, ours": "<= 60 s",
    "baseline / ours": ">= 15x",
    "prediction in batches of 32, host to host": ">= 800 samples/s",
    "prediction of one sample, host to host, p50": "<= 10 ms",
}


def goal_of(what: str, result: dict[str, Any]) -> str:
    """Return the goal of a row; a smoke test has none."""
    return "" if result["smoke"] else next((goal for row, goal in GOALS.items() if what.startswith(row)), "")


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if part := done(result, "ceilings"):
        rows += [
            (f"matmul ceiling ({part['matmul']})", f"{part['matmul_tflops']:.3g} TFLOP/s"),
            ("copy on the device", f"{part['copy_gb_per_s']:.3g} GB/s"),
            ("copy from pinned host memory", f"{part['upload_gb_per_s']:.3g} GB/s"),
        ]
    if part := done(result, "step"):
        rows += [
            (f"step, {part['precision']}", f"{1e3 * part['step_seconds']:.2f} ms"),
            (f"at {part['gflop_per_sample']:.3g} GFLOP per sample", f"{part['tflops']:.3g} TFLOP/s"),
        ]
        if part["share_of_matmul"] is not None:
            rows.append(("share of the ceiling", f"{part['share_of_matmul']:.1%}"))
    if part := done(result, "synchronisations"):
        places = ", ".join(f"{place} {count}x" for place, count in part["places"].items()) or "none"
        seen = places if part["device"] == "cuda" else "not counted on a CPU"
        rows.append((f"host waits for the GPU, in {part['epochs']} epochs of {part['steps']} steps", seen))
    if part := done(result, "step_variants"):
        rows += [
            (f"step, {name}", seconds if isinstance(seconds, str) else f"{1e3 * seconds:.2f} ms")
            for name, seconds in part["step_seconds"].items()
        ]
    return rows + _job_rows(result) + _other_rows(result)


def _job_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, key in (("ours", "whole_job"), ("baseline", "total")):
        if part := done(result, f"job_{name}"):
            measured = part["extrapolated_from_epochs"]
            said = f", extrapolated from {measured} epochs" if measured else ""
            rows.append((f"whole job, {result['epochs']} epochs, {name}{said}", f"{part['seconds'][key]:.1f} s"))
            if part["peak_device_bytes"] is not None:
                rows.append((f"peak GPU memory, {name}", f"{part['peak_device_bytes'] / 2**30:.2f} GiB"))
    if part := done(result, "job_ours"):
        if part["ratio"] is not None:
            rows.append(("baseline / ours", f"{part['ratio']:.1f}x"))
        if not done(result, "ten_categories"):
            rows.append(("ten categories, estimated as ten jobs", f"{part['ten_categories_estimate_seconds']:.0f} s"))
    if part := done(result, "ten_categories"):
        rows.append(("ten categories in one process", f"{part['total_seconds']:.0f} s"))
    return rows


def _other_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if part := done(result, "prediction"):
        for precision in sorted(part.keys() & {"fp32", "bf16"}):
            times = part[precision]
            rate, latency = f"{times['samples_per_second']:.0f}", f"{1e3 * times['single_p50_seconds']:.2f}"
            said = "fp32, convolutions in TF32" if part["tf32"] and precision == "fp32" else precision
            rows += [
                (f"prediction in batches of {part['batch']}, host to host, {said}", f"{rate} samples/s"),
                (f"prediction of one sample, host to host, p50, {said}", f"{latency} ms"),
            ]
    if part := done(result, "agreement"):
        rows += [
            (
                f"captured against eager, float32, {part['steps']} steps: losses",
                f"{part['largest_relative_loss_difference']:.1e}",
            ),
            ("the same: weights", f"{part['relative_weight_difference']:.1e}"),
        ]
    if part := done(result, "precision"):
        low = [name for name in part["metrics"] if name != "fp32"]
        what = f"{', '.join(low) or 'fp32'} against fp32 after {part['epochs']} epochs ({part['teacher']})"
        rows.append((f"{what}, largest difference of a metric", f"{part['largest_difference_points']:.2f} points"))
    return rows
