"""The vault: complete, labelled, verified."""

from __future__ import annotations

import numpy as np
import pytest

from study.prepare import prepare
from study.vault import Vault, verify


@pytest.fixture
def made(tmp_path):
    """Four classes of 10 images; each image's pixels hold 10 · class + its number."""
    labels = np.repeat(np.arange(4), 10)
    images = np.tile(np.arange(40, dtype=np.uint8)[:, None, None], (1, 3, 3))
    np.savez(tmp_path / "d.npz", images=images, labels=labels, class_names=np.array(["p", "n0", "q", "n1"]))
    data = {"source": "npz", "path": str(tmp_path / "d.npz"), "nominal_classes": ["n0", "n1"]}

    def run(**more) -> Vault:
        prepare(data | more, tmp_path / "run")
        return Vault.load(tmp_path / "run" / "vault" / "0", verify=True)

    run.folder = tmp_path / "run" / "vault" / "0"
    return run


def test_labels_are_those_of_the_classes(made):
    vault = made()
    assert vault.anomaly_classes == ("p", "q") and vault.has_anomalies and vault.split == 0
    assert [len(part) for part in (vault.train, vault.validation, vault.test_nominal, vault.test_anomaly)] == [12, 4, 4, 4]
    assert vault.counts == {"train": 12, "validation": 4, "test_nominal": 4, "test_anomaly": 4}
    for part in (vault.train, vault.validation, vault.test_anomaly):
        assert ((part.images[:, 0, 0, 0] // 10) == np.array([0, 2])[part.labels]).all()
    assert ((vault.test_nominal.images[:, 0, 0, 0] // 10) == np.array([1, 3])[vault.test_nominal.labels]).all()
    seen = np.concatenate([part.images[:, 0, 0, 0] for part in (vault.train, vault.validation, vault.test_anomaly)])
    assert sorted(seen.tolist()) == [*range(10), *range(20, 30)]
    assert not vault.train.images.flags.writeable


def test_without_anomalies_there_is_nothing_to_reveal(made):
    vault = made(anomaly_classes=[])
    assert not vault.has_anomalies and vault.anomaly_classes == () and len(vault.test_nominal) == 4
    assert vault.train.images.shape == (0, 3, 3, 1) and len(vault.validation) == len(vault.test_anomaly) == 0
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "manifest.json", "test_nominal_images.npy", "test_nominal_labels.npy",
    ]  # fmt: skip


def test_classes_in_neither_list_are_left_out(made):
    vault = made(anomaly_classes=["q"])
    assert vault.anomaly_classes == ("q",) and set(vault.train.labels.tolist()) == {0}
    assert (vault.test_anomaly.images[:, 0, 0, 0] // 10 == 2).all()


def test_a_changed_vault_is_noticed(made):
    made()
    verify(made.folder)
    path = made.folder / "test_anomaly_labels.npy"
    np.save(path, 1 - np.load(path))
    with pytest.raises(ValueError, match="test_anomaly_labels.npy was changed"):
        Vault.load(made.folder, verify=True)
    with pytest.raises(ValueError, match="was changed"):
        verify(made.folder)


def test_a_missing_vault_is_named(tmp_path):
    with pytest.raises(ValueError, match="manifest.json is missing"):
        Vault.load(tmp_path)
