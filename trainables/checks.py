"""The contract of ``trainables/methods/base.py`` as checks that a method's author can run.

``check_method(MyMethod)`` runs them all and raises an ``AssertionError`` that names the method, the check and what is
wrong at the first that fails. With pytest, one test a check:

    @pytest.mark.parametrize("check", [check for _, check in method_checks()], ids=[name for name, _ in method_checks()])
    def test_mine(check):
        check(MyMethod)

Tiny batches on one thread: a second or two for a classifier. ``check_network`` is the same for a network.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from analysis.fusion import RULES
from analysis.gaps import RESERVED
from analysis.scorers import scorer_names
from trainables.check_tools import (
    BATCH,
    CLASSES,
    SHAPES,
    Subject,
    batch,
    close,
    named,
    one_thread,
    require,
    require_own_name,
    subject_of,
    view,
)
from trainables.fit import Training, TrainSettings
from trainables.methods.base import Method
from trainables.networks import build_network
from trainables.synthetic import TRANSFORMS

#: What the training loop reads of every configuration.
NEEDED = ("learning_rate", "weight_decay", "momentum", "gradient_clip", "warmup")

_CHECKS: dict[str, Callable] = {}


def check_method(method: Method | type[Method] | str, *, space: Any = None) -> None:
    """Runs every check on a method: its class, an instance, or the name of one that is known.

    ``space``: its ``search_spaces.Space``, unless ``search_space()`` or ``search_spaces/`` gives it. AssertionError at
    the first that fails.
    """
    for _, check in method_checks():
        check(method, space=space)


def method_checks() -> Iterator[tuple[str, Callable[..., None]]]:
    """(name, check) of each; a check is called as ``check_method``."""
    yield from _CHECKS.items()


def check_network(network: Callable[..., nn.Module] | str) -> None:
    """Checks a callable ``(image_shape, *, width, normalisation) -> nn.Module``, or the network of a known name."""
    name = network if isinstance(network, str) else getattr(network, "name", getattr(network, "__name__", "?"))
    with one_thread(), named(f"network {name}"):
        for shape in SHAPES:
            torch.manual_seed(0)
            kind = {"width": 0.5, "normalisation": "batch"}
            encoder = build_network(network, shape, **kind) if isinstance(network, str) else network(shape, **kind)
            require(isinstance(encoder, nn.Module), f"gives a {type(encoder).__name__}, not a torch.nn.Module")
            z_dim = getattr(encoder, "z_dim", None)
            require(isinstance(z_dim, int) and z_dim > 0, f"its attribute z_dim must be a number above 0, not {z_dim!r}")
            images, _ = batch(shape)
            z = encoder.eval()(images)
            require(z.shape == (BATCH, z_dim), f"z of {BATCH} images {shape} has the shape {tuple(z.shape)}, not "
                                               f"{(BATCH, z_dim)}")
            require(bool(z.isfinite().all()), "z is not finite")
            require(close(encoder(images[2:3]), z[2:3]), "in evaluation, z of an image depends on its company")
            encoder.train()(images).square().sum().backward()
            idle = [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
            require(not idle, f"no gradient reaches {', '.join(idle)}")


def _check(function: Callable[[Subject], None]) -> Callable[..., None]:
    @wraps(function)
    def check(method: Method | type[Method] | str, *, space: Any = None) -> None:
        subject = subject_of(method, space)
        with one_thread(), named(f"{subject.method.info.name}: {function.__name__}"):
            function(subject)

    _CHECKS[function.__name__] = check
    return check


# -- the checks ---------------------------------------------------------------------------------------------------


@_check
def has_a_whole_record(s: Subject) -> None:
    """Name, title, summary, paper, year, address and cost; what it declares beside them is well formed."""
    info = s.method.info
    for field in ("name", "title", "summary", "paper"):
        require(isinstance(getattr(info, field), str) and bool(getattr(info, field)), f"info.{field} is empty")
    require(info.url.startswith("https://"), f"info.url {info.url!r} does not begin with https://")
    require(1900 < info.year < 2100, f"info.year is {info.year}")
    require(info.relative_cost > 0, f"info.relative_cost is {info.relative_cost}")
    unknown = set(s.method.trains_on) - set(TRANSFORMS)
    require(not unknown, f"trains_on names {sorted(unknown)}, but trainables.synthetic has {sorted(TRANSFORMS)}")
    own = s.method.own_scorers
    require(len({*own, "z", "logits"}) == len(own) + 2, f"own_scorers {own} repeat a name, or use z or logits")
    taken = {*scorer_names(), *RULES, *RESERVED} & set(own)
    require(not taken, f"own_scorers {own} use {sorted(taken)}, which are names of scorers, rules or oracles")


@_check
def has_a_space_that_explains_itself(s: Subject) -> None:
    """The default lies in it, something is searched, every parameter says why and has legal bounds."""
    require(s.space.method == s.method.info.name, f"its space is of {s.space.method!r}")
    s.space.check(s.space.default())
    require(bool(s.space.searched()), "nothing is searched")
    lacking = [name for name in NEEDED if name not in s.space.parameters]
    require(not lacking, f"the training loop needs {', '.join(lacking)}")
    for name, parameter in s.space.parameters.items():
        require(bool(parameter.why), f"{name} does not say why")
        numbers = [v for v in getattr(parameter, "options", (parameter.default,)) if type(v) in (int, float)]
        require(not numbers or all(map(math.isfinite, parameter.legal)), f"{name} has no legal bounds")
        require(all(parameter.legal[0] <= v <= parameter.legal[1] for v in numbers), f"{name} lies outside its bounds")


@_check
def build_draws_from_the_global_generator(s: Subject) -> None:
    """The same seed gives the same weights, another seed others, and no two members begin alike."""
    first, again, other = (s.build(seed=seed).state_dict() for seed in (0, 0, 1))
    require(first.keys() == again.keys() and all(torch.equal(first[n], again[n]) for n in first),
            "built twice from one seed, the weights differ")
    require(any(not torch.equal(first[n], other[n]) for n in first), "another seed gives the same weights")
    starts = [nn.utils.parameters_to_vector(member.parameters()) for member in s.method.members(s.build())]
    require(all(len(a) != len(b) or not torch.equal(a, b) for i, a in enumerate(starts) for b in starts[:i]),
            "two members begin with the same weights")


@_check
def loss_is_finite_and_reaches_every_parameter(s: Subject) -> None:
    """A scalar with gradients, its parts without, in every shape of images; parameters without use are a mistake."""
    for shape in SHAPES:
        model = s.build(shape).train()
        for _ in range(2):  # the first leaves zero-initialised branches without gradient below them
            loss, members = s.loss(model, *batch(shape))
            require(loss.ndim == 0 and bool(loss.isfinite()), f"the loss of images {shape} is {loss}")
            for parts in members:
                require(bool(parts), "the loss names no parts for the log")
                wrong = [n for n, part in parts.items() if part.requires_grad or not bool(torch.isfinite(part).all())]
                require(not wrong, f"parts {wrong} are not finite, or still carry gradients: detach them")
            require(model.training, "the loss has put the model into evaluation mode")
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.01 * parameter.grad)
        idle = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        require(not idle, f"for images {shape} no gradient reaches {', '.join(idle)}")


@_check
def loss_takes_soft_targets(s: Subject) -> None:
    """One-hot rows mean the same as the labels: mixup gives such."""
    images, targets = batch()
    hard, _ = s.loss(s.build(), images, targets)
    soft, _ = s.loss(s.build(), images, F.one_hot(targets, CLASSES).float())
    require(math.isclose(hard.item(), soft.item(), rel_tol=1e-4, abs_tol=1e-5),
            f"{hard.item():g} with labels, but {soft.item():g} with the same as one-hot rows")


@_check
def training_teaches_the_classes(s: Subject) -> None:
    """Thirty steps on twelve easy images halve the cross-entropy of the logits on them."""
    images, targets = batch(count=12)
    model, params = s.build(), s.params()
    optimiser = torch.optim.SGD(s.method.parameter_groups(model, params), lr=0.05, momentum=0.9)

    def cross_entropy() -> float:
        with torch.inference_mode():
            return F.cross_entropy(s.method.logits(model.eval(), images).float(), targets).item()

    before = cross_entropy()
    for step in range(30):
        loss, _ = s.loss(model.train(), images, targets, seed=10 * step)
        optimiser.zero_grad()
        loss.backward()
        s.method.adjust_gradients(model, params)
        for part in s.method.clipped(model):
            nn.utils.clip_grad_norm_(part.parameters(), params["gradient_clip"] or math.inf)
        optimiser.step()
    after = cross_entropy()
    require(after < 0.5 * before, f"the cross-entropy of its logits went from {before:.3f} to {after:.3f} only")


@_check
def embed_gives_what_it_promises(s: Subject) -> None:
    """z, logits and every own score, finite and in their shapes, from a fresh model; ``logits`` gives the same logits."""
    for shape in SHAPES:
        model, (images, _) = s.build(shape).eval(), batch(shape)
        with torch.inference_mode():
            out, logits = s.method.embed(model, images), s.method.logits(model, images)
        promised = {"z", "logits", *s.method.own_scorers}
        require(set(out) == promised, f"embed gives {sorted(out)}, not {sorted(promised)}")
        require(out["z"].ndim == 2 and len(out["z"]) == BATCH, f"z has the shape {tuple(out['z'].shape)}")
        require(out["logits"].shape == (BATCH, CLASSES), f"logits have the shape {tuple(out['logits'].shape)}")
        for name in promised - {"z", "logits"}:
            require(out[name].shape == (BATCH,), f"{name} has the shape {tuple(out[name].shape)}, not one per image")
        wrong = [name for name, value in out.items() if not bool(value.isfinite().all()) or value.requires_grad]
        require(not wrong, f"{wrong} of a fresh model are not finite, or carry gradients")
        require(close(logits, out["logits"]), "logits() differ from those of embed()")
        require(not model.training, "embed has put the model into training mode")
        parts = s.method.latent_parts(s.params())
        require(out["z"].shape[1] % parts == 0, f"{parts} latent_parts do not divide z, {out['z'].shape[1]} wide")


@_check
def embed_sees_each_image_by_itself(s: Subject) -> None:
    """The same for an image in any company, in any order and at any time."""
    model, (images, _) = s.build().eval(), batch()
    with torch.inference_mode():
        together = s.method.embed(model, images)
        for what, rows in (("company", [2]), ("order", list(range(BATCH))[::-1]), ("time", list(range(BATCH)))):
            again = s.method.embed(model, images[rows])
            for name, value in together.items():
                require(close(value[rows], again[name]), f"{name} of an image depends on its {what}")


@_check
def loss_draws_only_from_its_generator(s: Subject) -> None:
    """torch's and NumPy's global states are neither read nor moved; nor is the method itself changed."""
    losses, own = [], dict(vars(s.method))
    for seed in (3, 4):
        model = s.build().train()
        torch.manual_seed(seed)
        before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
        losses.append(s.loss(model, *batch())[0].item())
        with torch.inference_mode():
            s.method.embed(model.eval(), batch()[0])
        require(torch.equal(before, torch.random.get_rng_state()), "it draws from torch's global generator")
        require(bool((numpy_before == np.random.get_state()[1]).all()), "it draws from NumPy's global generator")
    require(losses[0] == losses[1], "the loss depends on torch's global seed")
    require(vars(s.method) == own, "the method keeps state in itself: what is learnt belongs into the module")


@_check
def parameter_groups_cover_every_parameter_once(s: Subject) -> None:
    """And decay neither biases nor normalisation."""
    model, params = s.build(), s.params()
    groups = s.method.parameter_groups(model, params)
    grouped = sorted(id(p) for group in groups for p in group["params"])
    require(grouped == sorted(id(p) for p in model.parameters() if p.requires_grad),
            "parameter_groups leaves a parameter out, or has one twice")
    require(all(p.ndim > 1 for group in groups if group["weight_decay"] for p in group["params"]),
            "weight decay reaches a bias or a normalisation")
    mine = {id(p) for p in model.parameters()}
    for what, parts in (("members", s.method.members(model)), ("clipped", s.method.clipped(model))):
        require(bool(parts) and all(id(p) in mine for part in parts for p in part.parameters()),
                f"{what} holds parameters that the model lacks")


@_check
def prepared_and_completed_it_survives_storage(s: Subject) -> None:
    """``prepare`` and ``complete`` draw nothing; what they keep is in the state dict, from which a fresh model embeds
    alike, without the entries that are for training alone."""
    model, images, tiny = s.build(), batch()[0], view()
    nominal = [batch(count=count)[0] for count in (8, 4)]
    before = torch.random.get_rng_state()
    s.method.prepare(model, tiny)
    with torch.no_grad():
        s.method.complete(model.eval(), train=nominal, validation=nominal[1:], params=s.params())
    require(torch.equal(before, torch.random.get_rng_state()), "prepare or complete draws random numbers")
    state = model.state_dict()
    absent = s.method.training_only - set(state)
    require(not absent, f"training_only names {sorted(absent)}, which the state dict lacks")
    fresh = s.build(seed=1)
    kept = {name: tensor.clone() for name, tensor in state.items() if name not in s.method.training_only}
    lacking = fresh.load_state_dict(kept, strict=False)
    require(not lacking.unexpected_keys and set(lacking.missing_keys) <= s.method.training_only,
            f"a fresh model does not fit the stored one: {lacking}")
    with torch.inference_mode():
        stored, loaded = s.method.embed(model, images), s.method.embed(fresh.eval(), images)
    for name, value in stored.items():
        require(bool(value.isfinite().all()), f"{name} is not finite after complete")
        require(close(value, loaded[name]), f"{name} changes when the model is stored and loaded")


@_check
def a_linear_head_is_one(s: Subject) -> None:
    """Where ``linear_head`` is set, logits = z · weightᵀ + bias."""
    if s.method.linear_head:
        model = s.build().eval()
        with torch.inference_mode():
            out = s.method.embed(model, batch()[0])
            weight, bias = s.method.head(model)
            require(close(out["z"] @ weight.T + bias, out["logits"]), "head() and z do not give the logits")


@_check
def training_resumes_bit_for_bit(s: Subject) -> None:
    """Two epochs, and two with the process ended between them, give the same weights and features."""
    tiny, settings = view(), TrainSettings(epochs=2, batch_size=12, device="cpu")
    params = s.params(learning_rate=min(0.05, s.params()["learning_rate"]))

    def start(folder: Path) -> Training:
        return Training(method=s.method, view=tiny, params=params, settings=settings, seed=3, folder=folder)

    require_own_name(s.method)
    with tempfile.TemporaryDirectory() as place:
        straight = start(Path(place, "a"))
        while not straight.done:
            straight.step()
        start(Path(place, "b")).step()
        resumed = start(Path(place, "b"))
        require(resumed.epoch == 1, f"it goes on after epoch {resumed.epoch}, not 1")
        resumed.step()
        one, other = straight.finish(), resumed.finish()
    for what in ("weights", "features"):
        require(one[f"{what}_sha256"] == other[f"{what}_sha256"], f"the {what} differ after a resume: what does the loss "
                                                                 "read that is not in the state dict?")
