//! Tests of the refusals kept in the kernel: the orders in which refusal and record can come.

use super::*;
use crate::engine::Proto;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

#[derive(Debug, Default)]
struct Book {
    kernel: HashSet<Pair>,
    changes: usize,
}

#[derive(Debug)]
struct Shelf(Arc<Mutex<Book>>);

impl Sets for Shelf {
    fn change(&mut self, out: &[Pair], into: &[Pair], _: Duration) -> anyhow::Result<()> {
        let mut book = self.0.lock().unwrap();
        out.iter().for_each(|pair| {
            book.kernel.remove(pair);
        });
        book.kernel.extend(into);
        book.changes += 1;
        Ok(())
    }
}

fn shared() -> (Arc<Denied>, Ear) {
    let (denied, ear) = Denied::new();
    (Arc::new(denied), ear)
}

fn decision(dst: &str, reason: Reason) -> Decision {
    Decision {
        flow: Flow {
            proto: Proto::Tcp,
            src: "10.0.0.2:4000".parse().unwrap(),
            dst: dst.parse().unwrap(),
        },
        lane: 0,
        verdict: Verdict::Drop,
        reason,
        grade: crate::engine::Grade::Never,
        known: Default::default(),
        held: Duration::ZERO,
        copies: 0,
        domain: None,
        mode: crate::engine::Mode::Enforce,
        owner: None,
        again: false,
        at: Default::default(),
        proof: None,
        bound: Duration::ZERO,
    }
}

/// Asks and tells nobody; what is accepted is as `accepts` says.
fn hooks(accepts: impl Fn(Pair) -> bool + Send + 'static) -> Hooks {
    Hooks {
        accepts: Box::new(accepts),
        knows: Box::new(|_| false),
        listed: Box::new(|_| false),
        accused: Box::new(|_| {}),
        forgiven: Box::new(|_| {}),
    }
}

/// Runs `story` against a served [`Denied`] and returns what the kernel has once everything noted is done.
fn after(accepted: &[&str], story: impl FnOnce(&Denied)) -> (HashSet<Pair>, usize, usize) {
    let (denied, ear) = shared();
    let accepted: HashSet<IpAddr> = accepted.iter().map(|text| text.parse().unwrap()).collect();
    let resolved = accepted.clone();
    let book = Arc::new(Mutex::new(Book::default()));
    let (accused, forgiven) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count_accused, count_forgiven) = (Arc::clone(&accused), Arc::clone(&forgiven));
    let hooks = Hooks {
        accepts: Box::new(move |(_, dst)| accepted.contains(&dst)),
        knows: Box::new(move |dst| resolved.contains(&dst)),
        listed: Box::new(|_| false),
        accused: Box::new(move |_| {
            count_accused.fetch_add(1, SeqCst);
        }),
        forgiven: Box::new(move |_| {
            count_forgiven.fetch_add(1, SeqCst);
        }),
    };
    story(&denied);
    let sets = Shelf(Arc::clone(&book));
    let timeout = Duration::from_secs(60);
    let server = Server { denied: Arc::clone(&denied), ear, sets, hooks, timeout };
    std::thread::scope(|scope| {
        scope.spawn(|| server.run());
        denied.stop();
    });
    let kernel = std::mem::take(&mut book.lock().unwrap().kernel);
    (kernel, accused.load(SeqCst), forgiven.load(SeqCst))
}

#[test]
fn only_refusals_that_judge_the_destination_are_kept() {
    for (reason, kept) in [
        (Reason::NeverResolved, true),
        (Reason::OutOfScope, true),
        (Reason::Blocklisted, true),
        (Reason::HoldBudget, false),
        (Reason::Unhealthy, false),
        (Reason::Shutdown, false),
        (Reason::Malformed, false),
    ] {
        let (kernel, accused, _) =
            after(&[], |denied| denied.refused(&decision("192.0.2.1:443", reason)));
        assert_eq!(kernel.len(), usize::from(kept), "{reason:?}");
        assert_eq!(accused, usize::from(reason == Reason::NeverResolved), "{reason:?}");
    }
}

#[test]
fn a_record_that_came_before_the_note_was_read_wins() {
    let (kernel, accused, _) = after(&["192.0.2.1"], |denied| {
        denied.refused(&decision("192.0.2.1:443", Reason::NeverResolved));
        denied.refused(&decision("192.0.2.2:443", Reason::NeverResolved));
    });
    let left: Vec<IpAddr> = kernel.into_iter().map(|(_, dst)| dst).collect();
    assert_eq!((left, accused), (vec!["192.0.2.2".parse().unwrap()], 1));
}

#[test]
fn pairs_that_are_still_refused_are_in_the_kernel_when_that_is_told() {
    let (denied, ear) = shared();
    let [src, open, shut]: [IpAddr; 3] =
        ["10.0.0.2", "192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
    let book = Arc::new(Mutex::new(Book::default()));
    let hooks = Hooks {
        accepts: Box::new(move |(_, dst)| dst == open),
        knows: Box::new(|_| false),
        listed: Box::new(|_| false),
        accused: Box::new(|_| panic!("nobody tried")),
        forgiven: Box::new(|_| {}),
    };
    let (sets, timeout) = (Shelf(Arc::clone(&book)), Duration::from_secs(60));
    let server = Server { denied: Arc::clone(&denied), ear, sets, hooks, timeout };
    std::thread::scope(|scope| {
        scope.spawn(|| server.run());
        assert!(denied.refuse_pairs(vec![(src, open), (src, shut)]));
        assert_eq!(book.lock().unwrap().kernel, HashSet::from([(src, shut)]));
        denied.stop();
    });
}

#[test]
fn a_record_takes_the_pair_out_and_forgives_the_accused() {
    use std::sync::atomic::AtomicBool;
    let (denied, ear) = shared();
    let known = Arc::new(AtomicBool::new(false));
    let accepts = Arc::clone(&known);
    let book = Arc::new(Mutex::new(Book::default()));
    let (told, forgiven) = std::sync::mpsc::channel();
    let hooks = Hooks {
        accepts: Box::new(move |_| accepts.load(SeqCst)),
        knows: Box::new(|_| true),
        listed: Box::new(|_| false),
        accused: Box::new(|_| {}),
        forgiven: Box::new(move |address| told.send(address).unwrap()),
    };
    let address = "192.0.2.1".parse().unwrap();
    denied.set_accused(HashSet::from([address]));
    let sets = Shelf(Arc::clone(&book));
    let timeout = Duration::from_secs(60);
    let server = Server { denied: Arc::clone(&denied), ear, sets, hooks, timeout };
    std::thread::scope(|scope| {
        scope.spawn(|| server.run());
        denied.refused(&decision("192.0.2.1:443", Reason::NeverResolved));
        // What the thread is told later it does later: the first answer proves that the refusal is in.
        denied.resolved(address, |_| false);
        assert_eq!(forgiven.recv().unwrap(), address);
        known.store(true, SeqCst);
        denied.resolved(address, |_| false);
        assert_eq!(forgiven.recv().unwrap(), address);
        denied.stop();
    });
    let book = book.lock().unwrap();
    assert!(book.kernel.is_empty() && book.changes >= 1, "{:?}", book.kernel);
}

#[test]
fn what_does_not_fit_is_looked_at_again() {
    let (kernel, ..) = after(&[], |denied| {
        for n in 0..NOTES_MAX - 1 {
            let dst = format!("192.0.{}.{}:443", n / 256, n % 256);
            denied.refused(&decision(&dst, Reason::OutOfScope));
        }
        denied.look_again();
        denied.look_again();
        assert!(denied.missed.load(SeqCst));
    });
    assert_eq!(kernel.len(), NOTES_MAX - 1);
}

#[test]
fn only_a_record_forgives_and_a_look_finds_one_whose_note_did_not_fit() {
    let accuse = |denied: &Denied| {
        denied.set_accused(["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap()).into());
        denied.refused(&decision("192.0.2.1:443", Reason::NeverResolved));
        denied.look_again();
    };
    let (kernel, _, forgiven) = after(&[], accuse);
    assert_eq!((kernel.len(), forgiven), (1, 0), "the lists were loaded, nobody resolved it");
    let (_, _, forgiven) = after(&["192.0.2.2"], accuse);
    assert_eq!(forgiven, 1);
}

#[test]
fn who_comes_next_is_refused_nothing_of_before() {
    let gone: IpAddr = "10.0.0.2".parse().unwrap();
    let (kernel, ..) = after(&[], |denied| {
        denied.refused(&decision("192.0.2.1:443", Reason::NeverResolved));
        let mut neighbour = decision("192.0.2.1:443", Reason::NeverResolved);
        neighbour.flow.src = "10.0.0.3:4000".parse().unwrap();
        denied.refused(&neighbour);
        denied.leave(vec![gone]);
    });
    let left: Vec<IpAddr> = kernel.into_iter().map(|(src, _)| src).collect();
    assert_eq!(left, ["10.0.0.3".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_pair_noted_twice_before_its_record_is_left_nowhere() {
    let (denied, _ear) = shared();
    let (resolved, count) = (Arc::new(AtomicBool::new(false)), &mut 0);
    let known = Arc::clone(&resolved);
    let hooks = hooks(move |_| known.load(SeqCst));
    let mut work = Work::new(&denied, &hooks, Duration::from_secs(60), count);
    let [twice, once] = ["192.0.2.1:443", "192.0.2.2:443"]
        .map(|dst| decision(dst, Reason::OutOfScope).flow)
        .map(|flow| move || Note::Refused(flow, Reason::OutOfScope));
    for note in [twice(), once(), twice()] {
        work.take(note);
    }
    resolved.store(true, SeqCst);
    work.take(Note::Resolved("192.0.2.1".parse().unwrap()));
    let mut shelf = Shelf(Arc::default());
    work.done(&mut shelf).unwrap();
    let left: Vec<IpAddr> = shelf.0.lock().unwrap().kernel.iter().map(|(_, dst)| *dst).collect();
    assert_eq!(left, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
}

/// A kernel that takes nothing.
#[derive(Debug)]
struct Wall;

impl Sets for Wall {
    fn change(&mut self, _: &[Pair], _: &[Pair], _: Duration) -> anyhow::Result<()> {
        anyhow::bail!("no")
    }
}

#[test]
fn who_waits_for_pairs_the_kernel_does_not_take_is_told_so() {
    let (denied, ear) = shared();
    let timeout = Duration::from_secs(60);
    let hooks = hooks(|_| false);
    let server = Server { denied: Arc::clone(&denied), ear, sets: Wall, hooks, timeout };
    std::thread::scope(|scope| {
        scope.spawn(|| server.run());
        let pair = ["10.0.0.2", "192.0.2.1"].map(|text| text.parse().unwrap());
        assert!(!denied.refuse_pairs(vec![pair.into()]));
        denied.stop();
    });
}
