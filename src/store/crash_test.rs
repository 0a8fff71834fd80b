//! Crashes: the folder as it is between any two steps of writing it, and bits flipped.

use proptest::prelude::*;

use super::*;
use crate::testing::quick_folder;

/// What is done to a registry that is being saved.
#[derive(Clone, Copy, Debug)]
enum Act {
    Record {
        address: u8,
        name: u8,
    },
    Forget(u8),
    Save,
    Compact,
    /// The process ends and the next one begins.
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..12u8, 0..6u8).prop_map(|(address, name)| Act::Record { address, name }),
        2 => (0..12u8).prop_map(Act::Forget),
        4 => Just(Act::Save),
        1 => Just(Act::Compact),
        1 => Just(Act::Restart),
    ]
}

/// What is loaded after a crash, once it has been seen that one more start loads the same.
fn started_twice(folder: &Path) -> (Content, Loaded) {
    let first = loaded(folder);
    Disk::open(folder, &first.1).unwrap();
    let (content, later) = loaded(folder);
    assert_eq!((&content, later.lost), (&first.0, first.1.lost), "{later:?}");
    first
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A crash between any two steps: what had been saved before is there, and nothing that never was.
    #[test]
    fn a_crash_loses_nothing_that_was_saved(acts in proptest::collection::vec(act(), 1..60)) {
        let place = quick_folder();
        let folder = place.path().to_owned();
        let crashes = std::rc::Rc::new(RefCell::new(Vec::new()));
        let (watched, seen) = (folder.clone(), std::rc::Rc::clone(&crashes));
        let mut disk = begin(&folder);
        let mut registry = Registry::default();
        let mut saved = Content::new();
        let _watch =
            Watch::start(move || seen.borrow_mut().push(started_twice(copy(&watched).path())));
        for (step, act) in acts.into_iter().enumerate() {
            crashes.borrow_mut().clear();
            match act {
                Act::Record { address, name } => {
                    registry.insert(&record(address, name, step as u64));
                }
                Act::Forget(address) => {
                    registry.forget(ip(address));
                }
                Act::Save => {
                    let before = saved;
                    saved = save(&mut disk, &registry);
                    for (got, about) in crashes.borrow().iter() {
                        prop_assert!(*got == before || *got == saved);
                        prop_assert!(!about.lost);
                    }
                }
                Act::Compact => {
                    saved = save(&mut disk, &registry);
                    crashes.borrow_mut().clear();
                    compact(&mut disk, &registry);
                    for (got, about) in crashes.borrow().iter() {
                        prop_assert_eq!(got, &saved);
                        prop_assert!(!about.lost);
                    }
                }
                Act::Restart => {
                    registry = Registry::default();
                    let about = load(&folder, &registry, &sieve()).unwrap();
                    registry.take_dirty();
                    prop_assert_eq!(&content(&registry), &saved);
                    prop_assert!(!about.lost && about.skipped == 0);
                    disk = Disk::open(&folder, &about).unwrap();
                }
            }
        }
    }

    #[test]
    fn flipped_bits_never_panic_and_never_invent(
        file in 0..2usize, bits in proptest::collection::vec(any::<u16>(), 1..4),
    ) {
        let place = quick_folder();
        let after = sample(place.path());
        let path = place.path().join(["snapshot-2", "journal-2"][file]);
        let mut bytes = fs::read(&path).unwrap();
        for bit in bits {
            let bit = usize::from(bit) % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        fs::write(&path, bytes).unwrap();
        let (got, _) = loaded(place.path());
        let was = |address: &IpAddr, names: &Saved| {
            after.iter().any(|content| content.get(address) == Some(names))
        };
        prop_assert!(got.iter().all(|(address, names)| was(address, names)));
    }
}
