"""What a scorer and a signal promise, as checks that their author can run; a method's are in ``trainables.checks``.

``check_scorer(MyScorer)`` and ``check_signal(my_signal)`` raise an ``AssertionError`` that names what is wrong.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.scorer_base import FAMILIES, Features, Scorer
from analysis.signals import SignalInfo

CLASSES, WIDTH = 3, 8
#: What may not be among the needs of a signal.
FORBIDDEN = ("anomal", "test", "vault")


def features(
    *, seed: int = 0, count: int = 120, own: tuple[str, ...] = (), labelled: bool = True, headed: bool = True
) -> Features:
    """Read-only float32 features of three classes with a linear head, as a trained model might give them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    z = rng.normal(size=(count, WIDTH))
    z[np.arange(count), labels] += 3
    fixed = np.random.default_rng(9)
    weight, bias = np.eye(CLASSES, WIDTH) + 0.1 * fixed.normal(size=(CLASSES, WIDTH)), fixed.normal(size=CLASSES)
    logits = z @ weight.T + bias
    arrays = [np.ascontiguousarray(a, dtype=np.float32) for a in (logits, z, weight, bias)]
    scores = {name: rng.random(count).astype(np.float32) for name in own}
    for array in (*arrays, labels, *scores.values()):
        array.setflags(write=False)
    return Features(arrays[0], arrays[1], labels if labelled else None, scores,
                    (arrays[2], arrays[3]) if headed else None)


def check_scorer(scorer: type[Scorer], *, own: tuple[str, ...] = ()) -> None:
    """Checks a scorer's record, and that it scores each image by itself, reads no test labels, leaves its input alone
    and is restored from its state. ``own``: a method's own scores that it reads."""
    info = scorer.info
    for name in ("name", "title", "paper", "needs"):
        _require(bool(getattr(info, name)), f"{info.name}: info.{name} is empty")
    _require(info.family in FAMILIES, f"{info.name}: family {info.family!r} is not one of {FAMILIES}")
    # what it does not say that it needs, it does not get: not every method has a head
    headed = any("head" in need for need in info.needs)
    train, test = features(own=own, headed=headed), features(seed=1, count=60, own=own)
    before = test.logits.copy(), test.z.copy()
    fitted = scorer()
    _require(fitted.fit(train) is fitted, f"{info.name}: fit must return the scorer itself")
    scores = fitted.score(test)
    _require(scores.shape == (60,) and scores.dtype == np.float64, f"{info.name}: gives {scores.dtype} {scores.shape}")
    _require(bool(np.isfinite(scores).all()), f"{info.name}: its scores are not finite")
    _require(np.array_equal(scorer().fit(train).score(test), scores), f"{info.name}: fitted twice, its scores differ")
    _require(all(map(np.array_equal, before, (test.logits, test.z))), f"{info.name}: it changes the features it is given")
    _close(fitted.score(test.select([7])), scores[[7]], f"{info.name}: an image's score depends on its company")
    _close(fitted.score(test.select(np.arange(60)[::-1])), scores[::-1], f"{info.name}: it depends on the order")
    blind = Features(test.logits, test.z, None, test.own)
    _close(fitted.score(blind), scores, f"{info.name}: it reads the labels of what it scores")
    _close(scorer.from_state(fitted.state()).score(test), scores, f"{info.name}: restored from its state, scores differ")
    _require(fitted.score(test.select(slice(0, 0))).shape == (0,), f"{info.name}: no images must give no scores")


def check_signal(signal: SignalInfo) -> None:
    """Checks a signal's record, and that it is a finite number told by the nominal features alone."""
    for name in ("name", "title", "cost", "needs"):
        _require(bool(getattr(signal, name)), f"{signal.name}: {name} is empty")
    _require(signal.direction in ("maximize", "minimize"), f"{signal.name}: direction is {signal.direction!r}")
    leaks = [need for need in signal.needs if any(word in need for word in FORBIDDEN)]
    _require(not leaks, f"{signal.name}: needs {', '.join(leaks)}, which no signal may see")
    if signal.compute is None:
        return
    train, validation = features(), features(seed=1, count=60)
    values = [float(signal.compute(train, validation)) for _ in range(2)]
    _require(math.isfinite(values[0]), f"{signal.name}: is {values[0]}")
    _require(values[0] == values[1], f"{signal.name}: differs when it is computed again, {values}")


def _close(a: np.ndarray, b: np.ndarray, message: str) -> None:
    _require(a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6), message)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
