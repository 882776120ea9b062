-- The whole store of chargegate, version 1. The program creates and upgrades the file by itself: the version
-- stands in PRAGMA user_version, PRAGMA application_id says whose file it is. Any program may read it at any time.
--
-- Times are UTC in Unix milliseconds. Columns in `*_up` are up-time: milliseconds that the agent has been up, over
-- all its restarts, which no step of a wall clock moves. NULL is not known, never 0. Columns are ordered so that
-- those which are mostly empty come last, where they take no bytes; whatever moves all the time is in no index.

-- Single values of the store: its instance, the up-time base, the mark of message ids.
CREATE TABLE meta (
  key   TEXT NOT NULL PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Gateway units. `status` is what holds; the two columns that make it follow.
CREATE TABLE devices (
  device_id        TEXT NOT NULL PRIMARY KEY,
  status           TEXT NOT NULL CHECK (status IN ('enabled', 'disabled')),
  online           INTEGER NOT NULL CHECK (online IN (0, 1)),
  operator_enabled INTEGER NOT NULL,
  policy_disabled  INTEGER NOT NULL,
  last_seen        INTEGER,
  heard_up         INTEGER,
  rssi             INTEGER,
  firmware_version TEXT,
  iccid            TEXT,
  device_model     TEXT,
  note             TEXT
) STRICT;

-- Sockets behind them. `enabled` is what holds; the two columns that make it follow.
CREATE TABLE sockets (
  device_id        TEXT NOT NULL,
  socket_no        INTEGER NOT NULL,
  online           INTEGER NOT NULL CHECK (online IN (0, 1)),
  enabled          INTEGER NOT NULL CHECK (enabled IN (0, 1)),
  operator_enabled INTEGER NOT NULL,
  policy_disabled  INTEGER NOT NULL,
  last_seen        INTEGER,
  heard_up         INTEGER,
  temperature_c    INTEGER,
  rssi             INTEGER,
  firmware         TEXT,    -- 4 hex digits
  mac              TEXT,
  uid              TEXT,
  lost_up          INTEGER, -- first reported lost, while it is
  PRIMARY KEY (device_id, socket_no)
) STRICT;

-- Outlets: 0 offline, 1 not known which, 9 idle, 129 charging.
CREATE TABLE ports (
  device_id   TEXT NOT NULL,
  socket_no   INTEGER NOT NULL,
  port_no     INTEGER NOT NULL CHECK (port_no IN (0, 1)),
  status      INTEGER NOT NULL CHECK (status IN (0, 1, 9, 129)),
  raw_status  INTEGER,
  updated_at  INTEGER,
  updated_up  INTEGER,
  voltage_v   REAL,
  power_w     REAL,
  current_a   REAL,
  energy_wh   INTEGER,
  minutes     INTEGER,
  business_no INTEGER,
  memory      TEXT,         -- JSON: hold, owed stop, doubt, …; NULL when there is nothing to remember
  PRIMARY KEY (device_id, socket_no, port_no)
) STRICT;

-- Charging sessions: 0 pending, 2 charging, 9 stopping, 5 cancelled, 6 failed, 7 completed.
CREATE TABLE orders (
  serial             INTEGER PRIMARY KEY, -- rises; the newest row stays, so none is given twice
  order_no           TEXT NOT NULL UNIQUE,
  device_id          TEXT NOT NULL,
  socket_no          INTEGER NOT NULL,
  port_no            INTEGER NOT NULL,
  status             INTEGER NOT NULL CHECK (status IN (0, 2, 9, 5, 6, 7)),
  final              INTEGER NOT NULL CHECK (final IN (0, 1)),
  revision           INTEGER NOT NULL,
  source             TEXT NOT NULL CHECK (source IN ('cloud', 'site', 'card', 'adopted')),
  flags              TEXT NOT NULL DEFAULT '[]',
  created_at         INTEGER NOT NULL,
  created_up         INTEGER NOT NULL,
  mode               TEXT,
  plan               TEXT,
  start_id           INTEGER, -- message id of the start, its first sending, its last when there were more
  start_first_up     INTEGER,
  start_last_up      INTEGER,
  start_sendings     INTEGER,
  start_expires_at   INTEGER,
  accepted_up        INTEGER,
  course             TEXT,    -- JSON: what else the agent remembers of it
  started_by         TEXT,
  start_time         INTEGER,
  business_no        INTEGER,
  energy_wh          INTEGER,
  minutes            INTEGER,
  peak_power_w       REAL,
  figures_up         INTEGER, -- last good figures
  loads              INTEGER, -- statuses with load, and the sum of their power in 0.1 W
  load_power_dw      INTEGER,
  closed_up          INTEGER,
  end_time           INTEGER,
  end_reason         TEXT,
  settlement         TEXT CHECK (settlement IN ('reported', 'estimated', 'provisional', 'corrected')),
  energy_max_wh      INTEGER,
  minutes_max        INTEGER,
  raw_status         INTEGER,
  raw_reason         INTEGER,
  spent_cents        INTEGER,
  electricity_cents  INTEGER,
  service_cents      INTEGER,
  settlement_power_w REAL,
  tiers              TEXT,
  device_end_time    TEXT,
  verdict            TEXT,
  stopped_by         TEXT,
  card_no            TEXT
) STRICT;
CREATE UNIQUE INDEX orders_one_open_per_port ON orders (device_id, socket_no, port_no) WHERE status IN (0, 2, 9);
CREATE INDEX orders_of_port ON orders (device_id, socket_no, port_no); -- newest last: the serial follows
CREATE INDEX orders_not_final ON orders (closed_up) WHERE final = 0;

-- Starts, stops and other commands sent to devices: a late answer finds what it is about by the message id.
CREATE TABLE sendings (
  message_id INTEGER PRIMARY KEY,
  device_id  TEXT NOT NULL,
  kind       TEXT NOT NULL CHECK (kind IN ('start', 'stop', 'other')),
  sent_up    INTEGER NOT NULL,
  socket_no  INTEGER,
  port_no    INTEGER,
  order_no   TEXT
) STRICT;

-- What was asked, by whom, and what came of it; `reply` is NULL while it is under way.
CREATE TABLE commands (
  id         TEXT NOT NULL PRIMARY KEY,
  at         INTEGER NOT NULL,
  created_up INTEGER NOT NULL,
  source     TEXT NOT NULL CHECK (source IN ('cloud', 'site')),
  actor      TEXT NOT NULL,
  type       TEXT NOT NULL,
  payload    TEXT NOT NULL,
  reply      TEXT,
  order_no   TEXT
) STRICT;

-- All that was told or is to be told. The newest row of a stream is never dropped: its successor's number follows.
CREATE TABLE events (
  stream     TEXT NOT NULL CHECK (stream IN ('order', 'device', 'alert', 'abnormal')),
  seq        INTEGER NOT NULL,
  at         INTEGER NOT NULL,
  created_up INTEGER NOT NULL,
  clock      TEXT NOT NULL CHECK (clock IN ('synced', 'restored', 'unset')),
  crc        INTEGER NOT NULL, -- CRC-32 of all other columns
  type       TEXT NOT NULL,
  device_id  TEXT,
  order_no   TEXT,
  data       TEXT NOT NULL,
  PRIMARY KEY (stream, seq)
) STRICT;

-- What waits for the cloud's confirmation: an event by its number, anything else by its payload.
CREATE TABLE outbox (
  id         INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice, not even when the table is empty again
  created_at INTEGER NOT NULL,
  crc        INTEGER NOT NULL, -- CRC-32 of all other columns
  topic      TEXT NOT NULL,
  stream     TEXT,
  seq        INTEGER,
  payload    TEXT
) STRICT;

-- Frames of orders and refused ones; the oldest go first.
CREATE TABLE journal (
  id        INTEGER PRIMARY KEY,
  at        INTEGER NOT NULL,
  up        INTEGER NOT NULL,
  crc       INTEGER NOT NULL, -- CRC-32 of all other columns
  direction TEXT NOT NULL CHECK (direction IN ('up', 'down')),
  verdict   TEXT NOT NULL
            CHECK (verdict IN ('accepted', 'duplicate', 'unmatched', 'malformed', 'unsupported', 'sent')),
  frame     BLOB NOT NULL,
  device_id TEXT,
  socket_no INTEGER,
  port_no   INTEGER,
  order_no  TEXT,
  reason    TEXT
) STRICT;
CREATE INDEX journal_refused ON journal (device_id) WHERE verdict IN ('malformed', 'unmatched');

CREATE TABLE alerts (
  alert_id        INTEGER PRIMARY KEY AUTOINCREMENT,
  rule            TEXT NOT NULL,
  severity        TEXT NOT NULL CHECK (severity IN ('critical', 'warning')),
  device_id       TEXT,
  socket_no       INTEGER,
  port_no         INTEGER,
  raised_at       INTEGER NOT NULL,
  acknowledged_at INTEGER,
  cleared_at      INTEGER, -- NULL while it lasts
  cleared_up      INTEGER,
  details         TEXT
) STRICT;
CREATE UNIQUE INDEX alerts_open
  ON alerts (rule, ifnull(device_id, ''), ifnull(socket_no, -1), ifnull(port_no, -1)) WHERE cleared_at IS NULL;

-- Where orders and ports disagree.
CREATE VIEW consistency_issues (issue_type, device_id, socket_no, port_no, order_no, details) AS
SELECT 'order_port_mismatch', o.device_id, o.socket_no, o.port_no, o.order_no,
       'the order is charging and its port is idle'
  FROM orders o JOIN ports p USING (device_id, socket_no, port_no)
 WHERE o.status IN (0, 2, 9) AND o.status = 2 AND p.status = 9
UNION ALL
SELECT 'orphaned_charging_order', o.device_id, o.socket_no, o.port_no, o.order_no,
       'the order is charging and its port does not exist'
  FROM orders o
 WHERE o.status IN (0, 2, 9) AND o.status = 2
   AND NOT EXISTS (SELECT 1 FROM ports p WHERE p.device_id = o.device_id AND p.socket_no = o.socket_no
                                           AND p.port_no = o.port_no)
UNION ALL
SELECT 'lonely_charging_port', p.device_id, p.socket_no, p.port_no, NULL,
       'the port is charging and no order is open there'
  FROM ports p
 WHERE p.status = 129
   AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.device_id = p.device_id AND o.socket_no = p.socket_no
                                            AND o.port_no = p.port_no AND o.status IN (0, 2, 9))
UNION ALL
SELECT 'duplicate_business_no', o.device_id, o.socket_no, o.port_no, o.order_no,
       'an earlier open order of the device has number ' || o.business_no || ', too'
  FROM orders o
 WHERE o.status IN (0, 2, 9) AND o.business_no IS NOT NULL
   AND EXISTS (SELECT 1 FROM orders e WHERE e.device_id = o.device_id AND e.status IN (0, 2, 9)
                                        AND e.business_no = o.business_no AND e.serial < o.serial);
