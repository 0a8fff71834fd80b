//! Lists as files: every way to change one reaches the kernel, as a difference, and allow beats block.

mod beats;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::lab::net::connect;
use super::lab::{CT4, CT6, at};
use super::stand::{PORT, SOON, Stand, assert_passes, assert_refused};

/// A server's address that no other part of the test uses.
pub fn server(n: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, n).into()
}

pub fn counts(event: &Value) -> (u64, u64) {
    (event["added"].as_u64().expect("added"), event["removed"].as_u64().expect("removed"))
}

#[test]
fn every_way_to_change_a_file_reaches_the_kernel_as_a_difference() {
    let mut stand = Stand::new("edit", &["--hold-ms", "50"]);
    stand.resolve(CT4.into(), "web.example", server(20));
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    let (folder, file) = (stand.lists(), stand.lists().join("block.txt"));
    let step = |what: &str, act: &dyn Fn(), change: (u64, u64), holds: &[&str]| {
        let event = stand.reload(act);
        assert_eq!(counts(&event), change, "{what}: {event}");
        stand.wait_members("blockhosts4", holds);
    };
    let (a, b, c) = ("203.0.113.20", "203.0.113.22", "203.0.113.24");

    step("written", &|| fs::write(&file, format!("{a}\n{b} # two\n")).unwrap(), (2, 0), &[a, b]);
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    step(
        "renamed over",
        &|| {
            let other = folder.join("block.txt.new");
            fs::write(&other, format!("{b} # two\n{c}\n")).unwrap();
            fs::rename(&other, &file).unwrap();
        },
        (1, 1),
        &[b, c],
    );
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    step(
        "truncated and written in pieces",
        &|| {
            let mut file = OpenOptions::new().write(true).truncate(true).open(&file).unwrap();
            for piece in ["203.0.", "113.20\n", "203.0.113.24", "\n"] {
                file.write_all(piece.as_bytes()).unwrap();
            }
        },
        (1, 1),
        &[a, c],
    );
    step(
        "appended to",
        &|| {
            let mut file = OpenOptions::new().append(true).open(&file).unwrap();
            file.write_all(format!("{b}\n").as_bytes()).unwrap();
        },
        (1, 0),
        &[a, b, c],
    );
    step("deleted", &|| fs::remove_file(&file).unwrap(), (0, 3), &[]);
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    step("made again", &|| fs::write(&file, format!("{a}\n")).unwrap(), (1, 0), &[a]);
    let away = stand.lab.dir().join("state/away");
    step("its folder moved away", &|| fs::rename(&folder, &away).unwrap(), (0, 1), &[]);
    // What happens to the old folder is nobody's business now.
    fs::write(away.join("block.txt"), format!("{b}\n")).unwrap();
    let back = || {
        fs::create_dir_all(&folder).unwrap();
        fs::write(&file, format!("{c}\n")).unwrap();
    };
    step("its folder made anew", &back, (1, 0), &[c]);
    step("its folder deleted", &|| fs::remove_dir_all(&folder).unwrap(), (0, 1), &[]);
    step("its folder made a third time", &back, (1, 0), &[c]);
    step("and written to again", &|| fs::write(&file, format!("{a}\n")).unwrap(), (1, 1), &[a]);
    assert_refused(&stand.lab.ct, at(server(20), PORT));
}

#[test]
fn of_a_large_list_only_what_changed_is_sent() {
    let stand = Stand::new("differ", &[]);
    let line = |n: u32| format!("{}\n", Ipv4Addr::from(0x0900_0000 + 2 * n));
    let text = |numbers: std::ops::Range<u32>| numbers.map(line).collect::<String>();
    let event = stand.list("block.txt", &text(0..20_000));
    assert_eq!(counts(&event), (20_000, 0));
    let event = stand.list("block.txt", &text(5..20_003));
    assert_eq!(counts(&event), (3, 5));
    // Networks, ranges and both families in one change; neighbours become one range. Enough is left to be believed.
    let rest = text(5..3_005);
    let with_rest = |text: &str| stand.list("block.txt", &format!("{rest}{text}"));
    let event = with_rest(
        "198.51.100.0/25\n198.51.100.128/25\n203.0.113.7-203.0.113.9\n2001:db8:55::/48\n2001:db8:99::1\n",
    );
    assert_eq!(counts(&event), (4, 16_998));
    stand.wait_members("block4", &["198.51.100.0/24", "203.0.113.7-203.0.113.9"]);
    stand.wait_members("block6", &["2001:db8:55::/48"]);
    stand.wait_members("blockhosts6", &["2001:db8:99::1"]);
    // Only one entry of two that overlap goes: the rest holds as it was.
    let event = with_rest("203.0.113.0/24\n203.0.113.7-203.0.113.9\n");
    assert_eq!(counts(&event), (1, 4));
    let event = with_rest("203.0.113.7-203.0.113.9\n");
    assert_eq!(counts(&event), (1, 1));
}

#[test]
fn a_bad_line_is_told_with_its_number_and_the_others_hold() {
    let mut stand = Stand::new("badline", &["--hold-ms", "50"]);
    stand.resolve(CT4.into(), "web.example", server(20));
    let mark = stand.daemon.feed().mark();
    stand.list(
        "block.txt",
        "203.0.113.20\n\n203.0.113.300\n203.0.113.22 unitl=tomorrow\n198.51.100.9\n",
    );
    let told = stand.told(mark, "lists", &["block.txt:3:"]);
    assert_eq!(told["healthy"], false);
    stand.told(mark, "lists", &["block.txt:4:", "unitl"]);
    stand.wait_members("blockhosts4", &["198.51.100.9", "203.0.113.20"]);
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    // Told once, not at each reading.
    let mark = stand.daemon.feed().mark();
    stand.list("allow.txt", "203.0.113.99\n");
    let again = |e: &Value| e["event"] == "health" && e["what"] == "lists";
    assert_eq!(stand.daemon.feed().since(mark).iter().filter(|e| again(e)).count(), 0);
    stand.list("block.txt", "203.0.113.20\n");
    assert_eq!(stand.told(mark, "lists", &["understood"])["healthy"], true);
}

#[test]
fn what_would_cut_the_host_off_is_refused_unless_forced() {
    let stand = Stand::new("danger", &["--hold-ms", "50", "--dns-upstream", "203.0.113.53"]);
    let mark = stand.daemon.feed().mark();
    // The gateway's own address, the router behind it, a network with both, its resolver, and everything.
    let dangerous = "0.0.0.0/0\n::/0\n192.0.2.1\n192.0.2.2\n192.0.2.0/24\n203.0.113.53\n2001:db8:ffff::2\n172.31.7.1\n";
    stand.list("block.txt", &format!("{dangerous}198.51.100.9\n"));
    for (line, entry) in dangerous.lines().enumerate() {
        let head = format!("block.txt:{}: {entry} is refused", line + 1);
        let told = stand.told(mark, "lists", &[&head, &format!("`{entry} force`")]);
        assert_eq!(told["healthy"], false);
    }
    stand.wait_members("block4", &[]);
    stand.wait_members("block6", &[]);
    stand.wait_members("blockhosts6", &[]);
    stand.wait_members("blockhosts4", &["198.51.100.9"]);
    stand.list("block.txt", "192.0.2.2 force\n203.0.113.0/24\n203.0.113.53 force # really\n");
    stand.wait_members("blockhosts4", &["192.0.2.2", "203.0.113.53"]);
    // The network holds the resolver too, and says no `force` of its own.
    stand.wait_members("block4", &[]);
}

#[test]
fn a_held_packet_is_answered_the_moment_a_list_names_it() {
    let stand = Stand::new("heldlist", &["--hold-ms", "990"]);
    for (file, n, reason) in [("allow.txt", 30, "allowlisted"), ("block.txt", 31, "blocklisted")] {
        let dst = at(server(n), PORT);
        let ct = stand.lab.ct.clone();
        let dialling = std::thread::spawn(move || connect(&ct, dst, SOON));
        stand.wait_held(1);
        stand.list(file, &format!("{}\n", dst.ip()));
        let dialled = dialling.join().unwrap();
        let verdict = stand.verdict(dst);
        assert_eq!(verdict["reason"], reason, "{verdict}");
        let held = verdict["held_us"].as_u64().unwrap();
        assert!((1..990_000).contains(&held), "{verdict}");
        assert_eq!(dialled.is_ok(), reason == "allowlisted", "{dialled:?}");
        assert_eq!(stand.passed(dst), usize::from(reason == "allowlisted"));
    }
}

#[test]
fn a_container_in_quarantine_gets_nothing_out_until_its_time_is_over() {
    let mut stand = Stand::new("ward", &["--hold-ms", "50"]);
    for (client, name, address) in [
        (IpAddr::from(CT4), "a.example", server(20)),
        (CT6.into(), "b.example", super::lab::SRV6.into()),
    ] {
        stand.resolve(client, name, address);
    }
    let v6 = at(super::lab::SRV6, PORT);
    let dns = at(server(53), 53);
    let ask = |stand: &Stand| {
        let raw = super::lab::raw::Raw::to_gateway(&stand.lab, super::lab::Side::Ct);
        raw.send(&super::lab::raw::udp(at(CT4, 5_353), dns, b"query"));
        stand.passed(dns)
    };
    assert_eq!(ask(&stand), 1, "the control");
    stand.list("quarantine.txt", &format!("{CT4}\n{CT6}\n"));
    stand.list("allow.txt", &format!("{}\n", server(20)));
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    assert!(connect(&stand.lab.ct, v6, SOON).is_err());
    assert_eq!(ask(&stand), 1, "no DNS either");
    assert_passes(&stand.lab.ct2, at(server(20), PORT));
    // Its other address family, and back with a time.
    let until = soon(Duration::from_secs(2));
    stand.list("quarantine.txt", &format!("{CT4} until={until}\n"));
    assert_passes(&stand.lab.ct, v6);
    assert_refused(&stand.lab.ct, at(server(20), PORT));
    stand.wait_members("quarantine4", &[]);
    assert_passes(&stand.lab.ct, at(server(20), PORT));
    let file = stand.lists().join("quarantine.txt");
    super::lab::eventually("the line is gone", SOON, || {
        fs::read_to_string(&file).unwrap().is_empty()
    });
}

/// A time so long from now, as lists write it.
pub fn soon(from_now: Duration) -> String {
    humantime::format_rfc3339_micros(SystemTime::now() + from_now).to_string()
}
