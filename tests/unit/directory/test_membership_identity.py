"""The identity of a node that joins, is admitted, hears of others, outlives its cluster's id."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode import directory as module
from kvnode import identity_file, limits
from kvnode.directory import DataDirectory, PeerIdentityMismatch, change_identity
from kvnode.errors import ConfigurationError, DiskFull, LogCorrupt
from kvnode.identity import node_id
from kvnode.identity_file import Identity, KnownMember, PeerFacts, decode_identity, encode_identity

PATH = Path("data")
TWO = {1: ("n1", "h:1", "voter"), 2: ("n2", "h:2", "learner")}

texts = st.text(max_size=20)
ids = st.integers(1, 2**64 - 1)
identities = st.builds(
    Identity,
    node=texts,
    node_id=st.integers(0, 2**64 - 1),
    cluster_id=texts,
    storage_id=ids,
    incarnation=st.integers(0, 2**40),
    members=st.dictionaries(texts, texts, max_size=3),
    peers=st.dictionaries(ids, st.builds(PeerFacts, ids, st.integers(0, 99)), max_size=3),
    origin=texts,
    join=texts,
    replaces=texts,
    configuration_index=st.integers(0, 2**64 - 1),
    configuration=st.dictionaries(ids, st.builds(KnownMember, texts, texts, texts), max_size=3),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


def opened(path: Path, cluster_id: str | None = None, **asked: str) -> DataDirectory:
    return DataDirectory.open(path, node="n1", cluster_id=cluster_id, members={}, **asked)


def restarted(directory: DataDirectory) -> DataDirectory:
    directory.close()
    return opened(directory.path)


def full_disk(patch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(module, "_replace_file", full)


# --- the file -------------------------------------------------------------------------------------


@given(identities)
def test_every_identity_is_read_back_as_it_was_written(identity: Identity) -> None:
    assert decode_identity(encode_identity(identity), PATH) == identity


@given(identities, st.data())
def test_damage_anywhere_is_noticed(identity: Identity, data: st.DataObject) -> None:
    content = encode_identity(identity).rstrip()
    at = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    damaged = content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
    # JSON spells some things in several ways, such as the case of an escape's hex digits.
    with contextlib.suppress(LogCorrupt):
        assert decode_identity(damaged, PATH) == identity


def test_a_file_from_before_members_came_and_went_is_read_as_before() -> None:
    document = json.loads(
        '{"format": 1, "node": "n1", "node_id": "01", "cluster_id": "demo", "storage_id": "02",'
        ' "incarnation": 3, "members": {"n1": "h:1", "n2": "h:2"}, "peers": {}}'
    )
    document["sha256"] = identity_file._checksum(document)
    identity = decode_identity(json.dumps(document).encode(), PATH)
    assert identity == Identity("n1", 1, "demo", 2, 3, {"n1": "h:1", "n2": "h:2"}, {})
    assert (identity.origin, identity.join, identity.configuration) == ("demo", "", {})


def test_an_older_program_may_open_the_file_of_an_ordinary_member(path: Path) -> None:
    directory = opened(path, "demo")
    directory.note_configuration(7, TWO)
    document = json.loads((path / "identity").read_bytes())
    assert document["format"] == 1
    older = {"node", "node_id", "cluster_id", "storage_id", "incarnation", "members", "peers"}
    assert older <= document.keys()


def test_an_older_program_must_not_open_what_it_would_misread(path: Path) -> None:
    directory = opened(path, join="h:1")
    formats = [json.loads((path / "identity").read_bytes())["format"]]
    directory.admit(5, "demo", "demo")
    formats.append(json.loads((path / "identity").read_bytes())["format"])
    directory.close()
    change_identity(path, lambda known: replace(known, cluster_id="other"))
    formats.append(json.loads((path / "identity").read_bytes())["format"])
    assert formats == [2, 1, 2], "nobody yet, a member, a member under a new cluster id"


# --- joining --------------------------------------------------------------------------------------


def test_who_asks_to_join_is_nobody_yet_but_has_its_storage_id(path: Path) -> None:
    directory = opened(path, join="h:1,h:2", replaces="n9")
    first = directory.identity
    assert (first.node_id, first.cluster_id, first.members) == (0, "", {})
    assert (first.join, first.replaces, first.is_admitted) == ("h:1,h:2", "n9", False)
    second = restarted(directory).identity
    assert second.storage_id == first.storage_id, "asking twice must be asking once"
    assert (second.join, second.replaces, second.incarnation) == ("h:1,h:2", "n9", 2)


def test_a_wrong_address_to_join_can_be_corrected_until_one_was_right(path: Path) -> None:
    directory = opened(path, join="typo:1")
    directory.close()
    directory = opened(path, join="h:1,typo:1", replaces="n9")
    assert directory.identity.join == "h:1,typo:1"
    directory.admit(5, "demo", "demo")
    directory.close()
    identity = opened(path, join="h:2", replaces="n8").identity
    assert (identity.join, identity.replaces) == ("h:1,typo:1", "n9"), "a member ignores both"


def test_a_node_that_joins_may_be_told_its_cluster_before_it_knows_it(path: Path) -> None:
    opened(path, join="h:1").close()
    assert opened(path, "demo").identity.cluster_id == ""


def test_a_member_with_a_log_is_not_made_to_join(path: Path) -> None:
    opened(path, "demo").close()
    identity = opened(path, join="h:1", replaces="n2").identity
    assert (identity.node_id, identity.join, identity.replaces) == (node_id("demo", "n1"), "", "")


def test_an_admission_is_durable_and_counts_once(path: Path) -> None:
    directory = opened(path, join="h:1")
    directory.admit(5, "new", "old")
    written = (path / "identity").read_bytes()
    directory.admit(5, "new", "old")
    assert (path / "identity").read_bytes() == written
    identity = restarted(directory).identity
    assert (identity.node_id, identity.cluster_id, identity.origin) == (5, "new", "old")


@pytest.mark.parametrize("other", [(6, "demo", "demo"), (5, "other", "other")])
def test_a_member_never_becomes_another_one(path: Path, other: tuple[int, str, str]) -> None:
    directory = opened(path, join="h:1")
    directory.admit(5, "demo", "demo")
    with pytest.raises(ConfigurationError, match="member 0000000000000005 of cluster 'demo'"):
        directory.admit(*other)
    assert restarted(directory).identity.node_id == 5


def test_an_admission_that_could_not_be_written_has_not_happened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = opened(path, join="h:1")
    with monkeypatch.context() as patch:
        full_disk(patch)
        with pytest.raises(DiskFull):
            directory.admit(5, "demo", "demo")
    assert not directory.identity.is_admitted
    directory.admit(5, "demo", "demo")
    assert restarted(directory).identity.node_id == 5


# --- another cluster id ---------------------------------------------------------------------------


def test_after_a_new_cluster_id_the_log_keeps_the_old_one_and_the_flags_may_say_either(
    path: Path,
) -> None:
    directory = opened(path, "demo")
    number = directory.identity.node_id
    directory.close()
    change_identity(path, lambda known: replace(known, cluster_id="other"))
    for flag in (None, "demo", "other"):
        directory = opened(path, flag)
        identity = directory.identity
        assert (identity.cluster_id, identity.origin) == ("other", "demo")
        assert identity.node_id == number
        directory.close()
    with pytest.raises(ConfigurationError, match="belongs to cluster 'other', not to 'third'"):
        opened(path, "third")


# --- the others -----------------------------------------------------------------------------------


def test_the_newest_configuration_is_remembered(path: Path) -> None:
    directory = opened(path, "demo")
    directory.note_configuration(7, TWO)
    directory.note_configuration(6, {1: TWO[1]})
    directory.note_configuration(7, {1: TWO[1]})
    identity = restarted(directory).identity
    assert (identity.configuration_index, identity.configuration) == (7, TWO)
    assert identity.configuration[2].role == "learner"


def test_a_known_configuration_costs_no_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = opened(path, "demo")
    directory.note_configuration(7, TWO)
    monkeypatch.setattr(module, "_replace_file", None)
    directory.note_configuration(7, TWO)


def test_a_full_disk_delays_the_note_of_a_configuration(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = opened(path, "demo")
    with monkeypatch.context() as patch:
        full_disk(patch)
        directory.note_configuration(7, TWO)
    assert directory.identity.configuration_index == 7
    directory.forget_peer(99)
    assert restarted(directory).identity.configuration_index == 7


def test_churn_never_uses_up_the_room_for_peers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PEERS_BOUND_MAX", 2)
    directory = opened(path, "demo")
    for peer in range(1, 10):
        directory.bind_peer(peer, storage_id=peer, incarnation=1)
        directory.forget_peer(peer - 1)
    identity = restarted(directory).identity
    assert identity.peers == {9: PeerFacts(9, 1)}
    with pytest.raises(PeerIdentityMismatch, match="another data directory"):
        directory.bind_peer(9, storage_id=1, incarnation=1)


@pytest.mark.parametrize(
    ("configuration", "members", "join", "others"),
    [
        ({}, {"n1": "h:1"}, "", False),
        ({}, {"n1": "h:1", "n2": "h:2"}, "", True),
        ({}, {}, "h:1", True),
        ({1: TWO[1]}, {"n1": "h:1", "n2": "h:2"}, "h:1", False),
        (TWO, {"n1": "h:1"}, "", False),  # a learner heals nobody
        ({**TWO, 3: ("n3", "h:3", "voter")}, {"n1": "h:1"}, "", True),
    ],
)
def test_who_has_others_to_heal_from(
    configuration: dict[int, KnownMember], members: dict[str, str], join: str, others: bool
) -> None:
    identity = Identity("n1", 1, "demo", 2, 1, members, {}, join=join, configuration=configuration)
    assert identity.has_others is others
