"""The hybrid's two losses: what each weight lets through."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from search_spaces import get_space
from trainables.methods import get_method
from trainables.methods.hybrid import Decoder

METHOD = get_method("hybrid")


def gradients(**changed) -> dict[str, float]:
    torch.set_num_threads(1)
    params = get_space("hybrid").default() | changed
    torch.manual_seed(0)
    model = METHOD.build((8, 8, 1), 3, "small_cnn", params)
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    METHOD.loss(model, images, torch.arange(6) % 3, params, torch.Generator().manual_seed(0))[0].backward()
    return {part: sum(p.grad.abs().sum().item() for p in getattr(model, part).parameters())
            for part in ("encoder", "head", "decoder")}


def test_without_cross_entropy_only_the_head_learns_labels():
    probe = gradients(cross_entropy_weight=0.0, reconstruction_weight=1e-12)
    assert probe["head"] > 0.01, "the linear probe must still learn"
    assert probe["encoder"] < 1e-6, "labels reach the encoder"


def test_lambda_scales_what_the_decoder_sees():
    weak, strong = gradients(reconstruction_weight=0.1), gradients(reconstruction_weight=1.0)
    assert strong["decoder"] == pytest.approx(10 * weak["decoder"], rel=1e-3)
    assert strong["head"] == pytest.approx(weak["head"], rel=1e-3)


def test_reconstruction_error_is_the_mean_square_per_image():
    params = get_space("hybrid").default()
    model = METHOD.build((8, 8, 1), 3, "small_cnn", params).eval()
    images = torch.randn(5, 1, 8, 8)
    out = METHOD.embed(model, images)
    with torch.no_grad():
        expected = ((model.decoder(model.encoder(images)) - images) ** 2).mean((1, 2, 3))
    assert torch.allclose(out["reconstruction_error"], expected, atol=1e-6)


def test_the_sum_of_both_scores_is_standardised_on_validation_images():
    torch.manual_seed(0)
    params = get_space("hybrid").default()
    model = METHOD.build((8, 8, 1), 3, "small_cnn", params).eval()
    images = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    before = METHOD.embed(model, images)
    error, logit = before["reconstruction_error"].numpy(), -before["logits"].amax(1).numpy()
    assert np.allclose(before["reconstruction_and_max_logit"], (error + logit) / 2, atol=1e-5)

    # anything but the images scored, and training images that must not count
    METHOD.complete(model, train=[images * 100], validation=[images[:5], images[5:9]], params=params)
    after = METHOD.embed(model, images)["reconstruction_and_max_logit"].numpy()
    expected = np.zeros(12)
    for score in (error, logit):
        expected += (score - score[:9].mean()) / score[:9].std() / 2
    assert np.allclose(after, expected, atol=1e-3)

    again = METHOD.build((8, 8, 1), 3, "small_cnn", params).eval()
    again.load_state_dict(model.state_dict())
    assert np.array_equal(METHOD.embed(again, images)["reconstruction_and_max_logit"].numpy(), after)


def test_one_validation_image_or_none_leaves_the_score_sane():
    params = get_space("hybrid").default()
    for count in (0, 1):
        model = METHOD.build((8, 8, 1), 3, "small_cnn", params).eval()
        METHOD.complete(model, train=[], validation=[torch.randn(count, 1, 8, 8)], params=params)
        out = METHOD.embed(model, torch.randn(3, 1, 8, 8))["reconstruction_and_max_logit"]
        assert torch.isfinite(out).all() and out.abs().max() < 1e3


def test_logits_are_those_of_embed_without_the_decoder_and_linear_in_z(monkeypatch):
    model = METHOD.build((8, 8, 1), 3, "small_cnn", get_space("hybrid").default()).eval()
    images = torch.randn(4, 1, 8, 8)
    out = METHOD.embed(model, images)
    weight, bias = METHOD.head(model)
    assert METHOD.linear_head and torch.allclose(out["z"] @ weight.T + bias, out["logits"], atol=1e-6)
    monkeypatch.setattr(model.decoder, "forward", None)
    assert torch.equal(METHOD.logits(model, images), out["logits"])


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (28, 28, 1), (20, 33, 3), (3, 3, 1), (96, 64, 3)])
def test_decoder_gives_the_shape_it_was_asked_for(shape):
    height, width, channels = shape
    assert Decoder(16, shape)(torch.randn(2, 16)).shape == (2, channels, height, width)


def test_decoder_can_overfit_one_image():
    torch.manual_seed(0)
    decoder, z, image = Decoder(8, (8, 8, 1)), torch.randn(2, 8), torch.randn(2, 1, 8, 8)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(150):
        error = (decoder(z) - image).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    assert error.item() < 0.1


def test_a_probes_labels_reach_the_encoder_not_even_through_clipping():
    """Pure reconstruction under a clip that binds: whatever the labels, the encoder becomes the same."""
    from types import SimpleNamespace

    from trainables.data import View
    from trainables.fit import Training, TrainSettings

    pixels = torch.randint(0, 256, (48, 8, 8, 1), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
    plain = {"image_shape": (8, 8, 1), "mean": (0.5,), "std": (0.3,), "flips_keep_labels": False,
             "rotations_keep_labels": False, "digest": "d", "split": 0, "classes": tuple("abc")}
    encoders = SimpleNamespace(probed=[], supervised=[])
    for labels in (np.arange(48) % 3, np.arange(48) // 16):
        view = View(**plain, train_images=pixels, train_labels=labels, validation_images=pixels, validation_labels=labels)
        for weight, kept in ((0.0, encoders.probed), (1.0, encoders.supervised)):
            params = get_space("hybrid").default() | {"cross_entropy_weight": weight, "gradient_clip": 0.1, "width": 0.5}
            training = Training(method="hybrid", view=view, params=params, seed=0,
                                settings=TrainSettings(epochs=1, batch_size=16, device="cpu"))
            training.step()
            kept.append(torch.cat([p.detach().flatten() for p in training.model.encoder.parameters()]))
    assert torch.equal(*encoders.probed) and not torch.equal(*encoders.supervised)
