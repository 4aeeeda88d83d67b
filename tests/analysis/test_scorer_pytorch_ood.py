"""Scorers over pytorch-ood against its detectors used directly, against the papers' formulas, and on plain data."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from pytorch_ood import detector

from analysis import scorer_pytorch_ood_base
from analysis.fusion import FrozenRule
from analysis.metrics import auroc
from analysis.scorers import DEFAULT_SCORERS, Features, get_scorer, needs_head, scorer_class, scorer_names

torch.set_num_threads(1)
CLASSES, WIDTH = 4, 24


def features(seed=0, size=300, *, lift=3.0, dtype=np.float32):
    """Latents after a ReLU: class k is bright in its block of four; the last eight belong to no class."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, size)
    z = generator.normal(size=(size, WIDTH)) * 0.5
    for offset in range(4):
        z[np.arange(size), 4 * labels + offset] += lift
    return whole(np.maximum(z, 0).astype(dtype), labels)


def whole(z, labels=None):
    weight = (np.kron(np.eye(CLASSES, WIDTH // 4), np.ones(4)) * 0.5 + np.random.default_rng(9).normal(
        size=(CLASSES, WIDTH)) * 0.05).astype(z.dtype)
    bias = np.linspace(-0.3, 0.3, CLASSES).astype(z.dtype)
    return Features(z @ weight.T + bias, z, labels, head=(weight, bias))


TRAIN, TEST = features(0), features(1, size=150)
WEIGHT, BIAS = (torch.tensor(part, dtype=torch.float64) for part in TRAIN.head)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def linear(dtype):
    layer = torch.nn.Linear(WIDTH, CLASSES, dtype=dtype)
    layer.load_state_dict({"weight": WEIGHT.to(dtype), "bias": BIAS.to(dtype)})
    return layer.requires_grad_(False)


def maps(values):
    return double(values)[:, :, None, None]


def on_maps(theirs, train):
    if theirs.requires_fit:
        theirs.fit_feature_maps(maps(train.z), torch.tensor(train.labels))
    return theirs.predict_feature_maps(maps(TEST.z))


def on_z(theirs, train, dtype=torch.float64):
    theirs.fit_features(torch.tensor(train.z, dtype=dtype), torch.tensor(train.labels))
    return theirs.predict_features(torch.tensor(TEST.z, dtype=dtype))


def on_logits(theirs, train):
    return theirs.fit_logits(double(train.logits), torch.tensor(train.labels)).predict_logits(double(TEST.logits))


FLAT = torch.nn.Sequential(torch.nn.Flatten(), linear(torch.float64))
HEAD, SINGLE = linear(torch.float64), linear(torch.float32)
DIRECT = {
    "gen": lambda t, gamma, largest: on_logits(detector.GEN(None, gamma=gamma, M=largest), t),
    "kl_matching": lambda t: on_logits(detector.KLMatching(None), t),
    "openmax": lambda t, tail_size, revised_classes: on_logits(
        detector.OpenMax(None, tailsize=tail_size, alpha=revised_classes), t),
    "react": lambda t, percentile: on_maps(detector.ReAct(None, FLAT, percentile=percentile), t),
    "ash": lambda t, percentile: on_maps(detector.ASH(None, FLAT, variant="ash-s", percentile=percentile), t),
    "scale": lambda t, percentile: on_maps(detector.SCALE(None, FLAT, percentile=percentile), t),
    "lts": lambda t, largest: on_z(detector.LTS(None, HEAD, p=largest), t),
    "vra": lambda t, lower, upper: on_maps(detector.VRA(None, FLAT, lower, upper), t),
    "dice": lambda t, sparsity: on_z(detector.DICE(None, WEIGHT, BIAS, p=sparsity), t),
    "she": lambda t: on_z(detector.SHE(None, HEAD), t),
    "gmm": lambda t, regularisation: on_z(detector.GMM(None, reg=regularisation * t.z.astype(float).var(0).mean()), t),
    "fdbd": lambda t: on_z(detector.fDBD(None, SINGLE), t, torch.float32),
    "nci": lambda t, norm_weight: on_z(detector.NCI(None, SINGLE, alpha=norm_weight), t, torch.float32),
    "nnguide": lambda t, k: on_z(detector.NNGuide(None, SINGLE, k=k), t, torch.float32),
    "pnml": lambda t: on_z(detector.PNML(None, SINGLE), t, torch.float32),
    "vim": lambda t, share: on_z(detector.ViM(None, round(share * WIDTH), WEIGHT, BIAS), t, torch.float32),
    "gradnorm": lambda t, temperature: detector.GradNorm(HEAD, lambda name: name == "weight",
                                                         temperature=temperature).predict(double(TEST.z)),
}
OTHERS = {
    "gen": {"gamma": 0.7, "largest": 2}, "openmax": {"tail_size": 9, "revised_classes": 2},
    "react": {"percentile": 0.6}, "ash": {"percentile": 0.4}, "scale": {"percentile": 0.9}, "lts": {"largest": 0.3},
    "vra": {"lower": 0.3, "upper": 0.7}, "dice": {"sparsity": 0.3}, "gmm": {"regularisation": 0.1},
    "nci": {"norm_weight": 0.05}, "nnguide": {"k": 3}, "vim": {"share": 0.25}, "gradnorm": {"temperature": 5.0},
}
NAMES = tuple(DIRECT)


def test_the_new_scorers_follow_the_default_set():
    assert tuple(scorer_names()[:8]) == DEFAULT_SCORERS
    assert set(scorer_names()[8:]) >= {*NAMES, "cosine_prototype"}
    assert not any(needs_head(name) for name in (*DEFAULT_SCORERS, "cosine_prototype", "gen", "gmm"))
    assert needs_head("vim") and not needs_head("mine", own=["mine"])
    with pytest.raises(ValueError, match="did you mean 'vim'"):
        needs_head("wim")


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_detector_used_directly(name):
    sets = [scorer_class(name).info.parameters, *([OTHERS[name]] if name in OTHERS else [])]
    scores = [get_scorer(name).fit(TRAIN, parameters).score(TEST) for parameters in sets]
    for parameters, ours in zip(sets, scores, strict=True):
        expected = DIRECT[name](TRAIN, **parameters).double().numpy()
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-5)
        assert np.corrcoef(np.argsort(np.argsort(ours)), np.argsort(np.argsort(expected)))[0, 1] > 0.9999
    assert len(scores) == 1 or not np.allclose(scores[0], scores[1], rtol=1e-3)


def anomalies(size=150):
    """Bright where no class is, dark where the classes are."""
    z = np.abs(np.random.default_rng(5).normal(size=(size, WIDTH))) * 0.1
    z[:, 16:] += 2
    return whole(z.astype(np.float32))


@pytest.mark.parametrize("name", (*NAMES, "cosine_prototype"))
def test_higher_is_more_anomalous(name):
    scorer = get_scorer(name).fit(features(0, size=2000))
    scores = np.concatenate([scorer.score(TEST), scorer.score(anomalies())])
    assert auroc(scores, np.repeat([False, True], 150)) > 0.95


def test_cosine_prototype_by_its_definition():
    z, labels = TRAIN.z.astype(float), TRAIN.labels
    expected = []
    for row in TEST.z.astype(float):
        cosines = []
        for label in range(CLASSES):
            mean = sum(z[labels == label]) / sum(labels == label)
            cosines.append(sum(row * mean) / math.sqrt(sum(row ** 2) * sum(mean ** 2)))
        expected.append(1 - max(cosines))
    np.testing.assert_allclose(get_scorer("cosine_prototype").fit(TRAIN).score(TEST), expected, atol=1e-12)


def test_gen_by_its_definition():
    expected = []
    for row in TEST.logits.astype(float):
        powers = [math.exp(value - max(row)) for value in row]
        largest = sorted((power / sum(powers) for power in powers), reverse=True)[:3]
        expected.append(sum((p * (1 - p)) ** 0.1 for p in largest) / 3)
    ours = get_scorer("gen").fit(TRAIN, {"gamma": 0.1, "largest": 3}).score(TEST)
    np.testing.assert_allclose(ours, expected, rtol=1e-2)  # the detector clips p at 1e-7
    np.testing.assert_allclose(ours[np.array(expected) > 0.4], np.array(expected)[np.array(expected) > 0.4], rtol=1e-6)


def test_react_by_its_definition():
    """Equation 1 of the paper with the percentile of all training activations, then -logsumexp."""
    ordered = np.sort(TRAIN.z.astype(float).ravel())
    place = 0.9 * (len(ordered) - 1)
    threshold = ordered[int(place)] + (place - int(place)) * (ordered[int(place) + 1] - ordered[int(place)])
    weight, bias = (part.astype(float) for part in TRAIN.head)
    expected = []
    for row in TEST.z.astype(float):
        logits = [sum(min(value, threshold) * w for value, w in zip(row, weight[k], strict=True)) + bias[k]
                  for k in range(CLASSES)]
        expected.append(-math.log(sum(math.exp(logit) for logit in logits)))
    np.testing.assert_allclose(get_scorer("react").fit(TRAIN).score(TEST), expected, rtol=1e-9)


def test_fdbd_by_its_definition():
    """Mean distance in latent space to the boundaries between the predicted and every other class, over |z - mean|."""
    weight, bias = (part.astype(float) for part in TRAIN.head)
    mean = TRAIN.z.astype(float).mean(axis=0)
    expected = []
    for row in TEST.z.astype(float):
        logits = weight @ row + bias
        best = int(np.argmax(logits))
        distances = [abs(logits[best] - logits[k]) / np.linalg.norm(weight[best] - weight[k])
                     for k in range(CLASSES) if k != best]
        expected.append(-np.mean(distances) / np.linalg.norm(row - mean))
    np.testing.assert_allclose(get_scorer("fdbd").fit(TRAIN).score(TEST), expected, rtol=1e-5)


def test_gradnorm_by_its_decomposition():
    """Section 3 of the paper: the norm is |z|_1 times the L1 norm of the gradient with respect to the logits."""
    logits = double(TEST.logits).requires_grad_(True)
    (-logits.log_softmax(1).mean(1)).sum().backward()
    expected = -(logits.grad.abs().sum(1) * double(TEST.z).abs().sum(1)).numpy()
    np.testing.assert_allclose(get_scorer("gradnorm").fit(TRAIN).score(TEST), expected, rtol=1e-5)


def test_vim_by_its_definition():
    """Section 4 of the paper: the residual of the principal space about the origin -W⁺b, alpha of the training set.

    As many principal directions as classes: past those the variances lie within a tenth of each other, and which of
    them are principal is then a matter of the detector's single precision and of the CPU's kernels.
    """
    weight, bias = (part.astype(float) for part in TRAIN.head)
    origin = -np.linalg.pinv(weight) @ bias
    train, test = TRAIN.z - origin, TEST.z - origin
    values, vectors = np.linalg.eigh(train.T @ train)
    rest = vectors[:, np.argsort(values)[:WIDTH - CLASSES]]
    alpha = (TRAIN.z @ weight.T + bias).max(axis=1).mean() / np.linalg.norm(train @ rest, axis=1).mean()
    logits = TEST.z @ weight.T + bias
    expected = alpha * np.linalg.norm(test @ rest, axis=1) - np.log(np.exp(logits).sum(axis=1))
    scorer = get_scorer("vim").fit(TRAIN, {"share": CLASSES / WIDTH})
    np.testing.assert_allclose(scorer.score(TEST), expected, rtol=1e-4, atol=1e-5)
    assert get_scorer("vim").fit(TRAIN).arrays_["residual"].shape == (WIDTH, WIDTH // 2)


@pytest.mark.parametrize("name", NAMES)
def test_restored_scorers_give_the_same_numbers(name):
    scorer = get_scorer(name).fit(TRAIN, OTHERS.get(name))
    again = scorer_class(name).from_state(scorer.state())
    np.testing.assert_array_equal(again.score(TEST), scorer.score(TEST))


@pytest.mark.parametrize("name", NAMES)
def test_fitting_anew_forgets_the_first_fit(name):
    other = features(7)
    scorer = get_scorer(name).fit(other, OTHERS.get(name))
    scorer.score(TEST)
    np.testing.assert_array_equal(scorer.fit(TRAIN).score(TEST), get_scorer(name).fit(TRAIN).score(TEST))


@pytest.mark.parametrize("name", NAMES)
def test_scores_do_not_depend_on_the_chunks(name, monkeypatch):
    scorer = get_scorer(name).fit(TRAIN)
    whole_batch = scorer.score(TEST)
    monkeypatch.setattr(scorer_pytorch_ood_base, "CHUNK_ELEMENTS", 7 * WIDTH * CLASSES)
    np.testing.assert_allclose(scorer.score(TEST), whole_batch, rtol=1e-5, atol=1e-5)


def test_openmax_scores_do_not_depend_on_what_else_is_predicted():
    """The detector used directly leaves out distances to classes that no image of the batch is predicted as."""
    scorer = get_scorer("openmax").fit(TRAIN)
    one_class = TEST.select(TEST.logits.argmax(1) == 0)
    np.testing.assert_array_equal(scorer.score(one_class), scorer.score(TEST)[TEST.logits.argmax(1) == 0])


def test_kl_matching_stays_small_where_probabilities_vanish():
    far = Features(TRAIN.logits * 1e5, TRAIN.z, TRAIN.labels)
    scores = get_scorer("kl_matching").fit(far).score(Features(-TEST.logits * 1e5, TEST.z))
    assert np.isfinite(scores).all() and np.abs(scores).max() < 600


def test_she_gives_classes_without_a_correct_image_no_pattern():
    wrong = Features(TRAIN.logits, TRAIN.z, np.where(TRAIN.labels == 3, 0, TRAIN.labels), head=TRAIN.head)
    rest = TEST.select(TEST.labels != 3)
    np.testing.assert_array_equal(get_scorer("she").fit(wrong).score(rest), get_scorer("she").fit(
        TRAIN.select(TRAIN.labels != 3)).score(rest))
    with pytest.raises(ValueError, match="no training image is classified correctly"):
        get_scorer("she").fit(Features(TRAIN.logits, TRAIN.z, (TRAIN.logits.argmax(1) + 1) % 4, head=TRAIN.head))


@pytest.mark.parametrize("name", ["she", "gmm", "openmax", "cosine_prototype"])
def test_labels_are_asked_for_by_name(name):
    with pytest.raises(ValueError, match=f"scorer {name} needs training labels"):
        get_scorer(name).fit(Features(TRAIN.logits, TRAIN.z, head=TRAIN.head))


@pytest.mark.parametrize("name", NAMES)
def test_features_that_are_not_finite_are_refused(name):
    bad = Features(np.full_like(TRAIN.logits, np.nan), np.full_like(TRAIN.z, np.inf), TRAIN.labels, head=TRAIN.head)
    if scorer_class(name).info.needs & {"train_z", "train_logits"}:
        with pytest.raises(ValueError, match="finite"):
            get_scorer(name).fit(bad)
    if needs_head(name):
        weight, bias = TRAIN.head
        with pytest.raises(ValueError, match="head is not finite"):
            get_scorer(name).fit(Features(TRAIN.logits, TRAIN.z, TRAIN.labels, head=(weight, bias * np.nan)))


@pytest.mark.parametrize("rule", ["all_mean", "family_mean"])
def test_rules_of_all_scorers_survive_their_export(rule):
    fitted = FrozenRule(rule, scorer_names()).fit(TRAIN, features(2))
    again = FrozenRule.from_state(fitted.description(), fitted.state())
    np.testing.assert_array_equal(again.score(TEST), fitted.score(TEST))
    assert auroc(np.r_[fitted.score(TEST), fitted.score(anomalies())], np.repeat([False, True], 150)) > 0.99


def test_without_pytorch_ood_the_registry_works_and_the_scorers_say_what_to_install():
    code = ("import sys; sys.modules['pytorch_ood'] = None\n"
            "from analysis.scorers import *; import numpy as np\n"
            "f = Features(np.eye(3), np.eye(3), np.arange(3))\n"
            "get_scorer('energy').fit(f).score(f)\n"
            "try: get_scorer('gen').fit(f).score(f)\n"
            "except ImportError as error: print(error)")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install pytorch-ood" in result.stdout
