//! What each reading command reads: the table, its columns as contract §4 names them, and how its filters work.

/// A reading command.
pub struct Listing {
    /// Its name.
    pub command: &'static str,
    /// The table or view.
    pub table: &'static str,
    /// Every column of the contract, in its order.
    pub columns: &'static [Column],
    /// The order of the rows.
    pub order_by: &'static str,
    /// Rows of the device `?`.
    pub of_device: &'static str,
    /// Rows since the Unix time in milliseconds `?`.
    pub since: &'static str,
    /// Rows that are open, where that means something.
    pub open: Option<&'static str>,
}

/// A column.
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// Shown in the table for people, too.
    pub narrow: bool,
}

/// How the values of a column read.
pub enum Kind {
    /// As they are.
    Plain,
    /// Unix milliseconds.
    Time,
    /// 0 or 1.
    YesNo,
    /// JSON in a text.
    Json,
    /// Numbers that stand for words.
    Words(&'static [(i64, &'static str)]),
}

const fn plain(name: &'static str) -> Column {
    Column { name, kind: Kind::Plain, narrow: true }
}

const fn time(name: &'static str) -> Column {
    Column { name, kind: Kind::Time, narrow: true }
}

const fn yes_no(name: &'static str) -> Column {
    Column { name, kind: Kind::YesNo, narrow: true }
}

const fn json(name: &'static str) -> Column {
    Column { name, kind: Kind::Json, narrow: true }
}

const fn words(name: &'static str, words: &'static [(i64, &'static str)]) -> Column {
    Column { name, kind: Kind::Words(words), narrow: true }
}

/// Only in `--json`: a table as wide as an order would help nobody.
const fn wide(column: Column) -> Column {
    Column { narrow: false, ..column }
}

const PORT_STATUS: &[(i64, &str)] = &[(0, "offline"), (1, "online"), (9, "idle"), (129, "charging")];
const ORDER_STATUS: &[(i64, &str)] =
    &[(0, "pending"), (2, "charging"), (9, "stopping"), (5, "cancelled"), (6, "failed"), (7, "completed")];

const OF_DEVICE: &str = "device_id = ?";

/// The reading commands.
pub const LISTINGS: &[Listing] = &[
    Listing {
        command: "devices",
        table: "devices",
        columns: &[
            plain("device_id"),
            plain("device_model"),
            plain("firmware_version"),
            plain("iccid"),
            plain("rssi"),
            plain("status"),
            yes_no("online"),
            time("last_seen"),
            plain("note"),
        ],
        order_by: "device_id",
        of_device: OF_DEVICE,
        since: "last_seen >= ?",
        open: None,
    },
    Listing {
        command: "ports",
        table: "ports",
        columns: &[
            plain("device_id"),
            plain("socket_no"),
            plain("port_no"),
            words("status", PORT_STATUS),
            wide(plain("raw_status")),
            plain("business_no"),
            plain("voltage_v"),
            plain("power_w"),
            plain("current_a"),
            plain("energy_wh"),
            plain("minutes"),
            time("updated_at"),
        ],
        order_by: "device_id, socket_no, port_no",
        of_device: OF_DEVICE,
        since: "updated_at >= ?",
        open: None,
    },
    Listing {
        command: "orders",
        table: "orders",
        columns: ORDER_COLUMNS,
        // Pending orders have no time yet: they are the newest.
        order_by: "coalesce(start_time, end_time, 9223372036854775807), order_no",
        of_device: OF_DEVICE,
        // An order that runs, runs now.
        since: "(start_time >= ?1 OR end_time >= ?1 OR status IN (0, 2, 9))",
        open: Some("status IN (0, 2, 9)"),
    },
    Listing {
        command: "alerts",
        table: "alerts",
        columns: &[
            plain("alert_id"),
            plain("rule"),
            plain("severity"),
            plain("device_id"),
            plain("socket_no"),
            plain("port_no"),
            time("raised_at"),
            time("acknowledged_at"),
            time("cleared_at"),
            json("details"),
        ],
        order_by: "alert_id",
        of_device: OF_DEVICE,
        since: "raised_at >= ?",
        open: Some("cleared_at IS NULL"),
    },
    Listing {
        command: "events",
        table: "events",
        columns: &[
            plain("stream"),
            plain("seq"),
            time("at"),
            plain("type"),
            plain("device_id"),
            plain("order_no"),
            json("data"),
        ],
        order_by: "at, stream, seq",
        of_device: OF_DEVICE,
        since: "at >= ?",
        open: None,
    },
    Listing {
        command: "outbox",
        table: "outbox",
        columns: &[plain("id"), plain("topic"), plain("stream"), plain("seq"), plain("payload"), time("created_at")],
        order_by: "id",
        of_device: "EXISTS (SELECT 1 FROM events \
                    WHERE events.stream = outbox.stream AND events.seq = outbox.seq AND events.device_id = ?)",
        since: "created_at >= ?",
        open: None,
    },
];

/// Where orders and ports disagree: read by `check`.
pub const ISSUES: Listing = Listing {
    command: "check",
    table: "consistency_issues",
    columns: &[
        plain("issue_type"),
        plain("device_id"),
        plain("socket_no"),
        plain("port_no"),
        plain("order_no"),
        plain("details"),
    ],
    order_by: "issue_type, device_id, socket_no, port_no, order_no",
    of_device: OF_DEVICE,
    since: "TRUE",
    open: None,
};

const ORDER_COLUMNS: &[Column] = &[
    plain("order_no"),
    plain("device_id"),
    plain("socket_no"),
    plain("port_no"),
    wide(plain("business_no")),
    wide(plain("source")),
    plain("mode"),
    wide(json("plan")),
    words("status", ORDER_STATUS),
    time("start_time"),
    time("end_time"),
    plain("end_reason"),
    plain("settlement"),
    yes_no("final"),
    wide(plain("revision")),
    wide(plain("verdict")),
    plain("energy_wh"),
    wide(plain("energy_max_wh")),
    plain("minutes"),
    wide(plain("minutes_max")),
    plain("spent_cents"),
    wide(plain("electricity_cents")),
    wide(plain("service_cents")),
    wide(plain("settlement_power_w")),
    wide(json("tiers")),
    wide(plain("peak_power_w")),
    wide(plain("raw_reason")),
    wide(plain("raw_status")),
    wide(time("device_end_time")),
    wide(plain("started_by")),
    wide(plain("stopped_by")),
    wide(plain("card_no")),
    json("flags"),
];
