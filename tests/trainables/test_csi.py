"""CSI in both forms against loops written from the paper's equations."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from contrastive_reference import cosine, pairwise
from torch import nn
from torch.nn import functional as F

from search_spaces import get_space
from trainables.methods import get_method
from trainables.methods._simclr_augment import fixed_crops

BOTH = ("csi", "csi_unlabelled")
CLASSES = 3


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def view(*, rotations=False, flips=False, channels=1):
    return SimpleNamespace(rotations_keep_labels=rotations, flips_keep_labels=flips, mean=(0.5,) * channels,
                           std=(0.25,) * channels)


def build(name, shape=(8, 8, 1), **changed):
    params = get_space(name).default() | changed
    torch.manual_seed(0)
    model = get_method(name).build(shape, CLASSES, "small_cnn", params).eval()
    for module in model.encoder.modules():  # otherwise blocks begin as the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model, params


def pictures(count=6, shape=(1, 8, 8), *, seed=1):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


# -- losses -------------------------------------------------------------------------------------------------------------


def rows_by_loop(model, images):
    """(view, shift, image, z, p) of every row, nothing augmented."""
    for number in range(2):
        for shift in range(4):
            for i, image in enumerate(images):
                down, right = (4 if shift >= 2 else 0), (4 if shift % 2 else 0)
                moved = torch.from_numpy(np.roll(image.numpy(), (-down, -right), (1, 2)).copy())
                z = model.encoder(moved[None])
                yield number, shift, i, z[0], model.projection(z)[0]


@pytest.mark.parametrize("name", BOTH)
def test_the_whole_loss_by_loop(name, monkeypatch):
    """One class appears once: its only positives are the other view's."""
    model, params = build(name, temperature=0.4, **({"shift_weight": 0.7} if name == "csi_unlabelled" else {}))
    monkeypatch.setattr(model.augment, "forward", lambda images, generator: images)
    images, targets = pictures(4), torch.tensor([0, 1, 0, 2])
    loss, parts = get_method(name).loss(model, images, targets, params, torch.Generator())
    with torch.no_grad():
        rows = list(rows_by_loop(model, images))
        p = torch.stack([row[4] for row in rows])
        if name == "csi":
            label = [(shift, targets[i].item()) for _, shift, i, _, _ in rows]
            logs = [model.head(z).log_softmax(0)[shift * CLASSES + targets[i]] for _, shift, i, z, _ in rows]
            expected = -sum(logs) / len(logs)
        else:
            label = [(shift, i) for _, shift, i, _, _ in rows]
            shifts = [model.shift_head(z).log_softmax(0)[shift] for _, shift, _, z, _ in rows]
            probe = [model.head(z).log_softmax(0)[targets[i]] for _, shift, i, z, _ in rows if shift == 0]
            expected = -0.7 * sum(shifts) / len(shifts) - sum(probe) / len(probe)
        contrastive = pairwise(p, lambda a: [b for b in range(len(rows)) if b != a and label[a] == label[b]],
                               temperature=0.4)
    assert parts["contrastive"].item() == pytest.approx(contrastive.item(), rel=1e-4)
    assert loss.item() == pytest.approx((contrastive + expected).item(), rel=1e-4)


def gradients(name, targets, *, change=None):
    model, params = build(name)
    if change is not None:
        change(model)
    get_method(name).loss(model.train(), pictures(), targets, params, torch.Generator().manual_seed(3))[0].backward()
    return {part: torch.cat([p.grad.flatten() for p in getattr(model, part).parameters()])
            for part in ("encoder", "projection", "head")}


def test_the_probes_gradient_stays_in_the_probe():
    one, other = (gradients("csi_unlabelled", torch.tensor(t)) for t in ([0, 1, 2, 0, 1, 2], [2, 2, 1, 0, 0, 1]))
    assert torch.equal(one["encoder"], other["encoder"]) and torch.equal(one["projection"], other["projection"])
    assert one["encoder"].abs().sum() > 0 and not torch.allclose(one["head"], other["head"])


def test_the_joint_heads_gradient_stays_in_the_head_while_labels_shape_the_features():
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    one = gradients("csi", targets)
    moved = gradients("csi", targets, change=lambda model: nn.init.normal_(model.head.weight))
    assert torch.equal(one["encoder"], moved["encoder"]) and not torch.allclose(one["head"], moved["head"])
    assert not torch.allclose(one["encoder"], gradients("csi", targets.flip(0) * 0)["encoder"])


@pytest.mark.parametrize("name", BOTH)
def test_the_head_is_clipped_by_itself_and_nothing_is_left_out(name):
    model, _ = build(name)
    parts = get_method(name).clipped(model)
    assert sorted(id(p) for part in parts for p in part.parameters()) == sorted(id(p) for p in model.parameters())
    assert list(parts[1].parameters()) == list(model.head.parameters())


# -- the shift, chosen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "side", "rotations", "expected"), [
    ("auto", 8, True, "rotation"), ("auto", 8, False, "permutation"), ("auto", 6, True, "permutation"),
    ("permutation", 8, True, "permutation"), ("rotation", 8, False, "rotation"),
])
def test_what_auto_came_to_is_kept_with_the_weights(shift, side, rotations, expected):
    model, _ = build("csi", (8, side, 1), shift=shift)
    get_method("csi").prepare(model, view(rotations=rotations))
    loaded, _ = build("csi", (8, side, 1), shift=shift)
    loaded.load_state_dict(model.state_dict())
    x = pictures(1, (1, 8, side))
    turned = torch.equal(loaded.shifts(x)[2], torch.rot90(x, 2, (2, 3)))
    assert turned == (expected == "rotation")


def test_prepare_tells_the_augmentation_what_the_view_says():
    model, _ = build("csi_unlabelled", (8, 8, 3))
    said = view(rotations=True, flips=True)
    said.mean, said.std = (0.1, 0.2, 0.3), (0.0, 0.2, 0.4)
    get_method("csi_unlabelled").prepare(model, said)
    kept = model.state_dict()
    assert kept["augment.mean"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert kept["augment.std"].tolist() == pytest.approx([1.0, 0.2, 0.4]) and kept["augment.flips"]


@pytest.mark.parametrize(("shape", "shift", "said"), [((8, 8, 1), "rotate", "'rotate' is not one of auto, rotation"),
                                                     ((20, 12, 3), "rotation", "square images, these are 20×12")])
def test_a_shift_that_cannot_be_is_refused(shape, shift, said):
    with pytest.raises(ValueError, match=said):
        build("csi", shape, shift=shift)


# -- scores -----------------------------------------------------------------------------------------------------------


def completed(name, *, count=20, parts=1, **changed):
    model, params = build(name, **changed)
    train = pictures(count, seed=5)
    with torch.no_grad():
        get_method(name).complete(model, train=train.split(math.ceil(count / parts)), validation=[], params=params)
    return model, train


def shifted_one(model, image):
    """(p, shift logits) of one image under each permutation, by hand."""
    for shift in range(4):
        moved = image.roll((-4 if shift >= 2 else 0, -4 if shift % 2 else 0), (1, 2))[None]
        z = model.encoder(moved)
        yield model.projection(z)[0], model.shift_head(z)[0] if model.shift_head is not None else None


@torch.no_grad()
def test_the_unlabelled_score_by_loop():
    model, train = completed("csi_unlabelled")
    nn.init.constant_(model.shift_head.bias, 3.0)  # positive mean logits, as after training
    get_method("csi_unlabelled").complete(model, train=[train], validation=[], params={"bank_size": 100})
    known = [list(shifted_one(model, image)) for image in train]
    images = pictures(3, seed=6)
    out = get_method("csi_unlabelled").embed(model, images)
    for i, image in enumerate(images):
        contrastive = shift = 0.0
        for s, (p, logits) in enumerate(shifted_one(model, image)):
            # λ: one over the training mean, in which an image's nearest is itself
            scale = 1 / np.mean([max(cosine(a[s][0], b[s][0]).item() for b in known) * a[s][0].norm().item()
                                 for a in known])
            contrastive -= scale * max(cosine(p, other[s][0]).item() for other in known) * p.norm().item() / 4
            shift -= logits[s].item() / np.mean([a[s][1][s].item() for a in known]) / 4
        assert out["csi_contrastive"][i].item() == pytest.approx(contrastive, rel=1e-4)
        assert out["csi_shift"][i].item() == pytest.approx(shift, rel=1e-4)
        assert out["csi"][i].item() == pytest.approx(contrastive + shift, rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", BOTH)
def test_each_scaled_term_has_mean_one_on_the_training_images(name):
    model, train = completed(name)
    out = get_method(name).embed(model, train)
    assert out["csi_contrastive"].mean().item() == pytest.approx(-1, rel=1e-4)


def test_a_shift_classifier_that_learnt_nothing_does_not_swamp_the_score():
    model, _ = completed("csi_unlabelled")
    assert (model.shift_scale <= 10).all() and (model.shift_scale > 0).all()


@torch.no_grad()
def test_the_labelled_logits_are_marginalised_over_the_shifts():
    model, _ = completed("csi")
    images = pictures(3, seed=6)
    out, hooked = get_method("csi").embed(model, images), get_method("csi").logits(model, images)
    for i, image in enumerate(images):
        logits, single = torch.zeros(CLASSES), None
        for s in range(4):
            z = model.encoder(image.roll((-4 if s >= 2 else 0, -4 if s % 2 else 0), (1, 2))[None])[0]
            for k in range(CLASSES):
                logits[k] += (model.head.weight[s * CLASSES + k] @ z + model.head.bias[s * CLASSES + k]) / 4
            if s == 0:
                joint = model.head(z).softmax(0)[:CLASSES]
                single = 1 - (joint / joint.sum()).max()
                assert torch.allclose(out["z"][i], z, atol=1e-5)
        assert torch.allclose(out["logits"][i], logits, atol=1e-5)
        assert out["csi_single"][i].item() == pytest.approx(single.item(), abs=1e-5)
    assert torch.allclose(hooked, out["logits"], atol=1e-6)


@torch.no_grad()
def test_the_unlabelled_logits_are_the_linear_probes():
    model, _ = completed("csi_unlabelled")
    method, images = get_method("csi_unlabelled"), pictures(4)
    out, (weight, bias) = method.embed(model, images), method.head(model)
    assert torch.allclose(out["logits"], F.linear(out["z"], weight, bias), atol=1e-6)
    assert torch.allclose(method.logits(model, images), out["logits"], atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", BOTH)
def test_the_bank_goes_with_the_weights(name):
    model, _ = completed(name)
    loaded, _ = build(name)
    loaded.load_state_dict(model.state_dict())
    images = pictures(4)
    before, after = (get_method(name).embed(m, images) for m in (model, loaded))
    assert loaded.bank.rows.shape == (4, 20, 128) and all(torch.equal(before[k], after[k]) for k in before)
    fresh = get_method(name).embed(build(name)[0], images)
    assert not torch.allclose(fresh["csi_contrastive"], after["csi_contrastive"], rtol=0.01)


def test_the_bank_does_not_depend_on_the_batches_and_a_small_one_is_evenly_spaced():
    whole, parted = completed("csi")[0], completed("csi", parts=3)[0]
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(tensor, parted.state_dict()[name], atol=1e-5), name
    small = completed("csi", parts=3, bank_size=5)[0]
    assert torch.allclose(small.bank.rows, whole.bank.rows[:, [0, 4, 8, 12, 16]], atol=1e-5)
    assert torch.allclose(small.contrastive_scale, whole.contrastive_scale), "λ is a mean over all images"


@torch.no_grad()
@pytest.mark.parametrize("name", BOTH)
def test_scores_over_crops_are_alike_in_any_company_and_leave_z_and_logits_alone(name):
    model, _ = completed(name, score_crops=3)
    plain, _ = completed(name)
    images = pictures(4)
    embed = get_method(name).embed
    out, alone, whole = embed(model, images), embed(model, images[1:2]), embed(plain, images)
    for key in out:
        assert torch.allclose(out[key][1:2], alone[key], atol=1e-5), key
    assert torch.allclose(out["z"], whole["z"], atol=1e-6) and torch.allclose(out["logits"], whole["logits"], atol=1e-6)
    assert not torch.allclose(out["csi_contrastive"], whole["csi_contrastive"], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", BOTH)
def test_scores_over_crops_by_loop(name):
    """p and the shift's logit of S(x) are means over crops of S(x), not of x."""
    model, _ = completed(name, score_crops=3)
    images = pictures(2)
    p, own = model.projected(images, model.latents(images))
    for shift, copy in enumerate(model.shifts(images)):
        latents = [model.encoder(crop) for crop in fixed_crops(copy, 3)]
        assert torch.allclose(p[shift], sum(model.projection(z) for z in latents) / 3, atol=1e-5)
        if model.shift_head is not None:
            assert torch.allclose(own[shift], sum(model.shift_head(z)[:, shift] for z in latents) / 3, atol=1e-5)


@pytest.mark.parametrize("name", BOTH)
def test_views_are_shifts_of_the_image_or_of_its_mirror_image(name):
    """A mirror image of a shift would be another shift's, whose class it must not be given."""
    model, _ = build(name, (8, 8, 3), crop_scale=1.0, jitter_strength=0.0, grey=0.0)
    get_method(name).prepare(model, view(rotations=True, flips=True, channels=3))
    model.augment.draw_crops = lambda images, generator: (torch.ones(len(images), 2), torch.zeros(len(images), 2))
    images = (torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5) / 0.25
    views = model.views(images, torch.Generator().manual_seed(3)).unflatten(0, (2, 4, 5))
    mirrored = set()
    for shift, number, i in ((s, n, i) for s in range(4) for n in range(2) for i in range(5)):
        plain, mirror = (torch.rot90(x, shift, (1, 2)) for x in (images[i], images[i].flip(2)))
        is_plain, is_mirror = (torch.allclose(views[number, shift, i], x, atol=1e-4) for x in (plain, mirror))
        assert is_plain or is_mirror, (shift, number, i)
        mirrored.add((number, i, is_mirror))
    assert len(mirrored) == 10, "all shifts of one view are of the same image"
    assert {m for *_, m in mirrored} == {True, False}


def test_views_are_augmented_and_their_noise_is_fresh():
    model, _ = build("csi", shift="noise")
    images = pictures(3)
    first, again = (model.views(images, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert not torch.allclose(first, again, atol=0.05)
    quiet, _ = build("csi", shift="noise", crop_scale=1.0, jitter_strength=0.0, grey=0.0)
    quiet.augment.forward = lambda images, generator: images
    one, two = (quiet.views(images, torch.Generator().manual_seed(seed)).unflatten(0, (2, 4, 3)) for seed in (1, 2))
    assert torch.equal(one[:, 0], two[:, 0]) and not torch.allclose(one[:, 3], two[:, 3], atol=0.05)
    assert not torch.allclose(one[0, 3], one[1, 3], atol=0.05), "each view has its own noise"


# -- learning ---------------------------------------------------------------------------------------------------------


def test_learns_real_digits():
    from sklearn.datasets import load_digits

    from trainables.data import View
    from trainables.fit import Training, TrainSettings

    data = load_digits(n_class=3)
    images, labels = np.rint(data.images * 255 / 16).astype(np.uint8)[..., None], data.target.astype(np.int64)
    real = View(classes=tuple("012"), image_shape=(8, 8, 1), mean=(0.3,), std=(0.38,), flips_keep_labels=False,
                rotations_keep_labels=False, digest="d", split=0, train_images=images[::2], train_labels=labels[::2],
                validation_images=images[1::2], validation_labels=labels[1::2])
    training = Training(method="csi", view=real, params=get_space("csi").default(), seed=0,
                        settings=TrainSettings(epochs=4, batch_size=24, device="cpu"))
    rows = [training.step() for _ in range(4)]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] - 0.5 and rows[-1]["val_accuracy"] > 0.9
