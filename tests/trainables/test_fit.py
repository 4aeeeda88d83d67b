"""The training loop: learns, resumes bit for bit, notices corruption and divergence, keeps its folder's contract."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch

from search_spaces import get_space
from trainables.data import View
from trainables.fit import (
    Diverged,
    Training,
    TrainSettings,
    derive_seed,
    embed_images,
    fit,
    load_model,
    read_features,
    read_result,
)
from trainables.methods import get_method

SETTINGS = TrainSettings(epochs=3, batch_size=16, device="cpu")
TINY = {"width": 0.5, "learning_rate": 0.1}


def blobs(count, *, seed):
    """8×8 grey images of three classes: a bright bar at the left, in the middle, at the right, in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 90, (count, 8, 8, 1))
    for i, label in enumerate(labels):
        images[i, :, 1 + 2 * label : 3 + 2 * label] += 130
    return images.astype(np.uint8), labels.astype(np.int64)


@pytest.fixture(scope="module")
def view():
    train, validation = blobs(96, seed=0), blobs(48, seed=1)
    for array in (*train, *validation):
        array.setflags(write=False)  # as Ray and memory maps give them
    return View(classes=("left", "middle", "right"), image_shape=(8, 8, 1), mean=(0.3,), std=(0.25,),
                flips_keep_labels=False, rotations_keep_labels=False, digest="d", split=0,
                train_images=train[0], train_labels=train[1], validation_images=validation[0],
                validation_labels=validation[1])


def params_of(method, **changed):
    return get_space(method).default() | TINY | changed


def start(view, folder=None, *, method="classifier", settings=SETTINGS, seed=5, **changed):
    return Training(method=method, view=view, params=params_of(method, **changed), settings=settings, seed=seed,
                    folder=folder)


def finish(training):
    while not training.done:
        training.step()
    return training.finish()


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_learns_the_classes_and_reports_every_epoch(view):
    rows = []
    result = fit(method="classifier", view=view, params=params_of("classifier"), seed=0, report=rows.append,
                 settings=TrainSettings(epochs=8, batch_size=16))
    assert result["signals"]["val_accuracy"] >= 0.95
    assert result["signals"]["synthetic_outlier_auroc"] > 0.5
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert rows[-1]["val_nll"] < rows[0]["val_nll"] and rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert result["train_seconds"] == pytest.approx(sum(row["seconds"] for row in rows))


@pytest.mark.parametrize("method", ["classifier", "hybrid"])
def test_finished_folder_holds_what_the_others_read(view, tmp_path, method):
    result = finish(start(view, tmp_path, method=method))
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.jsonl", "model.safetensors", "features.safetensors",
                                                    "result.json"}
    assert read_result(tmp_path) == result
    features = read_features(tmp_path)
    own = {f"validation/{name}" for name in get_method(method).own_scorers}
    assert set(features) == {"train/z", "train/logits", "validation/z", "validation/logits", "head/weight",
                             "head/bias"} | own
    assert features["train/z"].shape == (96, 32) and features["validation/logits"].shape == (48, 3)
    model = load_model(tmp_path, view_shape=(8, 8, 1), num_classes=3, method=method, network="small_cnn",
                       params=params_of(method))
    again = embed_images(model, method, view.validation_images, view, batch_size=10)
    for name, array in again.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, features[f"validation/{name}"], atol=1e-4)
    accuracy = (features["validation/logits"].argmax(1) == view.validation_labels).mean()
    assert result["signals"]["val_accuracy"] == pytest.approx(accuracy)


def test_no_images_embed_to_empty_arrays(view):
    model = start(view).model
    out = embed_images(model, "hybrid" if hasattr(model, "decoder") else "classifier", view.train_images[:0], view)
    assert out["z"].shape == (0, 32) and out["logits"].shape == (0, 3)


@pytest.mark.parametrize("changed", [
    {}, {"mixup": 0.4, "dropout": 0.3, "cutout": 0.3, "colour_jitter": 0.2, "label_smoothing": 0.1}])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_killed_after_any_epoch_the_weights_are_the_same(view, tmp_path, changed, early_stopping):
    settings = TrainSettings(epochs=3, batch_size=16, early_stopping=early_stopping)
    whole = finish(start(view, tmp_path / "whole", settings=settings, **changed))
    for _ in range(3):  # a new object each epoch: nothing survives but the folder
        start(view, tmp_path / "parts", settings=settings, **changed).step()
    parts = finish(start(view, tmp_path / "parts", settings=settings, **changed))
    for key in ("weights_sha256", "features_sha256", "signals", "stop_epoch"):
        assert parts[key] == whole[key], key
    assert [r["train_loss"] for r in rows_of(tmp_path / "parts")] == [r["train_loss"] for r in rows_of(tmp_path / "whole")]


def test_global_random_state_neither_matters_nor_moves(view):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = finish(start(view))
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(2)
    np.random.seed(2)
    assert finish(start(view))["weights_sha256"] == first["weights_sha256"]
    assert finish(start(view, seed=6))["weights_sha256"] != first["weights_sha256"]


def test_a_corrupt_checkpoint_costs_one_epoch_and_no_row_twice(view, tmp_path):
    whole = finish(start(view, tmp_path / "whole"))
    folder = tmp_path / "hurt"
    training = start(view, folder)
    training.step()
    training.step()
    newest = max(folder.glob("checkpoint-*"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 4
    newest.write_bytes(bytes(data))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "train_l')  # killed while writing
    resumed = start(view, folder)
    assert resumed.epoch == 1
    assert finish(resumed)["weights_sha256"] == whole["weights_sha256"]
    assert [row["epoch"] for row in rows_of(folder)] == [1, 2, 3]


def whole(folder):
    """Every epoch once, a result, and nothing else."""
    names = sorted(p.name for p in folder.iterdir())
    return [row["epoch"] for row in rows_of(folder)] == [1, 2, 3] and names == [
        "features.safetensors", "metrics.jsonl", "model.safetensors", "result.json"]


def test_two_processes_that_have_one_trial_leave_one_whole_trial(view, tmp_path):
    """A node that was only thought dead, a worker that outlives its driver: both train, and both train the same."""
    alone = finish(start(view, tmp_path / "alone"))
    old = start(view, tmp_path / "both")
    old.step()
    new = start(view, tmp_path / "both")
    old.step()
    late = start(view, tmp_path / "both")  # begun, and never heard of again
    new.step()
    first = finish(old)
    assert whole(tmp_path / "both")
    last = finish(new)
    assert whole(tmp_path / "both") and last == first
    assert late.epoch == 2 and finish(late) == first and whole(tmp_path / "both")
    assert first["weights_sha256"] == alone["weights_sha256"] and first["features_sha256"] == alone["features_sha256"]


def test_who_is_overtaken_takes_the_result_that_is_there(view, tmp_path):
    old = start(view, tmp_path)
    new = start(view, tmp_path)
    done = finish(new)
    assert old.step()["epoch"] == 1 and old.done and old.finish() == done
    assert whole(tmp_path)


def test_a_folder_that_vanishes_is_the_machines_fault(view, tmp_path):
    training = start(view, tmp_path / "trial")
    shutil.rmtree(tmp_path / "trial")
    with pytest.raises(FileNotFoundError, match="trial"):
        training.step()
    assert not (tmp_path / "trial").exists()


def test_killed_between_row_and_checkpoint_repeats_the_epoch_once(view, tmp_path):
    training = start(view, tmp_path)
    training.step()
    training._save = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        training.step()
    assert [row["epoch"] for row in rows_of(tmp_path)] == [1, 2]
    finish(start(view, tmp_path))
    assert [row["epoch"] for row in rows_of(tmp_path)] == [1, 2, 3]


def test_killed_before_the_result_is_written_finishes_again(view, tmp_path):
    result = finish(start(view, tmp_path / "whole"))
    training = start(view, tmp_path / "cut")
    while not training.done:
        training.step()
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"half")  # killed inside finish
    again = start(view, tmp_path / "cut")
    assert again.done and again.epoch == 3
    assert again.finish()["weights_sha256"] == result["weights_sha256"]


def test_a_finished_folder_is_done_at_once_and_untouched(view, tmp_path):
    result = finish(start(view, tmp_path))
    stamps = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    again = start(view, tmp_path)
    assert again.done and again.epoch == 3 and again.finish() == result
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == stamps
    with pytest.raises(RuntimeError, match="finish"):
        again.step()


@pytest.mark.parametrize("finished", [False, True])
def test_a_folder_of_another_trial_is_refused(view, tmp_path, finished):
    training = start(view, tmp_path)
    training.step()
    if finished:
        finish(training)
    for other in ({"weight_decay": 1e-3}, {"seed": 6}, {"settings": TrainSettings(epochs=4, batch_size=16)}):
        with pytest.raises(ValueError, match="another trial"):
            start(view, tmp_path, **other)


def test_early_stopping_keeps_the_best_epoch(view, tmp_path):
    settings = TrainSettings(epochs=6, batch_size=16, early_stopping=True)
    training = start(view, tmp_path, settings=settings, learning_rate=0.6)
    rows = [training.step() for _ in range(6)]
    result = training.finish()
    accuracies = [row["val_accuracy"] for row in rows]
    assert result["stop_epoch"] == accuracies.index(max(accuracies)) + 1
    assert result["signals"]["val_accuracy"] == pytest.approx(max(accuracies))
    assert result["epochs"] == 6


def test_divergence_is_an_outcome(view, tmp_path):
    training = start(view, tmp_path, learning_rate=1e12)
    with pytest.raises(Diverged, match=r"nan|inf"):
        finish(training)
    assert all(math.isfinite(row["val_nll"]) for row in (rows_of(tmp_path) if (tmp_path / "metrics.jsonl").exists() else []))


def test_an_unfinished_folder_has_no_features(view, tmp_path):
    start(view, tmp_path).step()
    with pytest.raises(ValueError, match="not finished"):
        read_features(tmp_path)


def test_each_part_of_a_seed_counts():
    seeds = {derive_seed(0, "a"), derive_seed(1, "a"), derive_seed(0, "b"), derive_seed(0, "a", 1), derive_seed("0", "a")}
    assert len(seeds) == 5 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "a") == derive_seed(0, "a")


def test_a_class_fewer_than_a_batch_and_odd_batches_train(view):
    few = view.restrict([2, 0])
    for batch_size in (1000, 7):
        result = fit(method="classifier", view=few, params=params_of("classifier"), seed=0,
                     settings=TrainSettings(epochs=1, batch_size=batch_size))
        assert math.isfinite(result["signals"]["val_nll"])


def test_a_signal_that_is_undefined_for_a_model_is_left_out_and_the_trial_stays(view, tmp_path, monkeypatch):
    from analysis import signals

    known = signals.computed_signals()
    monkeypatch.setattr(signals, "computed_signals", lambda: {**known, "undefined": lambda train, validation: float("nan")})
    result = start(view, tmp_path / "t", settings=TrainSettings(epochs=1, batch_size=16, device="cpu"))
    while not result.done:
        result.step()
    found = result.finish()["signals"]
    assert "undefined" not in found and known.keys() <= found.keys() and read_result(tmp_path / "t")["signals"] == found


@pytest.mark.parametrize(("share", "total", "fraction"), [
    (0.25, 80 * 2**30, 0.25 - 600 / (80 * 1024)), (1.0, 80 * 2**30, 1 - 600 / (80 * 1024)), (0.0625, 8 * 2**30, 0.03125)])
def test_torchs_limit_leaves_room_for_the_cuda_context(share, total, fraction):
    from trainables.inference import fraction_for_tensors

    assert fraction_for_tensors(share, total) == pytest.approx(fraction)
