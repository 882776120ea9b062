//! Events, the journal, alerts, commands, and what the retention drops.

use super::*;

#[test]
fn numbers_of_events_have_no_gaps_after_rollbacks_and_reopenings() {
    let place = Place::new();
    let data = json!({"energy_wh": 5});
    let mut store = place.open();
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 1);
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 2);
    assert_eq!(store.add_event(&event(Stream::Alert, &data)).unwrap(), 1);
    store.commit().unwrap();
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 3);
    store.rollback().unwrap();
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 3);
    store.commit().unwrap();
    // Not committed: as if the power had gone.
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 4);
    drop(store);
    let mut store = place.open();
    assert_eq!(store.add_event(&event(Stream::Order, &data)).unwrap(), 4);
    let seqs: Vec<_> = store.events_from(Stream::Order, 2, 2).unwrap().into_iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [2, 3]);
    let streams = store.streams().unwrap();
    assert_eq!(streams[&Stream::Order], StreamRange { oldest: 1, next: 5 });
    assert_eq!(streams[&Stream::Device], StreamRange { oldest: 1, next: 1 });
}

#[test]
fn events_are_read_as_they_were_written() {
    let place = Place::new();
    let mut store = place.open();
    let (data, order_no) = (json!({"device": "x", "tiers": [{"minutes": 5, "energy_wh": null}]}), no("A-1"));
    let kind = "order.completed";
    let written =
        NewEvent { kind, device: Some(device_id()), order_no: Some(&order_no), ..event(Stream::Order, &data) };
    store.add_event(&written).unwrap();
    let read = store.events_from(Stream::Order, 1, 9).unwrap().remove(0);
    assert!(read.intact);
    assert_eq!(
        (read.stream, read.seq, read.at, read.up, read.clock),
        (Stream::Order, 1, WALL, UpTime(5), written.clock)
    );
    assert_eq!((read.kind.as_str(), read.device, read.order_no), (kind, Some(device_id()), Some(order_no)));
    assert_eq!(serde_json::from_str::<Value>(&read.data).unwrap(), data);
}

#[test]
fn a_flipped_bit_in_an_event_or_a_frame_is_noticed() {
    let place = Place::new();
    let mut store = place.open();
    let data = json!({"energy_wh": 500});
    for _ in 0..2 {
        store.add_event(&event(Stream::Order, &data)).unwrap();
        store.add_journal(&frame(&[0xfc, 0xfe, 0x00], FrameVerdict::Accepted)).unwrap();
    }
    store.commit().unwrap();
    let outside = place.outside();
    outside.execute("UPDATE events SET data = replace(data, '500', '501') WHERE seq = 2", []).unwrap();
    outside.execute("UPDATE journal SET frame = x'fcfe01' WHERE id = 2", []).unwrap();
    let intact: Vec<_> = store.events_from(Stream::Order, 1, 9).unwrap().iter().map(|event| event.intact).collect();
    assert_eq!(intact, [true, false]);
    let intact: Vec<_> = store.journal_after(0, 9).unwrap().iter().map(|entry| entry.intact).collect();
    assert_eq!(intact, [true, false]);
}

#[test]
fn the_journal_stays_within_its_bytes_whatever_happens() {
    let place = Place { settings: Settings { journal_max: 20_000, ..Settings::default() }, ..Place::new() };
    let mut store = place.open();
    let bytes = [0x5a; 100];
    let mut newest = 0;
    for turn in 0..60_u32 {
        for _ in 0..10 {
            store.add_journal(&frame(&bytes, FrameVerdict::Accepted)).unwrap();
        }
        match turn % 6 {
            0 => store.rollback().unwrap(),
            _ => newest += if store.commit().unwrap() { 10 } else { 0 },
        }
        if turn % 20 == 7 {
            store.close().unwrap();
            store = place.open();
            assert!(!store.after_unclean_stop());
        }
        if turn % 20 == 13 {
            drop(store);
            store = place.open();
            assert!(store.after_unclean_stop());
        }
        let size = place.one::<i64>("SELECT ifnull(sum(length(frame) + 64), 0) FROM journal");
        assert_eq!(size.unsigned_abs(), store.journal_bytes());
        assert!(size <= 20_000);
    }
    let entries = store.journal_after(0, 1000).unwrap();
    assert!(entries.len() > 100, "nearly all of the room is used: {}", entries.len());
    assert_eq!(entries.last().unwrap().id, newest, "the oldest went");
    assert!(store.journal_whole_since().unwrap().is_some());
}

#[test]
fn the_journal_tells_why_a_report_is_missing() {
    let place = Place::new();
    let mut store = place.open();
    assert_eq!(store.journal_whole_since().unwrap(), None);
    let order_no = no("A-1");
    let at = |row: JournalRow<'static>, up| JournalRow { up: UpTime(up), ..row };
    store.add_journal(&at(frame(b"old", FrameVerdict::Malformed), 10)).unwrap();
    store.add_journal(&at(frame(b"bad", FrameVerdict::Malformed), 20)).unwrap();
    let accepted = at(frame(b"good", FrameVerdict::Accepted), 30);
    store.add_journal(&JournalRow { order_no: Some(&order_no), reason: Some("booked"), ..accepted }).unwrap();
    let nobody =
        JournalRow { socket: Some(socket_no(3)), port: Some(PortNo::B), ..frame(b"mine?", FrameVerdict::Unmatched) };
    store.add_journal(&at(nobody, 40)).unwrap();
    store.add_journal(&JournalRow { device: None, ..at(frame(b"?", FrameVerdict::Malformed), 50) }).unwrap();
    let refused = store.refused_frames_since(device_id(), UpTime(20)).unwrap();
    assert_eq!(refused.iter().map(|entry| entry.frame.as_slice()).collect::<Vec<_>>(), [b"mine?".as_slice(), b"bad"]);
    assert_eq!((refused[0].socket, refused[0].port), (Some(socket_no(3)), Some(PortNo::B)));
    let story = store.journal_of_order(&order_no).unwrap();
    assert_eq!((story.len(), story[0].reason.as_deref()), (1, Some("booked")));
    assert_eq!(store.journal_of_device_since(device_id(), UpTime(20)).unwrap().len(), 3);
    assert_eq!(store.journal_whole_since().unwrap(), None, "nothing was given up yet");
}

#[test]
fn an_alert_is_raised_once_and_cleared_once() {
    let place = Place::new();
    let mut store = place.open();
    let (site, port) =
        (Subject::default(), Subject { device: Some(device_id()), socket: Some(socket_no(0)), port: Some(PortNo::A) });
    let raise = |store: &mut Store, subject| {
        store.raise_alert("port_fault", Severity::Warning, subject, WALL, &json!({"bit": 6})).unwrap()
    };
    assert_eq!(raise(&mut store, port), Some(1));
    assert_eq!(raise(&mut store, port), None);
    assert_eq!(raise(&mut store, site), Some(2), "about something else");
    store.commit().unwrap();
    assert_eq!(store.open_alerts().unwrap().len(), 2);
    assert_eq!(store.acknowledge_alert(1, WALL).unwrap().unwrap().acknowledged_at, Some(WALL));
    assert_eq!(store.acknowledge_alert(1, WallTime(5)).unwrap().unwrap().acknowledged_at, Some(WALL), "the first time");
    assert_eq!(store.acknowledge_alert(77, WALL).unwrap(), None);
    let now = Now { up: UpTime(9), wall: WallTime(WALL.0 + 1), synchronized: false };
    let cleared = store.clear_alert("port_fault", port, now).unwrap().unwrap();
    assert_eq!((cleared.id, cleared.cleared_at, cleared.subject), (1, Some(now.wall), port));
    assert_eq!(store.clear_alert("port_fault", port, now).unwrap(), None);
    assert_eq!(raise(&mut store, port), Some(3));
    assert_eq!(store.alert(1).unwrap().unwrap().details.as_deref(), Some(r#"{"bit":6}"#));
}

#[test]
fn a_repeated_command_finds_the_first_and_its_reply() {
    let place = Place::new();
    let mut store = place.open();
    let row = CommandRow {
        id: "c-1".into(),
        at: WALL,
        created_up: UpTime(1),
        source: CommandSource::Site,
        actor: "1000".into(),
        kind: "start_charge".into(),
        payload: r#"{"id":"c-1"}"#.into(),
        reply: None,
        order_no: None,
    };
    store.put_command(&row).unwrap();
    store.commit().unwrap();
    assert_eq!(store.command("c-1").unwrap(), Some(row.clone()));
    assert_eq!(store.command("c-2").unwrap(), None);
    store.set_reply("c-1", "{}", Some(&no("A-1"))).unwrap();
    store.set_reply("c-1", r#"{"result":"done"}"#, None).unwrap();
    let reply = Some(r#"{"result":"done"}"#.into());
    assert_eq!(store.command("c-1").unwrap(), Some(CommandRow { reply, order_no: Some(no("A-1")), ..row }));
}

#[test]
fn a_late_answer_finds_what_it_is_about() {
    let place = Place::new();
    let mut store = place.open();
    let sending = Sending {
        device: device_id(),
        message_id: MessageId(3_000_000_000),
        kind: SendingKind::Stop,
        sent_up: UpTime(1),
        socket: Some(socket_no(1)),
        port: Some(PortNo::B),
        order_no: Some(no("A-1")),
    };
    store.put_sending(&sending).unwrap();
    let again = Sending { sent_up: UpTime(2), ..sending };
    store.put_sending(&again).unwrap();
    store.commit().unwrap();
    store.close().unwrap();
    let store = place.open();
    assert_eq!(store.sending(device_id(), again.message_id).unwrap(), Some(again.clone()));
    assert_eq!(store.sending("00000000000001".parse().unwrap(), again.message_id).unwrap(), None, "of another device");
}

#[test]
fn only_what_is_old_by_up_time_and_settled_is_dropped() {
    let place = Place::new();
    let mut store = place.open();
    let data = json!({});
    let old = |row: &mut Order| row.created_up = UpTime(0);
    let mut unsettled = closed("not final", port_key(1, 0), 10);
    unsettled.is_final = false;
    for mut row in [
        closed("old", port_key(1, 0), 10),
        unsettled,
        order("open", port_key(1, 0), OrderStatus::Charging),
        closed("long", port_key(2, 0), 50 * DAY),
        closed("young", port_key(2, 0), 50 * DAY),
        closed("newest", port_key(3, 0), 50 * DAY),
    ] {
        if row.order_no != no("young") {
            old(&mut row);
        }
        // The wall clock says nothing: it may have stood anywhere.
        row.end_time = Some(WallTime(0));
        store.put_order(&mut row).unwrap();
    }
    for up in [0, 1, 50 * DAY] {
        store.add_event(&NewEvent { up: UpTime(up), ..event(Stream::Order, &data) }).unwrap();
    }
    store.add_event(&NewEvent { up: UpTime(0), ..event(Stream::Device, &data) }).unwrap();
    for (rule, cleared) in [("old", Some(UpTime(0))), ("young", Some(UpTime(50 * DAY))), ("open", None)] {
        store.raise_alert(rule, Severity::Warning, Subject::default(), WallTime(0), &Value::Null).unwrap();
        if let Some(up) = cleared {
            store.clear_alert(rule, Subject::default(), Now { up, wall: WallTime(0), synchronized: false }).unwrap();
        }
    }
    let command = |id: &str, reply: Option<&str>, up| CommandRow {
        id: id.into(),
        at: WallTime(0),
        created_up: UpTime(up),
        source: CommandSource::Cloud,
        actor: "cloud".into(),
        kind: "stop_charge".into(),
        payload: "{}".into(),
        reply: reply.map(Into::into),
        order_no: None,
    };
    store.put_command(&command("waits", None, 0)).unwrap();
    store.put_command(&command("old", Some("{}"), 0)).unwrap();
    store.put_command(&command("young", Some("{}"), 90 * DAY)).unwrap();
    assert_eq!(store.drop_old(UpTime(DAY)).unwrap().rows, 0);
    // After 91 days: what is older than 90, and commands older than 7.
    let dropped = store.drop_old(UpTime(91 * DAY)).unwrap();
    store.commit().unwrap();
    let left = |sql: &str| place.one::<String>(sql);
    assert_eq!(
        left("SELECT group_concat(order_no) FROM (SELECT order_no FROM orders ORDER BY serial)"),
        "not final,open,long,young,newest"
    );
    assert_eq!(
        left("SELECT group_concat(stream || seq) FROM (SELECT stream, seq FROM events ORDER BY stream)"),
        "device1,order3"
    );
    assert_eq!(left("SELECT group_concat(rule) FROM alerts"), "young,open");
    assert_eq!(left("SELECT group_concat(id) FROM commands"), "waits,young");
    assert_eq!((dropped.rows, dropped.more), (5, false));
    // The numbers go on all the same.
    assert_eq!(store.add_event(&event(Stream::Device, &data)).unwrap(), 2);
    assert_eq!(store.streams().unwrap()[&Stream::Order], StreamRange { oldest: 3, next: 4 });
    let mut next = closed("next", port_key(4, 0), 1);
    store.put_order(&mut next).unwrap();
    assert_eq!(next.serial, 7);
}

#[test]
fn what_the_cloud_has_not_confirmed_is_not_dropped() {
    let place = Place::new();
    let mut store = place.open();
    let data = json!({});
    for text in ["told", "untold", "newest"] {
        let mut row = closed(text, port_key(1, 0), 10);
        store.put_order(&mut row).unwrap();
        store.add_event(&NewEvent { order_no: Some(&row.order_no), ..event(Stream::Order, &data) }).unwrap();
    }
    store.commit().unwrap();
    let insert = "INSERT INTO outbox (created_at, crc, topic, stream, seq) VALUES (0, 0, 'event/order', 'order', 2)";
    place.outside().execute(insert, []).unwrap();
    store.drop_old(UpTime(100 * DAY)).unwrap();
    store.commit().unwrap();
    assert_eq!(
        place.one::<String>("SELECT group_concat(order_no) FROM (SELECT order_no FROM orders ORDER BY serial)"),
        "untold,newest"
    );
    assert_eq!(place.one::<String>("SELECT group_concat(seq) FROM events"), "2,3");
}

#[test]
fn old_rows_go_in_chunks() {
    let place = Place::new();
    let mut store = place.open();
    for i in 0..1200 {
        store.put_order(&mut closed(&format!("{i}"), port_key(1, 0), 10)).unwrap();
    }
    store.commit().unwrap();
    let mut rows = Vec::new();
    loop {
        let dropped = store.drop_old(UpTime(100 * DAY)).unwrap();
        store.commit().unwrap();
        rows.push(dropped.rows);
        if !dropped.more {
            break;
        }
    }
    assert_eq!(rows, [500, 500, 199]);
}
