"""The statement of a certification in markdown: it follows from the report and the waivers."""

from __future__ import annotations

from collections import Counter

from moeproof.certification_list import digest_of_case_ids
from moeproof.report.certificate.certificate import Certificate, outcomes_of
from moeproof.report.text import printable
from moeproof.verdict import Outcome

_GROUPS_SHOWN = 40
_HASHES = """\
`moeproof verify` recomputes everything here: the hash chain over the report's lines, the digests of
all files, the statement from the report. That shows damage, and any change by somebody who does not
recompute the hashes as well. There is no signature: against somebody who does, keep the seal that
`moeproof certify` printed, apart from this package."""


def render_statement(certificate: Certificate) -> str:
    """The statement, ready to be written as UTF-8."""
    report = certificate.report
    metadata, counts = report.metadata, report.footer.counts
    case_ids = {verdict.case_id for verdict in report.verdicts}
    described = metadata.device_description
    facts = {
        "implementation": f"{metadata.implementation} {metadata.implementation_version}".strip(),
        "device": f"{metadata.device}: {', '.join(described.values())}",
        "made with": ", ".join(
            f"{package.distribution} {package.version}" for package in metadata.packages
        ),
        "suite": f"moeproof {metadata.suite_version}, hash {metadata.suite_hash}",
        "must-pass list": f"{len(case_ids):,} cases, digest {digest_of_case_ids(case_ids)}",
        "verdicts": ", ".join(f"{counts[outcome]:,} {outcome.value}" for outcome in Outcome),
        "begun": report.header.started_at,
    }
    lines = [f"# {certificate.result.value}", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    lines += ["", f"Passed: {counts[Outcome.PASS]:,} of {report.footer.verdicts:,} verdicts."]
    lines += _waivers(certificate) + _refused(certificate)
    return printable("\n".join([*lines, "", "## Hashes", "", _HASHES, ""]))


def _waivers(certificate: Certificate) -> list[str]:
    if not certificate.waivers:
        return ["", "No waivers."]
    lines = ["", "## Waivers", ""]
    used = Counter(waiver for _, waiver in certificate.waived)
    for waiver in certificate.waivers:
        verdicts = [verdict for verdict, by in certificate.waived if by == waiver]
        what = f"{used[waiver]:,} verdicts: {outcomes_of(verdicts)}" if verdicts else "not needed"
        lines.append(
            f"- check `{waiver.check}`, cases `{waiver.cases}` ({what}): {_cell(waiver.reason)}"
        )
    return lines


def _refused(certificate: Certificate) -> list[str]:
    refused = certificate.refused
    if not refused:
        return []
    lines = ["", "## Neither passed nor waived", "", f"{outcomes_of(refused)}.", ""]
    groups = certificate.refused_groups()
    lines += [f"- {_cell(group)[:300]}" for group in groups[:_GROUPS_SHOWN]]
    if len(groups) > _GROUPS_SHOWN:
        lines.append(f"- and {len(groups) - _GROUPS_SHOWN:,} more of other kinds, in report.jsonl")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
