//! Every bound of the agent in one place, their relations asserted at compile time.

use std::time::Duration;

use crate::bkv::{MAX_FRAME, MIN_FRAME};

/// Bytes that one connection may hand in a turn; also the size of the one read buffer.
pub const READ_BYTES: usize = 16 * 1024;
/// Frames a turn after which the connections that have more wait for the next, so that a commit stays bounded.
pub const FRAMES_A_TURN: usize = 1000;
/// Connections taken in a turn from each listener.
pub const ACCEPTS_A_TURN: usize = 64;
/// Events taken from one poll.
pub const EVENTS_A_POLL: usize = 1024;
/// Connections that the kernel keeps until they are accepted: a site that comes back after a power cut.
pub const BACKLOG: i32 = 1024;
/// The longest sleep: a poll takes its timeout in milliseconds that fit an `int`.
pub const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 3600);

/// Device connections that tokens can tell apart.
pub const DEVICE_SLOTS: u32 = 0xf000;
/// Clients of the control socket at the same time.
pub const CONTROL_CLIENTS: u32 = 160;
/// The first slot of a client.
pub const FIRST_CLIENT_SLOT: u32 = DEVICE_SLOTS;
/// Tokens whose slot is from here on are no connections.
pub const FIRST_OTHER_SLOT: u32 = 0xfff0;
/// Files beside the device connections.
pub const OTHER_FILES: u64 = 64;

/// Bytes that may wait for a device; a reader that lets them pile up is closed.
pub const DEVICE_WAITING_BYTES: usize = 64 * 1024;
/// How long part of a frame is waited on.
pub const PARTIAL_FRAME: Duration = Duration::from_secs(5);
/// So many protocol errors…
pub const ERRORS: usize = 20;
/// … within this time, no good frame among them, close a connection.
pub const ERRORS_WITHIN: Duration = Duration::from_secs(60);

/// A line of the control socket, without its end.
pub const CONTROL_LINE: usize = 64 * 1024;
/// While so many bytes wait for a client, no further line of it is taken.
pub const CONTROL_PAUSE_BYTES: usize = 64 * 1024;
/// When more wait, a further reply closes the client. One reply may be larger.
pub const CONTROL_WAITING_BYTES: usize = 1024 * 1024;
/// How long a client that was told of its long line may take to hang up.
pub const CONTROL_LINGER: Duration = Duration::from_secs(2);

/// What `get_snapshot` tells at most, bytes: a site of 4,096 devices, all of whose ports charge, fits. More has to be
/// asked device by device.
pub const SNAPSHOT_BYTES: usize = 16 * 1024 * 1024;
/// Replies to `get_snapshot` that are kept for a repetition, bytes in all; the newest is kept whatever its size.
pub const SNAPSHOTS_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// What an event that is replayed takes in the outbox, bytes, at most…
pub const REPLAYED_BYTES: u64 = 96;
/// … and how much of `store.max_size`, in per cent, is left to what the site has to keep meanwhile.
pub const LEFT_BY_REPLAY: u64 = 10;
/// Events that `replay` puts into the outbox in a turn.
pub const REPLAYED_A_TURN: u64 = 500;

/// A command from the cloud, as a line of the control socket.
pub const CLOUD_COMMAND_BYTES: usize = CONTROL_LINE;
/// The largest packet taken from the broker: above a command, so that one that is somewhat too large gets a reply.
pub const CLOUD_INCOMING_BYTES: u32 = 256 * 1024;
/// Requests that may wait for the thread of the broker.
pub const CLOUD_QUEUE: usize = 512;
/// While so many wait, messages that need no confirmation are left out.
pub const CLOUD_QUEUE_UNCONFIRMED: usize = 256;
/// News that may wait for the main thread; then the broker waits.
pub const CLOUD_NEWS: usize = 1024;
/// The longest that the agent's goodbye to the broker takes.
pub const CLOUD_GOODBYE: Duration = Duration::from_secs(3);
/// How long the broker keeps the session, seconds.
pub const CLOUD_SESSION_EXPIRY: u32 = 7 * 86_400;

/// Messages that may wait for the broker's confirmation at the same time.
pub const CLOUD_WINDOW: usize = 32;
/// A client that confirms nothing for so long while messages wait is built anew.
pub const CLOUD_CONFIRMS_WITHIN: Duration = Duration::from_secs(30);
/// A session that is neither up nor given up after so long is dropped; the link's own limits are shorter.
pub const CLOUD_CONNECTS_WITHIN: Duration = Duration::from_secs(180);
/// Confirmed rows that a full disk keeps; past them nothing more is sent until it takes commits again.
pub const CLOUD_SETTLED: usize = 1024;
/// Confirmed rows go with the next commit, which is made for their sake after so long at the latest: one that is made
/// for each of them would wear the flash. A kill sends again what was confirmed meanwhile.
pub const CLOUD_SETTLES_WITHIN: Duration = Duration::from_secs(1);
/// So many are worth a commit of their own.
pub const CLOUD_SETTLED_TOGETHER: usize = 256;
/// Replies beside the outbox that may wait for a session.
pub const CLOUD_REPLIES: usize = 256;
/// What was refused in its second form, too, is tried again so often.
pub const CLOUD_PARKED_MS: u64 = 300_000;

/// When accepting is tried again after it failed for want of files or memory.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The longest that an answer waits for others to share its commit.
pub const COMMIT_WAIT: Duration = Duration::from_millis(50);
/// From the end of a commit to the next one at least, so that a busy site shares them on a fast disk, too.
pub const COMMIT_DISTANCE: Duration = Duration::from_millis(3);
/// At the end, how long replies may take to leave.
pub const END_FLUSH: Duration = Duration::from_secs(1);
/// A warning that repeats itself is given once in this time, with a count.
pub const WARN_EVERY: Duration = Duration::from_secs(60);

/// How long after its close an order can still get an end report, in up-time (contract §5 *Whose end report?*).
pub const REPORT_MATCHES_FOR_MS: u64 = 7 * 86_400_000;
/// The same bytes from a device within this time are a repetition of a card or an abnormal event, not a second one.
pub const REPETITION_MS: u64 = 120_000;
/// Up-time is noted so often while something counts on it (contract §5 *Time*).
pub const NOTE_UP_TIME_MS: u64 = 60_000;
/// A full disk is tried again so often.
pub const FULL_RETRY_MS: u64 = 500;
/// How long after making room in the file failed it is tried again.
pub const ROOM_AGAIN: Duration = Duration::from_secs(60);
/// Commands that were answered while it was full and are noted when there is room.
pub const COMMANDS_AGAIN: usize = 1024;
/// Old rows are dropped so often.
pub const RETENTION_MS: u64 = 3_600_000;
/// A refusal of the same reason and subject is told so often.
pub const REFUSAL_TOLD_MS: u64 = 60_000;
/// Subjects whose refusals are counted at the same time.
pub const REFUSALS_COUNTED: usize = 256;
/// Keys that nobody knows, remembered each with its device, so that its frame is kept once.
pub const STRANGE_KEYS: usize = 1024;

const _: () = assert!(READ_BYTES >= MAX_FRAME, "a frame fits one read");
const _: () = assert!(READ_BYTES / MIN_FRAME < FRAMES_A_TURN, "one connection cannot use up a turn");
const _: () = assert!(DEVICE_WAITING_BYTES > MAX_FRAME, "a frame can wait");
const _: () = assert!(CONTROL_LINE > READ_BYTES, "a long line is told from a read");
const _: () = assert!(CONTROL_PAUSE_BYTES < CONTROL_WAITING_BYTES, "a client is paused before it is closed");
const _: () = assert!(CONTROL_CLIENTS >= 128, "as promised");
const _: () = assert!(FIRST_CLIENT_SLOT + CONTROL_CLIENTS <= FIRST_OTHER_SLOT && FIRST_OTHER_SLOT <= 0xffff);
const _: () = assert!(ACCEPTS_A_TURN < BACKLOG as usize && BACKLOG >= 1024);
const _: () = assert!(LONGEST_SLEEP.as_millis() <= i32::MAX as u128);
const _: () = assert!(COMMIT_DISTANCE.as_millis() < COMMIT_WAIT.as_millis());
const _: () = assert!(
    END_FLUSH.as_millis() + CLOUD_GOODBYE.as_millis() + COMMIT_WAIT.as_millis() < 5000,
    "the end takes less than 5 s"
);
const _: () = assert!(CLOUD_COMMAND_BYTES + 1024 < CLOUD_INCOMING_BYTES as usize, "a command fits, with its topic");
const _: () = assert!(CLOUD_QUEUE_UNCONFIRMED + 4 * CLOUD_WINDOW < CLOUD_QUEUE, "what is confirmed finds room");
const _: () = assert!(CLOUD_SETTLED_TOGETHER < CLOUD_SETTLED && CLOUD_WINDOW < CLOUD_SETTLED);
const _: () = assert!(REPETITION_MS < REPORT_MATCHES_FOR_MS && NOTE_UP_TIME_MS <= 60_000);
