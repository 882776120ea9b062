//! A real kill at any moment.

use super::*;

const CHILD: &str = "CHARGEGATE_TEST_STORE";

/// Commits an order with its event, turn after turn, and says so after each commit, until it is killed.
#[test]
#[ignore = "the process that `a_kill_loses_nothing_that_was_said_to_be_durable` kills"]
fn child_that_commits_until_it_is_killed() {
    let path = std::env::var_os(CHILD).unwrap();
    let mut store = Store::open(Path::new(&path), &Settings::default(), WALL).unwrap();
    loop {
        let next = store.streams().unwrap()[&Stream::Order].next;
        let mut order = closed(&format!("{next}"), port_key(1, 0), 10);
        store.put_order(&mut order).unwrap();
        let data = json!({"order_no": order.order_no});
        let seq = store.add_event(&event(Stream::Order, &data)).unwrap();
        store.commit().unwrap();
        println!("committed {seq} {}", store.next_message_id().0);
    }
}

#[test]
fn a_kill_loses_nothing_that_was_said_to_be_durable() {
    let place = Place::new();
    let (mut said, mut ids) = (0_u64, BTreeSet::new());
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::child_that_commits_until_it_is_killed", "--ignored", "--nocapture"])
            .env(CHILD, &place.path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut commits = 0;
        for line in &mut lines {
            let line = line.unwrap();
            let Some(numbers) = line.strip_prefix("committed ") else { continue };
            let (seq, id) = numbers.split_once(' ').unwrap();
            said = seq.parse().unwrap();
            assert!(ids.insert(id.parse::<u32>().unwrap()), "message id {id} again in round {round}");
            commits += 1;
            if commits == 25 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(commits >= 25 * round);
        let store = place.open();
        assert!(store.after_unclean_stop());
        let kept = store.streams().unwrap()[&Stream::Order];
        assert!(kept.oldest == 1 && kept.next > said, "{kept:?} after {said}");
        let events = store.events_from(Stream::Order, 1, u32::MAX).unwrap();
        assert!(events.iter().map(|event| event.seq).eq(1..kept.next), "without gaps");
        assert!(events.iter().all(|event| event.intact && store.order_exists(&no(&event.seq.to_string())).unwrap()));
        assert_eq!(place.one::<String>("PRAGMA integrity_check"), "ok");
    }
}

#[test]
fn retention_is_what_the_settings_say() {
    let settings = Settings { retention: Duration::from_secs(60), ..Settings::default() };
    let place = Place { settings, ..Place::new() };
    let mut store = place.open();
    for text in ["old", "newest"] {
        store.put_order(&mut closed(text, port_key(1, 0), 1000)).unwrap();
    }
    assert_eq!(store.drop_old(UpTime(61_000)).unwrap().rows, 0);
    assert_eq!(store.drop_old(UpTime(61_001)).unwrap().rows, 1);
}
