"""What a dry run prints, what counts as wrong usage, and that the script is of the old kind."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.rolling.dry_runs import DRY_RUNS, GOLDEN, THREE, dry_run
from tests.rolling.stage import FAKES, REPOSITORY, SCRIPT, run_script

DONE, USAGE = 0, 64


@pytest.mark.parametrize("name", DRY_RUNS)
def test_a_dry_run_prints_what_was_agreed(name: str) -> None:
    assert dry_run(name) == (GOLDEN / f"{name}.txt").read_text()


def test_every_golden_file_is_of_a_dry_run() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(DRY_RUNS)


def test_malformed_entries_abort_before_a_line_is_printed() -> None:
    for name in DRY_RUNS:
        if name.startswith("malformed"):
            text = (GOLDEN / f"{name}.txt").read_text()
            assert text.endswith(f"# exit code {USAGE}\n"), name
            assert "docker run" not in text, name


def test_a_dry_run_is_a_shell_script_whose_words_are_the_ones_that_were_given() -> None:
    variables, _ = DRY_RUNS["quoting"]
    lines = [
        line
        for line in dry_run("quoting").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    words = shlex.split(lines[0])
    assert words[:3] == ["docker", "run", "-d"]
    assert [word for word in words if word in variables["EXTRA_ENV"].split()] == (
        variables["EXTRA_ENV"].split()
    )
    assert "type=bind,source=/srv/kv node,target=/data" in words


def test_no_password_is_printed() -> None:
    assert "hunter2" not in dry_run("secrets") + dry_run("malformed")


def test_the_fingerprint_tells_values_apart_that_are_not_printed() -> None:
    def fingerprints(value: str) -> list[str]:
        roll = run_script(THREE | {"EXTRA_ENV": f"MY_PASSWORD={value}"}, "--dry-run")
        return re.findall(r"kvnode\.fingerprint=([0-9a-f]{64})", roll.out)

    first = fingerprints("one")
    assert len(set(first)) == 3, "each node has its own configuration"
    assert first == fingerprints("one")
    assert not set(first) & set(fingerprints("two"))


def test_the_image_is_no_part_of_the_fingerprint() -> None:
    """Images are compared by id: a tag may have moved."""
    lines = [
        run_script(THREE | {"IMAGE": image}, "--dry-run").out for image in ("kvnode:1", "kvnode:2")
    ]
    assert lines[0] == lines[1].replace("kvnode:2", "kvnode:1")


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"NODES": ""}, "NODES is not set"),
        ({"IMAGE": ""}, "IMAGE is not set"),
        ({"IMAGE": "--privileged"}, "IMAGE"),
        ({"NODES": "n1"}, "n1 is not id=host"),
        ({"NODES": "n1=a,n1=b"}, "n1 twice"),
        ({"NODES": "n1=a,n2=a"}, "n1 and n2 are both on a"),
        ({"NODES": "n1=-oProxyCommand=x"}, "is no host"),
        ({"NODES": "n1=a;id"}, "is no host"),
        ({"NODES": "n/1=a"}, "is no name of a node"),
        ({"NODES": " , "}, "names no node"),
        ({"SSH_TARGETS": "n9=a"}, "NODES has no n9"),
        ({"SSH_TARGETS": "n1=-x"}, "is no host"),
        ({"ROLLING_ORDER": "n1,n9"}, "NODES has no n9"),
        ({"ROLLING_ORDER": "n1,n1"}, "n1 twice"),
        ({"STOP_TIMEOUT_SECONDS": "10"}, "STOP_TIMEOUT_SECONDS"),
        ({"STABLE_SECONDS": "ten"}, "STABLE_SECONDS"),
        ({"REDIS_PORT": "08"}, "REDIS_PORT"),
        ({"CONTAINER_NAME": "a b"}, "CONTAINER_NAME"),
        ({"DATA_DIR": "data"}, "not an absolute path"),
        ({"PULL": "sometimes"}, "PULL"),
        ({"ALLOW_DOWNTIME": "yes"}, "ALLOW_DOWNTIME"),
        ({"ROLLING_UPDATE_ENV_FILE": "/nowhere"}, "cannot read /nowhere"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(variables: dict[str, str], why: str) -> None:
    roll = run_script(THREE | variables, "--dry-run")
    assert (roll.code, roll.out) == (USAGE, "")
    assert why in roll.err
    assert len(roll.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--dryrun"], ["--canary"], ["--report"], ["n1"]])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    assert run_script(THREE, *arguments).code == USAGE


def test_an_unknown_canary_is_refused() -> None:
    assert run_script(THREE, "--dry-run", "--canary", "n9").code == USAGE


def test_the_environment_wins_over_the_file_with_an_empty_text_too(tmp_path: Path) -> None:
    file = tmp_path / "cluster.env"
    file.write_text(
        "NODES=n1=a,n2=b,n3=c\nIMAGE=kvnode:file\nCONTAINER_MEMORY_LIMIT=1g\n"
        'EXTRA_ENV="A=file"\nDATA_DIR=/srv/file\n'
    )
    variables = {
        "ROLLING_UPDATE_ENV_FILE": str(file),
        "IMAGE": "kvnode:env",
        "CONTAINER_MEMORY_LIMIT": "",
        "EXTRA_ENV": "A='env'",
    }
    roll = run_script(variables, "--dry-run")
    assert roll.code == DONE
    words = shlex.split(roll.out, comments=True)
    assert words.count("kvnode:env") == 3
    assert "--memory" not in words
    assert words.count("A='env'") == 3
    assert words.count("type=bind,source=/srv/file,target=/data") == 3


def test_a_file_that_is_no_shell_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cluster.env"
    file.write_text("NODES=(\n")
    roll = run_script({"ROLLING_UPDATE_ENV_FILE": str(file)}, "--dry-run")
    assert roll.code == USAGE
    assert "is not a shell file" in roll.err


def test_help_names_every_variable_and_every_exit_code() -> None:
    roll = run_script({}, "--help")
    assert roll.code == DONE
    text = SCRIPT.read_text()
    variables = re.search(r'VARIABLES="([^"]+)"', text)
    assert variables is not None
    assert [name for name in variables[1].split() if name not in roll.out] == []
    codes = re.search(r"readonly EXIT_DONE.*", text)
    assert codes is not None
    for code in re.findall(r"=(\d+)", codes[0]):
        assert re.search(rf"\b{code} ", roll.out), code


# --- the script as a text ---

SCRIPTS = [SCRIPT, FAKES / "ssh", *sorted((FAKES / "host").iterdir())]

NEWER_THAN_BASH_3_2 = {
    "an associative array": r"\b(?:declare|local|typeset)\s+-[a-zA-Z]*A",
    "a reference to a name": r"\b(?:declare|local|typeset)\s+-[a-zA-Z]*n\b",
    "mapfile": r"\b(?:mapfile|readarray)\b",
    "a change of case": r"\$\{\w+(?:\[[^]]*\])?(?:\^|,)",
    "an operator on a parameter": r"\$\{\w+(?:\[[^]]*\])?@[A-Za-z]",
    "both streams at once": r"&>>|\|&",
    "a test whether a name is set": r"\[\[? -v ",
    "printf's clock": r"%\([^)]*\)T",
    "a negative index": r"\[-\d+\]",
    "coproc": r"\bcoproc\b",
    "wait for any": r"\bwait -[nf]",
    "going on in a case": r";;?&",
    "a named descriptor": r"\{\w+\}[<>]",
    "times of the shell": r"\$(?:EPOCH|BASHPID|SRANDOM)",
}


@pytest.mark.parametrize("what", NEWER_THAN_BASH_3_2)
def test_the_script_uses_nothing_that_bash_3_2_does_not_have(what: str) -> None:
    code = [line for line in SCRIPT.read_text().splitlines() if not line.lstrip().startswith("#")]
    found = [line for line in code if re.search(NEWER_THAN_BASH_3_2[what], line)]
    assert found == []


def test_arrays_that_may_be_empty_are_expanded_in_the_way_of_bash_3_2() -> None:
    """There, "${array[@]}" of an empty array is an unset variable."""
    text = SCRIPT.read_text()
    never_empty = {"ORDER", "PENDING", "RUN"}
    for match in re.finditer(r'(?<!\+)"\$\{(\w+)\[@\]\}"', text):
        assert match[1] in never_empty, match[0]


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        ["shellcheck", *map(str, SCRIPTS)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""


def test_no_function_of_the_script_is_longer_than_a_screen() -> None:
    lines = SCRIPT.read_text().splitlines()
    starts = [at for at, line in enumerate(lines) if re.fullmatch(r"\w+\(\) \{", line)]
    lengths = {lines[at]: lines[at:].index("}") for at in starts}
    assert len(lengths) > 50
    assert {name: length for name, length in lengths.items() if length > 70} == {}
