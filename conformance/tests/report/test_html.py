"""The page shows every failure, says PASS of nothing else, and stays small, safe and whole."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moeproof.report import render_html
from moeproof.verdict import Outcome, WorstElement

VOID = {"meta", "br", "input"}


class Page(HTMLParser):
    """What a browser would make of a page; fails on a tag that is not closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.text.append(data)

    def attributes(self, name: str) -> list[str]:
        return [str(attributes[name]) for _, attributes in self.tags if name in attributes]


def commands_of(source: str) -> list[str]:
    """The commands that a reader can copy."""
    found = re.findall(r'<pre class="command"><code>(.*?)</code></pre>', source, re.DOTALL)
    return [html.unescape(command) for command in found]


def text_of(source: str) -> str:
    """The text that is read, with single spaces."""
    return " ".join(" ".join(Page(source).text).split())


@pytest.fixture
def many(make_verdict):
    """A run of 10,000 verdicts, of which every tenth fails with all the evidence there can be."""
    random = np.random.default_rng(0)
    verdicts = []
    for seed in range(10_000):
        case_id = f"T{seed % 97}-H64-I96-E512-K2-bf16/zipf/random/contiguous/{seed}"
        if seed % 10:
            verdicts.append(make_verdict(case_id, figures={"max_error_ratio": random.uniform()}))
            continue
        ratios = 10 ** random.normal(0, 2, (32, 48))
        verdicts.append(
            make_verdict(
                case_id,
                outcome=Outcome.FAIL,
                message="wrong " * 1000,
                figures={"max_error_ratio": float(ratios.max())},
                worst=WorstElement(5, 7, (3, 500), 1.0, 0.0, 0.5, float(ratios.max())),
                evidence={
                    "tokens_per_expert": random.integers(0, 9, 512).tolist(),
                    "error_ratio_map": ratios.tolist(),
                    "shape": [97, 64],
                },
            )
        )
    return verdicts


class TestFailures:
    def test_each_is_shown_with_its_message_worst_element_and_reproducer(self, report):
        source = render_html(report)
        text = text_of(source)
        broken = [item for item in report.verdicts if item.outcome in (Outcome.FAIL, Outcome.ERROR)]
        assert sorted(commands_of(source)) == sorted(item.reproducer for item in broken)
        assert all(item.case_id in text for item in broken)
        assert report.verdicts[1].message in text
        assert "allowed -inf to 1.5" in text
        assert "experts 5, -1" in text

    def test_drawings_show_the_evidence(self, report):
        titles = text_of(render_html(report))
        assert "expert 0: 40" in titles
        assert "8 experts, at most 40 tokens, 3 without any" in titles
        assert "tokens 0 to 32 down, columns 0 to 63 across" in titles

    def test_small_problems_come_first(self, make_report, make_verdict):
        sizes = (300, 1, 40)
        source = render_html(
            make_report(
                [
                    make_verdict(
                        f"T{T}-H64-I96-E8-K2-bf16/zipf/random/contiguous/0", outcome=Outcome.FAIL
                    )
                    for T in sizes
                ]
            )
        )
        assert re.findall(r"<h4>.*?<code>T(\d+)-", source) == ["1", "40", "300"]

    def test_links_lead_to_them(self, report, make_report, many):
        for source in (render_html(report), render_html(make_report(many))):
            page = Page(source)
            targets = [link[1:] for link in page.attributes("href")]
            assert len([target for target in targets if target.startswith("failure-")]) >= 1
            assert set(targets) <= set(page.attributes("id"))

    def test_thousands_are_all_there_and_the_page_stays_small(self, make_report, many):
        source = render_html(make_report(many))
        assert len(source.encode()) < 4_000_000
        broken = [item.reproducer for item in many if item.outcome is Outcome.FAIL]
        assert len(broken) == 1000
        assert sorted(commands_of(source)) == sorted(broken)

    @pytest.mark.parametrize(
        "evidence",
        [
            {"error_ratio_map": [], "shape": [0, 64]},
            {"error_ratio_map": [[1.0], [1.0, 2.0]], "shape": [2, 2]},
            {"error_ratio_map": [["a"]], "shape": [1, 1]},
            {"error_ratio_map": [[1.0]]},
            {"error_ratio_map": None, "tokens_per_expert": None},
            {"tokens_per_expert": "many"},
            {"tokens_per_expert": []},
        ],
    )
    def test_evidence_of_another_form_is_not_drawn(self, make_report, make_verdict, evidence):
        source = render_html(make_report([make_verdict(outcome=Outcome.FAIL, evidence=evidence)]))
        assert "<figcaption>Error over bound" not in source
        assert "<figcaption>Tokens per expert" not in source


class TestHeadline:
    @pytest.mark.parametrize(
        ("outcomes", "headline"),
        [
            ([Outcome.PASS], "Conforms"),
            ([Outcome.PASS, Outcome.UNSUPPORTED], "Conforms in all it claims"),
            ([Outcome.PASS, Outcome.FAIL], "Does not conform"),
            ([Outcome.PASS, Outcome.ERROR], "Does not conform"),
            ([Outcome.UNSUPPORTED, Outcome.ERROR], "Does not conform"),
            ([Outcome.UNSUPPORTED], "Nothing was judged"),
            ([], "Nothing was judged"),
        ],
    )
    def test_follows_from_the_outcomes(self, make_report, make_verdict, outcomes, headline):
        verdicts = [
            make_verdict(f"T{T}-H64-I96-E8-K2-bf16/zipf/random/contiguous/0", outcome=outcome)
            for T, outcome in enumerate(outcomes, start=1)
        ]
        source = render_html(make_report(verdicts))
        assert f"</span> {headline}</p>" in source
        assert f"<title>{headline}: " in source

    def test_what_is_unsupported_is_no_part_of_the_success(self, make_report, make_verdict):
        verdicts = [make_verdict(), make_verdict(check="memory", outcome=Outcome.UNSUPPORTED)]
        text = text_of(render_html(make_report(verdicts)))
        assert "All 1 judged verdicts are PASS. 1 more are unsupported" in text


class TestContents:
    def test_every_check_with_its_question_and_counts(self, report):
        text = text_of(render_html(report))
        for check, question in report.header.questions.items():
            assert f"{check} {question}" in text
        assert re.search(r"can land in\? 1 1 1 0 ", text)

    def test_metadata(self, report):
        text = text_of(render_html(report))
        for fact in ("gfx942", "triton-rocm 3.6.0", "HIP_VISIBLE_DEVICES 0", "ab" * 32, "HIP 7.0"):
            assert fact in text

    def test_reasons_for_unsupported_are_grouped(self, make_report, make_verdict):
        verdicts = [
            make_verdict(
                f"T{T}-H64-I96-E8-K2-bf16/zipf/random/contiguous/0",
                check,
                Outcome.UNSUPPORTED,
                message="graphs are not claimed",
            )
            for T in range(1, 5)
            for check in ("accuracy", "memory")
        ]
        text = text_of(render_html(make_report(verdicts)))
        assert text.count("graphs are not claimed 8 accuracy (4), memory (4)") == 1


class TestSafe:
    HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"

    def test_nothing_in_a_report_becomes_markup(self, make_report, make_verdict, metadata):
        hostile = make_verdict(
            self.HOSTILE,
            self.HOSTILE,
            Outcome.ERROR,
            message=self.HOSTILE,
            reproducer=self.HOSTILE,
        )
        reason = make_verdict(outcome=Outcome.UNSUPPORTED, message=self.HOSTILE)
        report = make_report([hostile, reason])
        changed = replace(metadata, implementation=self.HOSTILE, environment={"A": self.HOSTILE})
        report = replace(report, header=replace(report.header, metadata=changed))
        source = render_html(report)
        page = Page(source)
        assert [tag for tag, _ in page.tags].count("script") == 1
        assert "img" not in [tag for tag, _ in page.tags]
        assert text_of(source).count(self.HOSTILE) >= 6

    def test_nothing_is_loaded(self, report):
        source = render_html(report)
        page = Page(source)
        assert page.attributes("src") == []
        assert all(link.startswith("#") for link in page.attributes("href"))
        assert "url(" not in source
        assert "@import" not in source
        assert "default-src 'none'" in source

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
    @given(text=st.text(alphabet=st.characters(), min_size=1))
    def test_any_text(self, make_report, make_verdict, text):
        verdict = make_verdict(text, text, Outcome.FAIL, message=text, reproducer=text)
        render_html(make_report([verdict])).encode("utf-8")

    def test_control_characters_and_surrogates_are_spelled_out(self, report):
        assert "worker died: SIGSEGV\\x00 \\udcff" in render_html(report)
