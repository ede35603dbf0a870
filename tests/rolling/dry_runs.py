"""Dry runs, each with what it must print: a file in `golden/`, written anew by

python -m tests.rolling.dry_runs

A change of such a file is a change of how nodes are run, and is read before it is committed.
"""

from __future__ import annotations

from pathlib import Path

from tests.rolling.stage import run_script

GOLDEN = Path(__file__).parent / "golden"

THREE = {
    "NODES": "n1=10.0.0.1,n2=10.0.0.2,n3=10.0.0.3",
    "IMAGE": "registry.example/kvnode:0.2.0",
    # Any call of it would fail the run.
    "SSH": "/nowhere/ssh",
}

DRY_RUNS: dict[str, tuple[dict[str, str], list[str]]] = {
    "default": ({}, []),
    "override": (
        {
            "EXTRA_ENV": "MALLOC_ARENA_MAX=1 KVNODE_LOG_LEVEL=debug",
            "CONTAINER_MEMORY_LIMIT": "1g",
        },
        [],
    ),
    "empty": ({"DEFAULT_EXTRA_ENV": "", "CONTAINER_MEMORY_LIMIT": "", "PASSWORD_FILE": ""}, []),
    "empty-extra-env-keeps-the-defaults": ({"EXTRA_ENV": ""}, []),
    "own-defaults": ({"DEFAULT_EXTRA_ENV": "A=1 B=2", "EXTRA_ENV": " B=3\t\n C=\r\n"}, []),
    "malformed": ({"EXTRA_ENV": "MALLOC_ARENA_MAX=1 hunter2"}, []),
    "malformed-key": ({"EXTRA_ENV": "MALLOC-ARENA-MAX=1"}, []),
    "malformed-key-empty": ({"EXTRA_ENV": "=1"}, []),
    "malformed-default": ({"DEFAULT_EXTRA_ENV": "9=1"}, []),
    "malformed-own-key": ({"EXTRA_ENV": "KVNODE_NODE=n9"}, []),
    "quoting": (
        {
            "EXTRA_ENV": "A='$(id)' B=`id` C=a;b D=*?[x] E=\\&| F=ü G=\"",
            "DATA_DIR": "/srv/kv node",
            "EXTRA_RUN_ARGS": "--log-opt max-size=50m",
        },
        [],
    ),
    "secrets": ({"EXTRA_ENV": "MY_PASSWORD=hunter2 api_token=hunter2 KVNODE_LOG_LEVEL=info"}, []),
    "canary": ({"ROLLING_ORDER": "n1 n2"}, ["--canary", "n2"]),
    "ssh-targets": (
        {
            "SSH_TARGETS": "n1=ops@bastion1,n3=docker3",
            "SSH_USER": "deploy",
            "ROLLING_ORDER": "n3,n1,n2",
            "DOCKER": "sudo docker",
        },
        [],
    ),
    "ports-and-names": (
        {
            "REDIS_PORT": "6380",
            "PEER_PORT": "7380",
            "ADMIN_PORT": "8380",
            "CONTAINER_NAME": "kv-2",
            "DATA_DIR": "/srv/kv",
            "PASSWORD_FILE": "/etc/kv/password",
            "CLUSTER": "n1=10.0.0.1:7380,n2=10.0.0.2:7380",
            "CLUSTER_ID": "prod",
            "NETWORK": "kv",
            "RESTART_POLICY": "no",
            "STOP_TIMEOUT_SECONDS": "60",
        },
        [],
    ),
}


def dry_run(name: str) -> str:
    """Run one, and return all that it says, with its exit code in the last line."""
    variables, arguments = DRY_RUNS[name]
    roll = run_script(THREE | variables, "--dry-run", *arguments)
    return f"{roll.out}{roll.err}# exit code {roll.code}\n"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in DRY_RUNS:
        (GOLDEN / f"{each}.txt").write_text(dry_run(each))
