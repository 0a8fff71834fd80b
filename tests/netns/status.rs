//! What an operator sees: a status that tells whether it works, and explanations that agree with the wire.

use serde_json::Value;

use super::lab::{at, eventually};
use super::sets_cli::{fine, json};
use super::stand::{LATER, PORT, SOON, Stand, assert_passes, assert_refused, casts, synhold};

fn status(stand: &Stand) -> Value {
    json(&stand.lab, &["status"]).1
}

/// Finding words in every sentence of a list.
fn has(said: &Value, part: &str) -> bool {
    said.as_array().unwrap().iter().any(|one| one.as_str().unwrap().contains(part))
}

fn first_line(stand: &Stand) -> String {
    fine(&stand.lab, &["status"]).lines().next().unwrap().to_owned()
}

#[test]
fn a_status_counts_what_the_wire_saw_and_names_every_fault() {
    let mut stand = Stand::new("desk", &["--hold-ms", "200"]);
    let [cast, _] = casts();
    eventually("it is fine", LATER, || status(&stand)["faults"] == Value::Array(vec![]));
    assert_eq!(
        first_line(&stand),
        "ENFORCING: rules in the kernel, queue served, no canary, unchanged by others"
    );
    assert_refused(&stand.lab.ct, cast.dead);
    eventually("the kernel knows", LATER, || !stand.members("denied4").is_empty());
    assert_refused(&stand.lab.ct, cast.dead);
    stand.resolve(cast.container, "shop.example", cast.server.ip());
    assert_passes(&stand.lab.ct, cast.server);
    // The second was the kernel's own doing, and is told a moment later.
    let dead = cast.dead.ip().to_string();
    eventually("both refusals are one line", LATER, || {
        let said = status(&stand);
        let one = &said["refusals"][0];
        one["dst"] == dead.as_str() && one["count"] == 2 && one["reason"] == "never-resolved"
    });
    let said = status(&stand);
    let one = &said["refusals"][0];
    assert_eq!((&one["port"], &one["proto"]), (&PORT.into(), &"tcp".into()), "{one}");
    assert_eq!((&one["src"], &one["enforced"]), (&cast.container.to_string().into(), &true.into()));
    assert_eq!(said["enforcing"], true);
    assert_eq!(
        (&said["latency"]["count"], &said["hold"]["count"]),
        (&1.into(), &1.into()),
        "{said}"
    );
    assert!(said["hold"]["p99_us"].as_u64() >= Some(200_000), "{said}");
    assert_eq!(said["queues"][0]["served"], true);
    assert_eq!(said["registry"]["addresses"], 1);
    eventually("the rates have it", LATER, || status(&stand)["rates"]["long"]["verdicts"] == 2);

    // Somebody takes our rules away; they are put back, and the status remembers.
    stand.lab.gw.nft("flush chain inet synhold forward\n");
    eventually("it was seen", LATER, || !status(&stand)["drift"].is_null());
    eventually("it was mended", LATER, || status(&stand)["drift"]["healthy"] == true);
    assert!(first_line(&stand).contains("changed by others"), "{}", first_line(&stand));
    stand.list("block.txt", "this is no entry\n203.0.113.99\n");
    eventually("a bad line is a fault", LATER, || {
        has(&status(&stand)["faults"], "list block: 1 line does not count, first block.txt:1: ")
    });
    assert!(first_line(&stand).starts_with("ENFORCING, BUT SOMETHING IS WRONG"));
}

/// A drift that is told and rules that are said to be there would be one answer too many.
#[test]
fn rules_that_are_gone_are_not_said_to_be_there() {
    let stand = Stand::new("gone", &["--hold-ms", "200"]);
    eventually("it enforces", LATER, || status(&stand)["enforcing"] == true);
    let (code, _, err) = synhold(&stand.lab, &["rules", "remove"]);
    assert_eq!(code, 0, "{err}");
    let mut said = Value::Null;
    eventually("it was seen", LATER, || {
        said = status(&stand);
        !said["drift"].is_null()
    });
    assert_eq!((&said["enforcing"], &said["rules"]), (&false.into(), &"absent".into()), "{said}");
    let said = fine_or_no(&stand, &["explain", "203.0.113.9"]);
    assert!(
        said.contains("`synhold rules install` puts the") && !said.contains("KERNEL SET"),
        "{said}"
    );
}

fn fine_or_no(stand: &Stand, args: &[&str]) -> String {
    let state = stand.lab.dir().join("state").display().to_string();
    synhold(&stand.lab, &[args, &["--state-dir", &state]].concat()).1
}

#[test]
fn an_explanation_goes_from_the_sets_to_what_to_do() {
    let mut stand = Stand::new("explain", &["--hold-ms", "200"]);
    let [cast, _] = casts();
    let (dead, server) = (cast.dead.ip().to_string(), cast.server.ip().to_string());
    let container = cast.container.to_string();
    eventually("it is fine", LATER, || status(&stand)["faults"] == Value::Array(vec![]));
    let ask = |what: &str| json(&stand.lab, &["explain", what, "--container", &container]);
    let (code, said) = ask(&dead);
    assert_eq!((code, &said["passes"]), (1, &false.into()));
    let last = said["daemon"]["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["ends"], serde_json::json!(["drop", "never-resolved"]), "{last}");
    assert!(has(&said["proof"], "looked for") && has(&said["proof"], "ever asked for"), "{said}");
    assert!(has(&said["advice"], &format!("`synhold allow {dead}`")), "{said}");
    assert_refused(&stand.lab.ct, cast.dead);

    // A name without a record, then with one, then blocked by name.
    let (code, said) = ask("shop.example");
    assert_eq!((code, &said["addresses"]), (1, &Value::Array(vec![])));
    assert!(has(&said["advice"], "resolve it through the resolver"), "{said}");
    stand.resolve(cast.container, "shop.example", cast.server.ip());
    let ask = |what: &str| json(&stand.lab, &["explain", what, "--container", &container]);
    let (code, said) = ask("shop.example");
    let one = &said["addresses"][0];
    assert_eq!(
        (code, &one["passes"], &one["daemon"]["address"]),
        (0, &true.into(), &server.as_str().into())
    );
    assert!(has(&one["proof"], &format!("shop.example was answered to {container}")), "{one}");
    assert_passes(&stand.lab.ct, cast.server);
    stand.reload(|| drop(fine(&stand.lab, &["block", "shop.example"])));
    let (code, said) = ask("shop.example");
    let one = &said["addresses"][0];
    assert_eq!((code, &one["passes"]), (1, &false.into()), "{one}");
    assert_eq!(one["entries"][0]["list"], "block", "which line of which list: {one}");
    assert!(has(&one["advice"], "`synhold unblock shop.example`"), "{one}");
    assert_refused(&stand.lab.ct, cast.server);
    // What it advises helps.
    stand.reload(|| drop(fine(&stand.lab, &["unblock", "shop.example"])));
    assert_passes(&stand.lab.ct, at(cast.server.ip(), PORT));
}

#[test]
fn a_rebinding_is_told_to_whoever_asks_why_its_answer_does_not_count() {
    let mut stand = Stand::new("rebinds", &["--hold-ms", "200", "--local-policy", "judge"]);
    let [cast, _] = casts();
    stand.log.answer(cast.container, "evil.example", "10.66.66.66".parse().unwrap());
    eventually("it is told", SOON, || {
        let (_, out, _) = synhold(
            &stand.lab,
            &[
                "explain",
                "10.66.66.66",
                "--json",
                "--state-dir",
                &stand.lab.dir().join("state").display().to_string(),
            ],
        );
        serde_json::from_str::<Value>(&out).is_ok_and(|said| has(&said["proof"], "a rebinding"))
    });
    let text = synhold(
        &stand.lab,
        &[
            "explain",
            "10.66.66.66",
            "--state-dir",
            &stand.lab.dir().join("state").display().to_string(),
        ],
    );
    assert!(text.1.contains("evil.example answers with 10.66.66.66"), "{}", text.1);
}
