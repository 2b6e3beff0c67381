"""What every workflow keeps to. ``ci/lint_workflows.py`` lints their syntax and security."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.iterdir())
WORKFLOWS: dict[str, dict[Any, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in FILES
}
JOBS = [
    pytest.param(workflow, job, id=f"{name}-{job_name}")
    for name, workflow in WORKFLOWS.items()
    for job_name, job in workflow["jobs"].items()
]
STEPS = [step for parameters in JOBS for step in parameters.values[1]["steps"]]
# What a job may have beyond reading the repository.
MORE_PERMISSIONS = {"attest": {"id-token": "write", "attestations": "write"}}


def triggers(workflow: dict[Any, Any]) -> set[str]:
    # YAML 1.1 reads the key `on` as true.
    return set(workflow[True])


def test_these_are_the_workflows() -> None:
    assert set(WORKFLOWS) == {"cpu", "fuzz", "gpu", "release"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_actions_are_pinned_by_hash_and_say_their_version(path: Path) -> None:
    uses = re.findall(r"uses: *(.*)", path.read_text())
    assert uses
    for use in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)


def test_an_action_has_one_hash_everywhere() -> None:
    repositories: dict[str, set[str]] = {}
    for step in STEPS:
        if "uses" in step:
            action, _, revision = step["uses"].partition("@")
            repository = "/".join(action.split("/")[:2])
            repositories.setdefault(repository, set()).add(revision)
    assert all(len(revisions) == 1 for revisions in repositories.values()), repositories


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_jobs_have_a_time_limit_and_few_permissions(
    workflow: dict[Any, Any], job: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    assert workflow["permissions"] == {}
    assert 0 < job["timeout-minutes"] <= 150
    name = request.node.callspec.id.partition("-")[2]
    assert job["permissions"] == MORE_PERMISSIONS.get(name, {"contents": "read"})
    assert {"group", "cancel-in-progress"} <= set(workflow["concurrency"])
    if "strategy" in job:
        assert job["strategy"]["fail-fast"] is False


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_what_was_found_is_kept_and_shown_whatever_happened(
    workflow: dict[Any, Any], job: dict[str, Any]
) -> None:
    uploads = [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    summaries = [step for step in job["steps"] if "$GITHUB_STEP_SUMMARY" in step.get("run", "")]
    assert all(step["if"] == "always()" for step in uploads)
    if any("moeproof" in text or "tox" in text for text in _commands(job)):
        assert uploads
    if workflow is not WORKFLOWS["release"]:
        assert summaries
        assert all(step["if"] == "always()" for step in summaries)


def _commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_nobody_elses_code_runs_with_our_rights() -> None:
    for name, workflow in WORKFLOWS.items():
        assert "pull_request_target" not in triggers(workflow), name
        assert "workflow_run" not in triggers(workflow), name


def test_pull_requests_do_not_reach_our_own_runners() -> None:
    """Whoever opens one from a fork may change the workflow, so no condition in it would help."""
    reached = 0
    for workflow in WORKFLOWS.values():
        for job in workflow["jobs"].values():
            if "self-hosted" in job["runs-on"]:
                reached += 1
                assert triggers(workflow) <= {"push", "workflow_dispatch"}
                assert workflow[True]["push"] == {"branches": ["main"]}
                assert "!github.event.repository.fork" in job["if"]
    assert reached == 1


def test_checkouts_leave_no_credentials() -> None:
    for step in STEPS:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_no_expression_is_put_into_a_shell_command() -> None:
    for parameters in JOBS:
        for text in _commands(parameters.values[1]):
            assert "${{" not in text


def test_every_target_is_judged_in_as_many_shards_as_are_merged() -> None:
    judge, merge = (WORKFLOWS["gpu"]["jobs"][name] for name in ("judge", "merge"))
    matrix = judge["strategy"]["matrix"]
    names = [f"{target['device']}-{target['architecture']}" for target in matrix["target"]]
    assert {target["device"] for target in matrix["target"]} == {"cuda", "rocm"}
    assert merge["strategy"]["matrix"]["name"] == names
    count = len(matrix["shard"])
    assert matrix["shard"] == list(range(1, count + 1))
    (run,) = [text for text in _commands(judge) if "--shard" in text]
    assert f'--shard "$SHARD/{count}"' in run
    (joined,) = [text for text in _commands(merge) if "moeproof merge" in text]
    assert re.findall(r"shards/\$NAME/(\d+)", joined) == [str(shard) for shard in matrix["shard"]]
    (compared,) = [t for t in _commands(WORKFLOWS["gpu"]["jobs"]["compare"]) if "compare" in t]
    assert all(f"reports/{name}" in compared for name in names)


def test_the_environments_named_are_there() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "tox", "list", "--no-desc"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    matrix = WORKFLOWS["cpu"]["jobs"]["tox"]["strategy"]["matrix"]
    used = {*matrix["environment"], *(entry["environment"] for entry in matrix["include"])}
    assert used <= set(listed)
    assert {"lint", "test", "cpu", "rocm-emulated", "targets"} <= used


def test_the_fuzzer_keeps_its_database_between_runs() -> None:
    steps = WORKFLOWS["fuzz"]["jobs"]["fuzz"]["steps"]
    restore, save = (
        next(step for step in steps if step.get("uses", "").startswith(f"actions/cache/{what}@"))
        for what in ("restore", "save")
    )
    (run,) = [step for step in steps if "--database" in step.get("run", "")]
    assert steps.index(restore) < steps.index(run) < steps.index(save)
    assert save["if"] == "always()"
    assert restore["with"]["path"] == save["with"]["path"] == "fuzz-database"
    assert "--database fuzz-database" in run["run"]
    # Each run writes an entry of its own and reads the newest.
    assert restore["with"]["key"] == save["with"]["key"]
    assert "github.run_id" in save["with"]["key"]
    assert save["with"]["key"].startswith(restore["with"]["restore-keys"])
