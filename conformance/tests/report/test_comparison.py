"""Equal runs are of one class, planted differences are named, and the rest is refused."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest

from moeproof.case import ValueFamily
from moeproof.checks.error_evidence import ERRORS
from moeproof.error_sketch import ErrorSketch
from moeproof.implementation import load_implementation
from moeproof.report import Report, ReportError
from moeproof.report.comparison import (
    compare_reports,
    render_comparison_html,
    render_comparison_markdown,
)
from moeproof.report.comparison.error_class import error_class
from moeproof.rounding_conclusion import RoundingConclusion
from moeproof.variants import VARIANTS
from moeproof.verdict import Outcome

from .judged_reports import cases, judged_report

VENDORS = Path(__file__).parents[1] / "subjects" / "vendors.py"

# Orders of summation and ways to compute SiLU that no rounding point depends on.
ONE_ROUNDING_PROFILE = ("in_order", "split_k", "truncating_4", "silu_by_exp2", "slots_reversed")


_made: dict[tuple[str, int], Report] = {}


def random_report(variant: str, seed: int, metadata) -> Report:
    """A variant's report on 16-bit values with random signs, judged once."""
    if (variant, seed) not in _made:
        judged = [
            case
            for case in cases(seed, dtypes=("bf16", "fp16"))
            if getattr(case, "values", None) and case.values.has_independent_signs
        ]
        implementation = VARIANTS[variant].implementation
        _made[variant, seed] = judged_report(implementation, metadata, judged)
    return _made[variant, seed]


def vendor(name: str):
    return load_implementation(f"{VENDORS}:{name}")


@pytest.fixture(scope="module")
def reports(request: pytest.FixtureRequest):
    """A function: name in ``vendors.py`` -> its report, judged once."""
    made: dict[str, Report] = {}

    def report(name: str, metadata) -> Report:
        if name not in made:
            made[name] = judged_report(vendor(name), metadata)
        return replace(made[name], header=replace(made[name].header, metadata=metadata))

    return report


@pytest.fixture
def compare(reports, metadata):
    def compare_vendors(first: str, second: str):
        names = (first, second)
        return compare_reports(*(reports(name, replace(metadata, device=name)) for name in names))

    return compare_vendors


class TestOneClass:
    def test_the_same_run_twice(self, compare):
        comparison = compare("cuda", "cuda")
        assert comparison.is_one_class
        assert comparison.findings == []
        assert [group.errors.ratio.estimate for group in comparison.dtypes] == [1.0, 1.0, 1.0]
        assert all(group.equal_bits == 1 for group in comparison.dtypes)
        assert comparison.exact_cases == 2 * 6
        assert comparison.worst_rows == ()

    def test_another_order_of_sums(self, compare):
        comparison = compare("cuda", "other_order")
        assert comparison.findings == []
        fp16, fp32 = comparison.dtypes[1:]
        assert 0.9 < fp16.equal_bits < 1
        assert fp32.equal_bits < 0.9
        assert comparison.worst_rows

    @pytest.mark.parametrize("name", ONE_ROUNDING_PROFILE)
    @pytest.mark.parametrize("seed", [11])
    def test_right_variants_of_one_rounding_profile(self, name, seed, metadata):
        comparison = compare_reports(
            *(random_report(variant, seed, metadata) for variant in ("tree", name))
        )
        assert comparison.findings == []
        for group in (*comparison.dtypes, *comparison.groups):
            assert 0.97 < group.errors.ratio.lower <= group.errors.ratio.upper < 1.03
            assert abs(group.errors.bias_difference.estimate) < 0.02


class TestPlantedDifferences:
    def test_truncation_in_one_dtype(self, compare):
        comparison = compare("cuda", "truncates_in_bf16")
        (finding,) = [text for text in comparison.findings if text.startswith("accuracy, bf16: ")]
        assert re.search(r"B's errors are 1\.[2-9]\S* \[.*\] times as large as A's", finding)
        assert re.search(r"and shifted towards zero by 0\.[5-7]\S* \[.*\] of their RMS", finding)
        assert not [text for text in comparison.findings if re.search("fp16|fp32", text)]
        bf16, fp16, fp32 = comparison.dtypes
        assert bf16.differs
        assert fp16.errors.ratio.estimate == fp32.errors.ratio.estimate == 1
        assert fp16.equal_bits == fp32.equal_bits == 1

    def test_the_other_way_round(self, compare):
        comparison = compare("truncates_in_bf16", "cuda")
        (finding,) = [text for text in comparison.findings if text.startswith("accuracy, bf16: ")]
        assert re.search(r"B's errors are 0\.[4-7]\S* \[.*\] times as large as A's", finding)
        assert "and shifted away from zero by 0." in finding

    def test_flushed_subnormals(self, compare):
        comparison = compare("cuda", "flushes_subnormals")
        assert not comparison.is_one_class
        assert all(", subnormal: " in finding for finding in comparison.findings)
        changes = {(item.place, item.before, item.after) for item in comparison.changes}
        assert ("accuracy, bf16, subnormal", "PASS", "FAIL") in changes
        assert not any(group.differs for group in comparison.dtypes)

    def test_tf32(self, compare):
        comparison = compare("cuda", "uses_tf32")
        assert not comparison.is_one_class
        assert {change.dtypes for change in comparison.changes} == {("fp32",)}
        assert (("accuracy",), "PASS", "FAIL") in {
            (change.checks, change.before, change.after) for change in comparison.changes
        }
        bf16, fp16, fp32 = comparison.dtypes
        assert fp32.errors.ratio.estimate > 5
        assert bf16.errors.ratio.estimate == fp16.errors.ratio.estimate == 1

    def test_one_pattern_alone(self, metadata):
        judged = [
            replace(case, seed=seed)
            for case in cases(dtypes=("bf16",))
            if getattr(case, "values", None) is ValueFamily.RANDOM
            for seed in range(6)
        ]
        first, second = (
            judged_report(vendor(name), metadata, judged) for name in ("cuda", "truncates_in_bf16")
        )
        assert compare_reports(first, mixed(first, second, pattern="no such")).is_one_class
        comparison = compare_reports(first, mixed(first, second, pattern="same_experts"))
        named = {group.value for group in comparison.groups if group.differs}
        assert "same_experts" in named
        assert not named & {"uniform", "zipf", "empty_first"}

    def test_bits_of_an_exact_case(self, reports, metadata):
        first = reports("cuda", metadata)
        second = changed(first, lambda item: item.check == "exact", "output_digest", "0" * 64)
        (finding,) = compare_reports(first, second).findings
        assert finding == "exact, bf16: bits differ in 1 of 2 exact cases"

    def test_a_claim_that_is_dropped(self, reports, metadata):
        first = reports("cuda", metadata)
        verdicts = [
            replace(item, outcome=Outcome.UNSUPPORTED, message="dtype fp16 is not claimed")
            if "fp16" in item.case_id
            else item
            for item in first.verdicts
        ]
        comparison = compare_reports(first, replace(first, verdicts=tuple(verdicts)))
        assert not comparison.is_one_class
        lost = sum("fp16" in item.case_id for item in first.verdicts)
        assert comparison.findings == [
            "accuracy and exact, fp16, cancelling and exact_up and per_expert and 2 more: "
            f"{lost} of {lost} verdicts went from PASS to UNSUPPORTED: dtype fp16 is not claimed"
        ]


def mixed(first: Report, second: Report, *, pattern: str) -> Report:
    """The first's verdicts, but of one pattern the second's."""
    verdicts = tuple(
        right if f"/{pattern}/" in left.case_id else left
        for left, right in zip(first.verdicts, second.verdicts, strict=True)
    )
    return replace(first, verdicts=verdicts)


def changed(report: Report, where, key: str, value: object) -> Report:
    """The report with one thing in the evidence of the first fitting verdict changed."""
    verdicts = list(report.verdicts)
    index = next(index for index, item in enumerate(verdicts) if where(item))
    verdicts[index] = replace(verdicts[index], evidence={**verdicts[index].evidence, key: value})
    return replace(report, verdicts=tuple(verdicts))


def test_no_rounding_profile_for_both(reports, metadata):
    report = reports("cuda", metadata)

    def concluding(*surviving: str) -> Report:
        rounding = (RoundingConclusion("bf16", None, 9, surviving, (), ""),)
        return replace(report, footer=replace(report.footer, rounding=rounding))

    assert compare_reports(concluding("a", "b"), concluding("b")).is_one_class
    assert compare_reports(concluding(), concluding()).is_one_class
    (finding,) = compare_reports(concluding("a"), concluding("b", "c")).findings
    assert finding == (
        "rounding, bf16: no profile fits both; A: a fits all 9 cases; B: b fits all 9 cases, as 1 "
        "looser does"
    )


class TestRefusals:
    @pytest.mark.parametrize("field", ["suite_hash", "suite_version"])
    def test_another_suite(self, reports, metadata, field):
        first = reports("cuda", metadata)
        second = reports("cuda", replace(metadata, **{field: "other"}))
        with pytest.raises(ReportError, match=f"different suites: {field} is .* and other"):
            compare_reports(first, second)

    def test_another_case_set(self, reports, metadata):
        first = reports("cuda", metadata)
        fewer = replace(first, verdicts=first.verdicts[:-3])
        with pytest.raises(ReportError, match="3 verdicts only in A, such as accuracy of T"):
            compare_reports(first, fewer)
        with pytest.raises(ReportError, match="3 verdicts only in B, such as accuracy of T"):
            compare_reports(fewer, first)

    def test_nothing_judged(self, reports, metadata):
        first = reports("cuda", metadata)
        verdicts = tuple(replace(item, outcome=Outcome.UNSUPPORTED) for item in first.verdicts)
        with pytest.raises(ReportError, match="nothing was judged in both"):
            compare_reports(first, replace(first, verdicts=verdicts))

    @pytest.mark.parametrize(
        ("value", "message"),
        [(None, "no error sketch"), ({"digest": "1"}, "no error sketch"), ([1], "no error sketch")],
    )
    def test_a_missing_or_damaged_sketch(self, reports, metadata, value, message):
        first = reports("cuda", metadata)
        second = changed(first, lambda item: item.check == "accuracy", ERRORS, value)
        with pytest.raises(ReportError, match=f"accuracy.*{message}"):
            compare_reports(first, second)

    def test_sketches_of_different_inputs(self, reports, metadata):
        first = reports("cuda", metadata)

        def random(item):
            return item.check == "accuracy" and "/zipf/random/" in item.case_id

        sketch = next(item for item in first.verdicts if random(item)).evidence[ERRORS]
        other = {**sketch, "counts": [count + 1 for count in sketch["counts"]]}
        with pytest.raises(ReportError, match="of different inputs"):
            compare_reports(first, changed(first, random, ERRORS, other))


class TestRendering:
    @pytest.mark.parametrize("second", ["cuda", "other_order", "truncates_in_bf16", "uses_tf32"])
    def test_page_and_summary_say_the_same(self, compare, second):
        comparison = compare("cuda", second)
        page, summary = render_comparison_html(comparison), render_comparison_markdown(comparison)
        assert comparison.headline in page
        assert summary.startswith(f"## moeproof: {comparison.headline.lower()}\n")
        for finding in comparison.findings:
            assert finding in summary
            assert finding.replace("'", "&#39;") in page
        for drawing in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
            minidom.parseString(drawing)
        assert "nan" not in page.lower().replace("nanny", "")
        assert len(summary) < 20_000

    def test_what_an_implementation_says_is_escaped(self, reports, metadata):
        first = reports("cuda", metadata)
        verdicts = (
            replace(
                first.verdicts[-1],
                outcome=Outcome.ERROR,
                message="<script>alert(1)</script> | `x` \x00",
            ),
        )
        second = replace(first, verdicts=(*first.verdicts[:-1], *verdicts))
        comparison = compare_reports(first, second)
        assert "<script>alert" not in render_comparison_html(comparison)
        summary = render_comparison_markdown(comparison)
        assert "<script>" not in summary
        assert "\\|" in summary
        assert "\x00" not in summary


def test_the_subjects_can_be_named_on_the_command_line():
    assert vendor("cuda").name == "vendors.py:cuda"
    assert "vendors" in sys.modules


class TestErrorClass:
    def sketches(self, ratio: float, *, shift: float = 0.0, blocks: int = 400, noise: float = 0.02):
        """Pairs of sketches of one block each: B's RMS and bias differ, and B's squares vary."""
        random = np.random.default_rng(1)
        empty = ErrorSketch("", "", 4, 0)
        for _ in range(blocks):
            factor = ratio**2 * (1 + noise * random.standard_normal())
            first = replace(empty, counts=(100,), squares=(16.0,), signed=(0.0,))
            signed = shift * np.sqrt(100 * 16.0 * factor)
            yield first, replace(first, squares=(16.0 * factor,), signed=(float(signed),))

    @pytest.mark.parametrize("ratio", [0.81, 1.0, 1.23])
    def test_one(self, ratio):
        found = error_class(self.sketches(ratio))
        assert found.is_one
        assert not found.is_other
        assert found.difference() == ""
        assert found.outputs == 40_000
        assert abs(found.ratio.estimate / ratio - 1) < 0.01

    @pytest.mark.parametrize("ratio", [0.78, 1.28])
    def test_another(self, ratio):
        found = error_class(self.sketches(ratio))
        assert found.is_other
        assert not found.is_one
        assert "times as large" in found.difference()

    def test_too_few_to_tell(self):
        found = error_class(self.sketches(1.2, blocks=9, noise=0.4))
        assert not found.is_one
        assert not found.is_other
        assert found.difference().endswith(": too few to tell")

    @pytest.mark.parametrize("shift", [-0.06, 0.06])
    def test_a_shift_alone(self, shift):
        found = error_class(self.sketches(1.0, shift=shift))
        assert found.is_other
        where = "towards" if shift < 0 else "away from"
        assert found.difference() == (
            f"B's errors are shifted {where} zero by 0.06 [0.06, 0.06] of their RMS"
        )
        assert error_class(self.sketches(1.0, shift=shift / 2)).is_one

    def test_errors_of_zero(self):
        zero = ErrorSketch("", "", 4, 0, counts=(9,), squares=(0.0,), signed=(0.0,))
        some = replace(zero, squares=(1.0,), signed=(0.5,))
        assert error_class([(zero, zero)]).is_one
        assert error_class([(zero, some)]).ratio.estimate == math.inf
        assert error_class([(some, zero)]).ratio.estimate == 0
        assert error_class([]) is None
