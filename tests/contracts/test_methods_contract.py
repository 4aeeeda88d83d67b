"""Every registered method keeps the contract of trainables/methods/base.py; a new one is tested once its file is there."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from search_spaces import get_space, space_names
from trainables.methods import get_method, method_names
from trainables.synthetic import TRANSFORMS

SHAPES = [(8, 8, 1), (32, 32, 3), (20, 12, 3)]
CLASSES, BATCH = 3, 6


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def build(name, shape=(8, 8, 1), *, seed=0, **changed):
    params = get_space(name).default() | changed
    torch.manual_seed(seed)
    return get_method(name).build(shape, CLASSES, "small_cnn", params), params


def batch(shape, *, count=BATCH):
    height, width, channels = shape
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, height, width, generator=generator), torch.arange(count) % CLASSES


def loss_of(name, model, params, images, targets, *, seed=2):
    return get_method(name).loss(model, images, targets, params, torch.Generator().manual_seed(seed))


def test_the_original_two_come_first():
    assert method_names()[:2] == ["classifier", "hybrid"]


def test_listing_the_names_imports_no_torch():
    code = "import sys, trainables.methods as m, search_spaces as s; m.method_names(); [s.get_space(n) for n in s.space_names()]"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="'hybrid'"):
        get_method("hybird")
    with pytest.raises(ValueError, match="'classifier'"):
        get_space("clasifier")


@pytest.mark.parametrize("name", method_names())
class TestMethod:
    def test_has_a_record_and_a_space(self, name):
        info = get_method(name).info
        assert info.name == name and info.title and info.paper and info.url.startswith("https://")
        assert 1990 < info.year < 2100 and info.relative_cost > 0
        assert name in space_names()
        assert get_method(name).trains_on <= set(TRANSFORMS)

    def test_default_configuration_is_in_its_space(self, name):
        space = get_space(name)
        space.check(space.default())
        assert space.searched(), "nothing to search"
        assert all(p.why for p in space.parameters.values())

    @pytest.mark.parametrize("shape", SHAPES)
    def test_loss_is_finite_and_reaches_every_parameter(self, name, shape):
        model, params = build(name, shape)
        model.train()
        for _ in range(2):  # the first leaves zero-initialised branches without gradient below them
            loss, parts = loss_of(name, model, params, *batch(shape))
            assert loss.ndim == 0 and torch.isfinite(loss)
            assert parts and all(torch.isfinite(part) and not part.requires_grad for part in parts.values())
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.sub_(0.01 * parameter.grad)
        untouched = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert untouched == []

    def test_loss_takes_soft_targets(self, name):
        model, params = build(name)
        images, targets = batch((8, 8, 1))
        soft = torch.nn.functional.one_hot(targets, CLASSES).float()
        hard_loss, _ = loss_of(name, model, params, images, targets)
        soft_loss, _ = loss_of(name, model, params, images, soft)
        assert soft_loss.item() == pytest.approx(hard_loss.item(), rel=1e-4)

    def test_loss_falls_when_followed(self, name):
        model, params = build(name, learning_rate=0.05)
        images, targets = batch((8, 8, 1), count=12)
        optimiser = torch.optim.SGD(get_method(name).parameter_groups(model, params), lr=0.05, momentum=0.9)
        losses = []
        for _ in range(25):
            loss, _ = loss_of(name, model, params, images, targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0]

    @pytest.mark.parametrize("shape", SHAPES)
    def test_embedding_has_the_promised_parts(self, name, shape):
        model, _ = build(name, shape)
        images, _ = batch(shape)
        out = get_method(name).embed(model.eval(), images)
        assert set(out) == {"z", "logits", *get_method(name).own_scorers}
        assert out["z"].ndim == 2 and len(out["z"]) == BATCH
        assert out["logits"].shape == (BATCH, CLASSES)
        for scorer in get_method(name).own_scorers:
            assert out[scorer].shape == (BATCH,)
        assert all(torch.isfinite(v).all() and not v.requires_grad for v in out.values())

    def test_an_image_is_embedded_alike_in_any_company(self, name):
        model, _ = build(name)
        images, _ = batch((8, 8, 1))
        together = get_method(name).embed(model.eval(), images)
        alone = get_method(name).embed(model, images[2:3])
        for key, value in together.items():
            assert torch.allclose(value[2:3], alone[key], atol=1e-5), key

    def test_draws_only_from_the_generator_it_is_given(self, name):
        losses, state = [], None
        for global_seed in (3, 4):
            model, params = build(name, dropout=0.5)
            torch.manual_seed(global_seed)
            state = torch.random.get_rng_state()
            losses.append(loss_of(name, model.train(), params, *batch((8, 8, 1)))[0].item())
            assert torch.equal(state, torch.random.get_rng_state())
        assert losses[0] == losses[1]

    def test_weight_decay_spares_biases_and_covers_all_parameters_once(self, name):
        model, params = build(name)
        groups = get_method(name).parameter_groups(model, params)
        grouped = [id(p) for group in groups for p in group["params"]]
        assert sorted(grouped) == sorted(id(p) for p in model.parameters())
        assert all(p.ndim > 1 for group in groups if group["weight_decay"] > 0 for p in group["params"])
