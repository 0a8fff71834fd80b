//! `synhold check`: it tells what is in the way, what to do about it, and changes nothing.

use std::net::UdpSocket;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::lab::{CONTAINER_NETS, GW4, Lab, eventually};
use super::stand::{DnsLog, LATER, STARTED, start};

/// Runs it in the gateway on a configuration of the test's alone; its exit code and findings.
fn check(lab: &Lab, args: &[&str]) -> (i32, Vec<Value>) {
    let (code, out, err) = run(lab, &[args, &["--json"]].concat());
    assert_eq!(err, "");
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}")))
}

fn run(lab: &Lab, args: &[&str]) -> (i32, String, String) {
    let state = lab.dir().join("state").display().to_string();
    let config = lab.dir().join("empty.toml");
    std::fs::write(&config, "").unwrap();
    let mut all = vec!["check", "--config", config.to_str().unwrap(), "--state-dir", &state];
    all.extend(["--no-docker", "--metrics", "off"]);
    all.extend(CONTAINER_NETS.iter().flat_map(|net| ["--container-net", net]));
    super::stand::synhold(lab, &[&all, args].concat())
}

#[track_caller]
fn finding<'a>(findings: &'a [Value], id: &str, state: &str) -> &'a Value {
    let of = || findings.iter().filter(|finding| finding["id"] == id);
    let found = of().find(|finding| finding["state"] == state);
    found.unwrap_or_else(|| panic!("{id} is not {state}: {:?}", of().collect::<Vec<_>>()))
}

fn is_not_fine(finding: &&Value) -> bool {
    finding["state"] != "ok"
}

/// A real dnsmasq in the gateway that logs as `lines` of its configuration say.
fn dnsmasq(lab: &Lab, lines: &str) -> PathBuf {
    let (conf, log) = (lab.dir().join("dnsmasq.conf"), lab.dir().join("dnsmasq.log"));
    let text = lines.replace("LOG", log.to_str().unwrap());
    std::fs::write(
        &conf,
        format!(
            "{text}\nport=5353\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nuser=root\n"
        ),
    )
    .unwrap();
    let mut command = lab.gw.command("dnsmasq");
    command
        .arg("--keep-in-foreground")
        .arg("--pid-file=")
        .arg(format!("--conf-file={}", conf.display()));
    lab.gw.start(command);
    let bound = || lab.gw.run(|| UdpSocket::bind("127.0.0.1:5353").is_err());
    eventually("dnsmasq listens", LATER, bound);
    log
}

/// The gateway's links, but for their carriers: those come up when the kernel gets to it.
fn links(lab: &Lab) -> Vec<String> {
    let shown = lab.gw.ip("link show\n");
    let is_of_link = |word: &&str| !word.starts_with('<') && !["UP", "DOWN"].contains(word);
    shown.split_whitespace().filter(is_of_link).map(str::to_owned).collect()
}

#[test]
fn where_nothing_is_in_the_way_nothing_is_found_and_nothing_changed() {
    let lab = Lab::new("chkfine");
    let before = (lab.gw.ruleset(), links(&lab));
    let log = dnsmasq(&lab, "log-queries=extra\nlog-facility=LOG");
    eventually("it logs", LATER, || log.exists());
    let source = format!("file:{}", log.display());
    let (code, findings) = check(&lab, &["--dns-source", &source]);
    let bad: Vec<&Value> = findings.iter().filter(is_not_fine).collect();
    assert_eq!((code, bad), (0, Vec::new()));
    for id in [
        "rights",
        "kernel-rules",
        "kernel-nfqueue",
        "kernel-conntrack",
        "dnsmasq-log-facility",
        "state-dir",
        "queue",
    ] {
        finding(&findings, id, "ok");
    }
    assert!(!lab.dir().join("state").exists());
    assert_eq!((lab.gw.ruleset(), links(&lab)), before);
    let (code, text, _) = run(&lab, &["--dns-source", &source]);
    let last = text.lines().last().unwrap();
    assert!(
        code == 0 && last.starts_with("all ") && last.ends_with("`synhold run` can start"),
        "{text}"
    );
}

#[test]
fn our_own_dnsmasq_needs_its_port_and_containers_need_forwarding() {
    let lab = Lab::new("chkport");
    let upstream = ["--dns-upstream", "203.0.113.53"];
    let (code, findings) = check(&lab, &upstream);
    finding(&findings, "dns-port", "ok");
    finding(&findings, "dns-dnsmasq", "ok");
    assert_eq!(code, 0, "{findings:?}");
    let taken = lab.gw.run(|| UdpSocket::bind((GW4, 53)).unwrap());
    lab.gw.sysctl("ipv4/ip_forward", "0");
    let (code, findings) = check(&lab, &upstream);
    let port = finding(&findings, "dns-port", "fail");
    let holder = format!("(process {})", std::process::id());
    assert!(code == 1 && port["what"].as_str().unwrap().contains(&holder), "{port}");
    assert!(port["advice"].as_str().unwrap().contains("--dns-listen"), "{port}");
    let forwarding = finding(&findings, "forwarding-4", "warn");
    assert!(forwarding["advice"].as_str().unwrap().contains("sysctl -w net.ipv4.ip_forward=1"));
    finding(&findings, "forwarding-6", "ok");
    drop(taken);
    let (code, findings) = check(&lab, &["--dns-upstream", &GW4.to_string()]);
    finding(&findings, "dns-upstream", "fail");
    assert_eq!(code, 1);
}

#[test]
fn a_dnsmasq_that_logs_otherwise_is_told_what_to_say() {
    let lab = Lab::new("chkmasq");
    dnsmasq(&lab, "log-async=20\nlog-facility=LOG.other");
    let read = lab.dir().join("read.log");
    std::fs::write(&read, "GET / HTTP/1.1\n").unwrap();
    let (code, findings) = check(&lab, &["--dns-source", &format!("file:{}", read.display())]);
    assert_eq!(code, 1);
    let advice = |id, state| finding(&findings, id, state)["advice"].as_str().unwrap().to_owned();
    assert!(advice("dnsmasq-log-queries", "fail").contains("log-queries=extra"));
    assert!(advice("dnsmasq-log-async", "warn").contains("log-async"));
    assert!(
        advice("dnsmasq-log-facility", "fail")
            .contains(&format!("log-facility={}", read.display()))
    );
    finding(&findings, "dns-source", "fail");
    let missing = format!("file:{}", lab.dir().join("none.log").display());
    finding(&check(&lab, &["--dns-source", &missing]).1, "dns-source", "fail");
    let no_fifo = format!("fifo:{}", read.display());
    finding(&check(&lab, &["--dns-source", &no_fifo]).1, "dns-source", "fail");
}

#[test]
fn whoever_may_not_or_comes_second_is_told() {
    let lab = Lab::new("chktwo");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let source = format!("file:{}", log.path.display());
    let args = ["--dns-source", &source];
    let daemon = start(&lab, &log.path, &[]);
    daemon.ready();
    let (_, findings) = check(&lab, &args);
    let said = finding(&findings, "running", "ok")["what"].as_str().unwrap().to_owned();
    assert!(said.contains(&format!("process {}", daemon.pid())), "{said}");
    finding(&findings, "queue", "ok");

    // One that was killed leaves its rules; another's queue is in the way.
    daemon.end_by(Signal::SIGKILL);
    finding(&check(&lab, &args).1, "rules", "warn");
    let other = lab.gw.run(|| {
        let mut queue = nfq::Queue::open().unwrap();
        queue.bind(0).unwrap();
        queue
    });
    let (code, findings) = check(&lab, &args);
    let queue = finding(&findings, "queue", "fail");
    assert!(queue["advice"].as_str().unwrap().contains("--queue-num 1"), "{queue}");
    assert_eq!(code, 1);
    // A start that fails tells where to look.
    let failed = start(&lab, &log.path, &[]).wait_end();
    assert!(failed.stderr.contains("`synhold check`"), "{}", failed.stderr);
    drop(other);

    let mut command = lab.gw.command("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(super::stand::BIN);
    command.args(["check", "--json", "--no-docker", "--dns-source", &source]);
    let output = command.output().unwrap();
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let rights = finding(&findings, "rights", "fail");
    assert!(rights["advice"].as_str().unwrap().contains("root"), "{rights}");
    finding(&findings, "rights-canary", "warn");
}
