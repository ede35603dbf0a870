"""Broken variants of the log: each is one plausible mistake, as data.

`tests` must all fail while the mistake is in; all others show what else it breaks. The mistakes are
those that real logs made, or that a change of this code could make and no type would catch.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.torture.broken.plant import Edit

LOG = "tests/unit/wal/test_wal_log.py"
FORMAT = "tests/unit/wal/test_wal_format.py"
VERDICT = "tests/unit/wal/test_wal_verdict.py"
SNAPSHOT = "tests/unit/wal/test_wal_snapshot.py"
TORTURE = "tests/unit/wal/test_wal_torture.py"
GAPS = "tests/unit/wal/test_wal_gaps.py"
LOSS = "tests/unit/wal/test_wal_loss.py"
RECOVERY = "tests/unit/raft/test_raft_recovery.py"
START = "tests/unit/node/test_recovery.py"
SCENARIOS = "tests/scenarios/raft"
WRITER = "tests/unit/node/test_log_writer.py"
FUZZ = "tests/torture/test_fuzz.py"

HEALTHY = f"{LOG}::test_a_new_log_is_empty"
"""Passes with every mistake: a log that does not work at all proves nothing about the tests."""


class Variant(NamedTuple):
    """One mistake.

    Attributes:
        mistake: in one sentence.
        edits: how it comes into the code.
        tests: which must fail then.
    """

    mistake: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


VARIANTS: dict[str, Variant] = {
    # --- writing ------------------------------------------------------------------------------
    "group-not-synced": Variant(
        "A group is written and never synced.",
        (Edit("wal.log", "Wal._write", "self._fs.fdatasync(self._fd)", "pass"),),
        (
            f"{LOG}::test_an_append_costs_one_write_and_one_sync",
            f"{TORTURE}::test_after_a_power_loss_all_that_was_acknowledged_is_there",
        ),
    ),
    "acknowledged-before-the-sync": Variant(
        "The sync comes before the write: each group is acknowledged one sync too early.",
        (
            Edit(
                "wal.log",
                "Wal._write",
                "write_all(self._fs, self._fd, group.data, start)",
                "self._fs.fdatasync(self._fd)",
            ),
            Edit(
                "wal.log",
                "Wal._write",
                "self._fs.fdatasync(self._fd)\n        self._end",
                "write_all(self._fs, self._fd, group.data, start)\n        self._end",
            ),
        ),
        (
            f"{LOG}::test_an_append_costs_one_write_and_one_sync",
            f"{TORTURE}::test_after_a_power_loss_all_that_was_acknowledged_is_there",
        ),
    ),
    "group-in-a-used-sector": Variant(
        "A group begins where the one before ended, in a sector that holds acknowledged bytes.",
        (
            Edit(
                "wal.log",
                "Wal._write",
                "start = align(self._end, header.sector_bytes)",
                "start = self._end",
            ),
        ),
        (f"{LOG}::test_a_group_starts_on_a_sector_and_names_the_end_before_it",),
    ),
    "witness-of-itself": Variant(
        "A record claims that the records before it in its own group are durable.",
        (
            Edit(
                "wal.format",
                "frame",
                "index, zeros, chain, at, synced_upto, salt)",
                "index, zeros, chain, at, at, salt)",
            ),
        ),
        (f"{LOG}::test_a_group_starts_on_a_sector_and_names_the_end_before_it",),
    ),
    "short-write-taken-for-whole": Variant(
        "What a short write left over is not written.",
        (Edit("wal.fs", "write_all", "while written < len(data):", "while False:"),),
        (f"{LOG}::test_short_writes_are_completed",),
    ),
    "sync-tried-again": Variant(
        "After a failed fdatasync it is called once more, and believed.",
        (
            Edit(
                "wal.log",
                "Wal._write",
                "            self._fs.fdatasync(self._fd)",
                "            try:\n                self._fs.fdatasync(self._fd)\n"
                "            except OSError:\n                self._fs.fdatasync(self._fd)",
            ),
        ),
        (f"{TORTURE}::test_each_call_that_fails_ends_the_log_and_loses_nothing",),
    ),
    "failure-forgotten": Variant(
        "A failed write or sync is reported, but the log goes on to be used.",
        (
            Edit(
                "wal.log",
                "Wal._writing",
                "except DiskFailed as failure:\n            self._failure = failure",
                "except DiskFailed:\n            pass",
            ),
        ),
        (f"{TORTURE}::test_each_call_that_fails_ends_the_log_and_loses_nothing",),
    ),
    "any-failure-called-full": Variant(
        "An I/O error while making a file is taken for a full disk.",
        (Edit("wal.errors", "creating", "full = error.errno in (ENOSPC, EDQUOT)", "full = True"),),
        (f"{TORTURE}::test_each_call_that_fails_ends_the_log_and_loses_nothing",),
    ),
    "zero-sectors-not-counted": Variant(
        "The header does not count the sectors of its payload that are zero.",
        (Edit("wal.format", "frame", "zeros = count_zero_sectors", "count_zero_sectors"),),
        (
            f"{FORMAT}::test_zero_sectors_are_those_that_the_file_has_inside_the_record",
            f"{VERDICT}::test_zeros_that_were_written_are_no_tear",
        ),
    ),
    "supersede-forgotten": Variant(
        "The index in memory keeps the places of superseded records.",
        (Edit("wal.index", "SparseIndex.add", "if supersedes:", "if False:"),),
        (
            f"{LOG}::test_a_smaller_index_supersedes_it_and_all_above",
            f"{LOG}::test_random_histories_read_as_the_model_says",
        ),
    ),
    "salt-not-random": Variant(
        "All segments have the same salt.",
        (
            Edit(
                "wal.log",
                "Wal._create",
                "salt=self._salts() | 0x8000_0000_0000_0001",
                "salt=0x8000_0000_0000_0001",
            ),
        ),
        (f"{GAPS}::test_each_segment_has_a_salt_of_its_own",),
    ),
    "covered-entry-superseded": Variant(
        "An entry that a snapshot covers is superseded.",
        (
            Edit(
                "wal.log",
                "Wal._check",
                "first, following = self._snapshot_index + 1,",
                "first, following = 1,",
            ),
        ),
        (f"{SNAPSHOT}::test_what_a_snapshot_covers_is_not_superseded",),
    ),
    # --- segments -----------------------------------------------------------------------------
    "segment-not-synced": Variant(
        "A new segment gets its name before its zeros are on the disk.",
        (Edit("wal.segment", "create_segment", "fs.fdatasync(fd)", "pass"),),
        (
            f"{GAPS}::test_a_segment_has_its_name_only_when_all_of_it_is_on_the_disk",
            f"{TORTURE}::test_after_a_power_loss_all_that_was_acknowledged_is_there",
        ),
    ),
    "segment-name-not-synced": Variant(
        "The directory is not synced after the rename of a new segment.",
        (Edit("wal.segment", "create_segment", "fs.sync_directory(directory)", "pass"),),
        (
            f"{TORTURE}::test_after_a_power_loss_all_that_was_acknowledged_is_there",
            f"{SNAPSHOT}::test_after_a_crash_at_any_call_each_step_was_done_or_not",
        ),
    ),
    "segment-made-in-place": Variant(
        "A segment is made under its final name.",
        (
            Edit(
                "wal.segment",
                "create_segment",
                'temporary = path.with_suffix(".tmp")',
                "temporary = path",
            ),
        ),
        (f"{GAPS}::test_a_segment_has_its_name_only_when_all_of_it_is_on_the_disk",),
    ),
    "released-before-noted": Variant(
        "A release removes segments before the state files note where the log begins.",
        (
            Edit(
                "wal.log",
                "Wal.release",
                "self._states.save(replace(self.state, synced=self._best_synced(), oldest=oldest))",
                "pass",
            ),
            Edit(
                "wal.log",
                "Wal.release",
                "remove(self._fs, self._directory, [segment.path for segment in released])\n",
                "remove(self._fs, self._directory, [segment.path for segment in released])\n"
                "            self._states.save(\n"
                "                replace(self.state, synced=self._best_synced(), oldest=oldest)\n"
                "            )\n",
            ),
        ),
        (
            f"{SNAPSHOT}::test_release_notes_where_the_log_begins_before_anything_is_removed",
            f"{SNAPSHOT}::test_after_a_crash_at_any_call_each_step_was_done_or_not",
        ),
    ),
    "released-beyond-the-marker": Variant(
        "A release removes the segment with the newest snapshot marker, too.",
        (
            Edit(
                "wal.log",
                "Wal._covered",
                "if sequence >= self._snapshot_segment or highest > index:",
                "if sequence >= self._active.header.sequence or highest > index:",
            ),
        ),
        (f"{SNAPSHOT}::test_release_never_reaches_the_newest_marker",),
    ),
    "full-disk-leaves-a-file": Variant(
        "The unfinished file of a segment stays on a full disk.",
        (Edit("wal.segment", "create_segment", "fs.unlink(temporary)", "pass"),),
        (f"{TORTURE}::test_a_full_disk_is_met_only_while_making_files_and_leaves_the_log_usable",),
    ),
    "removal-not-synced": Variant(
        "The directory is not synced after segments were removed.",
        (Edit("wal.segment", "remove", "fs.sync_directory(directory)", "pass"),),
        (f"{GAPS}::test_what_was_removed_stays_removed",),
    ),
    # --- state files --------------------------------------------------------------------------
    "one-state-file": Variant(
        "Only the first state file is written.",
        (Edit("wal.state", "StateFiles.save", "in self._paths:", "in self._paths[:1]:"),),
        (
            f"{LOG}::test_state_is_in_both_files_and_survives",
            f"{LOG}::test_state_copies_are_synced_one_after_the_other",
        ),
    ),
    "state-files-not-synced": Variant(
        "The state files are written and not synced.",
        (Edit("wal.state", "StateFiles._put", "self._fs.fdatasync(fd)", "pass"),),
        (
            f"{LOG}::test_state_copies_are_synced_one_after_the_other",
            f"{TORTURE}::test_state_files_survive_a_crash_at_every_call",
        ),
    ),
    "state-files-synced-together": Variant(
        "Both state files are written before either is synced: a crash may damage both.",
        (
            Edit(
                "wal.state",
                "StateFiles.save",
                "            self._write(path)\n",
                "            self._write(path)\n"
                "        for path in self._paths:\n"
                "            fd = self._fs.open(path)\n"
                "            self._fs.fdatasync(fd)\n"
                "            self._fs.close(fd)\n",
            ),
            Edit("wal.state", "StateFiles._write", "self._put(fd)", "self._put(fd, sync=False)"),
            Edit(
                "wal.state",
                "StateFiles._put",
                "def _put(self, fd: int) -> None:",
                "def _put(self, fd: int, sync: bool = True) -> None:",
            ),
            Edit(
                "wal.state",
                "StateFiles._put",
                "        self._fs.fdatasync(fd)",
                "        if sync:\n            self._fs.fdatasync(fd)",
            ),
        ),
        (
            f"{LOG}::test_state_copies_are_synced_one_after_the_other",
            f"{TORTURE}::test_state_files_survive_a_crash_at_every_call",
        ),
    ),
    "term-goes-back": Variant(
        "A smaller term is saved as if it were newer.",
        (
            Edit(
                "wal.log",
                "Wal.save_state",
                "if term < old.term or (term",
                "if (term",
            ),
        ),
        (f"{LOG}::test_term_and_vote_never_go_back",),
    ),
    "vote-changes": Variant(
        "A second vote in the same term is saved.",
        (
            Edit(
                "wal.log",
                "Wal.save_state",
                " or (term == old.term and old.vote not in (0, vote)):",
                ":",
            ),
        ),
        (f"{LOG}::test_term_and_vote_never_go_back",),
    ),
    "older-state-file-holds": Variant(
        "The first readable state file holds, whatever its generation.",
        (
            Edit(
                "wal.state",
                "StateFiles.read",
                "newest = max(good, key=lambda copy: copy.generation)",
                "newest = good[0]",
            ),
        ),
        (f"{VERDICT}::test_the_newer_state_file_holds",),
    ),
    "state-file-made-in-place": Variant(
        "A state file has its name before it is whole.",
        (
            Edit(
                "wal.state",
                "StateFiles._create",
                'temporary = path.with_name(path.name + ".tmp")',
                "temporary = path",
            ),
        ),
        (f"{GAPS}::test_a_state_file_has_its_name_only_when_all_of_it_is_on_the_disk",),
    ),
    "generation-stands-still": Variant(
        "Both state files count the same, whichever is newer.",
        (Edit("wal.state", "StateFiles.save", "self.generation += 1", "pass"),),
        (f"{VERDICT}::test_the_newer_state_file_holds",),
    ),
    "commit-goes-back": Variant(
        "The commit index in the state files goes back.",
        (
            Edit(
                "wal.log",
                "Wal.save_state",
                "commit, synced = max(commit, old.commit), self._best_synced()",
                "synced = self._best_synced()",
            ),
        ),
        (f"{GAPS}::test_the_commit_index_in_the_state_files_never_goes_back",),
    ),
    "floors-stay-after-recovery": Variant(
        "A node that was healed keeps the floors that it fell below.",
        (
            Edit(
                "wal.log",
                "Wal.save_state",
                "if old.recovering and recovering is False:",
                "if False:",
            ),
        ),
        (f"{LOSS}::test_the_end_of_recovering_is_the_only_time_that_floors_go_back",),
    ),
    # --- reading back: what is a record -------------------------------------------------------
    "length-trusted-unchecked": Variant(
        "The crc of a record header is not compared.",
        (
            Edit(
                "wal.format",
                "decode_record_header",
                "if crc != extend(0, data[at + 4 : at + RECORD_HEADER_BYTES]):",
                "if False:",
            ),
            Edit("wal.scan", "_run", "or crc != crc_of(0, data[offset + 4 : start])", ""),
        ),
        (
            f"{VERDICT}::test_a_damaged_length_is_refused_whatever_it_says",
            f"{TORTURE}::test_a_flipped_bit_is_never_accepted",
            f"{FUZZ}::test_spoilt_bytes_are_judged_and_never_raise",
        ),
    ),
    "own-offset-ignored": Variant(
        "A record counts wherever its bytes turn up in the segment.",
        (
            Edit("wal.format", "decode_record_header", "own != offset or ", ""),
            Edit("wal.scan", "_run", "own != offset\n            or salted", "salted"),
        ),
        (
            f"{FORMAT}::test_a_record_header_counts_only_where_and_for_which_segment_it_was_written",
            f"{VERDICT}::test_a_copy_of_a_header_in_a_payload_is_no_witness",
            f"{FUZZ}::test_spoilt_bytes_are_judged_and_never_raise",
        ),
    ),
    "salt-ignored": Variant(
        "A record counts in whichever segment its bytes turn up.",
        (
            Edit("wal.format", "decode_record_header", "found != salt or ", ""),
            Edit("wal.scan", "_run", "or salted != salt", ""),
        ),
        (
            f"{FORMAT}::test_a_record_header_counts_only_where_and_for_which_segment_it_was_written",
            f"{VERDICT}::test_a_foreign_record_inside_our_own_sector_is_not_stale",
            f"{FUZZ}::test_spoilt_bytes_are_judged_and_never_raise",
        ),
    ),
    "payload-unchecked": Variant(
        "The chained crc over the payloads is not compared.",
        (Edit("wal.scan", "_run", "or then != expected", ""),),
        (
            f"{TORTURE}::test_a_flipped_bit_is_never_accepted",
            f"{FUZZ}::test_spoilt_bytes_are_judged_and_never_raise",
        ),
    ),
    "pad-unchecked": Variant(
        "The pad behind a payload is not looked at.",
        (Edit("wal.scan", "_run", " or not data.startswith(pad, payload_end)", ""),),
        (
            f"{VERDICT}::test_a_damaged_pad_is_refused",
            f"{FUZZ}::test_spoilt_bytes_are_judged_and_never_raise",
        ),
    ),
    "gap-in-index-accepted": Variant(
        "An entry may have any index.",
        (
            Edit(
                "wal.scan",
                "_illegal",
                'text, low, high = "gap in index", snapshot + 1, last + 1',
                'text, low, high = "gap in index", 0, INDEX_MAX',
            ),
        ),
        (f"{VERDICT}::test_a_gap_in_index_is_refused",),
    ),
    "reader-trusts-the-disk": Variant(
        "A record that is read later is not compared with the chain.",
        (Edit("wal.reader", "_read", "if chain != chain_found:", "if False:"),),
        (f"{LOG}::test_read_refuses_what_was_not_written",),
    ),
    # --- reading back: the decision table -----------------------------------------------------
    "mismatch-called-torn": Variant(
        "A payload that does not match is cut off as torn.",
        (Edit("wal.scan", "_judge_record", "if lost > suspect.zero_sectors:", "if True:"),),
        (
            f"{VERDICT}::test_a_flipped_payload_bit_in_the_last_record_is_refused",
            f"{TORTURE}::test_a_flipped_bit_is_never_accepted",
        ),
    ),
    "zero-count-ignored": Variant(
        "Any zero sector in a damaged payload counts as lost, even one that was written so.",
        (Edit("wal.scan", "_judge_record", "if lost > suspect.zero_sectors:", "if lost:"),),
        (f"{VERDICT}::test_zeros_that_were_written_are_no_tear",),
    ),
    "never-torn": Variant(
        "Whatever is damaged is corrupt: no crash in the middle of a write is ever repaired.",
        (
            Edit("wal.scan", "_judge_record", "if lost > suspect.zero_sectors:", "if False:"),
            Edit("wal.scan", "_judge_record", "    if lost:", "    if False:"),
        ),
        (
            f"{VERDICT}::test_a_payload_with_a_sector_that_was_never_written_is_torn",
            f"{VERDICT}::test_a_header_whose_sector_was_never_written_is_torn",
        ),
    ),
    "witness-ignored": Variant(
        "Damage below a witness is judged as if nobody had been told about those bytes.",
        (Edit("wal.scan", "_judge", "if witness > walk.end:", "if False:"),),
        (
            f"{VERDICT}::test_damage_below_a_later_group_is_corruption",
            f"{VERDICT}::test_a_marker_is_witness_enough",
        ),
    ),
    "witness-behind-ignored": Variant(
        "No witness is looked for behind the damage.",
        (
            Edit(
                "wal.scan",
                "scan",
                "*(found.synced_upto for found in behind)",
                "*(found.synced_upto for found in behind[:0])",
            ),
        ),
        (f"{VERDICT}::test_a_witness_is_found_behind_records_that_cannot_be_read",),
    ),
    "header-damage-called-torn": Variant(
        "A record header that cannot be read is cut off as torn.",
        (Edit("wal.scan", "_judge_record", "    if lost:", "    if True:"),),
        (
            f"{VERDICT}::test_a_zeroed_header_in_a_sector_with_other_bytes_is_refused",
            f"{TORTURE}::test_a_flipped_bit_is_never_accepted",
        ),
    ),
    "complaint-ignored": Variant(
        "A good header that no crash can explain is judged like a torn one.",
        (Edit("wal.scan", "_judge", "if walk.complaint is not None:", "if False:"),),
        (
            f"{VERDICT}::test_a_gap_in_index_is_refused",
            f"{VERDICT}::test_an_unknown_record_type_is_refused",
        ),
    ),
    "too-long-accepted": Variant(
        "A file that is longer than its segment is accepted.",
        (Edit("wal.scan", "_judge", "if len(data) > header.segment_bytes:", "if False:"),),
        (
            f"{VERDICT}::test_a_file_that_is_too_long_is_refused",
            f"{FUZZ}::test_spoilt_bytes_are_judged_and_never_raise",
        ),
    ),
    "foreign-group-behind-accepted": Variant(
        "Behind the damage a record may claim any group.",
        (
            Edit(
                "wal.scan",
                "_judge",
                "if found.synced_upto not in (walk.group, walk.end):",
                "if False:",
            ),
        ),
        (f"{VERDICT}::test_a_record_of_no_group_behind_a_lost_sector_is_refused",),
    ),
    "large-sectors-forgotten": Variant(
        "Padding is looked for up to 512 bytes only, whatever a sector is.",
        (Edit("wal.scan", "_after_padding", "align(edge, header.sector_bytes)", "edge"),),
        (f"{LOG}::test_larger_sectors_keep_their_groups_apart",),
    ),
    "page-cache-believed": Variant(
        "The last segment is read from the page cache: a hope, not the disk.",
        (Edit("wal.segment", "read_segment", "if from_disk:", "if False:"),),
        (f"{GAPS}::test_the_last_segment_is_judged_as_the_disk_has_it_and_not_the_page_cache",),
    ),
    "state-from-the-page-cache": Variant(
        "The state files are read from the page cache.",
        (Edit("wal.state", "_read", "fs.drop_cache(fd)", "pass"),),
        (f"{GAPS}::test_term_and_vote_are_those_of_the_disk_and_not_of_the_page_cache",),
    ),
    # --- reading back: the whole log ----------------------------------------------------------
    "chain-across-segments-unchecked": Variant(
        "A segment may follow one whose tail it does not fit.",
        (
            Edit(
                "wal.survey",
                "Survey._accept",
                "chain = header.previous_chain if is_first else self._place.chain",
                "chain = header.previous_chain",
            ),
        ),
        (f"{VERDICT}::test_a_lost_tail_of_a_segment_with_a_successor_breaks_the_chain",),
    ),
    "missing-segment-accepted": Variant(
        "A segment may be missing in the middle.",
        (
            Edit(
                "wal.survey", "Survey._skip_released", "if name.sequence != expected:", "if False:"
            ),
        ),
        (
            f"{VERDICT}::test_a_missing_segment_is_corruption",
            f"{SNAPSHOT}::test_a_segment_missing_from_the_noted_oldest_on_is_corruption",
        ),
    ),
    "foreign-segment-accepted": Variant(
        "A segment of another node is read as our own.",
        (
            Edit(
                "wal.survey", "Survey._accept", "if header.identity != self._identity:", "if False:"
            ),
        ),
        (f"{LOG}::test_a_foreign_segment_is_refused",),
    ),
    "file-name-unchecked": Variant(
        "A segment may have the name of another.",
        (
            Edit(
                "wal.survey",
                "Survey._accept",
                '            ("sequence", name.sequence, header.sequence),\n',
                "",
            ),
            Edit(
                "wal.survey",
                "Survey._accept",
                '            ("first index", name.first_index, header.first_index),\n',
                "",
            ),
        ),
        (f"{VERDICT}::test_a_segment_under_another_name_is_corruption",),
    ),
    "rest-of-header-sector-unchecked": Variant(
        "What follows a segment header in its sector is not looked at.",
        (
            Edit(
                "wal.survey",
                "Survey._accept",
                "if not is_zero(data, min(SEGMENT_HEADER_BYTES, sector_end), sector_end):",
                "if False:",
            ),
        ),
        (f"{VERDICT}::test_a_damaged_segment_header_is_corruption",),
    ),
    "gap-between-segments-accepted": Variant(
        "A segment may begin with any index.",
        (
            Edit(
                "wal.survey",
                "Survey._accept",
                "if not is_first and header.first_index != self._next_first_index:",
                "if False:",
            ),
        ),
        (f"{VERDICT}::test_a_gap_in_index_between_segments_is_corruption",),
    ),
    "uncovered-release-accepted": Variant(
        "A log may begin behind entries that no snapshot covers.",
        (
            Edit(
                "wal.recovery",
                "Replay.finish",
                "if log.first_index > log.snapshot_index + 1:",
                "if False:",
            ),
        ),
        (f"{SNAPSHOT}::test_entries_released_without_a_snapshot_are_missed",),
    ),
    "install-keeps-old-entries": Variant(
        "Entries from before an installed snapshot are still found in the index.",
        (Edit("wal.recovery", "Replay.hand_out", "index.clear()", "pass"),),
        (f"{SNAPSHOT}::test_a_snapshot_from_elsewhere_replaces_the_whole_log",),
    ),
    "sealed-segment-repaired": Variant(
        "A damaged tail is accepted in a segment that has a successor.",
        (
            Edit(
                "wal.survey",
                "_judged",
                "elif sealed and found.verdict is not Verdict.CLEAN:",
                "elif False:",
            ),
        ),
        (
            f"{VERDICT}::test_a_tear_in_a_segment_with_a_successor_is_corruption",
            f"{VERDICT}::test_a_short_segment_with_a_successor_is_corruption",
        ),
    ),
    "unfinished-may-hold-bytes": Variant(
        "A last segment whose header is zero is removed whatever else it holds.",
        (
            Edit(
                "wal.survey",
                "Survey._skip_unfinished",
                "if not is_zero(data, 0, len(data)):",
                "if False:",
            ),
        ),
        (f"{GAPS}::test_a_last_segment_with_a_zero_header_and_other_bytes_is_not_thrown_away",),
    ),
    "floor-ignored": Variant(
        "A log that ends below what its state files know was durable is opened like any other.",
        (
            Edit(
                "wal.recovery",
                "loss_of",
                "below = not state.recovering and (",
                "below = False and (",
            ),
        ),
        (
            f"{LOSS}::test_nobody_asked_is_a_refusal_below_a_floor",
            f"{LOSS}::test_a_log_that_ends_below_a_floor_is_told_with_what_is_gone",
        ),
    ),
    "commit-floor-ignored": Variant(
        "A log that ends below a committed index is opened like any other.",
        (Edit("wal.recovery", "loss_of", " or log.last_index < state.commit)", ")"),),
        (f"{LOSS}::test_a_commit_above_the_last_index_is_a_floor_of_its_own",),
    ),
    "floors-hold-while-recovering": Variant(
        "A recovering log is refused for a loss that was known.",
        (Edit("wal.recovery", "loss_of", "below = not state.recovering and (", "below = ("),),
        (f"{LOSS}::test_recovering_is_durable_and_the_floors_are_silent_while_it_lasts",),
    ),
    "accepted-loss-found-again": Variant(
        "A loss that was accepted is found again by the next start.",
        (Edit("wal.recovery", "Recovery.run", "self._lower_floors(last, log)", "pass"),),
        (f"{LOSS}::test_an_accepted_loss_brings_the_floors_down_and_is_not_found_again",),
    ),
    "changed-before-the-decision": Variant(
        "Evidence and state files are written before anybody decided about the loss.",
        (
            Edit(
                "wal.recovery", "Recovery.run", "        decision = self._decide(last, loss)\n", ""
            ),
            Edit(
                "wal.recovery",
                "Recovery.run",
                "        self._states.mend(self._observer)\n",
                "        self._states.mend(self._observer)\n"
                "        decision = self._decide(last, loss)\n",
            ),
        ),
        (f"{LOSS}::test_a_decision_to_refuse_changes_nothing",),
    ),
    "refused-log-cleaned": Variant(
        "What a release left over is removed from a log that is refused.",
        (
            Edit(
                "wal.recovery",
                "Recovery.run",
                "raise judged.corruption",
                "self._remove_leftovers(survey, [])\n                raise judged.corruption",
            ),
        ),
        (f"{SNAPSHOT}::test_a_refused_log_keeps_what_was_released",),
    ),
    "opened-without-a-sync": Variant(
        "What opening read may be in the page cache only, and counts as synced.",
        (Edit("wal.recovery", "Recovery._settle", "self._fs.fdatasync(fd)", "pass"),),
        (f"{VERDICT}::test_opening_syncs_what_it_found_before_it_counts",),
    ),
    "stale-bytes-left": Variant(
        "Stale bytes behind the end stay where they are.",
        (
            Edit(
                "wal.recovery",
                "Recovery.run",
                "last.scan.verdict is not Verdict.CLEAN else None",
                "last.scan.verdict not in (Verdict.CLEAN, Verdict.STALE) else None",
            ),
        ),
        (f"{VERDICT}::test_a_record_of_another_salt_or_place_ends_the_log_and_is_zeroed",),
    ),
    "both-state-files-lost": Variant(
        "Where no state file can be read, new ones are made: term and vote start from nothing.",
        (
            Edit(
                "wal.state",
                "StateFiles.read",
                'raise Corruption("term and vote are lost: no state file can be read", present[0])',
                "return cls.create(fs, paths, identity)",
            ),
        ),
        (f"{VERDICT}::test_two_damaged_state_files_are_refused_and_left_alone",),
    ),
    "state-files-mended-early": Variant(
        "A state file is written again before the log was judged: a refused log is changed.",
        (
            Edit(
                "wal.recovery",
                "Recovery.run",
                "last: Judged | None = None",
                "last: Judged | None = None\n        self._states.mend(self._observer)",
            ),
        ),
        (f"{GAPS}::test_a_log_that_is_refused_keeps_its_damaged_state_file",),
    ),
    # --- repair -------------------------------------------------------------------------------
    "no-evidence": Variant(
        "A tail is cut without a copy of what was there.",
        (
            Edit(
                "wal.repair",
                "keep_evidence",
                'content = data.rstrip(b"\\0")',
                'content = b""',
            ),
        ),
        (f"{VERDICT}::test_a_payload_with_a_sector_that_was_never_written_is_torn",),
    ),
    "evidence-not-synced": Variant(
        "The copy of the damage is not on the disk when the damage is cut off.",
        (Edit("wal.repair", "keep_evidence", "fs.fdatasync(fd)", "pass"),),
        (f"{VERDICT}::test_evidence_is_durable_before_the_cut",),
    ),
    "newest-evidence-dropped": Variant(
        "Of many copies of damaged segments the oldest are kept.",
        (
            Edit(
                "wal.recovery",
                "Recovery._remove_leftovers",
                "sorted(evidence)[:-EVIDENCE_MAX]",
                "sorted(evidence)[EVIDENCE_MAX:]",
            ),
        ),
        (f"{SNAPSHOT}::test_the_newest_three_copies_of_damaged_segments_are_kept",),
    ),
    "evidence-overwritten": Variant(
        "A second repair of a segment overwrites the evidence of the first.",
        (
            Edit(
                "wal.recovery",
                "Recovery._keep_evidence",
                "number = 1 + max((",
                "number = 1 + 0 * max((",
            ),
        ),
        (f"{VERDICT}::test_evidence_of_an_earlier_repair_is_kept",),
    ),
    "cut-a-sector-too-low": Variant(
        "A repair cuts one sector more than was torn.",
        (Edit("wal.repair", "cut", "fs.truncate(fd, end)", "fs.truncate(fd, end - 512)"),),
        (f"{VERDICT}::test_good_records_before_the_tear_in_its_group_are_kept",),
    ),
    "cut-not-synced-before-the-zeros": Variant(
        "The cut is not synced before the zeros are written.",
        (
            Edit(
                "wal.repair",
                "cut",
                "            fs.fdatasync(fd)\n            write_zeros(",
                "            write_zeros(",
            ),
        ),
        (
            f"{VERDICT}::test_evidence_is_durable_before_the_cut",
            f"{GAPS}::test_a_repair_that_loses_power_leaves_nothing_that_looks_like_rot",
        ),
    ),
    "cut-not-filled": Variant(
        "A repaired segment is not filled with zeros to its full size.",
        (
            Edit(
                "wal.repair",
                "cut",
                "write_zeros(fs, fd, end, segment.header.segment_bytes)",
                "pass",
            ),
        ),
        (f"{VERDICT}::test_a_file_that_ends_behind_its_last_record_gets_its_size_back",),
    ),
    "repair-not-read-again": Variant(
        "Nobody looks whether the repair helped.",
        (
            Edit(
                "wal.recovery",
                "Recovery._repair",
                "if (again.verdict, again.end, again.chain)",
                "if False and (again.verdict, again.end, again.chain)",
            ),
        ),
        (f"{VERDICT}::test_a_repair_that_does_not_help_is_not_tried_again",),
    ),
    "strict-repairs-too": Variant(
        "A strict log is repaired like any other.",
        (
            Edit(
                "wal.recovery",
                "Recovery._decide",
                "if last is not None and self._strict and",
                "if last is not None and False and",
            ),
        ),
        (f"{VERDICT}::test_strict_mode_repairs_nothing_else",),
    ),
    "flag-after-the-cut": Variant(
        "The recovering flag becomes durable only after the tail is gone.",
        (
            Edit(
                "wal.recovery",
                "Recovery.run",
                "        if decision is Decision.RECOVER:\n            self._start_recovering()\n",
                "",
            ),
            Edit(
                "wal.recovery",
                "Recovery.run",
                "        if decision is Decision.REPAIR:\n",
                "        if decision is Decision.RECOVER:\n            self._start_recovering()\n"
                "        if decision is Decision.REPAIR:\n",
            ),
        ),
        (
            f"{LOSS}::test_the_flag_is_durable_after_the_evidence_and_before_the_cut",
            f"{LOSS}::test_a_crash_at_any_call_of_a_repair_leaves_what_the_next_start_handles",
        ),
    ),
    "floors-lowered-while-recovering": Variant(
        "A log that starts to recover forgets at once how far it once reached.",
        (
            Edit(
                "wal.recovery",
                "Recovery.run",
                "if decision is Decision.REPAIR:",
                "if decision is not None:",
            ),
            Edit(
                "wal.recovery",
                "Recovery._lower_floors",
                "if not state.recovering and (",
                "if (",
            ),
        ),
        (f"{LOSS}::test_recovering_is_durable_and_the_floors_are_silent_while_it_lasts",),
    ),
    "flag-lost-with-the-term": Variant(
        "Saving a term clears the recovering flag.",
        (
            Edit(
                "wal.log",
                "Wal.save_state",
                "flag = old.recovering if recovering is None else recovering",
                "flag = bool(recovering)",
            ),
        ),
        (f"{LOSS}::test_recovering_stays_until_it_is_ended_by_name",),
    ),
    # --- the way to the disk ------------------------------------------------------------------
    "messages-before-the-disk": Variant(
        "Acknowledgements leave the node while the disk still writes what they acknowledge.",
        (
            Edit(
                "kvnode.node.log_writer",
                "LogWriter._start_group",
                "            self._start(self._write(group), then)",
                "            then()\n            self._start(self._write(group), _nothing)",
            ),
        ),
        (f"{WRITER}::test_messages_leave_only_after_the_sync_that_covers_them",),
    ),
    "entries-before-the-term": Variant(
        "Entries are written before the term that they are of.",
        (
            Edit(
                "kvnode.node.log_writer",
                "_Group.write",
                "        if self.records:\n            wal.append(self.records)\n",
                "",
            ),
            Edit(
                "kvnode.node.log_writer",
                "_Group.write",
                "        if self.state is not None or begins:\n",
                "        if self.records:\n            wal.append(self.records)\n"
                "        if self.state is not None or begins:\n",
            ),
        ),
        (f"{WRITER}::test_the_newest_term_and_vote_of_a_group_are_durable_before_its_entries",),
    ),
    "no-idle-marker": Variant(
        "A node at rest writes no marker: its last group never gets a witness.",
        (
            Edit(
                "kvnode.node.log_writer",
                "LogWriter._mark",
                "            wal.mark()\n",
                "",
            ),
        ),
        (f"{WRITER}::test_after_a_pause_one_marker_makes_the_last_group_a_witnessed_one",),
    ),
    # --- recovering ---------------------------------------------------------------------------
    "commit-believed-while-recovering": Variant(
        "A recovering node believes the commit index of its state files.",
        (
            Edit(
                "raft.node_state",
                "NodeState.__init__",
                "commit = applied if recovering else hard_state.commit",
                "commit = min(hard_state.commit, log.last_index)",
            ),
        ),
        (f"{RECOVERY}::test_a_recovering_node_believes_no_commit_index_that_its_state_names",),
    ),
    "campaigns-while-recovering": Variant(
        "A recovering node stands for election.",
        (
            Edit(
                "raft.elections",
                "Elections._promotable",
                "in voting_members(self.conf_state) and not self.recovering",
                "in voting_members(self.conf_state)",
            ),
        ),
        (f"{RECOVERY}::test_a_recovering_node_never_campaigns",),
    ),
    "votes-while-recovering": Variant(
        "A recovering node gives its vote.",
        (Edit("raft.elections", "Elections._on_request_vote", "if self.recovering:", "if False:"),),
        (f"{RECOVERY}::test_a_recovering_node_gives_no_vote_and_says_nothing",),
    ),
    "counted-while-recovering": Variant(
        "What a recovering node acknowledges counts for commit.",
        (
            Edit(
                "raft.leader",
                "stored",
                "0 if voter.recovering else voter.match for",
                "voter.match for",
            ),
        ),
        (
            f"{SCENARIOS}/recovering_not_counted.txt::recovering_not_counted",
            f"{RECOVERY}::test_entries_that_a_healed_node_has_are_counted_from_then_on",
        ),
    ),
    "quorum-heard-from-recovering": Variant(
        "A leader stays one because recovering nodes answer it.",
        (
            Edit(
                "raft.leader",
                "Leader._heard_quorum",
                "if peer.recent_active and not peer.recovering:",
                "if peer.recent_active:",
            ),
        ),
        (f"{SCENARIOS}/recovering_not_counted.txt::recovering_not_counted",),
    ),
    "reads-confirmed-by-recovering": Variant(
        "A recovering node confirms a read round.",
        (
            Edit(
                "raft.leader",
                "Leader.on_heartbeat_response",
                "round_id > progress.acked_round and not progress.recovering:",
                "round_id > progress.acked_round:",
            ),
        ),
        (f"{SCENARIOS}/recovering_read.txt::recovering_read",),
    ),
    "match-remembered": Variant(
        "The leader goes on to count what a node acknowledged before it lost it.",
        (
            Edit("raft.leader", "Leader.connected", "progress.forget()", "pass"),
            Edit("raft.leader", "Leader._set_recovering", "progress.forget()", "pass"),
        ),
        (f"{RECOVERY}::test_the_leader_forgets_what_a_recovering_peer_had_acknowledged",),
    ),
    "earlier-answer-believed": Variant(
        "The answer to a question from before the loss heals a node.",
        (
            Edit(
                "raft.recovery",
                "Recovery.take_answer",
                "if self.index is None and request_id < self._begun_at:",
                "if self.index is None:",
            ),
        ),
        (f"{RECOVERY}::test_an_answer_to_an_earlier_recovery_means_nothing",),
    ),
    "healed-before-its-entries": Variant(
        "The recovering flag is cleared before the entries that heal the log are durable.",
        (
            Edit(
                "kvnode.node.log_writer",
                "_Group.write",
                "        if self.records:\n            wal.append(self.records)\n",
                "",
            ),
            Edit(
                "kvnode.node.log_writer",
                "_Group.write",
                "        elif refresh:\n",
                "        if self.records:\n            wal.append(self.records)\n"
                "        if refresh:\n",
            ),
        ),
        (f"{WRITER}::test_a_node_is_healed_only_when_the_entries_that_heal_it_are_durable",),
    ),
    "cluster-member-repairs-silently": Variant(
        "A member of a cluster cuts its tail and goes on voting.",
        (
            Edit(
                "kvnode.node.loss",
                "loss_policy",
                "return Decision.RECOVER",
                "return Decision.REPAIR",
            ),
        ),
        (
            f"{START}::test_a_member_whose_machine_stopped_repairs_a_torn_tail_and_starts_to_recover",
            f"{START}::test_a_member_that_lost_acknowledged_entries_starts_to_recover",
        ),
    ),
    "torn-tail-trusted-after-a-power-loss": Variant(
        "A member counts on after a torn tail, though its machine may have lost what was synced.",
        (
            Edit(
                "kvnode.node.loss",
                "loss_policy",
                "is_unwritten(loss) and cache_kept()",
                "is_unwritten(loss)",
            ),
        ),
        (
            f"{START}::test_a_member_whose_machine_stopped_repairs_a_torn_tail_and_starts_to_recover",
        ),
    ),
    "killed-while-writing-must-recover": Variant(
        "Each torn tail makes a member recover: a kill of all nodes leaves nobody who may vote.",
        (
            Edit(
                "kvnode.node.loss",
                "loss_policy",
                "is_unwritten(loss) and cache_kept()",
                "False",
            ),
        ),
        (f"{START}::test_a_member_that_was_killed_while_it_wrote_cuts_its_tail_and_counts",),
    ),
    "single-node-recovers": Variant(
        "A node that is alone accepts that acknowledged entries are gone.",
        (Edit("kvnode.node.loss", "loss_policy", "raise refusal(loss, data)", "pass"),),
        (
            f"{START}::test_a_node_that_is_alone_and_lost_acknowledged_entries_is_refused_with_the_range",
        ),
    ),
}
