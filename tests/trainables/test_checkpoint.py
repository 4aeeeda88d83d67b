"""Checkpoints: two generations, digests that notice a flipped bit, nothing torn."""

from __future__ import annotations

import pytest
import torch

from trainables import checkpoint


def save(folder, epoch, value):
    return checkpoint.save_checkpoint(folder, epoch, {"w": torch.full((4, 3), float(value))}, {"rows": [epoch]})


def newest(folder):
    tensors, record = checkpoint.newest_checkpoint(folder)
    return tensors["w"][0, 0].item(), record["rows"]


def flip_bit(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def test_newest_of_two_generations(tmp_path):
    assert checkpoint.newest_checkpoint(tmp_path) is None
    for epoch in (9, 10, 11):
        save(tmp_path, epoch, epoch)
    assert newest(tmp_path) == (11.0, [11])
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("position", [0, 20, -1])
def test_one_flipped_bit_costs_one_generation(tmp_path, position):
    save(tmp_path, 1, 1)
    flip_bit(save(tmp_path, 2, 2), position)
    assert newest(tmp_path) == (1.0, [1])


def test_a_torn_or_empty_file_is_no_checkpoint(tmp_path):
    path = save(tmp_path, 1, 1)
    path.write_bytes(path.read_bytes()[:50])
    assert checkpoint.newest_checkpoint(tmp_path) is None
    (tmp_path / f"checkpoint-000002-{'0' * 64}.safetensors").touch()
    assert checkpoint.newest_checkpoint(tmp_path) is None


def test_channels_last_tensors_come_back_equal(tmp_path):
    kernel = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    digest = checkpoint.write_tensors(tmp_path / "w.safetensors", {"kernel": kernel})
    assert torch.equal(checkpoint.read_tensors(tmp_path / "w.safetensors", digest)["kernel"], kernel)


def test_reading_corrupt_or_missing_tensors_names_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    digest = checkpoint.write_tensors(path, {"w": torch.ones(3)})
    flip_bit(path, -1)
    with pytest.raises(ValueError, match=r"model\.safetensors is corrupt"):
        checkpoint.read_tensors(path, digest)
    path.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors is missing"):
        checkpoint.read_tensors(path, digest)


def test_deleting_leaves_everything_else(tmp_path):
    save(tmp_path, 1, 1)
    (tmp_path / ".metrics.jsonl.77.tmp").touch()
    (tmp_path / "metrics.jsonl").touch()
    checkpoint.delete_checkpoints(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
