//! Every bound of the daemon on one page, with its unit and reason.

use std::time::Duration;

/// Pieces of standard input that wait for the program: 64 × 64 KiB, then the client waits.
pub const INPUT_PIECES: usize = 64;
/// Pieces of output that wait for a watcher; then the program waits, as it would for a slow terminal.
pub const OUTPUT_PIECES: usize = 16;
/// After an order to kill, how long the keeper gets before its group is killed: within the 100 ms that a wall limit may be
/// overshot by.
pub const KEEPER_GRACE: Duration = Duration::from_millis(60);
/// How long the collection of output files may take after the payload's end.
pub const COLLECT_WAIT: Duration = Duration::from_secs(20);
/// How long clients may take for the answers that they are owed when the daemon ends.
pub const FAREWELL_WAIT: Duration = Duration::from_secs(2);
/// How long a killed box may take to be gone before that is reported as a fault of the host.
pub const REAP_WAIT: Duration = Duration::from_secs(5);
/// Shortest pause between two looks at the processor time used.
pub const CPU_CHECK_LEAST: Duration = Duration::from_millis(10);
/// Tries to remove a cell's groups, which the kernel empties a moment after the last process.
pub const CLEAR_TRIES: usize = 150;
/// Pause between two of these tries.
pub const CLEAR_PAUSE: Duration = Duration::from_millis(10);
/// Connections at once.
pub const CONNECTIONS_MAX: usize = 1024;
/// How long a client may take for its handshake.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);
/// How long a peer that has no role may take to hear so.
pub const TURN_AWAY_WAIT: Duration = Duration::from_secs(1);
/// How long a client may take to send the rest of a frame that it has begun.
pub const FRAME_WAIT: Duration = Duration::from_secs(30);
/// How long a client may take to accept a frame.
pub const WRITE_WAIT: Duration = Duration::from_secs(30);
/// Frames that wait to be written to one client.
pub const FRAMES_WAITING: usize = 32;
/// With `--until-idle`: how long nobody may be connected before the daemon ends.
pub const IDLE_WAIT: Duration = Duration::from_millis(200);
/// With `--until-idle`: how long the first client may take.
pub const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Bytes of standard input that are kept for a replay; more are hashed only.
pub const INPUT_BYTES_KEPT: u64 = 64 << 20;
/// Bytes of a result that stand in the state itself; a longer one is a blob.
pub const RESULT_BYTES_INLINE: usize = 256 << 10;
/// Bytes of a result, a request or another document that is read back whole.
pub const DOCUMENT_BYTES_MAX: u64 = 64 << 20;
/// Bytes of all blobs of one tenant, where no quota says less.
pub const TENANT_BLOB_BYTES_MAX: u64 = 1 << 40;
/// How often a client that watches is told that its program still runs, so that its loss is noticed.
pub const PULSE: Duration = Duration::from_secs(2);
/// Bytes of one blob that a client puts.
pub const BLOB_BYTES_MAX: u64 = 16 << 30;
/// Events of one answer that lists them; whoever wants more asks for the next page.
pub const EVENTS_SHOWN_MAX: usize = 1000;
/// Requests to the witness at once.
pub const WITNESS_CONNECTIONS_MAX: usize = 64;
/// How long a request to a witness may take from its first byte to its answer.
pub const WITNESS_WAIT: Duration = Duration::from_secs(5);
/// Bytes of the head of such a request or answer.
pub const WITNESS_HEAD_BYTES_MAX: usize = 8 << 10;
/// Bytes of the body of such a request: a proof has at most 63 hashes.
pub const WITNESS_BODY_BYTES_MAX: usize = 64 << 10;
/// How often a witness is asked that remembers another size than was thought.
pub const WITNESS_TRIES: usize = 3;
/// Exports that are written to disk at once; others wait.
pub const EXPORTS_AT_ONCE: usize = 2;
/// Bytes of an output that a replay compares byte by byte; longer ones are compared by digest.
pub const COMPARED_BYTES_MAX: u64 = 64 << 20;
/// Pause between two looks at the count of refused forks where the kernel does not tell.
pub const PIDS_CHECK: Duration = Duration::from_millis(200);
/// Pause between two attempts to open a ledger anew after a failed write: an attempt reads every log's edge.
pub const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// Executions that one transaction names where a revoked token ends them; the ledger takes 256 events at once.
pub const REVOKED_AT_ONCE: usize = 128;
/// Bytes of messages that a daemon keeps which a command has started: they are in memory, for that command alone.
pub const COMMANDS_LOG_BYTES_MAX: u64 = 1 << 20;
/// A dead child that is still there after this is one that nobody waits for.
pub const UNCLAIMED_WAIT: Duration = Duration::from_secs(5);
/// Policies that are kept ready.
pub const POLICIES_KEPT: usize = 64;
/// Bytes of all that a request says about its policy, for it to be kept ready.
pub const POLICY_BYTES_KEPT: usize = 64 << 10;
