"""JUnit XML parses whatever a message holds, and its sums are the report's."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moeproof.report import read_report, render_junit
from moeproof.verdict import Outcome


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.encode("utf-8"))


def test_a_suite_a_check_and_a_test_case_a_case(report):
    root = parse(render_junit(report))
    suites = {suite.get("name"): suite for suite in root.findall("testsuite")}
    assert list(suites) == ["accuracy", "memory", "routing"]
    names = [case.get("name") for case in suites["accuracy"].findall("testcase")]
    assert names == [item.case_id for item in report.verdicts if item.check == "accuracy"]
    assert suites["accuracy"].get("tests") == "3"
    assert suites["accuracy"].get("time") == "0.750000"


def test_each_outcome_has_its_element(report):
    root = parse(render_junit(report))
    assert (root.get("tests"), root.get("failures")) == ("5", "1")
    assert (root.get("errors"), root.get("skipped")) == ("1", "1")
    (failure,) = root.iter("failure")
    assert failure.get("message") == report.verdicts[1].message
    assert str(report.verdicts[1].worst) in failure.text
    assert report.verdicts[1].reproducer in failure.text
    (error,) = root.iter("error")
    assert report.verdicts[2].reproducer in error.text
    (skipped,) = root.iter("skipped")
    assert skipped.get("message") == "layout far_apart is not claimed"
    passed = [case for case in root.iter("testcase") if len(case) == 0]
    assert [case.get("name") for case in passed] == [
        item.case_id for item in report.verdicts if item.outcome is Outcome.PASS
    ]


def test_the_metadata_are_properties(report):
    suite = parse(render_junit(report)).find("testsuite")
    properties = {item.get("name"): item.get("value") for item in suite.iter("property")}
    assert properties["implementation"] == "moe_dispatch"
    assert properties["device.architecture"] == "gfx942"
    assert properties["package.triton-rocm"] == "3.6.0"
    assert properties["environment.HIP_VISIBLE_DEVICES"] == "0"


def test_what_xml_cannot_hold_is_escaped(report):
    (error,) = parse(render_junit(report)).iter("error")
    assert error.get("message").startswith("worker died: SIGSEGV\\x00 \\udcff \u2028 \U0001f4a5 </")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.text(alphabet=st.characters()))
def test_any_message_parses(write_report, make_verdict, message):
    verdict = make_verdict(outcome=Outcome.FAIL, message=message)
    (failure,) = parse(render_junit(read_report(write_report([verdict])))).iter("failure")
    assert failure.text.endswith(f"reproduce: {verdict.reproducer}")
