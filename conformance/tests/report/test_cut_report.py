"""A run that was cut at any byte goes on, and ends as one that was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moeproof.report import ReportError, ReportWriter, read_cut_report, read_report


@pytest.fixture
def whole(write_report, verdicts) -> bytes:
    # Short messages: the file is cut at every byte.
    short = [type(item)(**{**vars(item), "message": item.message[:40]}) for item in verdicts]
    return write_report(short).read_bytes()


def lines_but_the_times(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("started_at", None)
        if line["kind"] == "footer":
            line.pop("seconds")
    return lines


def test_cut_at_every_byte(whole, tmp_path, metadata, plan_for):
    path = tmp_path / "cut.jsonl"
    path.write_bytes(whole)
    expected = lines_but_the_times(path)
    all_verdicts = read_report(path).verdicts
    plan = plan_for(all_verdicts)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        earlier = read_cut_report(path)
        done = earlier.verdicts if earlier else ()
        assert done == all_verdicts[: len(done)]
        if earlier is not None and earlier.footer is not None:
            continue
        with ReportWriter(path, metadata, plan, earlier=earlier) as writer:
            for verdict in all_verdicts[len(done) :]:
                writer.write(verdict)
        assert lines_but_the_times(path) == expected
        read_report(path)


def test_a_verdict_written_before_the_cut_is_not_taken_twice(whole, tmp_path, metadata, plan_for):
    path = tmp_path / "cut.jsonl"
    path.write_bytes(whole[: whole.rindex(b"\n", 0, -1)])
    earlier = read_cut_report(path)
    with (
        pytest.raises(ReportError, match="came twice"),
        ReportWriter(path, metadata, plan_for(earlier.verdicts), earlier=earlier) as writer,
    ):
        writer.write(earlier.verdicts[0])


def test_a_full_disk_is_an_error(metadata, plan_for, verdicts):
    writer = ReportWriter(Path("/dev/full"), metadata, plan_for(verdicts))
    with pytest.raises(ReportError, match=r"/dev/full: cannot be written: .*No space left"):
        writer.__enter__()


def test_nothing_is_left_where_nothing_was_written(tmp_path):
    assert read_cut_report(tmp_path / "none.jsonl") is None
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert read_cut_report(tmp_path / "empty.jsonl") is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [b"{}", *lines[1:]], "line 1: kind"),
        (lambda lines: lines[1:], "line 1: must be the header"),
        (lambda lines: [lines[0], lines[1], lines[1]], "line 3: doubled"),
        (lambda lines: [lines[0], lines[1][:-9], lines[2]], "line 2: not JSON"),
        (lambda lines: [lines[0], lines[-1], lines[1]], "line 2: must be a verdict"),
    ],
)
def test_damage_before_the_cut_is_refused(whole, tmp_path, damage, message):
    path = tmp_path / "cut.jsonl"
    path.write_bytes(b"\n".join(damage(whole.splitlines())) + b"\n")
    with pytest.raises(ReportError, match=message):
        read_cut_report(path)


def test_what_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(ReportError, match="cannot be read"):
        read_cut_report(tmp_path)
