"""The public checks notice what they are for: each refuses a method with exactly that fault, and passes a sound one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from search_spaces import Float, Space
from search_spaces.classifier import classifier_parameters
from trainables.checks import check_method, check_network, method_checks
from trainables.methods import PLUGINS
from trainables.methods.classifier import Classifier, ClassifierModel

CHECKS = dict(method_checks())


class Sound(Classifier):
    """The classifier under a name of its own, not registered anywhere."""

    info = replace(Classifier.info, name="sound")

    def search_space(self):
        return Space("sound", classifier_parameters())


def fault(**members):
    return type("Faulty", (Sound,), members)


class Model(ClassifierModel):
    """A classifier with a buffer that a fault may use."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.register_buffer("seen", torch.zeros(()))
        self.unstored = 0.0


def built(self, *arguments):
    return Model(*arguments)


def embedding(change):
    def embed(self, model, images):
        with torch.no_grad():
            z, logits = model(images)
        return change(model, {"z": z, "logits": logits})

    return embed


def loss_with(change):
    def loss(self, model, images, targets, params, generator):
        loss, parts = Sound.loss(self, model, images, targets, params, generator)
        return change(self, model, loss, parts)

    return loss


def count(self, model, loss, parts):
    """What the loss reads is in no state dict."""
    model.unstored += 1.0
    return loss * (1 + model.unstored), parts


def hidden(self, model, loss, parts):
    self.calls = getattr(self, "calls", 0) + 1
    return loss, parts


def space_of(**changed):
    def search_space(self):
        parameters = {name: p for name, p in {**classifier_parameters(), **changed}.items() if p is not None}
        return Space("sound", parameters)

    return search_space


def forgets(self, model, *, train, validation, params):
    model.unstored = 1.0


def idle(self, *arguments):
    model = Model(*arguments)
    model.idle = nn.Linear(2, 2)
    return model


def frozen_in_time(self, view_shape, num_classes, network, params):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Model(view_shape, num_classes, network, params)


def twins(self, model):
    return [model, model]


FAULTS = {
    "record": ("has_a_whole_record", fault(info=replace(Sound.info, url="")), "info.url"),
    "own score named z": ("has_a_whole_record", fault(own_scorers=("z",)), "own_scorers"),
    "unknown outliers": ("has_a_whole_record", fault(trains_on=frozenset({"cats"})), "cats"),
    "no learning rate": ("has_a_space_that_explains_itself", fault(search_space=space_of(learning_rate=None)), "learning_rate"),
    "no why": ("has_a_space_that_explains_itself",
               fault(search_space=space_of(x=Float(low=0, high=1, default=0, legal=(0, 1)))), "x does not say why"),
    "no bounds": ("has_a_space_that_explains_itself",
                  fault(search_space=space_of(x=Float(low=0, high=1, default=0, why="because"))), "x has no legal bounds"),
    "ignores the seed": ("build_draws_from_the_global_generator", fault(build=frozen_in_time), "another seed"),
    "members alike": ("build_draws_from_the_global_generator", fault(members=twins), "two members"),
    "idle layer": ("loss_is_finite_and_reaches_every_parameter", fault(build=idle), "idle.weight"),
    "attached parts": ("loss_is_finite_and_reaches_every_parameter",
                       fault(loss=loss_with(lambda s, m, loss, parts: (loss, {"x": loss}))), "detach"),
    "leaves training": ("loss_is_finite_and_reaches_every_parameter",
                        fault(loss=loss_with(lambda s, m, loss, parts: (m.eval() and loss, parts))), "evaluation mode"),
    "hard targets only": ("loss_takes_soft_targets", fault(loss=lambda self, model, images, targets, params, generator: (
        F.cross_entropy(model(images)[1], targets.argmax(1) * 0 if targets.ndim > 1 else targets), {})), "one-hot"),
    "learns nothing": ("training_teaches_the_classes",
                       fault(loss=loss_with(lambda s, m, loss, parts: (0 * loss, parts))), "cross-entropy"),
    "no z": ("embed_gives_what_it_promises", fault(embed=embedding(lambda m, out: {"logits": out["logits"]})), "'z'"),
    "own score missing": ("embed_gives_what_it_promises", fault(own_scorers=("mine",)), "mine"),
    "other logits": ("embed_gives_what_it_promises", fault(logits=lambda self, model, images: model(images)[1] + 1), "logits()"),
    "infinite": ("embed_gives_what_it_promises",
                 fault(embed=embedding(lambda m, out: {**out, "z": out["z"] / 0})), "not finite"),
    "odd parts": ("embed_gives_what_it_promises", fault(latent_parts=lambda self, params: 7), "latent_parts"),
    "centred batch": ("embed_sees_each_image_by_itself",
                      fault(embed=embedding(lambda m, out: {**out, "z": out["z"] - out["z"].mean(0)})), "company"),
    "global torch": ("loss_draws_only_from_its_generator",
                     fault(loss=loss_with(lambda s, m, loss, parts: (loss + torch.rand(()), parts))), "torch's global"),
    "global numpy": ("loss_draws_only_from_its_generator",
                     fault(loss=loss_with(lambda s, m, loss, parts: (loss + np.random.rand(), parts))), "NumPy's global"),
    "state in the method": ("loss_draws_only_from_its_generator", fault(loss=loss_with(hidden)), "in itself"),
    "parameter left out": ("parameter_groups_cover_every_parameter_once", fault(parameter_groups=lambda self, model, params: [
        {"params": list(model.head.parameters()), "weight_decay": 0.0}]), "leaves a parameter out"),
    "decayed biases": ("parameter_groups_cover_every_parameter_once", fault(parameter_groups=lambda self, model, params: [
        {"params": list(model.parameters()), "weight_decay": 0.1}]), "bias"),
    "prepare draws": ("prepared_and_completed_it_survives_storage",
                      fault(prepare=lambda self, model, view: torch.rand(1)), "draws"),
    "not stored": ("prepared_and_completed_it_survives_storage", fault(build=built, complete=forgets, embed=embedding(
        lambda m, out: {**out, "z": out["z"] + m.unstored})), "stored and loaded"),
    "absent entry": ("prepared_and_completed_it_survives_storage", fault(training_only=frozenset({"absent"})), "absent"),
    "crooked head": ("a_linear_head_is_one", fault(linear_head=True, head=lambda self, model: (
        model.head.weight, model.head.bias + 1)), "head()"),
    "unstored counter": ("training_resumes_bit_for_bit", fault(build=built, loss=loss_with(count)), "differ after a resume"),
}


def test_a_sound_method_passes_as_class_instance_and_name():
    check_method(Sound)
    check_method(Sound(), space=Space("sound", classifier_parameters()))
    check_method("hybrid")
    assert PLUGINS == {}


def test_random_states_and_threads_are_as_before():
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    CHECKS["training_teaches_the_classes"]("classifier")
    assert torch.equal(before, torch.random.get_rng_state()) and torch.get_num_threads() == threads


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_by_the_check_that_is_for_it(name):
    check, method, words = FAULTS[name]
    with pytest.raises(AssertionError) as caught:
        CHECKS[check](method)
    assert str(caught.value).startswith(f"sound: {check}: ") and words in str(caught.value)


def test_every_check_has_a_fault_that_only_it_is_for():
    assert {check for check, _, _ in FAULTS.values()} == set(CHECKS)


def network(change=lambda z: z, **attributes):
    def mine(image_shape, *, width, normalisation):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(image_shape[2], 4, 3)
                self.z_dim = 4
                vars(self).update(attributes)

            def forward(self, images):
                return change(self.conv(images).mean((2, 3)))

        return Net()

    return mine


def test_sound_networks_pass():
    check_network(network())
    check_network("small_cnn")


@pytest.mark.parametrize(("faulty", "words"), [
    (network(z_dim=None), "z_dim"), (network(z_dim=5), "shape"), (network(lambda z: z / 0), "not finite"),
    (network(lambda z: z - z.mean(0)), "company"), (network(lambda z: z.detach().requires_grad_()), "conv.weight"),
    (lambda image_shape, *, width, normalisation: 3, "Module"),
])
def test_a_faulty_network_is_refused(faulty, words):
    with pytest.raises(AssertionError, match=words):
        check_network(faulty)
