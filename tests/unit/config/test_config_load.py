"""From flags, environment, file and defaults to one checked configuration."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from kvnode.address import Address
from kvnode.config import serve
from kvnode.config.options import OPTIONS, Option
from kvnode.errors import ConfigurationError, ExitCode

CLUSTER = "n1=127.0.0.1:7001,n2=127.0.0.1:7002"


def load(flags: Mapping[str, str] = {}, **environment: str) -> serve.ServeConfig:
    return serve.load(flags, environment)


def refusal(flags: Mapping[str, str] = {}, **environment: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        serve.load(flags, environment)
    assert "\n" not in str(caught.value)
    return caught.value


def toml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "kvnode.toml"
    path.write_text(text)
    return str(path)


def test_without_arguments_it_is_one_node_on_loopback() -> None:
    settings = load()
    assert (settings.node, settings.cluster) == ("node-1", {"node-1": Address("127.0.0.1", 7379)})
    assert settings.cluster_id is None
    addresses = [settings.listen, settings.peer_listen, settings.admin]
    assert [str(a) for a in addresses] == ["127.0.0.1:6379", "127.0.0.1:7379", "127.0.0.1:8379"]
    assert set(settings.origins.values()) == {"default"}
    assert settings.memory_threshold_bytes == 0
    assert settings.warnings == ()


@pytest.mark.parametrize(
    "places", [p for n in range(4) for p in itertools.combinations(["flag", "env", "file"], n)]
)
def test_the_first_of_flag_environment_file_and_default_wins(
    tmp_path: Path, places: tuple[str, ...]
) -> None:
    flags, environment = {}, {}
    if "flag" in places:
        flags["node"] = "by-flag"
    if "env" in places:
        environment["KVNODE_NODE"] = "by-env"
    if "file" in places:
        flags["config"] = toml(tmp_path, 'node = "by-file"')
    settings = serve.load(flags, environment)
    strongest = next((p for p in ("flag", "env", "file") if p in places), None)
    assert settings.node == (f"by-{strongest}" if strongest else "node-1")
    origin = {"flag": "--node", "env": "KVNODE_NODE", "file": f"{tmp_path}/kvnode.toml: node"}
    assert settings.origins["node"] == (origin[strongest] if strongest else "default")


def test_the_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    assert load(KVNODE_CONFIG=toml(tmp_path, "max_clients = 7")).max_clients == 7


def test_a_former_name_still_counts_and_the_present_one_wins(tmp_path: Path) -> None:
    file = toml(tmp_path, "clients_max = 7")
    assert load(KVNODE_CONFIG=file).max_clients == 7
    assert load(KVNODE_CLIENTS_MAX="8").max_clients == 8
    both = load(KVNODE_CLIENTS_MAX="8", KVNODE_MAX_CLIENTS="9")
    assert (both.max_clients, both.origins["max_clients"]) == (9, "KVNODE_MAX_CLIENTS")
    assert not both.warnings


def test_connections_of_one_address_are_limited_unless_switched_off() -> None:
    assert load().max_connections_per_peer == 1024
    assert load(KVNODE_MAX_CONNECTIONS_PER_PEER="0").max_connections_per_peer == 0
    assert "or 0 for no limit" in str(refusal(KVNODE_MAX_CONNECTIONS_PER_PEER="-1"))


def test_an_empty_variable_counts_as_unset() -> None:
    settings = load(KVNODE_NODE="", KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB="", KVNODE_CONFIG="")
    assert (settings.node, settings.memory_threshold_bytes) == ("node-1", 0)


def test_a_file_may_use_the_types_of_toml(tmp_path: Path) -> None:
    text = 'node = "n1"\ninsecure = true\nmax_clients = 5\n[cluster]\nn2 = "h:2"\nn1 = "h:1"\n'
    settings = load({"config": toml(tmp_path, text)})
    assert settings.insecure
    assert list(settings.cluster) == ["n2", "n1"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nodes = 'n1'", "nodes: unknown key"),
        ("node = 1.5", "node: expected text"),
        ("node = ['a']", "node: expected text"),
        ("[node]\na = 1", "node: expected text"),
        ("node = 'a b'", "node: 'a b' is not a name"),
        ("node = ''", "node: the value is empty"),
        ("node", "not valid TOML"),
        ("node = 'a'\nnode = 'b'", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_a_wrong_configuration(tmp_path: Path, text: str, problem: str) -> None:
    error = refusal({"config": toml(tmp_path, text)})
    assert str(error).startswith(f"{tmp_path}/kvnode.toml: ")
    assert problem in str(error)
    assert error.exit_code == ExitCode.WRONG_CONFIGURATION


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kvnode.toml").write_bytes(b"\xff\xfe\x00")
    assert "not valid TOML" in str(refusal({"config": str(tmp_path / "kvnode.toml")}))


def test_a_file_without_end_is_refused() -> None:
    assert "longer than" in str(refusal({"config": "/dev/zero"}))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_wrong_flag_is_wrong_usage_and_a_wrong_variable_a_wrong_configuration(
    option: Option,
) -> None:
    nonsense = "\0"
    by_flag = refusal({option.name: nonsense})
    assert (by_flag.exit_code, str(by_flag).split(":")[0]) == (ExitCode.USAGE, option.flag)
    by_variable = refusal(**{option.variable: nonsense})
    assert by_variable.exit_code == ExitCode.WRONG_CONFIGURATION
    assert str(by_variable).split(":")[0] == option.variable


def test_a_missing_file_is_blamed_on_who_named_it() -> None:
    assert (
        str(refusal({"config": "/nope"}))
        == "--config: cannot read /nope: No such file or directory"
    )
    assert refusal(KVNODE_CONFIG="/nope").exit_code == ExitCode.WRONG_CONFIGURATION


def test_unknown_variables_are_warned_about() -> None:
    settings = load(KVNODE_LISTENS="x", KVNODE_PORT="tcp://10.0.0.1:6379", OTHER="y")
    assert settings.warnings == (
        "KVNODE_LISTENS: unknown variable, ignored",
        "KVNODE_PORT: unknown variable, ignored",
    )


# --- what follows from other options ------------------------------------------------------------


def test_the_own_entry_of_the_cluster_is_where_peers_connect() -> None:
    settings = load({"node": "n2", "cluster": CLUSTER})
    assert settings.peer_listen == settings.advertise_peer == Address("127.0.0.1", 7002)
    assert settings.origins["peer_listen"] == "--cluster (own entry)"
    assert settings.cluster_id is not None


def test_a_given_cluster_id_wins_over_the_hash() -> None:
    assert load({"node": "n1", "cluster": CLUSTER, "cluster_id": "demo"}).cluster_id == "demo"


def test_behind_a_wildcard_clients_are_sent_to_the_host_of_the_peer_address() -> None:
    flags = {"node": "n1", "cluster": "n1=10.0.0.1:7001", "listen": "0.0.0.0:6380"}
    assert load(flags | {"insecure": "true"}).advertise_client == Address("10.0.0.1", 6380)


def test_a_cluster_without_this_node_is_refused() -> None:
    error = refusal({"cluster": CLUSTER, "node": "n3"})
    assert str(error) == "--cluster: this node, 'n3', is not among n1, n2"
    assert error.exit_code == ExitCode.USAGE


def test_peers_cannot_be_sent_to_a_wildcard() -> None:
    flags = {"node": "n1", "cluster": "n1=0.0.0.0:7001,n2=10.0.0.2:7001", "insecure": "true"}
    assert "give --advertise-peer" in str(refusal(flags))


@pytest.mark.parametrize(
    ("flags", "origin"),
    [
        ({"election": "200ms-400ms"}, "--election"),
        ({"heartbeat": "250ms"}, "--heartbeat"),
    ],
)
def test_an_election_must_outlast_two_heartbeats(flags: dict[str, str], origin: str) -> None:
    assert str(refusal(flags)).startswith(f"{origin}: the shortest election timeout")
    assert load({"election": "201ms-400ms"}).election_ms_min == 201


def test_two_listeners_cannot_share_an_address() -> None:
    assert "--listen too" in str(refusal({"admin": "127.0.0.1:6379"}))
    assert load({"listen": "127.0.0.1:0", "admin": "127.0.0.1:0"}).admin.port == 0


def test_a_poll_interval_below_the_floor_is_raised_and_told() -> None:
    settings = load(KVNODE_MEMORY_SHUTDOWN_POLL_INTERVAL="1ms")
    assert settings.memory_interval_ms == 10
    assert "using 10ms" in settings.warnings[0]
    assert ("memory_shutdown_poll_interval", "10ms") in [row[:2] for row in settings.rows()]


@pytest.mark.parametrize(
    "nonsense",
    ["-5", "+5", "1e3", "512MB", "512mb", "1.5", "0x200", "AUTO", "\u0665", "99999999999999999999"],
)
def test_a_senseless_memory_threshold_is_refused_and_not_off(nonsense: str) -> None:
    error = refusal(KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB=nonsense)
    assert error.exit_code == ExitCode.WRONG_CONFIGURATION
    assert "neither a whole number of MiB" in str(error)


@pytest.mark.parametrize("nonsense", ["0", "0ms", "-1s", "fast", "nan", "1", "20", "99999999s"])
def test_a_senseless_poll_interval_is_refused(nonsense: str) -> None:
    error = refusal(KVNODE_MEMORY_SHUTDOWN_POLL_INTERVAL=nonsense)
    assert error.exit_code == ExitCode.WRONG_CONFIGURATION


# --- who may connect ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["listen", "peer_listen", "admin"])
def test_a_listener_beyond_loopback_needs_a_password(name: str, tmp_path: Path) -> None:
    error = refusal({name: "0.0.0.0:1234"})
    assert error.exit_code == ExitCode.WRONG_CONFIGURATION
    assert f"--{name.replace('_', '-')} 0.0.0.0:1234" in str(error)
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    assert load({name: "0.0.0.0:1234", "requirepass_file": str(secret)}).password == b"s3cret"


def test_insecure_allows_it_loudly() -> None:
    settings = load({"listen": "0.0.0.0:1234", "insecure": "true"})
    assert "insecure" in settings.warnings[0]
    assert load({"insecure": "true"}).warnings == (), "nothing is exposed"


def test_a_flag_can_take_back_insecure() -> None:
    assert not load({"insecure": "false"}, KVNODE_INSECURE="1").insecure


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"secret", b"secret"), (b"secret\n", b"secret"), (b"a\n\n", b"a\n"), (b" a \r\n", b" a ")],
)
def test_one_newline_is_not_part_of_the_password(
    tmp_path: Path, content: bytes, password: bytes
) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert load({"requirepass_file": str(tmp_path / "secret")}).password == password


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 4097])
def test_an_empty_or_huge_password_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    error = refusal(KVNODE_REQUIREPASS_FILE=str(tmp_path / "secret"))
    assert str(error).startswith("KVNODE_REQUIREPASS_FILE: ")


def test_a_password_file_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o640)
    assert "(mode 640)" in load({"requirepass_file": str(secret)}).warnings[0]
    secret.chmod(0o600)
    assert load({"requirepass_file": str(secret)}).warnings == ()


def test_the_password_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    settings = load({"requirepass_file": str(tmp_path / "secret")})
    assert "s3cret" not in repr(settings) + repr(settings.rows())


# --- what is shown ------------------------------------------------------------------------------


def test_every_option_is_shown_with_its_origin() -> None:
    rows = load({"node": "n1"}, KVNODE_HEARTBEAT="50ms").rows()
    assert [row[0] for row in rows] == [option.name for option in OPTIONS]
    assert ("node", "n1", "--node") in rows
    assert ("heartbeat", "50ms", "KVNODE_HEARTBEAT") in rows


def test_what_is_shown_can_be_given_again() -> None:
    shown = {
        name: value
        for name, value, _ in load({"node": "n1", "cluster": CLUSTER, "data": "/d"}).rows()
        if value
    }
    again = {name: value for name, value, _ in serve.load(shown, {}).rows() if value}
    assert again == shown


# --- staying reachable with a wrong configuration -----------------------------------------------


def test_a_held_node_is_found_at_its_admin_address() -> None:
    environment = {"KVNODE_HOLD_ON_FATAL": "1", "KVNODE_ELECTION": "x"}
    assert serve.held_address({}, environment) == Address("127.0.0.1", 8379)
    assert serve.held_address({"admin": "127.0.0.1:9"}, environment) == Address("127.0.0.1", 9)


@pytest.mark.parametrize("hold", ["", "0", "nonsense"])
def test_a_node_is_not_held_unless_asked(hold: str) -> None:
    assert serve.held_address({}, {"KVNODE_HOLD_ON_FATAL": hold}) is None
