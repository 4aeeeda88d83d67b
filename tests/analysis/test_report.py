from __future__ import annotations

import re
import tomllib
from html.parser import HTMLParser

import fake_summaries as fake
import pytest

from analysis import report, report_tables
from analysis.report import write_report

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # a layout that matplotlib gave up on
VOID = {"meta", "br", "wbr", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Text, links, ids and tags of a page; asserts that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.links, self.ids, self.tags, self.open = "", [], [], [], []
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        self._see(tag, dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._see(tag, dict(attrs))

    def _see(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs.items() if key in ("href", "src", "xlink:href", "action")]
        self.ids += [attrs["id"]] if "id" in attrs else []

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


def write(folder, made, **over):
    given = {"selection": fake.selection(made), "spec": fake.spec(), "stamp": fake.stamp(), **over}
    return write_report(folder, made, **given)


def page_of(made, **over):
    """The page without its figures, whose drawing is what takes long."""
    given = {"selection": fake.selection(made), "spec": fake.spec(), "stamp": fake.stamp(), **over}
    return Page(report.render(report.page_data(made, **given), {}))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    made = fake.summary()
    path = write(tmp_path_factory.mktemp("report"), made)
    return made, path, Page(path.read_text(encoding="utf-8"))


def test_page_is_self_contained(written):
    _, path, page = written
    for link in page.links:
        assert link.startswith("#") or (path.parent / link).is_file(), link
        assert not link.startswith("#") or link[1:] in page.ids
    assert len(page.ids) == len(set(page.ids))
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"@import|@font-face|url\((?!#)", text)
    assert "img" not in page.tags
    assert "link" not in page.tags


def test_first_screen_comes_before_everything_else(written):
    _made, _, page = written
    order = [page.text.index(words) for words in (
        "within noise", "Believe it?", "more AUROC can be read", "Selected without labels", "How each method's own", "What moves",
        "Did the signal", "Every scorer", "All trials", "How it was selected", "Reproduce", "Glossary")]
    assert order == sorted(order)


def test_numbers_are_those_of_the_summary(written):
    made, _, page = written
    for row in made["rows"]:
        assert f"{row['scorer_auroc']:.3f}" in page.text
        if row["selected"]:
            low, high = row["scorer_auroc_ci"]
            assert f"[{low:.3f}, {high:.3f}]" in page.text
            assert f"+{row['extraction_gap']:.3f}" in page.text
            assert f"{row['regret_crossfit']:.3f}" in page.text
    assert "oraclegap launch digits" in page.text
    assert "max logit, energy, kNN, relative Mahalanobis" in page.text


def test_no_missing_number_is_shown_as_nan_or_none(written):
    assert not re.search(r"\b(nan|None|null|undefined)\b", written[2].text)


def test_weight_of_everything(tmp_path):
    path = write(tmp_path, fake.summary(trials=100))
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 5e6
    assert Page(path.read_text(encoding="utf-8")).text.count("completed") >= 200


CASES = {
    "a method failed": lambda: fake.nine(methods=("hybrid", "jem"), splits=(0, 1), trials=2, failed={"jem": 2}),
    "nominal only": fake.nominal_only,
    "all failed": lambda: fake.summary(failed={"classifier": 12, "hybrid": 12}),
    "some failed": lambda: fake.summary(trials=3, failed={"hybrid": 2}),
    "one trial": lambda: fake.summary(methods=("classifier",), trials=1),
    "retrained": lambda: fake.retrained(fake.summary(methods=("classifier",), trials=2)),
    "empty": lambda: {"study": "nothing", "rows": []},
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_study_has_a_page(case, tmp_path):
    made = CASES[case]()
    page = Page(write(tmp_path, made).read_text(encoding="utf-8"))
    assert not re.search(r"\b(nan|None|undefined)\b", page.text)
    assert page.text.count("NaN") == page.text.count("loss is NaN")
    assert "Glossary" in page.text
    if case == "all failed":
        assert page.text.count("failed: loss is NaN") == 24
        assert "Failed trials" in page.text
    if case == "nominal only":
        assert "nothing to reveal" in page.text
        assert "svg" not in page.tags
    if case == "retrained":
        assert "over 4 seeds" in page.text


def test_nothing_given_but_the_summary(tmp_path):
    made = fake.summary(methods=("classifier",), trials=1)
    page = Page(write(tmp_path, made, selection={}, spec={}, stamp={}).read_text(encoding="utf-8"))
    assert "oraclegap launch digits" in page.text


def test_everything_is_escaped(tmp_path):
    evil = "<script>alert('x')</script>"
    made = fake.summary(methods=(evil,), trials=2, study=evil)
    made["rows"][1].update(state="failed", reason=evil, scorer_auroc=None)
    made["rows"][0]["params"][evil] = evil
    selection = fake.selection(made) | {"rule": evil, "method_ranking": [evil]}
    stamp = {"command": ["oraclegap", "launch", evil], evil: [evil, {evil: evil}]}
    text = write(tmp_path, made, selection=selection, spec={"name": evil, evil: {"a": evil}}, stamp=stamp).read_text()
    assert "<script>alert" not in text
    assert Page(text).tags.count("script") == 1


def test_write_is_whole_or_not_at_all(tmp_path, monkeypatch):
    made = fake.nominal_only()
    path = write(tmp_path, made)
    before = path.read_bytes()
    monkeypatch.setattr(report.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, made | {"study": "another"})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


def test_spec_is_shown_as_toml_that_reads_back():
    spec = fake.spec() | {"name": 'quote " and \\ and ü', "none": None}
    found = tomllib.loads(report.toml_of(spec))
    assert found == {key: value for key, value in spec.items() if value is not None}


def test_command_is_quoted_for_a_shell():
    assert report.command_of({"command": ["oraclegap", "launch", "my spec.toml"]}, {}) == "oraclegap launch 'my spec.toml'"
    assert report.command_of({}, {"study": "a b"}) == "oraclegap launch 'a b'"


def test_trials_sort_by_number_and_missing_last():
    made = fake.summary(trials=3, failed={"hybrid": 1})
    table = report_tables.trial_tables(made)[1]
    column = [title for title, _ in table["titles"]].index("frozen rule AUROC")
    keys = [line["cells"][column]["sort"] for line in table["lines"]]
    assert keys[2] == ""
    assert float(keys[0]) == next(r["scorer_auroc"] for r in made["rows"] if r["method"] == "hybrid")
    assert [title for title, _ in table["titles"]].count("split") == 0
    assert [t for t, _ in report_tables.trial_tables(fake.summary(splits=(0, 1), trials=1))[0]["titles"]].count("split") == 1


def test_scorer_table_marks_members_and_the_best():
    made = fake.summary(methods=("hybrid",))
    table = report_tables.scorer_table(made, fake.selection(made))
    members = {line["name"] for line in table["lines"] if line["cells"][0]["member"]}
    assert members == {"max_logit", "energy", "knn", "relative_mahalanobis"}
    scorers = next(row["scorers"] for row in made["rows"] if row["selected"])
    assert [line["name"] for line in table["lines"] if line["cells"][0]["best"]] == [max(scorers, key=scorers.get)]


def test_failed_trials_are_told_with_reason_and_configuration():
    made = fake.nine(splits=(0, 1), trials=7, methods=("classifier", "hybrid", "jem"), failed={"jem": 7, "hybrid": 1})
    made["rows"][-1]["reason"] = None
    found = report_tables.failures(made)
    assert [(f["method"], f["split"], f["trial"]) for f in found if f["method"] == "hybrid"] == [("hybrid", 0, "6"), ("hybrid", 1, "6")]
    assert len([f for f in found if f["method"] == "jem"]) == 14
    params = next(r["params"] for r in made["rows"] if r["method"] == "jem" and r["split"] == 0 and r["trial"] == 0)
    jem = next(f for f in found if f["method"] == "jem")
    assert jem["reason"] == "diverged: loss is NaN in epoch 3"
    assert jem["params"] == [("sgld_steps", str(params["sgld_steps"])), ("learning_rate", f"{params['learning_rate']:.3g}")]
    assert found[-1]["reason"] == "no reason was recorded"
    page = page_of(made)
    assert page.text.count("diverged: loss is NaN in epoch 3") == 2 * 16 - 2  # in the trials' table and in the failed ones'
    assert "No trial was selected for jem (splits 0, 1)" in page.text and "14 of 14" in page.text
    assert not re.search(r"\b(nan|None|undefined)\b", page.text)


def test_failed_without_known_roles_shows_every_parameter():
    made = fake.summary(failed={"hybrid": 1})
    (found,) = report_tables.failures(made)
    assert [name for name, _ in found["params"]] == list(made["rows"][-1]["params"])
    assert report_tables.failures(fake.summary()) == []


def test_a_failed_retraining_is_told_with_its_seed():
    made = fake.retrained(fake.summary(methods=("classifier",), trials=2), seeds=1)
    made["rows"][-1].update(state="failed", retrained=True, reason="disk full", scorer_auroc=None)
    (found,) = report_tables.failures(made)
    assert found["trial"].endswith(", seed 1") and found["reason"] == "disk full"


def test_means_over_splits_stand_before_the_single_splits():
    made = fake.summary(splits=(0, 1, 2), failed={"hybrid": 2})
    table = report_tables.means_table(made)
    scores = [r["scorer_auroc"] for r in made["rows"] if r["selected"] and r["method"] == "hybrid"]
    assert table[1]["cells"][0][0] == f"{sum(scores) / 3:.3f}" and table[1]["failed"] == 6 and table[1]["trials"] == 36
    assert report_tables.means_table(fake.summary()) == []
    assert report_tables.means_table(fake.nominal_only(splits=(0, 1))) == []


def test_scorers_of_many_selected_trials_are_means():
    made = fake.nine(methods=("classifier", "hybrid", "csi"), trials=3)
    selection = fake.selection(made)
    selection["selections"][0]["members"] = ["msp"]
    table = report_tables.scorer_table(made, selection)
    assert table["columns"] == [(name, "mean of 3 splits") for name in ("classifier", "hybrid", "csi")]
    energy = next(line for line in table["lines"] if line["name"] == "energy")["cells"][0]
    chosen = [r for r in made["rows"] if r["selected"] and r["method"] == "classifier"]
    assert energy["value"] == pytest.approx(sum(r["scorers"]["energy"] for r in chosen) / 3)
    assert energy["member"] == pytest.approx(2 / 3)
    assert next(line for line in table["lines"] if line["name"] == "msp")["cells"][0]["member"] == pytest.approx(1 / 3)


def test_effects_are_labelled_biased_unless_the_search_was_random():
    made = fake.nine(methods=("hybrid",), trials=30)
    for spec, biased in ((fake.spec(), True), (fake.spec(sampler="random"), False)):
        text = page_of(made, spec=spec).text
        assert "helps both: cutout (hybrid)" in text and "helps classification, hurts detection: mixup (hybrid)" in text
        assert ("biased by the sampler" in text) == biased
