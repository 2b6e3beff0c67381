"""A package says what its report says, and shows that any of its parts was touched."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import pytest

from moeproof.report import Report, read_report
from moeproof.report.certificate import (
    PackageError,
    Result,
    Waiver,
    WaiverError,
    certify,
    make_package,
    package,
    parse_waivers,
    read_package,
    verify_package,
    write_package,
)
from moeproof.report.certificate.hashes import chain_of, first_break, sha256
from moeproof.report.certificate.waivers import require_use
from moeproof.rounding_conclusion import RoundingConclusion
from moeproof.verdict import Outcome

CASES = [f"T{tokens}-H64-I48-E8-K2-bf16/uniform/random/contiguous/0" for tokens in range(1, 7)]
ENVIRONMENT = {"python": "3.12", "distributions": {"torch": "2.10"}}


@pytest.fixture(autouse=True)
def installed(monkeypatch, metadata):
    monkeypatch.setattr(package, "suite_hash", lambda: "ab" * 32)


@pytest.fixture
def metadata(metadata):
    return replace(metadata, profile="certification")


@pytest.fixture
def report(write_report, make_verdict) -> Report:
    return read_report(write_report([make_verdict(case_id) for case_id in CASES]))


def with_outcome(report: Report, outcome: Outcome, *indices: int) -> Report:
    verdicts = tuple(
        replace(item, outcome=outcome, message="said so") if index in indices else item
        for index, item in enumerate(report.verdicts)
    )
    footer = type(report.footer).of(verdicts, seconds=1.0)
    return replace(report, verdicts=verdicts, footer=footer)


def packed(report: Report, *waivers: Waiver) -> dict[str, bytes]:
    return make_package(certify(report, waivers), ENVIRONMENT)


def verify(files: dict[str, bytes], report: Report):
    return verify_package(files, plan_digest_of={"rocm": report.header.plan_digest}.__getitem__)


def resealed(files: dict[str, bytes], /, **manifest: object) -> dict[str, bytes]:
    """With digests, manifest and seal recomputed, but not the chain."""
    content = json.loads(files["manifest.json"])
    content["files"] = {name: sha256(files[name]) for name in content["files"] if name in files}
    files = {**files, "manifest.json": json.dumps({**content, **manifest}).encode()}
    return {**files, "seal.txt": f"{sha256(files['manifest.json'])}\n".encode()}


def rechained(files: dict[str, bytes]) -> dict[str, bytes]:
    """With everything recomputed that needs no understanding of the report."""
    chain = chain_of(files["report.jsonl"])
    files = {**files, "chain.txt": "".join(f"{link}\n" for link in chain).encode()}
    return resealed(files, chain_end=chain[-1])


class TestResult:
    def test_all_passed(self, report):
        files = packed(report)
        certificate = verify(files, report)
        assert certificate.result is Result.CERTIFIED
        statement = files["statement.md"].decode()
        assert statement.startswith("# CERTIFIED\n")
        assert "6 PASS, 0 FAIL, 0 ERROR, 0 UNSUPPORTED" in statement
        assert "No waivers." in statement
        assert "There is no signature" in statement

    @pytest.mark.parametrize("outcome", [Outcome.UNSUPPORTED, Outcome.FAIL, Outcome.ERROR])
    def test_anything_but_pass_is_refused(self, report, outcome):
        broken = with_outcome(report, outcome, 2)
        files = packed(broken)
        assert verify(files, broken).result is Result.NOT_CERTIFIED
        statement = files["statement.md"].decode()
        assert statement.startswith("# NOT CERTIFIED\n")
        assert "Passed: 5 of 6 verdicts." in statement
        assert f"- accuracy: 1 {outcome.value}, first {CASES[2]}: said so\n" in statement

    def test_a_waiver_is_named(self, report):
        broken = with_outcome(report, Outcome.UNSUPPORTED, 2, 3)
        waivers = (Waiver("accuracy", "T3-*", "three | is bad"), Waiver("accuracy", CASES[3], "so"))
        files = packed(broken, *waivers)
        assert verify(files, broken).result is Result.WITH_WAIVERS
        statement = files["statement.md"].decode()
        assert statement.startswith("# CERTIFIED WITH WAIVERS\n")
        assert "Passed: 4 of 6 verdicts." in statement
        assert "cases `T3-*` (1 verdicts: 1 UNSUPPORTED): three \\| is bad" in statement
        unneeded = packed(report, *waivers)
        assert verify(unneeded, report).result is Result.CERTIFIED
        assert "(not needed)" in unneeded["statement.md"].decode()
        assert verify(packed(broken, waivers[0]), broken).result is Result.NOT_CERTIFIED

    def test_no_rounding_for_all_cases_together(self, report):
        conflict = RoundingConclusion("bf16", None, 6, (), tuple(CASES[:2]), "again")
        footer = replace(report.footer, rounding=(conflict,))
        certificate = certify(replace(report, footer=footer), ())
        assert certificate.result is Result.NOT_CERTIFIED
        assert certificate.refused[0].case_id == "all bf16 cases together"


class TestWaivers:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "not JSON"),
            ("{}", "must be a list"),
            ('["x"]', "waiver 1: must be an object"),
            ('[{"check": "a", "cases": "*"}]', "just check, cases, reason"),
            ('[{"check": "a", "cases": "*", "reason": " "}]', "not empty"),
            ('[{"check": "a", "cases": "*", "reason": 1}]', "not empty"),
            ('[{"check": "*", "cases": "*", "reason": "x"}]', "waive everything"),
            ('[{"check": "*", "cases": "**?", "reason": "x"}]', "waive everything"),
        ],
    )
    def test_what_is_none_is_refused(self, text, message):
        with pytest.raises(WaiverError, match=message):
            parse_waivers(text)

    def test_one_that_fits_nothing_is_refused(self):
        pairs = [(case_id, "accuracy") for case_id in CASES]
        require_use([Waiver("*", CASES[0], "x"), Waiver("accuracy", "*-bf16/*", "x")], pairs)
        for waiver in (Waiver("accurate", "*", "x"), Waiver("accuracy", "*-fp16/*", "x")):
            with pytest.raises(WaiverError, match="no verdict of the list"):
                require_use([waiver], pairs)


class TestTampering:
    @pytest.mark.parametrize(
        "name",
        [
            "report.jsonl", "statement.md", "waivers.json", "chain.txt", "environment.json",
            "index.html", "junit.xml", "manifest.json", "seal.txt",
        ],
    )  # fmt: skip
    def test_every_file(self, report, name):
        files = packed(report)
        verify(files, report)
        for altered in (
            {**files, name: files[name] + b" "},
            {**files, name: files[name][:-1]},
            {**files, name: bytes([files[name][0] ^ 1]) + files[name][1:]},
            {**files, name: b""},
            {key: content for key, content in files.items() if key != name},
        ):
            with pytest.raises(PackageError, match=r"altered|missing|does not fit"):
                verify(altered, report)

    def test_a_foreign_file(self, report):
        with pytest.raises(PackageError, match=r"note\.txt does not belong"):
            verify({**packed(report), "note.txt": b"certified, honestly"}, report)

    def test_lines_of_the_report(self, report):
        files = packed(report)
        lines = files["report.jsonl"].splitlines(keepends=True)
        for number, altered in (
            (3, [*lines[:2], lines[2].replace(b"0.25", b"0.26"), *lines[3:]]),
            (4, [*lines[:3], *lines[4:]]),
            (2, [lines[0], lines[2], lines[1], *lines[3:]]),
            (3, [*lines[:2], lines[1], *lines[2:]]),
            (9, [*lines, lines[-1]]),
            (8, lines[:-1]),
        ):
            content = b"".join(altered)
            with pytest.raises(PackageError, match=rf"report\.jsonl, line {number}: was altered"):
                verify({**files, "report.jsonl": content}, report)
            # Though all digests are recomputed, the chain shows it; so does the report itself.
            with pytest.raises(PackageError, match=r"chain\.txt does not fit"):
                verify(resealed({**files, "report.jsonl": content}), report)

    def test_a_fail_made_a_pass_and_all_hashes_recomputed(self, report):
        broken = with_outcome(report, Outcome.FAIL, 2)
        files = packed(broken)
        content = files["report.jsonl"].replace(b'"FAIL"', b'"PASS"')
        files = rechained({**files, "report.jsonl": content})
        with pytest.raises(PackageError):
            verify(files, broken)

    def test_a_removed_case_and_all_hashes_recomputed(self, report, make_verdict, write_report):
        fewer = read_report(write_report([make_verdict(case_id) for case_id in CASES[:-1]]))
        with pytest.raises(PackageError, match="not this version's must-pass list"):
            verify(packed(fewer), report)

    @pytest.mark.parametrize(
        ("name", "old", "new", "message"),
        [
            (
                "statement.md",
                b"# CERTIFIED WITH WAIVERS",
                b"# CERTIFIED",
                r"statement\.md: does not",
            ),
            ("waivers.json", b"a reason", b"a better one", r"statement\.md: does not"),
            ("waivers.json", b"T3-", b"T4-", r"does not follow"),
            ("waivers.json", b"[", b"", r"not JSON"),
        ],
    )
    def test_what_does_not_follow_from_the_report(self, report, name, old, new, message):
        broken = with_outcome(report, Outcome.UNSUPPORTED, 2)
        files = packed(broken, Waiver("accuracy", "T3-*", "a reason"))
        verify(files, broken)
        with pytest.raises(PackageError, match=message):
            verify(resealed({**files, name: files[name].replace(old, new, 1)}), broken)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("result", "NOT CERTIFIED", "does not follow"),
            ("chain_end", "0" * 64, "ends with"),
            ("case_digest", "0" * 64, "case_digest is 0"),
            ("plan_digest", "0" * 64, "plan_digest is 0"),
            ("suite_hash", "0" * 64, "suite_hash is 0"),
            ("suite_version", "9", "suite_version is 9"),
            ("format", 2, "no manifest of format 1"),
            ("files", {}, "no manifest of format 1"),
        ],
    )
    def test_the_manifest(self, report, key, value, message):
        with pytest.raises(PackageError, match=message):
            verify(resealed(packed(report), **{key: value}), report)

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("profile", "quick", "profile 'quick', not of 'certification'"),
            ("suite_hash", "cd" * 32, "verify with that version"),
            ("device", "cuda", "must-pass list for device 'cuda'"),
        ],
    )
    def test_another_run(self, report, metadata, field, value, message):
        other = replace(metadata, **{field: value})
        foreign = replace(report, header=replace(report.header, metadata=other))
        digests = {"rocm": report.header.plan_digest, "cuda": "other"}
        with pytest.raises(PackageError, match=message):
            verify_package(packed(foreign), plan_digest_of=digests.__getitem__)


class TestFiles:
    @pytest.mark.parametrize("name", ["package", "package.zip"])
    def test_written_and_read_back(self, report, tmp_path, name):
        files = packed(report)
        write_package(files, tmp_path / name)
        assert read_package(tmp_path / name) == files
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith("package")] == [
            name
        ]
        with pytest.raises(FileExistsError):
            write_package({}, tmp_path / name)
        assert read_package(tmp_path / name) == files

    def test_equal_runs_make_equal_zip_files(self, report, tmp_path):
        for name in ("a.zip", "b.zip"):
            write_package(packed(report), tmp_path / name)
        assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()

    def test_a_damaged_zip_file(self, report, tmp_path):
        files = packed(report)
        path = tmp_path / "package.zip"
        write_package(files, path)
        content = path.read_bytes()
        refused = 0
        for place in range(0, len(content), len(content) // 150):
            path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
            try:
                certificate = verify(read_package(path), report)
            except PackageError:
                refused += 1
            else:  # a date, or the like
                assert certificate == certify(report, ())
        assert refused > 100

    def test_what_is_no_package(self, report, tmp_path):
        with pytest.raises(PackageError, match="cannot be read"):
            read_package(tmp_path / "none.zip")
        (tmp_path / "text.zip").write_text("no zip file")
        with pytest.raises(PackageError, match="cannot be read"):
            read_package(tmp_path / "text.zip")
        (tmp_path / "folder" / "inner").mkdir(parents=True)
        with pytest.raises(PackageError, match="is no file"):
            read_package(tmp_path / "folder")
        with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
            archive.writestr("seal.txt", "1")
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("seal.txt", "2")
        with pytest.raises(PackageError, match="a file twice"):
            read_package(tmp_path / "twice.zip")


def test_the_chain_breaks_at_the_first_difference():
    report = b"one\ntwo\nthree\n"
    chain = chain_of(report)
    assert first_break(report, chain) is None
    assert first_break(b"one\ntwo!\nthree\n", chain) == 2
    assert first_break(b"one\ntwo\n", chain) == 3
    assert first_break(report + b"four\n", chain) == 4
    assert first_break(report, []) == 1
