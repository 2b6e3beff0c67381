"""Shards make a whole; anything else is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from moeproof.case_id import parse_case_id
from moeproof.planned_case import PlannedCase
from moeproof.report import Package, Report, ReportError, ReportWriter, ShardChoice, read_report
from moeproof.report.identity import differences
from moeproof.report.merge import merge_reports

CASE_IDS = [f"T33-H64-I48-E8-K2-bf16/uniform/random/contiguous/{seed}" for seed in range(60)]


@pytest.fixture
def shards(tmp_path, metadata, make_verdict):
    """A function: name -> report of each of so many shards of 60 cases."""

    def make(count: int, **changes: object) -> dict[str, Report]:
        reports = {}
        plan = [PlannedCase(parse_case_id(name), ("accuracy", "memory")) for name in CASE_IDS]
        for index in range(1, count + 1):
            choice = ShardChoice(index, count)
            part = choice.part_of(plan)
            path = tmp_path / f"{index}-of-{count}.jsonl"
            with ReportWriter(
                path, replace(metadata, **changes), part, shard=choice.describe(plan)
            ) as writer:
                for item in part:
                    for check in item.checks:
                        writer.write(make_verdict(item.case.case_id, check))
            reports[path.name] = read_report(path)
        return reports

    return make


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "1", "a/b", "1/2/3", "-1/2", "1/-2", ""])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"shard must be INDEX/COUNT"):
        ShardChoice.parse(text)


def test_each_case_is_in_one_shard_and_stays_there():
    parts = {name: ShardChoice.parse("2/3").holds(name) for name in CASE_IDS}
    counts = Counter(
        index for name in CASE_IDS for index in (1, 2, 3) if ShardChoice(index, 3).holds(name)
    )
    assert sum(counts.values()) == len(CASE_IDS)
    assert min(counts.values()) > 10
    # Frozen: shards of two versions of the suite hold the same cases.
    assert [int(name.rpartition("/")[2]) for name in CASE_IDS[:12] if parts[name]] == FROZEN


FROZEN = [7, 10]


def test_shards_join_in_any_order(shards):
    parts = shards(3)
    merged = merge_reports(dict(reversed(parts.items())))
    assert merged.header.shard is None
    assert {item.case_id for item in merged.verdicts} == set(CASE_IDS)
    assert len(merged.verdicts) == merged.footer.verdicts == 120
    assert merged == merge_reports(parts)
    assert merged.header.planned_cases == 60
    assert merged.footer.seconds == sum(part.footer.seconds for part in parts.values())


def test_shards_of_other_machines_of_a_kind_join(shards, metadata):
    first, second = shards(2).items()
    elsewhere = replace(
        second[1].metadata, platform="Linux-5", environment={"HIP_VISIBLE_DEVICES": "3"}
    )
    second = (second[0], with_metadata(second[1], elsewhere))
    first = (first[0], with_metadata(first[1], replace(metadata, environment={})))
    merged = merge_reports(dict([first, second]))
    assert merged.metadata.platform == "Linux-6.8.0-x86_64 | Linux-5"
    assert merged.metadata.environment == {"HIP_VISIBLE_DEVICES": "nothing | 3"}


def with_metadata(report: Report, metadata) -> Report:
    return replace(report, header=replace(report.header, metadata=metadata))


def test_what_is_missing_or_doubled_is_named(shards):
    parts = shards(3)
    some = dict(list(parts.items())[:1])
    with pytest.raises(ReportError, match="shards are missing: 2/3, 3/3"):
        merge_reports(some)
    with pytest.raises(ReportError, match=r"shard 1/3 is doubled, 1-of-3\.jsonl is it too"):
        merge_reports({**parts, "copy.jsonl": parts["1-of-3.jsonl"]})
    with pytest.raises(ReportError, match="number of shards: 3 and 2"):
        merge_reports({**parts, **shards(2)})
    with pytest.raises(ReportError, match="no report"):
        merge_reports({})


def test_a_whole_report_is_no_shard(shards, report):
    with pytest.raises(ReportError, match="all: is no shard"):
        merge_reports({**shards(2), "all": report})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("implementation", "other"),
        ("implementation_version", "9"),
        ("device", "cuda"),
        ("profile", "quick"),
        ("suite_hash", "0" * 64),
        ("suite_version", "9"),
        ("python", "PyPy"),
        ("packages", (Package("torch", "torch", "2.9"),)),
        ("device_description", {"name": "AMD Instinct MI355X"}),
        ("environment", {"TRITON_ALLOW_TF32": "1"}),
    ],
)
def test_a_foreign_shard_is_refused_and_the_difference_named(shards, metadata, field, value):
    parts = shards(2)
    foreign = replace(metadata, **{field: value})
    parts["2-of-2.jsonl"] = with_metadata(parts["2-of-2.jsonl"], foreign)
    with pytest.raises(ReportError, match=f"not of one run; .*{field}"):
        merge_reports(parts)


def test_a_shard_of_another_plan_is_refused(shards):
    parts = shards(2)
    header = parts["2-of-2.jsonl"].header
    other = replace(header, shard=replace(header.shard, whole_digest="0" * 64))
    parts["2-of-2.jsonl"] = replace(parts["2-of-2.jsonl"], header=other)
    with pytest.raises(ReportError, match="plan: "):
        merge_reports(parts)


def test_shards_that_do_not_make_the_whole_are_refused(shards):
    parts = {
        name: replace(
            part,
            header=replace(part.header, shard=replace(part.header.shard, whole_verdicts=121)),
        )
        for name, part in shards(2).items()
    }
    with pytest.raises(ReportError, match="hold 120 verdicts, which are not the 121"):
        merge_reports(parts)


def test_every_field_of_the_metadata_counts(metadata):
    assert differences(metadata, metadata) == []
    other = replace(metadata, packages=metadata.packages[:-1], environment={})
    names = {item.field for item in differences(metadata, other)}
    assert names == {
        "packages.numpy",
        "environment.HIP_VISIBLE_DEVICES",
        "environment.TRITON_CACHE_DIR",
    }
