//! `decode`: frames explained, bad ones with their reason and offset.

use crate::site::Site;

/// The heartbeat of the guide.
fn good() -> &'static str {
    let vectors = include_str!("../vectors/guide.tsv");
    vectors.lines().find_map(|line| line.strip_prefix("heartbeat\tok\t")).unwrap()
}

/// With its checksum off by one.
fn bad() -> String {
    with_checksum(good(), 1)
}

/// With its checksum right, or off by so much.
fn with_checksum(frame: &str, off: u8) -> String {
    let at = frame.len() - 6;
    let bytes = (4..at).step_by(2).map(|byte| u8::from_str_radix(&frame[byte..byte + 2], 16).unwrap());
    let sum = bytes.fold(off, u8::wrapping_add);
    format!("{}{sum:02x}fcee", &frame[..at])
}

#[test]
fn what_a_device_wrote_cannot_steer_the_terminal() {
    let iccid = "3839383630343633313132303730333139343137";
    let forged = with_checksum(&good().replace(iccid, "1b5b324a0a0d33313132303730333139343137c2"), 0);
    let ran = Site::new().run(&["decode", &forged]);
    assert!(ran.out.lines().count() > 3 && !ran.out.contains(['\u{1b}', '\r']), "{ran:?}");
}

#[test]
fn frames_come_from_the_arguments_else_from_stdin_one_a_line() {
    let site = Site::new();
    let one = site.run(&["decode", good()]);
    assert_eq!((one.code, one.err.as_str()), (0, ""));
    assert!(one.out.contains("heartbeat") && one.out.contains("iccid"), "{one:?}");
    let spaced: Vec<String> =
        good().to_uppercase().as_bytes().chunks(2).map(|pair| String::from_utf8(pair.to_vec()).unwrap()).collect();
    assert_eq!(site.run(&["decode", &spaced.join(" ")]), one);
    assert_eq!(site.run_with_input(&["decode"], &format!("\n  \r\n{}\r\n\n", good())), one);
    let two = site.run(&["decode", good(), good()]);
    assert_eq!((two.code, two.out), (0, format!("{}\n{}", one.out, one.out)));
    let nothing = site.run_with_input(&["decode"], "\n");
    assert_eq!((nothing.code, nothing.out.as_str(), nothing.err.lines().count()), (1, "", 1));
}

#[test]
fn a_bad_frame_gets_its_reason_and_offset_and_the_others_are_still_explained() {
    let site = Site::new();
    let explained = site.run(&["decode", good()]).out;
    let checksum_at = good().len() / 2 - 3;
    for (frame, offset, reason) in [
        (bad(), checksum_at, "wrong checksum"),
        ("fcfe00zz".to_owned(), 3, "not hex: 'z'"),
        ("fcf".to_owned(), 1, "not hex"),
        (String::new(), 0, ""),
    ] {
        let alone = site.run(&["decode", &frame]);
        assert_eq!((alone.code, alone.err.lines().count()), (1, 1), "{alone:?}");
        for text in [&alone.out, &alone.err] {
            assert!(text.contains(&format!("at byte {offset}: ")) && text.contains(reason), "{frame}: {alone:?}");
        }
        let among = site.run(&["decode", good(), &frame, good()]);
        assert_eq!(among.code, 1);
        assert!(among.err.starts_with("chargegate: decode: 1 of 3 frames bad, first frame 2 at byte "), "{among:?}");
        assert_eq!(among.out, format!("{explained}\n{}\n{explained}", alone.out));
    }
    let from_stdin = site.run_with_input(&["decode"], &format!("{}\nno hex\u{1b}\n{}\n", bad(), good()));
    assert_eq!((from_stdin.code, from_stdin.err.lines().count()), (1, 1));
    assert!(from_stdin.out.ends_with(&explained) && !from_stdin.out.contains('\u{1b}'), "{from_stdin:?}");
}
