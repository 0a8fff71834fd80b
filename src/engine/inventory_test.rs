//! Tests of the books: whose an address is, through starts, ends and news that comes late.

use proptest::prelude::*;

use super::*;
use crate::engine::judge::Settings;
use crate::engine::wish::Refusal;

const NET: &str = "net1";

fn books() -> Inventory {
    let mut books = Inventory::new(Policies::new(&Settings::default(), Refusal::Reset));
    apply(&mut books, 0, Change::Network(network(NET, "bridge", "172.18.0.0/16")));
    books
}

fn network(id: &str, driver: &str, subnet: &str) -> Network {
    Network {
        id: id.into(),
        name: format!("{id}-name").into(),
        driver: driver.into(),
        interface: None,
        subnets: subnet.split_whitespace().map(|subnet| subnet.parse().unwrap()).collect(),
    }
}

fn container(id: &str, addresses: &[&str]) -> Container {
    let mut container = stranger(&id.into());
    container.name = format!("{id}-name").into();
    container.running = true;
    if !addresses.is_empty() {
        container.endpoints.push(endpoint(NET, addresses));
    }
    container
}

fn endpoint(network: &str, addresses: &[&str]) -> Endpoint {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Endpoint { network: network.into(), addresses }
}

fn apply(books: &mut Inventory, second: u64, change: Change) -> Effects {
    books.apply(Dated { at: at(second), change })
}

fn at(second: u64) -> Wall {
    Wall((1000 + second) * 1_000_000)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn owner(books: &Inventory, address: &str) -> Option<String> {
    books.owners().of(ip(address)).map(|owner| owner.name.to_string())
}

fn name(id: &str) -> Option<String> {
    Some(format!("{id}-name"))
}

#[test]
fn an_address_is_known_from_the_moment_it_is_attached() {
    let mut books = books();
    let created = Container { running: false, ..container("a", &[]) };
    let effects = apply(&mut books, 1, Change::Container(created));
    assert!(effects.news.is_empty(), "it does not run yet");
    let change = Change::Attached { id: "a".into(), endpoint: endpoint(NET, &["172.18.0.2"]) };
    assert!(apply(&mut books, 2, change).owners);
    assert_eq!(owner(&books, "172.18.0.2"), name("a"));
    let effects = apply(&mut books, 3, Change::Container(container("a", &["172.18.0.2"])));
    let told: Vec<(What, Vec<IpAddr>)> =
        effects.news.into_iter().map(|news| (news.what, news.place.addresses)).collect();
    assert_eq!(told, [(What::Up, vec![ip("172.18.0.2")])]);
    let again = apply(&mut books, 4, Change::Container(container("a", &["172.18.0.2"])));
    assert!(again.news.is_empty() && !again.owners, "nothing new");
}

#[test]
fn a_dead_container_owns_nothing_and_its_late_end_takes_nothing_from_the_next() {
    let mut books = books();
    apply(&mut books, 1, Change::Container(container("a", &["172.18.0.2"])));
    // The next one comes up on the same address before the end of the first is told.
    let effects = apply(&mut books, 5, Change::Container(container("b", &["172.18.0.2"])));
    assert_eq!(effects.left, [ip("172.18.0.2")]);
    assert_eq!(effects.new_tenants, [ip("172.18.0.2")]);
    let late = apply(&mut books, 4, Change::Died { id: "a".into() });
    assert!(late.left.is_empty());
    assert_eq!(owner(&books, "172.18.0.2"), name("b"));
    let effects = apply(&mut books, 9, Change::Died { id: "b".into() });
    assert_eq!(effects.left, [ip("172.18.0.2")]);
    assert_eq!(effects.news.first().map(|news| news.what), Some(What::Gone));
    assert_eq!(owner(&books, "172.18.0.2"), None);
    // The same container again is no new tenant.
    let effects = apply(&mut books, 12, Change::Container(container("b", &["172.18.0.2"])));
    assert!(effects.new_tenants.is_empty() && effects.owners);
}

#[test]
fn a_tenant_that_came_while_nobody_watched_is_a_new_one() {
    let mut books = books();
    let tenant = |(at, id): (&str, &str)| (ip(at), Tenant { id: id.into(), since: Wall(0) });
    books.remember(&[("172.18.0.2", "a"), ("172.18.0.3", "b")].map(tenant).into());
    let change = Change::All {
        containers: vec![container("a", &["172.18.0.2"]), container("c", &["172.18.0.3"])],
        networks: vec![network(NET, "bridge", "172.18.0.0/16")],
    };
    assert_eq!(apply(&mut books, 1, change).new_tenants, [ip("172.18.0.3")]);
    assert_eq!(books.tenants().get(&ip("172.18.0.3")).map(|last| &*last.id), Some("c"));
}

#[test]
fn a_look_up_of_before_an_address_changed_hands_is_not_the_new_ones_in_any_later_run() {
    let (address, here) = (ip("172.18.0.2"), &["172.18.0.2"][..]);
    let mut first = books();
    apply(&mut first, 10, Change::Container(container("a", here)));
    assert!(!first.was_anothers(address, at(1)), "nobody else is known of");
    let mut second = books();
    second.remember(first.tenants());
    apply(&mut second, 50, Change::Container(container("b", here)));
    let mut third = books();
    third.remember(second.tenants());
    let answers =
        |books: &Inventory| [49, 60].map(|second| books.was_anothers(address, at(second)));
    assert_eq!(answers(&second), [true, false]);
    assert_eq!(answers(&third), [true, false], "nor before the engine was heard");
    apply(&mut third, 90, Change::Container(container("b", here)));
    assert_eq!(answers(&third), [true, false]);
    apply(&mut third, 95, Change::Died { id: "b".into() });
    assert!(third.was_anothers(address, at(92)), "nobody has it now");
}

#[test]
fn a_packet_is_told_as_its_owners_of_that_moment() {
    let mut books = books();
    apply(&mut books, 10, Change::Container(container("a", &["172.18.0.2"])));
    apply(&mut books, 20, Change::Died { id: "a".into() });
    apply(&mut books, 21, Change::Container(container("b", &["172.18.0.2"])));
    let at_second = |second: u64| {
        let owner = books.owner_at(ip("172.18.0.2"), at(second));
        owner.map(|owner| owner.name.to_string())
    };
    assert_eq!(at_second(5), None, "long before its start");
    assert_eq!(at_second(9), name("a"), "its start is told once it is done");
    assert_eq!(at_second(19), name("a"));
    assert_eq!(at_second(21), name("b"));
    let between = |from, to| {
        let owner = books.owner_between(ip("172.18.0.2"), at(from), at(to));
        owner.map(|owner| owner.name.to_string())
    };
    assert_eq!(between(12, 19), name("a"));
    assert_eq!(between(22, 30), name("b"));
    assert_eq!(between(19, 22), None, "it was two");
}

#[test]
fn a_listing_replaces_everything() {
    let mut books = books();
    apply(&mut books, 1, Change::Container(container("a", &["172.18.0.2"])));
    apply(&mut books, 1, Change::Container(container("b", &["172.18.0.3", "fd00::3"])));
    apply(&mut books, 1, Change::Container(container("c", &["172.18.0.4"])));
    let change = Change::All {
        containers: vec![
            // a is gone, b has one address less, c stopped, and d has a's address.
            container("b", &["172.18.0.3"]),
            Container { running: false, ..container("c", &[]) },
            container("d", &["172.18.0.2"]),
        ],
        networks: vec![network("other", "bridge", "10.9.0.0/24")],
    };
    let mut effects = apply(&mut books, 5, change);
    effects.left.sort();
    assert_eq!(effects.left, ["172.18.0.2", "172.18.0.4", "fd00::3"].map(ip));
    assert!(effects.networks && effects.owners);
    assert_eq!(owner(&books, "172.18.0.2"), name("d"));
    assert_eq!(owner(&books, "172.18.0.3"), name("b"));
    assert_eq!(owner(&books, "fd00::3"), None);
    let owners = books.owners();
    assert!(owners.expects(ip("10.9.0.7")) && !owners.expects(ip("172.18.0.9")));
    let gone = effects.news.iter().filter(|news| news.what == What::Gone).count();
    assert_eq!(gone, 2, "a and c");
}

#[test]
fn a_rename_and_a_policy_reach_the_owner_and_its_counters_stay() {
    let mut books = books();
    apply(&mut books, 1, Change::Container(container("a", &["172.18.0.2"])));
    let before = books.owners().of(ip("172.18.0.2")).cloned().unwrap();
    let change = Change::Renamed { id: "a".into(), name: "front".into() };
    let effects = apply(&mut books, 2, change);
    assert!(effects.owners);
    assert_eq!(effects.news.first().map(|news| news.what), Some(What::Changed));
    let after = books.owners().of(ip("172.18.0.2")).cloned().unwrap();
    assert_eq!(&*after.name, "front");
    assert!(Arc::ptr_eq(&before.tally, &after.tally));
}

#[test]
fn sections_that_are_read_again_hold_at_once_for_whom_they_fit() {
    let mut books = books();
    for (id, at) in [("a", "172.18.0.2"), ("b", "172.18.0.3")] {
        apply(&mut books, 1, Change::Container(container(id, &[at])));
    }
    let mut wish = crate::engine::wish::Wish::default();
    wish.set("mode", "off").unwrap();
    let name = Some(crate::engine::policy::Pattern::new("a-*"));
    let effects = books.set_sections(vec![Section { name, wish, ..Section::default() }], at(2));
    assert!(effects.owners && effects.left.is_empty());
    let told: Vec<&str> = effects.news.iter().map(|news| &*news.owner.name).collect();
    assert_eq!(told, ["a-name"], "and of nobody else");
    let owners = books.owners();
    let mode = |address: &str| owners.of(ip(address)).unwrap().policy.mode.as_str();
    assert_eq!((mode("172.18.0.2"), mode("172.18.0.3")), ("off", "enforce"));
}

#[test]
fn a_container_keeps_the_name_of_its_image_when_its_tag_moves() {
    let mut books = books();
    let named = Container { image: "nginx:1".into(), ..container("a", &["172.18.0.2"]) };
    apply(&mut books, 1, Change::Container(named));
    let moved = Container { image: "sha256:0123".into(), ..container("a", &["172.18.0.2"]) };
    assert!(!apply(&mut books, 2, Change::Container(moved)).owners);
    assert_eq!(&*books.owners().of(ip("172.18.0.2")).unwrap().image, "nginx:1");
}

#[test]
fn leaving_one_network_keeps_the_addresses_of_the_other() {
    let mut books = books();
    apply(&mut books, 0, Change::Network(network("net2", "bridge", "10.9.0.0/24")));
    apply(&mut books, 1, Change::Container(container("a", &["172.18.0.2"])));
    let change = Change::Attached { id: "a".into(), endpoint: endpoint("net2", &["10.9.0.2"]) };
    let effects = apply(&mut books, 2, change);
    assert_eq!(effects.news[0].place.networks, ["net1-name", "net2-name"]);
    let effects = apply(&mut books, 3, Change::Detached { id: "a".into(), network: NET.into() });
    assert_eq!(effects.left, [ip("172.18.0.2")]);
    assert_eq!(owner(&books, "10.9.0.2"), name("a"));
    let effects = apply(&mut books, 4, Change::Detached { id: "a".into(), network: NET.into() });
    assert!(effects.news.is_empty(), "it was not there: {effects:?}");
}

#[test]
fn what_is_not_judged_is_said() {
    let mut books = books();
    apply(&mut books, 0, Change::Network(network("lan", "macvlan", "192.168.1.0/24")));
    let mut vlan = container("vlan", &[]);
    vlan.endpoints.push(endpoint("lan", &["192.168.1.7"]));
    let effects = apply(&mut books, 1, Change::Container(vlan));
    let place = &effects.news[0].place;
    assert!(place.addresses.is_empty() && place.gaps[0].contains("macvlan"), "{place:?}");
    assert_eq!(owner(&books, "192.168.1.7"), None);

    apply(&mut books, 1, Change::Network(network("ov", "overlay", "10.0.1.0/24")));
    let mut task = container("task", &["172.18.0.3"]);
    task.endpoints.push(endpoint("ov", &["10.0.1.2"]));
    let place = &apply(&mut books, 1, Change::Container(task)).news[0].place;
    assert_eq!(place.addresses, [ip("172.18.0.3")]);
    assert!(place.gaps[0].ends_with("what leaves by docker_gwbridge is judged"), "{place:?}");

    apply(&mut books, 1, Change::Network(network("host", "host", "")));
    let mut host = Container { network: NetworkMode::Host, ..container("host", &[]) };
    host.endpoints.push(endpoint("host", &[]));
    let place = &apply(&mut books, 2, Change::Container(host)).news[0].place;
    assert!(place.gaps.len() == 1 && place.gaps[0].contains("host's network"), "once: {place:?}");
    apply(&mut books, 2, Change::Network(network("none", "null", "")));
    let mut alone = Container { network: NetworkMode::None, ..container("alone", &[]) };
    alone.endpoints.push(endpoint("none", &[]));
    let place = &apply(&mut books, 2, Change::Container(alone)).news[0].place;
    assert_eq!(place.gaps, ["it has no network but its own loopback"]);
    apply(&mut books, 3, Change::Container(container("main", &["172.18.0.2"])));
    let side = Container { network: NetworkMode::Of("main".into()), ..container("side", &[]) };
    let effects = apply(&mut books, 4, Change::Container(side));
    assert!(effects.news[0].place.gaps[0].contains("network of main-name"));
}

#[test]
fn a_container_is_found_by_name_id_and_the_beginning_of_its_id() {
    let mut books = books();
    for id in ["abcd11", "abcd22", "ef0000"] {
        apply(&mut books, 1, Change::Container(container(id, &[])));
    }
    let find = |text: &str| books.find(text).map(|(owner, _)| owner.id.to_string());
    assert_eq!(find("abcd11-name").as_deref(), Some("abcd11"));
    assert_eq!(find("abcd22").as_deref(), Some("abcd22"));
    assert_eq!(find("ef00").as_deref(), Some("ef0000"));
    assert_eq!(find("abcd"), None, "two begin so");
    assert_eq!(find("e"), None, "too short");
}

#[derive(Clone, Debug)]
enum Act {
    Start(u8, u8),
    Attach(u8, u8),
    Detach(u8),
    Die(u8),
    Remove(u8),
    Rename(u8),
    List(Vec<(u8, u8)>),
}

fn act() -> impl Strategy<Value = Act> {
    let (id, address) = (0..4u8, 0..4u8);
    prop_oneof![
        3 => (id.clone(), address.clone()).prop_map(|(id, ip)| Act::Start(id, ip)),
        3 => (id.clone(), address.clone()).prop_map(|(id, ip)| Act::Attach(id, ip)),
        2 => id.clone().prop_map(Act::Detach),
        2 => id.clone().prop_map(Act::Die),
        1 => id.clone().prop_map(Act::Remove),
        1 => id.clone().prop_map(Act::Rename),
        1 => prop::collection::vec((id, address), 0..4).prop_map(Act::List),
    ]
}

proptest! {
    /// The model: address to id, in plain words.
    #[test]
    fn the_books_agree_with_a_naive_model(acts in prop::collection::vec(act(), 0..40)) {
        let (mut books, mut model) = (books(), HashMap::<String, String>::new());
        let text = |ip: u8| format!("172.18.0.{ip}");
        let name = |id: u8| format!("c{id}");
        for (second, act) in acts.into_iter().enumerate() {
            let mut has = |id: u8, ip: Option<u8>| {
                model.retain(|_, owner| *owner != name(id));
                if let Some(ip) = ip {
                    model.insert(text(ip), name(id));
                }
            };
            let change = match act {
                Act::Start(id, ip) => {
                    has(id, Some(ip));
                    Change::Container(container(&name(id), &[&text(ip)]))
                }
                Act::Attach(id, ip) => {
                    has(id, Some(ip));
                    let endpoint = endpoint(NET, &[&text(ip)]);
                    Change::Attached { id: name(id).as_str().into(), endpoint }
                }
                Act::Detach(id) => {
                    has(id, None);
                    Change::Detached { id: name(id).as_str().into(), network: NET.into() }
                }
                Act::Die(id) => {
                    has(id, None);
                    Change::Died { id: name(id).as_str().into() }
                }
                Act::Remove(id) => {
                    has(id, None);
                    Change::Removed { id: name(id).as_str().into() }
                }
                Act::Rename(id) => {
                    Change::Renamed { id: name(id).as_str().into(), name: "new".into() }
                }
                Act::List(pairs) => {
                    // One address each, one container an address, as engines see to it.
                    let pairs: BTreeMap<u8, u8> = pairs.into_iter().collect();
                    let by_ip: BTreeMap<u8, u8> = pairs.into_iter().map(|(id, ip)| (ip, id)).collect();
                    model.clear();
                    model.extend(by_ip.iter().map(|(ip, id)| (text(*ip), name(*id))));
                    let containers =
                        by_ip.iter().map(|(ip, id)| container(&name(*id), &[&text(*ip)])).collect();
                    let networks = vec![network(NET, "bridge", "172.18.0.0/16")];
                    Change::All { containers, networks }
                }
            };
            let before = books.owners();
            let effects = apply(&mut books, second as u64, change);
            let owners = books.owners();
            let got: HashMap<String, String> =
                owners.iter().map(|(ip, owner)| (ip.to_string(), owner.id.to_string())).collect();
            prop_assert_eq!(&got, &model);
            for (ip, owner) in before.iter() {
                let changed = owners.of(ip).is_none_or(|now| now.id != owner.id);
                prop_assert_eq!(effects.left.contains(&ip), changed, "{}", ip);
                prop_assert!(!changed || effects.owners);
            }
        }
    }
}
