"""Stands for CUDA on a machine without it: devices, streams, captures and pools, as strict as the real ones.

What runs on a device is a Python function that is given to `FakeCuda.launch`. Streams that capture record it instead of
running it. ``release`` is what a failed capture leaves behind: "old" as torch 2.6 does, "new" as 2.14 does.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager

import torch

from crdkit._core import capture


class FakeCuda:
    def __init__(self, monkeypatch, *, release="new", devices=2):
        self.old = release == "old"
        self.here = threading.local()  # each thread has a current device, and a current stream on each
        self.defaults = [Stream(self, index, name="default") for index in range(devices)]
        self.log = []
        self.graphs = []  # under way
        self.routed = []  # pools that the allocator believes to be captured into
        self.uses = {}  # of each pool, by graphs
        self.held = {}  # bytes of each pool that tensors hold
        self.generator_captures = False
        self._pools = 0
        cuda = {
            "device": self.device,
            "current_device": lambda: self.current,
            "current_stream": lambda device=None: self.streams()[self.place(device)],
            "set_stream": self.set_stream,
            "stream": lambda stream: StreamContext(self, stream),
            "Stream": lambda device=None: Stream(self, self.place(device)),
            "graph_pool_handle": self.new_pool,
            "CUDAGraph": lambda: Graph(self),
            "graph": self.graph,
            "empty_cache": self.empty_cache,
            "synchronize": self.synchronize,
            "memory_snapshot": self.memory_snapshot,
            "is_current_stream_capturing": lambda: self.streams()[self.current].graph is not None,
        }
        for name, value in cuda.items():
            monkeypatch.setattr(torch.cuda, name, value)
        names = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")
        monkeypatch.setattr(torch._C, names[self.old], self.end_routing, raising=False)
        monkeypatch.delattr(torch._C, names[not self.old], raising=False)
        monkeypatch.setattr(torch._C, "_cuda_releasePool", self.release_pool, raising=False)
        monkeypatch.setattr(capture, "_tiny_kernel", lambda device: lambda: self.launch(device, lambda: None))

    @property
    def current(self):
        return getattr(self.here, "device", 0)

    def streams(self):
        if not hasattr(self.here, "streams"):
            self.here.streams = list(self.defaults)
        return self.here.streams

    def place(self, device):
        found = torch.device("cpu" if device is None else device)
        return self.current if found.type == "cpu" or found.index is None else found.index

    @contextmanager
    def device(self, device):
        before, self.here.device = self.current, self.place(device)
        try:
            yield
        finally:
            self.here.device = before

    def set_stream(self, stream):
        self.here.device = stream.index  # as the real one does
        self.streams()[stream.index] = stream

    def launch(self, device, kernel):
        """Run a function on a device: on its current stream, whatever device is the current one."""
        stream = self.streams()[self.place(device)]
        self.log.append(("launch", stream.name))
        if stream.graph is None:
            kernel()
        else:
            stream.graph.kernels.append(kernel)

    def read_back(self, device=None):
        """Wait for a device's stream, which a capture does not allow."""
        stream = self.streams()[self.place(device)]
        if stream.graph is not None:
            stream.graph.broken = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")

    def unsafe_call(self):
        """Do what breaks captures of mode "global" in any thread, and those of "thread_local" in their own."""
        for graph in self.graphs:
            if graph.mode == "global" or graph.thread == threading.get_ident():
                graph.broken = True
                raise RuntimeError("CUDA error: operation would make the legacy stream depend on a capturing one")

    def synchronize(self, device=None):
        for graph in self.graphs:
            graph.broken = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    def new_pool(self):
        self._pools += 1
        return (0, self._pools)

    def end_routing(self, device, pool):
        if (device, pool) not in self.routed:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.routed.remove((device, pool))

    def release_pool(self, device, pool):
        assert self.uses[device, pool] > 0, "a pool is released twice: the allocator is broken"
        self.uses[device, pool] -= 1

    def empty_cache(self):
        assert not self.routed, "INTERNAL ASSERT FAILED: captures_underway.empty()"
        for key, uses in self.uses.items():
            if not uses and not self.held.get(key):
                self.held.pop(key, None)

    def memory_snapshot(self):
        return [
            {"device": device, "segment_pool_id": pool, "active_size": held}
            for (device, pool), held in self.held.items()
        ]

    @contextmanager
    def graph(self, graph, pool=None, stream=None, *, capture_error_mode="global"):
        self.synchronize()
        self.empty_cache()
        inside = StreamContext(self, stream)
        inside.__enter__()
        graph.capture_begin(pool, capture_error_mode)
        try:
            yield
        finally:
            graph.capture_end()  # as in the real one: if this raises, the stream stays
            inside.__exit__(None, None, None)


class StreamContext:
    """Not a generator: those put the stream back when they are deleted, which the real one does not."""

    def __init__(self, cuda, stream):
        self.cuda, self.stream = cuda, stream

    def __enter__(self):
        cuda = self.cuda
        self.around, self.there = cuda.streams()[cuda.current], cuda.streams()[self.stream.index]
        cuda.set_stream(self.stream)

    def __exit__(self, *error):
        self.cuda.set_stream(self.there)
        self.cuda.set_stream(self.around)


class Stream:
    def __init__(self, cuda, index, name=None):
        self.cuda, self.index, self.graph = cuda, index, None
        self.name = name or f"stream {id(self)}"
        self.device = torch.device("cuda", index)

    def wait_stream(self, other):
        if other.graph is not None and self.graph is None:
            self.graph = other.graph  # it joins the capture
            other.graph.joined.append(self)

    def synchronize(self):
        assert self.graph is None, "a stream that captures cannot be waited for"
        self.cuda.log.append(("wait", self.name))


class Graph:
    def __init__(self, cuda):
        self.cuda, self.kernels, self.joined = cuda, [], []
        self.broken = self.ended = self.has_pool = False

    def capture_begin(self, pool, mode):
        cuda = self.cuda
        self.stream, self.mode, self.thread = cuda.streams()[cuda.current], mode, threading.get_ident()
        if self.stream in cuda.defaults:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream.")
        if cuda.graphs:
            raise RuntimeError("only one capture may be underway at a time")
        self.key = (cuda.current, pool or cuda.new_pool())
        cuda.routed.append(self.key)
        cuda.uses[self.key] = cuda.uses.get(self.key, 0) + 1
        cuda.held.setdefault(self.key, 0)
        self.has_pool, cuda.generator_captures, self.stream.graph = True, True, self
        cuda.graphs.append(self)

    def capture_end(self):
        cuda = self.cuda
        if cuda.streams()[cuda.current] is not self.stream:
            raise RuntimeError("Capture must end on the same stream it began on.")
        for stream in (self.stream, *self.joined):
            stream.graph = None
        cuda.graphs.remove(self)
        if not (self.broken and cuda.old):
            cuda.end_routing(*self.key)
            cuda.generator_captures = False
        if self.broken:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.ended = True
        if not self.kernels:
            warnings.warn("The CUDA Graph is empty. This usually means that ...", UserWarning, stacklevel=2)

    def replay(self):
        assert self.ended, "Called CUDAGraph::replay without a preceding successful capture."
        for kernel in self.kernels:
            kernel()

    def reset(self):
        if self.has_pool and (self.ended or not self.cuda.old):
            self.cuda.release_pool(*self.key)
            self.has_pool = False
