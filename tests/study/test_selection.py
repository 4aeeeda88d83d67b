"""Freeze's rules as pure functions: who is best, how folds are dealt, what the digest covers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.errors import UserError
from study.folds import deal_folds
from study.ledger import TrialRecord
from study.ranking import best_trials, order_of, rank_methods
from study.selection import frozen_selection, scorers_in_use, selection_digest
from study.spec import StudySpec
from trainables.files import write_json


def spec_of(**selection) -> StudySpec:
    return StudySpec.parse({"name": "x", "methods": ["classifier", "hybrid"], "selection": selection})


def trial(number: int, accuracy: float, nll: float = 1.0, *, state: str = "completed", **params) -> TrialRecord:
    defaults = spec_of().space("classifier").default()
    return TrialRecord("classifier", 0, number, state, {**defaults, **params},
                       {"val_accuracy": accuracy, "val_nll": nll, "val_ece": 0.1, "synthetic_outlier_auroc": 0.8})


def test_ties_go_to_the_lower_nll_then_to_the_lower_number():
    trials = [trial(0, 0.9, 0.5), trial(1, 0.95, 0.4), trial(2, 0.95, 0.3), trial(3, 0.95, 0.3)]
    assert [t.number for t in sorted(trials, key=lambda t: order_of(t, "val_accuracy"))] == [2, 3, 1, 0]
    assert min(trials, key=lambda t: order_of(t, "val_nll")).number == 2


def test_only_completed_trials_can_be_best():
    trials = [trial(0, 0.5), trial(1, 0.99, state="pruned"), trial(2, 0.99, state="running")]
    assert [t.number for t in best_trials(trials, spec_of(), validation_images=100)] == [0]
    assert best_trials(trials[1:], spec_of(), validation_images=100) == []


def test_finalists_are_within_one_standard_error_and_far_apart():
    trials = [trial(0, 0.950, learning_rate=0.1), trial(1, 0.948, learning_rate=0.101),
              trial(2, 0.948, learning_rate=0.9), trial(3, 0.80, learning_rate=0.02)]
    chosen = best_trials(trials, spec_of(finalists=2), validation_images=1000)
    assert [t.number for t in chosen] == [0, 2]  # 1 is as good but a twin; 3 is far but worse by more than 0.007
    chosen = best_trials(trials, spec_of(finalists=4), validation_images=1000)
    assert [t.number for t in chosen] == [0, 2, 1]


@given(st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=20), st.integers(2, 6), st.integers(0, 9))
def test_folds_hold_every_class_out_once_and_keep_two(classes, folds, split):
    dealt = deal_folds(sorted(classes), folds, split)
    assert dealt == deal_folds(sorted(classes, reverse=True), folds, split)  # names decide, not positions
    if dealt:
        assert sorted(name for fold in dealt for name in fold) == sorted(classes) and len(dealt) == folds
        assert all(fold and len(classes) - len(fold) >= 2 for fold in dealt)
    else:
        assert folds > len(classes) or len(classes) - -(-len(classes) // folds) < 2


def test_another_split_deals_other_folds():
    names = [f"class {i}" for i in range(12)]
    assert deal_folds(names, 3, 0) != deal_folds(names, 3, 1) and deal_folds(names, 0, 0) == []


def test_methods_are_ranked_by_the_signal_and_then_by_pseudo_novel_auroc():
    def entry(method, split, accuracy, novel):
        return {"method": method, "split": split, "signals": {"val_accuracy": accuracy, "pseudo_novel_auroc": novel}}

    chosen = [entry("classifier", 0, 0.9, 0.7), entry("classifier", 1, 0.8, 0.7), entry("hybrid", 0, 0.85, 0.9),
              entry("hybrid", 1, 0.85, 0.9)]
    assert [row["method"] for row in rank_methods(chosen, spec_of())] == ["hybrid", "classifier"]
    chosen[0]["signals"]["val_accuracy"] = 0.92
    assert [row["method"] for row in rank_methods(chosen, spec_of())] == ["classifier", "hybrid"]


def test_the_scorers_in_use():
    default = scorers_in_use(spec_of(), ("reconstruction_error",))
    assert default[0] == "msp" and default[-1] == "reconstruction_error" and len(default) == 9
    assert scorers_in_use(spec_of(scorers=["max_logit", "msp"]), ()) == ["max_logit", "msp"]
    named = spec_of(scorers=["msp"], scorer_rule="knn", folds=0)
    assert scorers_in_use(named, ()) == ["msp", "knn"]


def test_a_scorer_that_reads_a_head_is_left_out_where_there_is_none():
    assert scorers_in_use(spec_of(scorers=["msp", "vim"]), (), linear_head=False) == ["msp"]
    assert scorers_in_use(spec_of(scorers=["msp", "vim"]), (), linear_head=True) == ["msp", "vim"]


def test_each_members_latents_have_an_oracle_of_their_own():
    """Two members, of which the first tells all and the second nothing."""
    from types import SimpleNamespace

    from study.reveal import _member_oracles

    is_anomaly = np.arange(60) % 2 == 1
    z = np.concatenate([is_anomaly[:, None] + np.zeros((60, 3)), np.zeros((60, 3))], axis=1)
    found = _member_oracles(z, is_anomaly, z, is_anomaly, 2, SimpleNamespace(threads=1))
    assert found == [1.0, 0.5]
    assert _member_oracles(z, is_anomaly, z, is_anomaly, 1, None) is None


def test_the_digest_covers_every_choice_and_neither_name_nor_time(tmp_path):
    selection = {"study": "a", "frozen_at": "now", "rule": {"signal": "val_accuracy"}, "method_ranking": [],
                 "selections": [{"method": "classifier", "trial": 3, "weights_sha256": "00"}]}
    digest = selection_digest(selection)
    assert selection_digest({**selection, "study": "b", "frozen_at": "later", "digest": "x"}) == digest
    assert selection_digest({**selection, "rule": {"signal": "val_nll"}}) != digest
    with pytest.raises(UserError, match="nothing is frozen"):
        frozen_selection(tmp_path)
    write_json(tmp_path / "selection.json", {**selection, "digest": digest})
    assert frozen_selection(tmp_path)["digest"] == digest
    write_json(tmp_path / "selection.json", {**selection, "digest": digest, "method_ranking": ["changed"]})
    with pytest.raises(UserError, match="was changed"):
        frozen_selection(tmp_path)


def test_nothing_is_revealed_under_a_choice_that_newer_trials_would_change(tmp_path):
    from study.ledger import Ledger
    from study.reveal import _require_current

    spec = StudySpec.parse({"name": "x", "methods": ["classifier"]})
    ledger, views = Ledger(spec, tmp_path), {0: SimpleNamespace(validation_labels=np.zeros(100))}

    def tell(accuracy):
        ledger.tell("classifier", 0, ledger.ask("classifier", 0), {"signals": {"val_accuracy": accuracy, "val_nll": 1.0}})

    tell(0.8)
    selection = {"selections": [{"method": "classifier", "split": 0, "finalists": [{"trial": 0, "pseudo_novel_auroc": None}]}]}
    _require_current(selection, ledger, tmp_path, views)
    tell(0.7)  # would not be chosen: the same choice
    _require_current(selection, ledger, tmp_path, views)
    tell(0.9)
    with pytest.raises(UserError, match="would choose otherwise now; run `oraclegap freeze"):
        _require_current(selection, ledger, tmp_path, views)
    with pytest.raises(UserError, match="classifier, split 0"):
        _require_current({"selections": []}, ledger, tmp_path, views)
