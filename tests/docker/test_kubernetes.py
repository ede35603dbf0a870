"""`docker/kubernetes.yaml` holds together: what it names exists, in itself and in kvnode."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kvnode.config.options import OPTIONS
from kvnode.config.serve import load
from kvnode.config.values import parse_cluster
from kvnode.limits import STOP_SECONDS_MAX
from tests.support.docker import REPOSITORY

Document = dict[str, Any]


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    text = (REPOSITORY / "docker" / "kubernetes.yaml").read_text()
    return list(yaml.safe_load_all(text))


def one(documents: list[Document], kind: str, name: str = "kvnode") -> Document:
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name]
    assert len(found) == 1, (kind, name)
    return found[0]


def container_of(documents: list[Document]) -> Document:
    containers = one(documents, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert len(containers) == 1
    return dict(containers[0])


def environment_of(documents: list[Document]) -> dict[str, str]:
    """What pod kvnode-0 is told."""
    values = {}
    for entry in container_of(documents)["env"]:
        if "value" in entry:
            values[entry["name"]] = entry["value"]
        else:
            assert entry["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
            values[entry["name"]] = "kvnode-0"
    return values


def test_the_members_are_the_pods_by_the_names_that_the_headless_service_gives(
    documents: list[Document],
) -> None:
    pods = one(documents, "StatefulSet")
    peers = one(documents, "Service", pods["spec"]["serviceName"])
    assert peers["spec"]["clusterIP"] == "None"
    assert peers["spec"]["publishNotReadyAddresses"] is True
    members = parse_cluster(environment_of(documents)["KVNODE_CLUSTER"])
    name, service = pods["metadata"]["name"], peers["metadata"]["name"]
    port = peers["spec"]["ports"][0]["port"]
    assert {member: str(address) for member, address in members.items()} == {
        f"{name}-{number}": f"{name}-{number}.{service}:{port}"
        for number in range(pods["spec"]["replicas"])
    }


def test_a_node_takes_the_configuration(documents: list[Document], tmp_path: Any) -> None:
    environment = environment_of(documents)
    assert set(environment) <= {option.variable for option in OPTIONS}
    password = tmp_path / "password"
    password.write_text("secret")
    mount = environment["KVNODE_REQUIREPASS_FILE"].rpartition("/")[0]
    assert mount in [each["mountPath"] for each in container_of(documents)["volumeMounts"]]
    image = {"KVNODE_LISTEN": "0.0.0.0:6379", "KVNODE_PEER_LISTEN": "0.0.0.0:7379"}
    settings = load({}, {**image, **environment, "KVNODE_REQUIREPASS_FILE": str(password)})
    assert str(settings.advertise_client) == "kvnode-0.kvnode-peers:6379"
    ports = {port["name"]: port["containerPort"] for port in container_of(documents)["ports"]}
    assert ports == {
        "clients": settings.listen.port,
        "peers": settings.peer_listen.port,
        "admin": settings.admin.port,
    }


def test_the_kubelet_can_reach_what_it_asks_and_asks_two_questions(
    documents: list[Document],
) -> None:
    assert environment_of(documents)["KVNODE_ADMIN"].startswith("0.0.0.0:")
    container = container_of(documents)
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}


def test_at_most_one_node_is_away_at_a_time(documents: list[Document]) -> None:
    pods, budget = one(documents, "StatefulSet"), one(documents, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == pods["spec"]["selector"]
    assert pods["spec"]["podManagementPolicy"] == "Parallel"
    affinity = pods["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    (rule,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["labelSelector"] == pods["spec"]["selector"]


def test_every_selector_finds_the_pods(documents: list[Document]) -> None:
    labels = one(documents, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    for document in documents:
        spec = document["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        assert selector.get("matchLabels", selector).items() <= labels.items()


def test_a_pod_has_no_more_rights_than_it_needs_and_the_time_to_stop(
    documents: list[Document],
) -> None:
    pod = one(documents, "StatefulSet")["spec"]["template"]["spec"]
    *command, timeout = container_of(documents)["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["kvnode", "drain", "--wait", "--timeout"]
    drain_seconds = int(timeout.removesuffix("s"))
    assert pod["terminationGracePeriodSeconds"] >= drain_seconds + STOP_SECONDS_MAX
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container_of(documents)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    resources = container_of(documents)["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_the_password_comes_from_a_secret(documents: list[Document]) -> None:
    pod = one(documents, "StatefulSet")["spec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    assert volume["secret"]["secretName"] == "kvnode"
    assert volume["secret"]["defaultMode"] & 0o007 == 0
