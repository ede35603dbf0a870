"""Every bound of the node in one place: the unit in the name, the reason beside it.

A limit that is also a flag has its default here. Limits that belong to `raft` or `wal` alone live
in their own configuration types; what the node hands them is here.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# --- what a client may send ---------------------------------------------------------------------

KEY_BYTES_MAX = 64 * KIB
"""A longer key is a mistake; the engine stores the long ones by digest anyway."""

VALUE_BYTES_MAX = 8 * MIB
"""One value travels in one log entry and one message; heartbeats wait behind neither."""

DUMP_BYTES_MAX = 32 * MIB
"""Rows of a value that DUMP serialises: the payload is one reply, and is made in the loop."""

PFADD_BYTES_MAX = 4 * MIB
"""Elements of one PFADD: hashing them takes the client's node a tenth of a second."""

BIT_OFFSETS_BYTES_MAX = 512 * MIB
"""Redis' longest string: reads of bits may ask for any of its bits, which are 0 behind the end."""

COMMAND_BYTES_MAX = 32 * MIB
"""All arguments of one command: the largest MSET or MULTI that is still one log entry."""

ARGUMENTS_MAX = 128 * KIB
"""Arguments of one command; an array header above it closes the connection before allocating."""

ARGUMENTS_BEFORE_AUTH_MAX = 10
BULK_BYTES_BEFORE_AUTH_MAX = 16 * KIB
"""Redis' own figures: a stranger may not make us buffer."""

INLINE_BYTES_MAX = 64 * KIB
"""Redis' own figure for a line without a newline."""

TRANSACTION_COMMANDS_MAX = 64 * KIB
"""Commands in one MULTI."""

# --- what one connection may hold ---------------------------------------------------------------

PIPELINE_COMMANDS_MAX = 4096
"""Unanswered commands of one connection before its socket is no longer read."""

PIPELINE_BYTES_MAX = 32 * MIB
"""Unanswered request bytes of one connection before its socket is no longer read."""

OUTPUT_BYTES_HIGH = 1 * MIB
"""Reply bytes that the kernel has not taken before the socket is no longer read."""

OUTPUT_BYTES_MAX = 64 * MIB
"""A reader that never reads is closed here, unless `client-output-buffer-limit` says otherwise."""

LIGHT_CLIENT_BYTES_MAX = 32 * KIB
"""Who holds no more of requests is read even while others wait for room."""

SOCKET_READ_BYTES = 256 * KIB
"""What one read of a socket may bring: the buffer that uvloop reads into."""

TURN_MS_MAX = 1_000
"""A client that was let in and does not send what it began goes to the end of the line."""

REPLY_STALLED_MS_MAX = 500
"""While room for replies is short, a client that takes nothing for this long is closed."""

REPLIES_FULL_MS_MAX = 2_000
"""After so long without any room for replies the client that holds most of them is closed."""

CLOSED_CLIENT_BYTES_MIN = 64 * KIB
"""Where memory is scarce, clients that hold less are not closed: it would free next to nothing."""

CLIENTS_MAX = 10_000
"""Redis' default for maxclients."""

CLIENT_BYTES = 4 * KIB
"""What a client costs that does nothing: its connection, parser and transport."""

CONNECTIONS_PER_PEER_MAX = 1_024
"""Connections of one address: several large pools, or a proxy in front of many clients; a tenth of
`CLIENTS_MAX`, so that one machine that opens connections without end leaves the others theirs."""

REFUSALS_ANSWERED_PER_SECOND_MAX = 10
"""Refused connections of one peer that are told why: who comes back more often does not read."""

REFUSAL_LINES_PER_SECOND_MAX = 10
"""Lines of the log about refused connections, of all peers together."""

PEERS_REMEMBERED_MAX = 1_024
"""Peers without connections of which something must be remembered for a second: some 200 KB."""

HEAVY_COMMANDS_PER_PEER_PER_SECOND_MAX = 250
"""Each takes two milliseconds of a worker or more, so these are half of one at the least. What one
address asks for beyond it is a loop that went wrong, and it would take the workers from others."""

COST_SAMPLE_COMMANDS = 127
"""One command of so many is looked at to learn what the node's time goes to: a tenth of a
microsecond per command. A prime, so that no client's own rhythm is hit."""

COSTLY_READ_MS = 0.2
"""A read that took the loop so long, a dozen times the usual, is counted exactly."""

COST_COUNTERS_KEYS_MAX = 64
"""Counters for peers, for commands and for keys. Whatever makes up more than 1/64 of the whole is
among them; to replace one takes five microseconds."""

COST_TOLD_KEYS_MAX = 10
COST_KEY_CHARACTERS_MAX = 64
"""How many keys are told, and how much of them: for people."""

COST_LIFE_SECONDS = 60
"""Mean life of what is counted."""

PASS_COMMANDS_MAX = 512
PASS_SLICE_MS = 1
"""Commands of one connection begun in one pass of the loop, and how long that may take: hundreds of
cheap ones, a few that are not."""

PASS_LOOK_COMMANDS = 16
"""The clock is looked at after so many: 50 ns for what takes them 50 µs."""

PARSE_STEPS_MAX = 512
"""Requests and arguments that the careful parser reads at once: a millisecond at the most. A chunk
of a quarter megabyte may hold a hundred thousand of them."""

PARSE_REQUESTS_MAX = 4_096
"""Requests that hiredis reads at once: two milliseconds. More of them would have to wait anyway."""

FLUSH_SLICE_MS = 2
"""Writing replies and going on with backlogs yields to the loop after this long."""

READING_SLICE_MS = 4
"""When the loop has read pipelines of clients for so long, those of further ones wait for their
turns: five hundred that come at once would keep it for a tenth of a second."""

PUT_OFF_BYTES_MIN = 4 * KIB
"""A longer chunk is not even parsed then, as that takes 50 microseconds and more; unless it goes on
with a command that is longer than this already."""

FLUSH_LOOK_CONNECTIONS = 8
"""The clock is looked at after so many writes: each is a system call of some five microseconds."""

WAIT_POLL_MS_MIN = 1
WAIT_POLL_MS_MAX = 100
"""While clients stand in WAIT a node looks at the voters' progress, or asks the leader for it, this
often: at first about a round trip, then ever more rarely; once for all of them."""

COVERAGE_ANSWER_MS_MAX = 300
"""A leader that did not tell the voters' progress for this long is asked again."""

SLOW_LOG_RECORDS = 128
SLOW_LOG_RECORDS_MAX = 65_536
SLOW_LOG_ARGUMENTS_MAX = 32
SLOW_LOG_ARGUMENT_BYTES_MAX = 128
"""Redis' own figures, except for the second, which Redis leaves to the operator."""

SLOW_LOG_RECORDS_PER_SECOND_MAX = 500
"""Entries of the slow log. Where all is slow, as under overload, notes cost a fifth of a GET."""

LATENCY_SAMPLES_MAX = 160
"""Redis' own figure: worst seconds kept of each latency event."""

CLIENTS_TICK_MS = 100
"""How often clients' rates are sampled."""

CLIENT_KEEPALIVE_SECONDS = 300
"""Redis' default for tcp-keepalive: a client whose machine is gone is noticed."""

CLIENT_CLOSE_SECONDS_MAX = 5
"""A client that is being closed and takes no replies is cut off after this long."""

# --- what the node holds ------------------------------------------------------------------------

IN_FLIGHT_BYTES_MAX = 256 * MIB
"""Request bytes of all clients that wait for an answer; above it no client socket is read."""

BATCH_COMMANDS_MAX = 256
"""Commands in one log entry: one entry applies in about two milliseconds."""

BATCH_ROWS_MAX = 512
"""Rows that the commands of one log entry may write, by the number of their arguments, unless a
single one may write more: an entry is applied in one go, and a row takes ten microseconds."""

BATCH_BYTES_MAX = 1 * MIB
"""Bytes of one log entry, unless a single command is larger."""

BATCHES_IN_FLIGHT_MAX = 2
"""Batches of one node that were sent and are not applied yet. While so many are under way further
commands gather: a log entry costs about the same on every node however many commands it holds."""

GATHERED_COMMANDS_MIN = 16
"""Commands at the leader, of batches that are under way or gathered, below which no batch waits to
share its entry: so few entries cost little, and their clients would only wait."""

QUEUED_COMMANDS_MAX = 65_536
"""Commands of one node that wait for a batch; one more is refused."""

BLOCKED_CLIENTS_PER_NODE_MAX = 20_000
"""Blocked clients of one node: twice Redis' default for maxclients."""

BLOCKED_CLIENTS_MAX = 100_000
"""Blocked clients of the cluster: each is a row, and in memory on every node, about a kilobyte."""

BLOCKED_KEYS_MAX = 262_144
"""Keys that the blocked clients of the cluster wait for, each as often as it is waited for: about
half a kilobyte of memory on every node."""

BLOCKED_BYTES_MAX = 64 * MIB
"""Rows of blocked clients, which hold their commands and what they have in hand."""

ABANDONED_CLIENTS_PER_ENTRY_MAX = 1_000
"""Blocked clients of a silent node that one entry abandons: about five milliseconds of work. A
tenth of a second later come the next."""

BLOCKED_CLIENTS_SILENT_MS = 2_000
"""What was popped for clients of a node that the leader did not hear for this long goes to others:
some elections long, so that no hiccup sends a queue's clients to its end."""

HOLD_MS = 10_000
"""How long a command is held through an election before its client gets an answer: counted from
where the commands before it last came on, so that a long pipeline is not an outage."""

HOLD_BUSY_MS_MAX = 60_000
"""The longest that one is held, however well those before it come on."""

UNFINISHED_STUCK_MS_MAX = 2_000
"""When unfinished commands fill the room and none was finished for so long, a client is closed."""

TURNS_STUCK_MS_MAX = HOLD_MS + 5_000
"""Longer than commands are held. What still fills the room then are commands of blocked clients."""

LEVEL_WAIT_MS = 2_000
"""How long commands wait in a cluster that has just begun until it knows its feature level."""

RESEND_MS = 1_000
"""A batch that was not applied for this long is sent again."""

READS_WAITING_MAX = 65_536
"""Reads of one node that wait for a read index; one more is refused."""

APPLY_SLICE_MS = 2
"""Apply yields to the loop after this long, so that heartbeats are never late."""

READ_SLICE_MS = 2
"""Reads that may run yield to the loop after this long, as apply does."""

HEAVY_ROWS_MIN = 1_000
"""A read of so many small rows, about two milliseconds of work, is done in a worker process."""

HEAVY_WRITE_ROWS_MIN = 10_000
"""A write that does the work of so many small rows besides its own bytes, about twenty milliseconds
on every node, goes into the log alone: one of each node at a time."""

HEAVY_SECONDS_MAX = 10
"""A heavy read that takes longer is ended with its worker."""

HEAVY_COMMANDS_PER_WORKER_MAX = 16
"""Heavy reads that wait for each worker; one peer may take half of the places."""

HEAVY_RETRY_MS_MIN = 20
HEAVY_RETRY_MS_MAX = 1_000
"""What a heavy read that finds no place is told to wait, by how long others took lately."""

HEAVY_COMMIT_MS = 10
"""Heavy reads that must see what is not committed yet have the engine commit this often at most."""

WORKERS_MAX = 32
"""Worker processes: each holds two of LMDB's reader slots (`ENGINE_READERS_MAX`)."""

WORKER_START_SECONDS_MAX = 15
"""A worker that is not ready by then is ended; on a busy machine it imports for seconds."""

WORKER_RETRY_MS_MIN = 100
WORKER_RETRY_MS_MAX = 5_000
"""Between two starts of workers that ended before they had done anything."""

APPLY_BYTES_MAX = 4 * MIB
"""Committed entries fetched at once for apply."""

ENGINE_COMMIT_OPS_MAX = 6_000
"""Operations in one engine transaction: bounds the pages (a few KiB each) that wait in memory and
that its commit writes at once."""

ENGINE_COMMIT_MS = 5
"""What a commit of the engine may keep the loop for: transactions are made as small as it takes."""

ENGINE_COMMIT_SHARE_ROWS_MIN = 500
"""Of `ENGINE_COMMIT_OPS_MAX`, and as large a share of `ENGINE_COMMIT_BYTES_MAX`: the least that is
committed at once. In smaller transactions each write costs more than twice as much."""

ENGINE_COMMIT_IDLE_MS = 200
"""An engine transaction is committed at the latest this long after its first write."""

EXPIRED_KEYS_PER_ENTRY_MAX = 200
"""Keys that one expiry entry deletes; more of them take more entries."""

ENGINE_COMMIT_BYTES_MAX = 16 * MIB
"""Record bytes in one engine transaction: they stay in memory until its commit."""

ENGINE_ROW_BYTES = ENGINE_COMMIT_BYTES_MAX // ENGINE_COMMIT_OPS_MAX
"""What a row of a collection counts besides its value: one op may write thousands of them, and each
may change a page of its own."""

ENGINE_MAP_BYTES_MAX = 1024 * 1024 * MIB
"""Address space that LMDB reserves: more than a node will hold, as growing it needs a stop."""

ENGINE_MAP_BYTES_MIN = 1024 * MIB
"""Below this a refused reservation is an error, not a smaller node."""

ENGINE_READERS_MAX = 126
"""LMDB reader slots: this process, its workers, snapshots, operators' tools."""

ENGINE_LOCK_BYTES = 8 * KIB
"""LMDB's lock file for `ENGINE_READERS_MAX`: 64 bytes each, and its head. Tests compare the two."""

SCAN_ROWS_MAX = 10_000
"""Keys that one SCAN visits, whatever its COUNT: it runs in the loop."""

SCAN_BYTES_MAX = 4 * MIB
"""Record bytes that one SCAN visits: a row is copied to be looked at."""

BULK_ROWS_MAX = 1_000
"""Elements that a command may store (SUNIONSTORE, COPY) at once: ten milliseconds or so."""

BULK_ROWS_PER_STEP_MAX = 500
"""Elements that it stores per step if they are more: some four milliseconds."""

BULK_ROWS_AT_ONCE_MAX = 50_000
"""Elements that it may store at once where it must, inside MULTI: half a second."""

STEP_PAUSE_MS = 20
"""Between two steps of a large command, for each one under way, while there are others to serve."""

STEPS_ALONE_MS = 100
"""After this long without another command of its node a large one goes on without pauses."""

BULK_COMMANDS_MAX = 64
"""Such commands under way in the cluster: each keeps a few hundred bytes in every meta row."""

BULK_JOB_BYTES_MAX = 64 * KIB
"""A longer command, one of thousands of keys, is done at once: it would be in every meta row."""

BULK_RESTARTS_MAX = 8
"""Times that it begins anew because its sources were changed."""

BULK_STALE_MS = 60_000
"""Whoever has not carried it on for this long, by the log's clock, will not."""

POPPED_BYTES_MAX = OUTPUT_BYTES_MAX // 2
"""What one LPOP, RPOP or LMPOP may take off, as its reply: a reply that the connection has no room
for would lose the elements. Part of the state."""

DRAWN_MEMBERS_MAX = 100_000
"""Members that one HRANDFIELD, SRANDMEMBER or ZRANDMEMBER draws with repetition: it runs in the
loop."""

PATTERN_BYTES_MAX = 1 * KIB
"""A glob pattern: compiling the worst of this size takes ten milliseconds."""

LCS_TABLE_BYTES_MAX = 4 * MIB
"""The table of one LCS, a bit per pair of bytes: the worst takes fifty milliseconds."""

BALLAST_BYTES = 32 * MIB
"""Room that an operator gets back at once by deleting DATA/ballast when the disk is full."""

BALLAST_ROOM_BYTES_MIN = 20 * BALLAST_BYTES
"""A ballast is made only where this much is free."""

ENGINE_ROOM_BYTES_MIN = 1 * MIB
"""With less room on its disk than this, a write that failed is taken for a full disk."""

ENGINE_RETRY_SECONDS = 1
"""A full engine is tried again after this long."""

GARBAGE_ROWS_PER_TICK_MAX = 300
"""Rows of flushed databases and dropped collections deleted at once, a hundred times a second: a
millisecond of work, and half a minute for a million rows."""

DROPPED_ROWS_MAX = 64
"""A collection of no more rows is deleted with its key; a larger one becomes garbage."""

TICK_MS = 10
"""Raft's timeouts are counted in ticks of this length."""

STATE_HASHES_KEPT_MAX = 4096
"""State hashes of the newest applied indexes, so that nodes can be compared at an equal one."""

# --- peers --------------------------------------------------------------------------------------

PEER_FRAME_BYTES_MAX = 48 * MIB
"""One frame between nodes: the largest log entry and its envelope."""

PEER_QUEUE_BYTES_MAX = 64 * MIB
"""Bytes that wait for one peer; above it messages are dropped (Raft sends them again)."""

PEER_HELLO_BYTES_MAX = 64 * KIB
"""A hello and its answer; a stranger may not announce more."""

PEER_HELLO_TIMEOUT_MS = 5_000
PEER_BACKOFF_MS_MIN = 50
PEER_BACKOFF_MS_MAX = 1_000
PEER_USER_TIMEOUT_MS = 5_000
"""TCP_USER_TIMEOUT: a healed link must not stay dark for minutes."""

DISK_SLOW_MS = 200
"""A job of the log that is with the disk for longer makes it a slow one. A healthy disk syncs a
group in a hundredth of it; making a segment, the longest job, is 16 MiB of zeros."""

DISK_CALM_SECONDS = 10
"""After this long without a slow job the disk is well again: at most one warning in that time."""

DISK_HAND_OVER_MS_MIN = 100
"""A leader's disk is given at least this long, however short the election timeout is: below it a
busy machine looks like a slow disk."""

DISK_HAND_OVER_HOLD_OFF_SECONDS = 10
"""A leader with a slow disk keeps its office for this long, and tries to hand it over no sooner
again: leadership must not go to and fro between two slow disks."""

LOOP_LAG_ALARM_MS = 20
"""A tick that the loop ran this late is worth a line in the log: two ticks were missed."""

LOOP_LAG_ALARM_SECONDS = 10
"""At most one such line in that time; it counts those that were not written."""

LOOP_HAND_OVER_MS_MIN = 100
"""A leader's loop may be this late, however short the election timeout is (as with slow disks)."""

LATE_TICKS_MIN = 3
LATE_TICKS_SECONDS = 5
"""So many late ticks within so many seconds make a loop that cannot keep up: one may be a garbage
collection or a stopped process. It is well again when none was late for as long."""

LATE_TOLD_SECONDS = 0.2
"""A leader with a late loop gives the others so long to say that theirs are late, too."""

STRAIN_REPEAT_SECONDS = 1.0
STRAIN_SECONDS = 3.0
"""A node that is not calm says so every second; what it said holds for three."""

STRAINED_HAND_OVER_HOLD_OFF_SECONDS = 10
"""A leader short of memory, or with a late loop, keeps its office for this long after it took or
offered it: under one attack on all nodes leadership must not go to and fro."""

RAFT_CACHE_BYTES_MAX = 32 * MIB
"""Newest log entries kept in memory; older ones are read from the log's files."""

RAFT_UNCOMMITTED_BYTES_MAX = 64 * MIB
"""Entries of a leader that no quorum has; one more is not proposed until some are committed."""

# --- memory -------------------------------------------------------------------------------------

WORKER_BASE_BYTES = 64 * MIB
"""What a worker process maps for itself before it has done anything."""

SOCKET_BYTES_MIN = 64 * KIB
"""A client's buffers in the kernel, which takes it twice. At half of this loopback falls to a
hundredth: one segment is larger than the window."""

# --- snapshots ----------------------------------------------------------------------------------

SNAPSHOT_LOG_BYTES = 64 * MIB
"""Bytes logged since the last snapshot at which the next one is taken. The log keeps what is behind
the older of two snapshots, so it occupies about twice as much."""

SNAPSHOT_LOG_BYTES_MIN = 256 * KIB
"""More often than this a snapshot costs more than the log that it cuts."""

SNAPSHOT_FILES_MAX = 2
"""The newest, and the one that takes its place should it turn out to be damaged."""

SNAPSHOT_CHUNK_BYTES_MAX = 256 * KIB
"""One chunk on its way to a follower: a heartbeat waits behind no more."""

SNAPSHOT_RATE_BYTES_PER_SECOND_MAX = 48 * MIB
"""To one follower: catching up must not take the leader's commands their share of the loop."""

SNAPSHOT_RETRY_SECONDS = 2
"""An unanswered offer or chunk is asked about again after this long."""

SNAPSHOT_SILENCE_SECONDS_MAX = 30
"""A follower that says nothing for this long is left; it is offered a snapshot again later."""

SNAPSHOT_TAKE_RATE_BYTES_PER_SECOND_MAX = 48 * MIB
"""Read and written by the worker that takes a snapshot."""

SNAPSHOT_TAKE_SECONDS_MAX = 1_800
"""A worker that has not finished by then is ended."""

SNAPSHOT_BLOCK_BYTES = 256 * KIB
"""Keys and values in one block of a snapshot file: one checksum, one write, one unpack."""

SNAPSHOT_SYNC_BYTES = 4 * MIB
"""A snapshot is synced each time it has grown so much, so that the log's sync never waits long."""

SNAPSHOT_HEAD_BYTES_MAX = 16 * MIB
"""The head holds the meta row, sessions and members; a larger one is nothing that was written."""

SNAPSHOT_REQUEST_BYTES_MAX = 16 * MIB
"""The one line that a snapshot worker reads: names, and runs of terms."""

# --- leaving ------------------------------------------------------------------------------------

STOP_SECONDS_MAX = 25
"""All of a graceful stop; supervisors kill after thirty."""

STOP_GRACE_SECONDS = 0.2
"""Between "not ready" and closing the listener, so that balancers look elsewhere."""

STOP_HAND_OVER_SECONDS_MAX = 5
"""To catch a follower up and see it lead."""

STOP_DRAIN_SECONDS_MAX = 5
"""For commands that are under way, once for clients and once for the node."""

STOP_MEMORY_SECONDS_MAX = 2
"""The short path of a stop under memory pressure."""

STOP_MEMORY_HAND_OVER_SECONDS_MAX = 0.3
"""Of it, to see a follower lead: less than the election that would follow else."""

WATCHDOG_REACTION_MS_MAX = 500
"""A loop that has not reacted to the watchdog by then is left with os._exit."""

START_PAUSE_SECONDS_MAX = 60
"""The longest pause before a start, where those before it ended for memory."""

START_PAUSE_MEMORY_MS = 600_000
"""A start does not wait for what happened longer ago."""

LEAVE_TURN_MS = 250
"""A node that has to leave waits so long first, to hear of others that do; it looks every 0.1 s,
and whenever one of them says something."""

LEAVE_WAIT_SECONDS_MAX = 10
"""A node without which there is no quorum waits so long for another one to be back, if its memory
allows it: a restart with its back-off takes three, and a while longer with a long log."""

WATCHDOG_INTERVAL_MS = 20
WATCHDOG_INTERVAL_MS_MIN = 10

# --- configuration ------------------------------------------------------------------------------

CLUSTER_MEMBERS_MAX = 31
"""Members of one cluster; etcd advises seven, and every entry goes to each of them."""

MEMBER_TEXT_BYTES_MAX = 512
"""A member's name or address in the log; a host's name has at most 253 characters."""

REMOVED_IDS_MAX = 10_000
"""Ids of removed members that the registry keeps, 90 KiB of the meta row at most; ids are random
numbers of 64 bits, so a forgotten one is not drawn again."""

PROMOTION_LAG_ENTRIES_MAX = 256
"""A learner that is further behind is not made a voter: the quorum would wait for it."""

MEMBER_SILENT_MS_MIN = 2_000
"""A member that was not heard for longer than this, and than four election timeouts, is not
healthy."""

CHANGE_SECONDS_MAX = 20.0
"""A request to change the membership is tried again for so long while nobody can decide."""

CHANGE_ANSWER_SECONDS_MAX = 2.0
"""After this long without an answer of the leader a request is sent again."""

CHANGE_REQUESTS_MAX = 64
"""Requests to change the membership that wait on one node."""

REMOVE_DEAD_AFTER_MS_MIN = 10_000
"""No member is taken for dead sooner: a restart with a long log takes seconds."""

LEAVE_SECONDS = 0.5
"""Connections to a member that was removed stay this long, so that it can be told."""

LEAVE_SECONDS_MAX = 600.0
"""A member that was removed, and that no member has told so, stays for this long: its word may be
what the last of the others waits for, whose machine may take minutes to boot."""

CONFIG_FILE_BYTES_MAX = 1 * MIB
"""A configuration file; whatever is longer is another file."""

PASSWORD_FILE_BYTES_MAX = 4 * KIB
"""A password file; whatever is longer is another file."""

# --- data directory -----------------------------------------------------------------------------

PEERS_BOUND_MAX = 256
"""Peers whose directories are remembered, members that left included."""

EXITS_KEPT_MAX = 100
"""Exits in the journal; older ones are only counted."""

EXIT_REASON_CHARACTERS_MAX = 1_000
"""A reason is a sentence; a traceback belongs to the log."""

# --- admin port ---------------------------------------------------------------------------------

ADMIN_CONNECTIONS_MAX = 64
"""A scraper, a few probes and a person need fewer; one more is turned away with 503."""

ADMIN_HEADER_BYTES_MAX = 16 * KIB
"""Request line and headers; curl sends a hundred bytes."""

ADMIN_REQUEST_TIMEOUT_MS = 5_000
"""From the connection to the last byte of the answer: a slow client holds its place no longer."""

ADMIN_BODY_BYTES_MAX = 4 * KIB
"""Of a request that changes something: a few names and addresses."""

ADMIN_CHANGE_TIMEOUT_MS = 30_000
"""So long an operator waits for the cluster to decide; an election is a small part of it."""

DRAIN_HAND_OVER_RETRY_SECONDS = 1.0
"""A draining leader offers leadership this often at most: a failed offer holds up writes for an
election timeout."""

SPARE_ANSWER_SECONDS_MAX = 3.0
"""So long the leader may take to say whether the others can do without a member."""

SPARE_LAG_ENTRIES_MAX = 1_000
"""While a voter is further behind than this no other one should be stopped."""

SPARE_DISK_FREE_PERCENT_MIN = 20
"""With less room a node that comes back may not be able to write its snapshot and its log."""

ADMIN_FAILURES_LOGGED_EVERY_MS = 10_000
"""Somebody who guesses passwords must not fill the log as well."""

# --- logs ---------------------------------------------------------------------------------------

LOG_QUEUE_RECORDS_MAX = 8_192
"""Records that wait for stderr; a blocked pipe costs records, never time."""

LOG_REPEAT_INTERVAL_MS = 1_000
"""Of equal complaints, such as rejects of one peer, one per interval is logged."""

LOG_REPEAT_KEYS_MAX = 1_024
"""Different complaints that are remembered to recognise repeats; the oldest is forgotten."""
