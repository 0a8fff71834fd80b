//! What is written is what is loaded, and files cut at every byte.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::engine::sieve::Sieve;
use crate::engine::{Kind, Name, Record, Wall};
use crate::store::{load, load::load_if};
use crate::testing::quick_folder;

thread_local! {
    /// What to do between two changes of the disk.
    static WATCH: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

pub(super) fn step() {
    // Taken out meanwhile, so that nothing it does is watched.
    let watch = WATCH.with_borrow_mut(Option::take);
    if let Some(mut watch) = watch {
        watch();
        WATCH.with_borrow_mut(|place| *place = Some(watch));
    }
}

/// Watches until dropped.
struct Watch;

impl Watch {
    fn start(watch: impl FnMut() + 'static) -> Watch {
        WATCH.with_borrow_mut(|place| *place = Some(Box::new(watch)));
        Watch
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCH.with_borrow_mut(Option::take);
    }
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([203, 0, 113, n])
}

/// Steps of time far enough from each other that each is worth saving.
const STEP: u64 = 3600 * 1_000_000;

fn record(n: u8, name: u8, step: u64) -> Record {
    Record {
        address: ip(n),
        name: Name::new(&format!("n{name}.example")).unwrap(),
        client: Some(IpAddr::from([172, 17, 0, name])),
        kind: Kind::Reply,
        chain: vec![],
        time: Wall(step * STEP),
    }
}

type Content = BTreeMap<IpAddr, Saved>;

fn content(registry: &Registry) -> Content {
    let saved = |address| registry.saved(address).map(|saved| (address, saved));
    registry.addresses().into_iter().filter_map(saved).collect()
}

/// One that lets everything through.
fn sieve() -> Sieve {
    Sieve::new(None, Wall(0))
}

fn loaded(folder: &Path) -> (Content, Loaded) {
    let registry = Registry::default();
    let loaded = load(folder, &registry, &sieve()).unwrap();
    (content(&registry), loaded)
}

/// Appends what changed, as the saver does; the content that is on disk then.
fn save(disk: &mut Disk, registry: &Registry) -> Content {
    disk.append(registry, &registry.take_dirty().addresses).unwrap();
    content(registry)
}

fn compact(disk: &mut Disk, registry: &Registry) {
    let mut snapshot = disk.begin(registry).unwrap();
    while !snapshot.step(registry).unwrap() {}
    disk.finish(snapshot).unwrap();
}

fn begin(folder: &Path) -> Disk {
    Disk::open(folder, &Loaded::default()).unwrap()
}

#[test]
fn what_is_appended_and_what_is_in_a_snapshot_is_loaded() {
    let place = quick_folder();
    let folder = place.path().join("registry");
    let (registry, mut disk) = (Registry::default(), begin(&folder));
    for n in 0..5 {
        registry.insert(&record(n, n, 1));
    }
    save(&mut disk, &registry);
    assert_eq!(loaded(&folder).0, content(&registry), "a journal alone");
    compact(&mut disk, &registry);
    assert_eq!(loaded(&folder).0, content(&registry), "a snapshot");
    let files = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!(files(&folder), 2, "what the snapshot makes needless is gone");
    registry.insert(&record(1, 7, 2));
    registry.forget(ip(2));
    save(&mut disk, &registry);
    let (got, about) = loaded(&folder);
    assert_eq!(got, content(&registry), "a snapshot and what changed since");
    assert_eq!((about.lost, about.skipped, about.cuts.len()), (false, 0, 0));
    assert!(!got.contains_key(&ip(2)));
    let next = Disk::open(&folder, &about).unwrap();
    assert_eq!(next.generation(), disk.generation() + 1, "a start writes to no old file");
    assert_eq!(loaded(&folder).0, got);
}

#[test]
fn a_snapshot_leaves_out_what_is_not_to_be_kept() {
    let place = quick_folder();
    let (registry, mut disk) = (Registry::default(), begin(place.path()));
    for n in 0..5 {
        registry.insert(&record(n, n, 1));
    }
    let mut snapshot = disk.begin(&registry).unwrap();
    snapshot.retain(|address| *address != ip(3));
    while !snapshot.step(&registry).unwrap() {}
    disk.finish(snapshot).unwrap();
    let got: Vec<IpAddr> = loaded(place.path()).0.into_keys().collect();
    assert_eq!(got, [0, 1, 2, 4].map(ip));
}

#[test]
fn an_asker_who_was_forgotten_is_not_brought_back_by_an_older_frame() {
    let place = quick_folder();
    let (registry, mut disk) = (Registry::default(), begin(place.path()));
    registry.insert(&record(1, 1, 1));
    save(&mut disk, &registry);
    registry.forget_askers(&[IpAddr::from([172, 17, 0, 1])].into());
    disk.append(&registry, &[ip(1)]).unwrap();
    let again = Registry::default();
    load(place.path(), &again, &sieve()).unwrap();
    assert_eq!(again.names(ip(1)).len(), 1);
    assert_eq!(again.saved(ip(1)), registry.saved(ip(1)));
    assert_eq!(again.names(ip(1))[0].asker, None);
}

/// A folder with a snapshot and two journals behind it, with the content after every frame of the journals.
fn sample(folder: &Path) -> Vec<Content> {
    let (registry, mut disk) = (Registry::default(), begin(folder));
    for n in 0..4 {
        registry.insert(&record(n, n, 1));
    }
    save(&mut disk, &registry);
    compact(&mut disk, &registry);
    let mut after = vec![content(&registry)];
    let disk = &mut disk;
    for n in 4..8 {
        registry.insert(&record(n, n, u64::from(n)));
        after.push(save(disk, &registry));
    }
    registry.forget(ip(5));
    after.push(save(disk, &registry));
    after
}

#[test]
fn a_journal_cut_anywhere_is_a_beginning_of_what_happened() {
    let place = quick_folder();
    let after = sample(place.path());
    let path = place.path().join("journal-2");
    let whole = fs::read(&path).unwrap();
    let mut seen = 0;
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (got, about) = loaded(place.path());
        let which = after.iter().position(|content| *content == got).expect("a beginning");
        assert!(which >= seen, "more is never less: {cut}");
        seen = which;
        // Between two frames nothing is missing, as far as anybody can tell; elsewhere it is told how much.
        if about.lost {
            assert_eq!((about.cuts.len(), about.cuts[0].is_torn), (1, true), "{cut}");
            assert_eq!(about.cuts[0].good + about.cuts[0].lost, cut as u64);
        }
        // Nor is it told one start later.
        let twice = copy(place.path());
        Disk::open(twice.path(), &about).unwrap();
        let (again, later) = loaded(twice.path());
        assert_eq!((&again, later.lost), (&got, about.lost), "{cut}: {later:?}");
        // What was loaded can be saved again, and is the same then.
        let other = quick_folder();
        let again = Registry::default();
        load(place.path(), &again, &sieve()).unwrap();
        compact(&mut begin(other.path()), &again);
        assert_eq!(loaded(other.path()).0, got);
    }
    assert_eq!(seen + 1, after.len());
}

#[test]
fn zeros_at_the_end_of_a_journal_are_what_a_crash_leaves() {
    let place = quick_folder();
    let after = sample(place.path());
    let path = place.path().join("journal-2");
    let whole = fs::read(&path).unwrap();
    let zeros = |bytes: &[u8]| [bytes, &[0; 10_000]].concat();
    fs::write(&path, zeros(&whole)).unwrap();
    let (got, about) = loaded(place.path());
    assert_eq!(Some(&got), after.last());
    assert_eq!((about.cuts.len(), about.cuts[0].is_torn), (1, true), "{about:?}");
    let mut bytes = zeros(&whole);
    bytes.push(1);
    fs::write(&path, bytes).unwrap();
    assert!(!loaded(place.path()).1.cuts[0].is_torn, "somebody else's doing");
    fs::write(&path, zeros(&[])).unwrap();
    let about = loaded(place.path()).1;
    assert!(!about.lost && about.cuts.is_empty(), "it had not begun: {about:?}");
    Disk::open(place.path(), &about).unwrap();
    assert!(!loaded(place.path()).1.lost, "nor is that told one start later");
}

#[test]
fn a_snapshot_cut_anywhere_is_known_as_such_and_what_stands_before_counts() {
    let place = quick_folder();
    let after = sample(place.path());
    let path = place.path().join("snapshot-2");
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (got, about) = loaded(place.path());
        assert!(about.lost && about.cuts.len() == 1, "{cut}: {about:?}");
        let last = after.last().unwrap();
        assert!(got.iter().all(|(address, names)| last.get(address) == Some(names)), "{cut}");
        assert!(got.len() >= 3, "the journal is there: {cut}");
    }
}

#[test]
fn an_older_snapshot_with_its_journals_is_as_good_as_a_damaged_one() {
    let place = quick_folder();
    let registry = Registry::default();
    let mut disk = begin(place.path());
    registry.insert(&record(1, 1, 1));
    save(&mut disk, &registry);
    compact(&mut disk, &registry);
    registry.insert(&record(2, 2, 2));
    save(&mut disk, &registry);
    // As if a crash had come before what is older went, and the new snapshot were damaged after that.
    let old: Vec<_> = ["snapshot-2", "journal-2"]
        .map(|name| place.path().join(name))
        .into_iter()
        .filter_map(|path| Some((fs::read(&path).ok()?, path)))
        .collect();
    assert!(!old.is_empty());
    compact(&mut disk, &registry);
    registry.insert(&record(3, 3, 3));
    save(&mut disk, &registry);
    old.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    let newest = place.path().join(format!("snapshot-{}", disk.generation()));
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let (got, about) = loaded(place.path());
    assert_eq!(got, content(&registry));
    assert_eq!((about.lost, about.cuts.len()), (false, 1), "{about:?}");
}

#[test]
fn a_file_that_is_gone_is_missed() {
    let place = quick_folder();
    sample(place.path());
    let about = loaded(place.path()).1;
    Disk::open(place.path(), &about).unwrap();
    fs::remove_file(place.path().join("journal-2")).unwrap();
    let about = loaded(place.path()).1;
    assert_eq!((about.lost, about.missing), (true, vec![place.path().join("journal-2")]));
    fs::remove_file(place.path().join("snapshot-2")).unwrap();
    assert!(loaded(place.path()).1.lost, "a third journal is no beginning");
}

#[test]
fn what_a_later_synhold_wrote_is_left_alone() {
    let place = quick_folder();
    sample(place.path());
    let mut header = header(Purpose::Journal, 3);
    header[8..12].copy_from_slice(&7u32.to_le_bytes());
    let checksum = crc32fast::hash(&header[..24]).to_le_bytes();
    header[24..].copy_from_slice(&checksum);
    fs::write(place.path().join("journal-3"), header).unwrap();
    let registry = Registry::default();
    let error = load(place.path(), &registry, &sieve()).unwrap_err().to_string();
    assert!(error.contains("format 7") && error.contains("journal-3"), "{error}");
    assert!(registry.is_empty(), "not even in part");
}

#[test]
fn a_journal_that_was_removed_is_noticed() {
    let place = quick_folder();
    let folder = place.path().join("registry");
    let (registry, mut disk) = (Registry::default(), begin(&folder));
    registry.insert(&record(1, 1, 1));
    save(&mut disk, &registry);
    disk.sync().unwrap();
    fs::rename(&folder, place.path().join("elsewhere")).unwrap();
    assert_eq!(disk.sync().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(disk.is_broken() && disk.append(&registry, &[ip(1)]).is_err());
}

#[test]
fn some_addresses_are_read_without_the_rest() {
    let place = quick_folder();
    let last = sample(place.path()).pop().unwrap();
    let mut got = Vec::new();
    load_if(place.path(), |address| address == ip(6), |address, _| got.push(address)).unwrap();
    assert_eq!(got, [ip(6)]);
    assert!(last.contains_key(&ip(6)));
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = quick_folder();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

#[path = "crash_test.rs"]
mod crashes;
