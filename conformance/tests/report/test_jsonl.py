"""A report comes back exactly as written; anything short of a whole run is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeproof.report import ReportError, ReportWriter, read_report
from moeproof.report.lines import decode, encode, verdict_from_line, verdict_line
from moeproof.verdict import Outcome, Verdict, WorstElement


def same(left: object, right: object) -> bool:
    """Equality in which NaN equals itself and -0.0 differs from 0.0."""
    return repr(left) == repr(right)


def edit(path: Path, number: int, **changes: object) -> None:
    """Change fields of the line with this number, counted from 0."""
    lines = path.read_text().splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **changes})
    path.write_text("\n".join(lines) + "\n")


class TestRoundTrip:
    def test_every_kind_of_verdict(self, write_report, verdicts, metadata):
        report = read_report(write_report(verdicts))
        assert same(list(report.verdicts), verdicts)
        assert report.metadata == metadata
        assert report.header.planned_cases == 4
        assert report.footer.counts == {
            Outcome.PASS: 2,
            Outcome.FAIL: 1,
            Outcome.ERROR: 1,
            Outcome.UNSUPPORTED: 1,
        }
        assert report.footer.verdicts == 5
        assert report.footer.seconds > 0

    def test_each_verdict_is_one_line_of_strict_json(self, write_report, verdicts):
        lines = write_report(verdicts).read_bytes().split(b"\n")
        assert lines.pop() == b""
        assert len(lines) == len(verdicts) + 2
        for line in lines:
            json.loads(line, parse_constant=pytest.fail)

    def test_an_empty_plan_is_a_whole_run(self, write_report):
        report = read_report(write_report([]))
        assert report.verdicts == ()
        assert sum(report.footer.counts.values()) == 0

    def test_numpy_scalars_are_numbers(self):
        data = {"a": np.float32(0.5), "b": [np.int64(3)], "c": (np.float64("nan"),)}
        assert same(
            decode(json.loads(json.dumps(encode(data)))), {"a": 0.5, "b": [3], "c": [math.nan]}
        )

    @pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
    def test_a_string_that_would_come_back_as_a_number_is_refused(self, value):
        with pytest.raises(ValueError, match="stands for a number"):
            encode({"name": value})

    @pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {1, 2}}, np.zeros(2)])
    def test_what_json_cannot_hold_is_refused(self, value):
        with pytest.raises(TypeError):
            encode(value)

    numbers = st.floats() | st.integers().map(float)
    data = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text().filter(lambda text: text not in ("NaN", "Infinity", "-Infinity")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )

    @given(
        verdict=st.builds(
            Verdict,
            case_id=st.text(min_size=1),
            check=st.text(min_size=1),
            outcome=st.sampled_from(Outcome),
            message=st.text(alphabet=st.characters()),
            figures=st.dictionaries(st.text(), numbers),
            worst=st.none()
            | st.builds(
                WorstElement,
                token=st.integers(0),
                column=st.integers(0),
                experts=st.lists(st.integers()).map(tuple),
                actual=numbers,
                lower=numbers,
                upper=numbers,
                ratio=numbers,
            ),
            evidence=st.dictionaries(st.text(), data),
            seconds=st.floats(0, allow_infinity=False),
            reproducer=st.text(),
        )
    )
    def test_any_verdict(self, verdict):
        assert same(verdict_from_line(json.loads(json.dumps(verdict_line(verdict)))), verdict)


class TestTruncated:
    def test_at_every_line(self, write_report, verdicts):
        path = write_report(verdicts)
        lines = path.read_text().splitlines(keepends=True)
        for kept in range(len(lines)):
            path.write_text("".join(lines[:kept]))
            with pytest.raises(ReportError, match="truncated run"):
                read_report(path)

    def test_inside_every_line(self, write_report, verdicts):
        path = write_report(verdicts)
        lines = path.read_text().splitlines(keepends=True)
        for index, line in enumerate(lines):
            path.write_text("".join(lines[:index]) + line[: len(line) // 2])
            with pytest.raises(ReportError, match=f"line {index + 1}: not JSON"):
                read_report(path)

    @pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt, SystemExit])
    def test_an_interrupted_run_has_no_footer(
        self, tmp_path, metadata, plan_for, verdicts, interruption
    ):
        path = tmp_path / "report.jsonl"

        def run() -> None:
            with ReportWriter(path, metadata, plan_for(verdicts)) as writer:
                for verdict in verdicts:
                    writer.write(verdict)
                raise interruption

        with pytest.raises(interruption):
            run()
        with pytest.raises(ReportError, match="truncated run: no footer after line 6"):
            read_report(path)

    def test_every_verdict_is_on_disk_once_written(self, tmp_path, metadata, plan_for, verdicts):
        path = tmp_path / "report.jsonl"
        with ReportWriter(path, metadata, plan_for(verdicts)) as writer:
            for count, verdict in enumerate(verdicts, start=2):
                writer.write(verdict)
                assert path.read_bytes().count(b"\n") == count

    def test_an_incomplete_run_is_an_error_and_has_no_footer(
        self, tmp_path, metadata, plan_for, verdicts
    ):
        path = tmp_path / "report.jsonl"
        with (
            pytest.raises(ReportError, match="4 planned verdicts are missing"),
            ReportWriter(path, metadata, plan_for(verdicts)) as writer,
        ):
            writer.write(verdicts[0])
        with pytest.raises(ReportError, match="truncated run"):
            read_report(path)


class TestPlan:
    def test_a_verdict_that_was_not_planned_is_refused(
        self, tmp_path, metadata, plan_for, verdicts
    ):
        path = tmp_path / "report.jsonl"
        with (
            pytest.raises(ReportError, match="not planned or came twice"),
            ReportWriter(path, metadata, plan_for(verdicts[1:])) as writer,
        ):
            writer.write(verdicts[0])

    def test_a_verdict_that_comes_twice_is_refused(self, tmp_path, metadata, plan_for, verdicts):
        path = tmp_path / "report.jsonl"
        with ReportWriter(path, metadata, plan_for(verdicts[:1])) as writer:
            writer.write(verdicts[0])
            with pytest.raises(ReportError, match="not planned or came twice"):
                writer.write(verdicts[0])

    def test_a_plan_that_asks_twice_is_refused(self, tmp_path, metadata, plan_for, verdicts):
        plan = plan_for([verdicts[0], verdicts[0]])
        with pytest.raises(ReportError, match=r"'accuracy' of case .* is planned 2 times"):
            ReportWriter(tmp_path / "report.jsonl", metadata, plan)

    def test_the_digest_names_the_set_whatever_its_order(self, write_report, verdicts):
        digest = read_report(write_report(verdicts)).header.plan_digest
        assert read_report(write_report(verdicts[::-1])).header.plan_digest == digest
        assert read_report(write_report(verdicts[1:])).header.plan_digest != digest


class TestDamaged:
    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ReportError, match=r"nowhere\.jsonl: cannot be read"):
            read_report(tmp_path / "nowhere.jsonl")

    def test_bytes_that_are_not_text(self, tmp_path):
        path = tmp_path / "report.jsonl"
        path.write_bytes(b"\xff\xfe\n")
        with pytest.raises(ReportError, match="cannot be read"):
            read_report(path)

    def test_a_line_was_removed(self, write_report, verdicts):
        path = write_report(verdicts)
        lines = path.read_text().splitlines(keepends=True)
        for index in range(1, len(lines) - 1):
            path.write_text("".join(lines[:index] + lines[index + 1 :]))
            with pytest.raises(ReportError, match="5 verdicts were planned, 4 are there"):
                read_report(path)

    def test_a_line_was_doubled(self, write_report, verdicts):
        path = write_report(verdicts)
        lines = path.read_text().splitlines(keepends=True)
        for index in range(1, len(lines) - 1):
            path.write_text("".join(lines[:index] + lines[index : index + 1] + lines[index:]))
            with pytest.raises(ReportError, match=f"line {index + 2}: doubled"):
                read_report(path)

    def test_a_line_stands_for_another_case(self, write_report, verdicts):
        path = write_report(verdicts)
        edit(path, 1, case_id="T33-H64-I96-E8-K2-bf16/zipf/random/contiguous/8")
        with pytest.raises(ReportError, match="not those that were planned"):
            read_report(path)

    def test_a_verdict_was_improved(self, write_report, verdicts):
        path = write_report(verdicts)
        edit(path, 2, verdict="PASS")
        with pytest.raises(ReportError, match="the lines hold 5, PASS 3, FAIL 0"):
            read_report(path)

    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_a_count_was_edited(self, write_report, verdicts, outcome):
        path = write_report(verdicts)
        counts = json.loads(path.read_text().splitlines()[-1])["counts"]
        edit(path, -1, counts={**counts, outcome.value: counts[outcome.value] + 1})
        with pytest.raises(ReportError, match="the footer counts"):
            read_report(path)

    @pytest.mark.parametrize(
        ("number", "changes"),
        [(-1, {"verdicts": 6}), (0, {"planned_verdicts": 6}), (0, {"planned_cases": 5})],
    )
    def test_a_sum_was_edited(self, write_report, verdicts, number, changes):
        path = write_report(verdicts)
        edit(path, number, **changes)
        with pytest.raises(ReportError, match=r"counts 6 verdicts|6 verdicts were|5 cases were"):
            read_report(path)

    @pytest.mark.parametrize("questions", [{}, {"accuracy": "", "memory": "", "exact": ""}])
    def test_questions_of_other_checks(self, write_report, verdicts, questions):
        path = write_report(verdicts)
        edit(path, 0, questions=questions)
        with pytest.raises(ReportError, match="questions must name the checks"):
            read_report(path)

    def test_lines_in_the_wrong_order(self, write_report, verdicts):
        path = write_report(verdicts)
        header, *middle, footer = path.read_text().splitlines(keepends=True)
        for lines, message in (
            ([*middle, header, footer], "line 1: must be the header, is a verdict"),
            ([header, footer, *middle, footer], "line 2: must be a verdict, is a footer"),
            ([header, *middle, footer, header], "no footer after line 8"),
            ([header, *middle, header, footer], "line 7: must be a verdict, is a header"),
            ([footer], "line 1: must be the header, is a footer"),
        ):
            path.write_text("".join(lines))
            with pytest.raises(ReportError, match=message):
                read_report(path)


class TestSchema:
    @pytest.mark.parametrize("number", [0, 1, -1])
    def test_an_unknown_field(self, write_report, verdicts, number):
        path = write_report(verdicts)
        edit(path, number, surprise=1)
        with pytest.raises(ReportError, match=r"violates the schema.*surprise"):
            read_report(path)

    @pytest.mark.parametrize(
        ("number", "changes", "message"),
        [
            (1, {"verdict": "OK"}, "line 2: .*'OK' is not one of"),
            (1, {"verdict": "pass"}, "line 2: .*'pass' is not one of"),
            (1, {"kind": "result"}, "line 2: kind must be one of"),
            (1, {"message": None}, r"line 2: .*\['message'\]"),
            (1, {"figures": {"ratio": "nan"}}, r"line 2: .*\['figures'\]\['ratio'\]"),
            (1, {"figures": {"ratio": None}}, r"line 2: .*\['figures'\]\['ratio'\]"),
            (1, {"worst": {"token": 1}}, r"line 2: .*\['worst'\]"),
            (1, {"evidence": []}, r"line 2: .*\['evidence'\]"),
            (1, {"seconds": -1}, r"line 2: .*\['seconds'\]"),
            (0, {"schema_version": 2}, "line 1: schema_version 2; this moeproof reads version 1"),
            (0, {"plan_digest": "0"}, r"line 1: .*\['plan_digest'\]"),
            (0, {"started_at": "yesterday"}, r"line 1: .*\['started_at'\]"),
            (0, {"metadata": {}}, r"line 1: .*\['metadata'\]"),
            (-1, {"counts": {"PASS": 5}}, r"line 7: .*\['counts'\]"),
            (-1, {"verdicts": "5"}, r"line 7: .*\['verdicts'\]"),
        ],
    )
    def test_a_wrong_value(self, write_report, verdicts, number, changes, message):
        path = write_report(verdicts)
        edit(path, number, **changes)
        with pytest.raises(ReportError, match=message):
            read_report(path)

    @pytest.mark.parametrize("number", [0, 1, 2, -1])
    def test_every_field_is_required(self, write_report, verdicts, number):
        path = write_report(verdicts)
        text = path.read_text()
        lines = text.splitlines()
        for field in json.loads(lines[number]):
            line = json.loads(lines[number])
            del line[field]
            path.write_text("\n".join([*lines, ""]).replace(lines[number], json.dumps(line)))
            with pytest.raises(ReportError, match=field):
                read_report(path)

    @pytest.mark.parametrize("line", ["[]", "1", "null", '"header"', "", "{}"])
    def test_a_line_that_is_no_object_of_ours(self, write_report, verdicts, line):
        path = write_report(verdicts)
        path.write_text(path.read_text() + line + "\n")
        with pytest.raises(ReportError, match=r"line 8: (not JSON|kind must be one of)"):
            read_report(path)

    @pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
    def test_constants_that_json_does_not_have(self, write_report, verdicts, constant):
        path = write_report(verdicts)
        path.write_text(path.read_text().replace('"seconds":0.25', f'"seconds":{constant}', 1))
        with pytest.raises(ReportError, match=f"not JSON: {constant} is not a JSON number"):
            read_report(path)

    def test_the_writer_refuses_metadata_that_readers_would(
        self, tmp_path, metadata, plan_for, verdicts
    ):
        object.__setattr__(metadata, "suite_hash", "unknown")
        path = tmp_path / "report.jsonl"
        with (
            pytest.raises(ReportError, match="suite_hash"),
            ReportWriter(path, metadata, plan_for(verdicts)),
        ):
            pass
        assert not path.exists()
