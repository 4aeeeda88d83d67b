"""Every reveal is written down once, whatever a kill did to the line before."""

from __future__ import annotations

import json

from study.reveal_log import contaminated, log_reveal, prior_reveals


def test_reveals_are_counted_by_vault_and_before_ones_own(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    log_reveal(a, "a", "digest-a", ["vault-1"])
    log_reveal(a, "a", "digest-a", ["vault-1"])
    log_reveal(b, "b", "digest-b", ["vault-1", "vault-2"])
    log_reveal(c, "c", "digest-c", ["vault-3"])
    assert len((tmp_path / "reveals.jsonl").read_text().splitlines()) == 3
    assert prior_reveals(a, "digest-a", ["vault-1"]) == 0
    assert prior_reveals(b, "digest-b", ["vault-1", "vault-2"]) == 1
    assert prior_reveals(c, "digest-c", ["vault-3"]) == 0
    assert prior_reveals(tmp_path / "d", "not revealed yet", ["vault-1"]) == 2


def test_a_line_cut_short_by_a_kill_costs_no_other(tmp_path):
    log_reveal(tmp_path / "a", "a", "digest-a", ["vault"])
    path = tmp_path / "reveals.jsonl"
    path.write_text(path.read_text() + path.read_text()[:30])
    log_reveal(tmp_path / "b", "b", "digest-b", ["vault"])
    lines = path.read_text().splitlines()
    assert len(lines) == 3 and json.loads(lines[2])["selection"] == "digest-b"
    assert prior_reveals(tmp_path / "b", "digest-b", ["vault"]) == 1


def test_selected_again_after_a_reveal_is_contaminated(tmp_path):
    study = tmp_path / "a"
    assert not contaminated(study, "first")
    log_reveal(study, "a", "first", ["vault"])
    assert not contaminated(study, "first") and contaminated(study, "second")
    log_reveal(study, "a", "second", ["vault"])
    assert contaminated(study, "second")
