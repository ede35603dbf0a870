"""The workflows, as far as they can be judged without the service that runs them.

actionlint knows more: it is asked where it is installed, and in CI.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.rolling.stage import REPOSITORY, SCRIPT

FOLDER = REPOSITORY / ".github" / "workflows"
ROLL = "rolling-update.yml"
WORKFLOWS = sorted(path.name for path in FOLDER.iterdir())

each_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def workflow(name: str) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text())
    return document


def triggers(name: str) -> dict[str, Any]:
    # YAML 1.1 reads the word `on` as a boolean.
    found: dict[str, Any] = workflow(name)[True]
    return found


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def test_there_is_one_for_checks_and_one_for_updates() -> None:
    assert WORKFLOWS == ["ci.yml", ROLL]


@each_workflow
def test_actionlint_has_nothing_to_say(name: str) -> None:
    if shutil.which("actionlint") is None:
        pytest.skip("actionlint is not installed")
    done = subprocess.run(
        ["actionlint", "-no-color", str(FOLDER / name)], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


@each_workflow
def test_what_others_wrote_is_pinned_by_hash(name: str) -> None:
    used = [step["uses"] for step in steps(name) if "uses" in step]
    pinned = re.compile(r".+@(?:sha256:[0-9a-f]{64}|[0-9a-f]{40})")
    assert used
    assert [one for one in used if not pinned.fullmatch(one)] == []


@each_workflow
def test_it_may_read_the_code_and_nothing_else(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow(name)["jobs"].values())
    for step in steps(name):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@each_workflow
def test_nothing_that_was_typed_in_becomes_a_part_of_a_script(name: str) -> None:
    assert [step["run"] for step in steps(name) if "${{" in step.get("run", "")] == []


@each_workflow
def test_its_scripts_are_well_formed(name: str) -> None:
    for step in steps(name):
        done = subprocess.run(
            ["bash", "-n"], input=step.get("run", ""), capture_output=True, text=True, check=False
        )
        assert done.stderr == "", step["run"]


@each_workflow
def test_every_job_ends_by_itself(name: str) -> None:
    assert all(job["timeout-minutes"] for job in workflow(name)["jobs"].values())


def test_an_update_is_started_by_hand_and_is_a_dry_run_unless_asked() -> None:
    assert list(triggers(ROLL)) == ["workflow_dispatch"]
    inputs = triggers(ROLL)["workflow_dispatch"]["inputs"]
    assert list(inputs) == ["ref", "image_tag", "nodes", "canary", "dry_run"]
    assert (inputs["dry_run"]["type"], inputs["dry_run"]["default"]) == ("boolean", True)


def test_an_update_is_approved_and_alone() -> None:
    assert workflow(ROLL)["concurrency"] == {"group": "rolling-update", "cancel-in-progress": False}
    assert {job["environment"] for job in workflow(ROLL)["jobs"].values()} == {"production"}


def test_a_dry_run_reaches_no_host_and_needs_no_secret() -> None:
    names = [step["name"] for step in steps(ROLL)]
    plan = names.index("The plan")
    for step in steps(ROLL)[plan + 1 :]:
        assert re.fullmatch(r"\$\{\{ (?:always\(\) && )?!inputs\.dry_run \}\}", step["if"]), step
    assert "secrets." not in str(steps(ROLL)[: plan + 1])
    assert "--dry-run" in steps(ROLL)[plan]["run"]


def test_hosts_are_known_by_pinned_keys() -> None:
    text = (FOLDER / ROLL).read_text()
    assert 'SSH_STRICT_HOST_KEY_CHECKING: "yes"' in text
    assert "vars.SSH_KNOWN_HOSTS" in text
    assert "keyscan" not in text
    assert "StrictHostKeyChecking=no" not in text + SCRIPT.read_text()


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ({}, 0),
        ({"IMAGE_TAG": "sha256:" + "0" * 64}, 0),
        ({"NODES_WANTED": "n1,n2 n3", "CANARY_WANTED": "n2"}, 0),
        ({"IMAGE_TAG": "1$(id)"}, 1),
        ({"NODES_WANTED": "n1\nSSH=/tmp/evil"}, 1),
        ({"CANARY_WANTED": "n1;id"}, 1),
    ],
)
def test_the_settings_step_lets_nothing_else_through(
    tmp_path: Any, typed: dict[str, str], code: int
) -> None:
    [step] = [step for step in steps(ROLL) if step["name"] == "Settings"]
    (tmp_path / "environment").touch()
    given = {"IMAGE_TAG": "0.2.0", "NODES_WANTED": "", "CANARY_WANTED": ""} | typed
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail"],
        input=step["run"],
        env={
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_ENV": str(tmp_path / "environment"),
            "IMAGE_REPOSITORY": "registry.example/kvnode",
            "SETTINGS": "NODES=n1=a",
            **given,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    lines = (tmp_path / "environment").read_text().splitlines()
    if code:
        assert lines == []
        return
    separator = "@" if given["IMAGE_TAG"].startswith("sha256:") else ":"
    assert lines[1] == f"IMAGE=registry.example/kvnode{separator}{given['IMAGE_TAG']}"
    assert lines[2:] == (
        [f"ROLLING_ORDER={given['NODES_WANTED']}"] if given["NODES_WANTED"] else []
    )
