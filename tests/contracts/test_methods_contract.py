"""Every registered method passes the public checks; a new one is tested once its file is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from search_spaces import get_space, space_names
from trainables.checks import method_checks
from trainables.methods import get_method, method_names

CHECKS = dict(method_checks())


def test_the_original_two_come_first():
    assert method_names()[:2] == ["classifier", "hybrid"]


def test_every_method_has_a_space_and_every_space_a_method():
    assert space_names() == method_names()


def test_listing_the_names_imports_no_torch():
    code = "import sys, trainables.methods as m, search_spaces as s; m.method_names(); [s.get_space(n) for n in s.space_names()]"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="'hybrid'"):
        get_method("hybird")
    with pytest.raises(ValueError, match="'classifier'"):
        get_space("clasifier")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", method_names())
def test_the_contract(name, check):
    CHECKS[check](name)
