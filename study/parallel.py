"""Batches of images in as many threads as there are cores, each computing in one thread.

PyTorch's own threads wait for each other at every layer, and on a machine that is busy that made them three to five times
slower than one; whole batches side by side wait for nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from analysis.machine import cores

Item, Result = TypeVar("Item"), TypeVar("Result")
AHEAD = 2  # batches for each thread, in work or waiting to be taken

_lock = threading.Lock()
_inside, _undo = 0, contextlib.ExitStack()


def in_order(work: Callable[[Item], Result], batches: Iterable[Item]) -> Iterator[Result]:
    """``work`` of every batch, in order; no more than a few are taken ahead of what is asked for. Raises what it raises."""
    batches, workers = iter(batches), cores()
    with one_thread_each(), ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            while True:
                waiting.extend(pool.submit(work, batch) for batch in islice(batches, AHEAD * workers - len(waiting)))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Within, PyTorch and BLAS compute in the thread that calls them. The setting is the process's, so whoever comes first
    makes it and whoever leaves last undoes it."""
    global _inside
    with _lock:
        if _inside == 0:
            _limit()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _undo.close()


def _limit() -> None:
    import torch
    from threadpoolctl import threadpool_limits

    _undo.callback(torch.set_num_threads, torch.get_num_threads())
    _undo.enter_context(threadpool_limits(1))
    torch.set_num_threads(1)
