//! Rules of a run that a person makes theirs while it runs, in a network namespace of the test's own. Needs root.

use super::*;
use crate::daemon::testing::{self, in_netns};
use crate::nftables::Bridge;

/// More single addresses than a set has room for unless told otherwise.
const MANY: usize = 70_000;

/// What `synhold rules install` puts in with a queue of its own.
fn persons(queue_num: u16) -> Ruleset {
    let queue_via = nftables::probe().unwrap();
    Ruleset::new(&Options { queue_num, ..testing::rules().options(queue_via) })
}

fn run(left: Left) -> Rules {
    Rules::install(&testing::rules(), Mode::Enforce, 0, left).unwrap()
}

fn install(wanted: &Ruleset) {
    nftables::apply(wanted, nftables::read().unwrap().as_ref()).unwrap();
}

fn assert_kernel_has(wanted: &Ruleset) {
    assert_eq!(nftables::read().unwrap().as_ref(), Some(wanted));
}

fn roomy(rules: &Ruleset) -> Ruleset {
    with_room(rules, size_for(MANY))
}

#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn what_a_person_installed_is_left_alone_by_a_list_that_grows_and_by_the_stop() {
    in_netns(|| {
        let mut rules = run(Left::default());
        install(&persons(7));
        assert!(rules.make_room(MANY).unwrap());
        assert_kernel_has(&roomy(&persons(7)));
        nftables::remove().unwrap();
        install(&persons(0));
        assert_eq!(rules.adopt().unwrap(), Command::Restored, "the room is no difference");
        assert_kernel_has(&roomy(&persons(0)));
        install(&persons(7));
        assert!(matches!(rules.adopt().unwrap(), Command::Changed(_)));
        rules.restore().unwrap();
        assert_kernel_has(&roomy(&persons(7)));
    });
}

#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn what_is_put_back_for_a_person_has_no_mark_and_no_copies() {
    for before in [None, Some(9)] {
        in_netns(move || {
            // Their own rules, which the run changes in place and remembers.
            before.into_iter().for_each(|queue| install(&persons(queue)));
            let mut rules = run(Left::default());
            assert_ne!(nftables::read().unwrap().unwrap(), persons(0), "there are notes");
            install(&persons(0));
            assert_eq!(rules.drift().unwrap(), None);
            nftables::remove().unwrap();
            assert!(rules.drift().unwrap().is_some());
            rules.mend().unwrap();
            assert_kernel_has(&persons(0));
            rules.restore().unwrap();
            assert_kernel_has(&persons(0));
        });
    }
}

#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn a_command_is_known_by_what_it_leaves() {
    in_netns(|| {
        let mut rules = run(Left::default());
        let mut emptied = persons(0);
        emptied.chains.iter_mut().for_each(|chain| chain.rules.clear());
        install(&emptied);
        assert_eq!(rules.adopt().unwrap(), Command::None, "no command empties chains");
        install(&persons(7));
        assert!(matches!(rules.adopt().unwrap(), Command::Changed(_)));
        assert_eq!(rules.drift().unwrap(), None, "it is what is wanted from now on");
        nftables::remove().unwrap();
        assert_eq!(rules.adopt().unwrap(), Command::Removed);
        rules.mend().unwrap();
        assert_kernel_has(&persons(7));
        install(&persons(0));
        assert_eq!(rules.adopt().unwrap(), Command::Restored);
        assert_eq!(rules.drift().unwrap(), None);
    });
}

#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn networks_that_are_gone_leave_the_users_rules_with_the_next_run() {
    in_netns(|| {
        let folder = tempfile::tempdir().unwrap();
        let left = || Left::load(folder.path(), false);
        let follow = |rules: &mut Rules, nets: &[&str]| {
            let nets: Vec<crate::engine::Net> =
                nets.iter().map(|net| net.parse().unwrap()).collect();
            let bridge = |net| Bridge { interface: "br-a".to_owned(), nets: vec![net] };
            let bridges = nets.iter().copied().map(bridge).collect();
            rules.follow(&Networks { containers: nets, bridges }).unwrap();
        };
        let judged = || {
            let now = nftables::read().unwrap().unwrap();
            let set = now.set(names::CONTAINERS.v4).unwrap();
            let elements = set.elements.iter().flatten();
            elements.map(ToString::to_string).collect::<Vec<String>>()
        };
        let users = persons(7);
        install(&users);
        for net in ["10.9.0.0/16", "10.8.0.0/16"] {
            let mut rules = run(left());
            follow(&mut rules, &[net]);
            rules.restore().unwrap();
            assert_eq!(judged(), [net, "172.16.0.0/12"], "those of now alone");
        }
        let mut rules = run(left());
        follow(&mut rules, &[]);
        rules.restore().unwrap();
        assert_kernel_has(&users);
    });
}
