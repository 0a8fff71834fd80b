//! Answers, read as real engines gave them: Engine 20.10 (API 1.41) and Podman 4.3 recorded; Engine 29 (API 1.52) as
//! its API describes them, with states and types that no version has yet.

use proptest::prelude::*;

use super::*;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn docker() -> (Vec<Container>, Vec<Network>) {
    let mut names = Names::default();
    let (networks, odd) =
        networks(&json(include_str!("testdata/networks-docker-1.41.json")), &names);
    names.learn(&networks);
    let (listed, more) =
        containers(&json(include_str!("testdata/containers-docker-1.41.json")), &names);
    assert_eq!(odd + more, 0);
    assert!(listed.iter().all(|listed| !listed.mode_untold));
    (listed.into_iter().map(|listed| listed.container).collect(), networks)
}

fn podman() -> (Vec<Listed>, Vec<Network>) {
    let mut names = Names::default();
    names.learn_podman(&json(include_str!("testdata/interfaces-podman-4.3.json")));
    let (networks, _) = networks(&json(include_str!("testdata/networks-podman-4.3.json")), &names);
    names.learn(&networks);
    let (listed, _) =
        containers(&json(include_str!("testdata/containers-podman-4.3.json")), &names);
    (listed, networks)
}

fn named<'a>(containers: &'a [Container], name: &str) -> &'a Container {
    containers.iter().find(|container| &*container.name == name).unwrap()
}

fn addresses(container: &Container) -> Vec<String> {
    let all = container.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    all.map(ToString::to_string).collect()
}

fn subnets(network: &Network) -> Vec<String> {
    network.subnets.iter().map(ToString::to_string).collect()
}

#[test]
fn containers_of_docker_are_read_with_all_their_addresses() {
    let (containers, networks) = docker();
    let two = named(&containers, "deux");
    assert_eq!(addresses(two), ["10.90.0.2", "fd90::2", "10.91.0.2"]);
    let of = |index: usize| networks.iter().find(|n| n.id == two.endpoints[index].network).unwrap();
    assert_eq!((&*of(0).name, &*of(1).name), ("neta", "netb"));
    assert_eq!(&*two.image, "hbox");
    assert_eq!(two.labels.iter().collect::<Vec<_>>().len(), 1, "only ours: {:?}", two.labels);
    assert_eq!(two.labels["synhold.mode"], "dry-run");
    assert!(named(&containers, "made").endpoints.is_empty(), "created is not attached");
}

#[test]
fn whose_network_a_container_uses_is_read() {
    let (containers, _) = docker();
    let mode = |name: &str| named(&containers, name).network.clone();
    assert_eq!(mode("deux"), NetworkMode::Own);
    assert_eq!(mode("plain"), NetworkMode::Own);
    assert_eq!(mode("hosty"), NetworkMode::Host);
    assert_eq!(mode("nonet"), NetworkMode::None);
    assert_eq!(mode("shared"), NetworkMode::Of(named(&containers, "plain").id.clone()));
    assert!(named(&containers, "shared").endpoints.is_empty());
    assert_eq!(addresses(named(&containers, "hosty")), [""; 0]);
}

#[test]
fn networks_of_docker_are_read_with_their_interfaces() {
    let (_, networks) = docker();
    let of = |name: &str| networks.iter().find(|network| &*network.name == name).unwrap();
    assert_eq!(of("bridge").interface.as_deref(), Some("docker0"));
    assert_eq!(subnets(of("bridge")), ["172.17.0.0/16"]);
    assert_eq!(of("neta").interface.as_deref(), Some("br-d5d7e5f0de26"));
    assert_eq!(subnets(of("neta")), ["10.90.0.0/24", "fd90::/64"]);
    assert_eq!((of("host").interface.as_deref(), &*of("host").driver), (None, "host"));
    assert_eq!((of("none").interface.as_deref(), &*of("none").driver), (None, "null"));
    let inspected = json(include_str!("testdata/network-docker-1.41.json"));
    assert_eq!(network(&inspected, &Names::default()).as_ref(), Some(of("neta")));
    let attached = attached(&inspected);
    let told: Vec<_> = attached.values().flatten().map(ToString::to_string).collect();
    assert_eq!(told, ["10.90.0.2", "fd90::2"]);
}

#[test]
fn what_a_newer_engine_adds_hides_nothing() {
    let names = Names::default();
    let (listed, odd) =
        containers(&json(include_str!("testdata/containers-docker-1.52.json")), &names);
    let web = &listed[0].container;
    assert_eq!((odd, &*web.name), (0, "web"), "a link's name is not its own");
    assert_eq!(addresses(web), ["172.30.0.9", "fd30::9", "fd31::2"]);
    assert_eq!(web.labels.len(), 2);
    let inspected = json(include_str!("testdata/network-docker-1.52.json"));
    let front = network(&inspected, &names).unwrap();
    assert_eq!(front.interface.as_deref(), Some("front0"));
    assert_eq!(subnets(&front), ["172.30.0.0/16", "fd30::/64"]);
    assert_eq!(front.id, web.endpoints[0].network);
    let attached = attached(&inspected);
    assert_eq!(attached[&*web.id], web.endpoints[0].addresses);
    assert_eq!(attached.values().filter(|addresses| addresses.is_empty()).count(), 1);
}

#[test]
fn podman_is_read_by_what_it_tells_elsewhere() {
    let (listed, networks) = podman();
    let of = |name: &str| networks.iter().find(|network| &*network.name == name).unwrap();
    assert_eq!(of("pna").interface.as_deref(), Some("podman1"));
    assert_eq!(of("bridge").interface.as_deref(), Some("podman0"));
    assert_eq!(subnets(of("pna")), ["10.95.0.0/24", "fd95::/64"]);
    assert!(listed.iter().all(|listed| listed.mode_untold));
    let mut containers: Vec<Container> =
        listed.into_iter().map(|listed| listed.container).collect();
    // Its containers name the network that its list calls `bridge` by another name.
    assert_eq!(named(&containers, "pd").endpoints[0].network, of("bridge").id);
    assert_eq!(named(&containers, "pp").endpoints[0].network, of("pna").id);
    assert_eq!(addresses(named(&containers, "pp")), ["10.95.0.7", "fd95::5"]);
    // It shows another's addresses for its own, until it is asked whose network that is.
    let shared = containers.iter_mut().find(|container| &*container.name == "ps").unwrap();
    assert_eq!(addresses(shared), ["10.95.0.7", "fd95::5"]);
    set_mode(shared, "container:11cc");
    assert_eq!((addresses(shared), &shared.network), (vec![], &NetworkMode::Of("11cc".into())));
}

#[test]
fn a_podman_network_that_is_not_known_yet_is_noticed_and_has_no_guessed_interface() {
    let mut names = Names::default();
    let answer = json(include_str!("testdata/containers-podman-4.3.json"));
    assert!(unknown_networks(&answer, &names));
    names.learn_podman(&json("[]"));
    let (networks, _) = networks(&json(include_str!("testdata/networks-podman-4.3.json")), &names);
    assert!(networks.iter().all(|network| network.interface.is_none()));
    names.learn_podman(&json(include_str!("testdata/interfaces-podman-4.3.json")));
    assert!(!unknown_networks(&answer, &names));
}

#[test]
fn an_engine_says_who_it_is() {
    let docker = identity(&json(include_str!("testdata/version-docker-1.41.json")));
    assert_eq!((docker.text.as_str(), docker.podman), ("Docker Engine 20.10.24+dfsg1", false));
    let podman = identity(&json(include_str!("testdata/version-podman-4.3.json")));
    assert_eq!((podman.text.as_str(), podman.podman), ("Podman 4.3.1", true));
    assert_eq!(identity(&Value::Null).text, "Docker Engine of unknown version");
}

#[test]
fn odd_answers_cost_their_own_entry_only() {
    let names = Names::default();
    let list = json(
        r#"[null, 7, [], {}, {"Id": 5}, {"Id": "a", "Names": null, "Labels": [], "State": 3,
        "NetworkSettings": {"Networks": {"x": null, "y": {"IPAddress": "0.0.0.0"}, "z": {"IPAddress": "1.2.3"},
        "w": {"IPAddress": "10.0.0.300"}, "v": {"IPAddress": "10.0.0.3", "GlobalIPv6Address": []}}}}]"#,
    );
    let (listed, odd) = containers(&list, &names);
    assert_eq!((listed.len(), odd), (1, 5));
    assert_eq!(&*listed[0].container.name, "a", "the id, for want of a name");
    assert_eq!(addresses(&listed[0].container), ["10.0.0.3"]);
    assert_eq!(containers(&Value::Null, &names), (vec![], 0), "engines write null for none");
    assert_eq!(containers(&json("{}"), &names), (vec![], 1));
    let subnet = |text: &str| {
        let entry = serde_json::json!({ "Id": "é", "Driver": "bridge",
            "IPAM": { "Config": [null, { "Subnet": text }] } });
        subnets(&network(&entry, &names).unwrap())
    };
    assert_eq!(subnet("10.1.2.3/24"), ["10.1.2.0/24"], "as old engines mean it");
    assert_eq!(subnet("10.1.2.3/99"), [""; 0]);
}

/// Any JSON, with the keys that are looked for.
fn anything() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "Id",
        "Names",
        "State",
        "Labels",
        "HostConfig",
        "NetworkMode",
        "NetworkSettings",
        "Networks",
        "IPAddress",
        "Driver",
        "IPAM",
        "Config",
        "Subnet",
        "Options",
        "Containers",
        "IPv4Address",
        "id",
        "name",
        "Components",
    ]);
    let text = prop_oneof![
        ".*",
        Just("bridge".into()),
        Just("10.0.0.1/33".into()),
        Just("::/0".into()),
        Just("//".into())
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_answer_makes_the_reader_panic(answer in anything()) {
        let mut names = Names::default();
        let _ = unknown_networks(&answer, &names);
        let _ = (network(&answer, &names), attached(&answer), identity(&answer));
        let (networks, _) = networks(&answer, &names);
        names.learn(&networks);
        names.learn_podman(&answer);
        let _ = containers(&answer, &names);
    }
}
