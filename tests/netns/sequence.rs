//! Random sequences of edits, crashes, restarts and foreign changes: the kernel ends with what the files say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;

use synhold::engine::intervals::{Span, merge};
use synhold::engine::net::{Family, number, show_span};
use synhold::lists::{self, Addition, Entry, Folder, Own, Removal};

use super::lab::daemon::Daemon;
use super::lab::{Lab, retry_until};
use super::stand::{DnsLog, STARTED, members, start};

const STEPS: u32 = 60;
/// Addresses of the world: few, so that entries meet.
const WORLD: u32 = 48;
const SETS: [&str; 5] = ["quarantine4", "allow4", "block4", "blockhosts4", "denied4"];

/// Numbers that look random and are the same each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(sides)) as u32
    }

    fn address(&mut self) -> Ipv4Addr {
        Ipv4Addr::from(0xc633_6400 + self.roll(WORLD))
    }

    fn container(&mut self) -> Ipv4Addr {
        Ipv4Addr::from(0xac1f_0780 + self.roll(4))
    }

    fn entry(&mut self) -> String {
        match self.roll(3) {
            0 => format!(
                "{}/{}",
                Ipv4Addr::from(0xc633_6400 + (self.roll(WORLD) & !3)),
                30 + self.roll(2)
            ),
            _ => self.address().to_string(),
        }
    }
}

/// What the sets are to hold, by list, as written. Each line one entry, so that a model stays a model.
#[derive(Default)]
struct Model(BTreeMap<&'static str, BTreeSet<String>>);

impl Model {
    fn of(&mut self, file: &'static str) -> &mut BTreeSet<String> {
        self.0.entry(file).or_default()
    }

    fn text(&self, file: &str) -> String {
        let lines = self.0.get(file).into_iter().flatten();
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// All entries without options, merged.
    fn spans(&self, files: &[&str]) -> Vec<Span> {
        let lines = files.iter().filter_map(|file| self.0.get(file)).flatten();
        let plain = lines.filter(|line| !line.contains("from="));
        merge(plain.map(|line| match line.parse::<Entry>() {
            Ok(Entry::Addresses(_, span)) => span,
            other => panic!("{line}: {other:?}"),
        }))
    }

    fn wanted(&self, set: &str) -> BTreeSet<String> {
        let shown = |span: &Span| show_span(*span, Family::V4);
        let is_single = |span: &&Span| span.first() == span.last();
        let blocked = self.spans(&["block.txt", "auto.txt"]);
        let lines =
            ["block.txt", "auto.txt"].into_iter().filter_map(|file| self.0.get(file)).flatten();
        match set {
            "quarantine4" => self.0.get("quarantine.txt").into_iter().flatten().cloned().collect(),
            "allow4" => self.spans(&["allow.txt"]).iter().map(shown).collect(),
            "block4" => blocked.iter().filter(|span| !is_single(span)).map(shown).collect(),
            "blockhosts4" => blocked.iter().filter(is_single).map(shown).collect(),
            _ => lines
                .filter_map(|line| line.split_once(" from="))
                .map(|(dst, src)| format!("{src} . {dst}"))
                .collect(),
        }
    }
}

struct Scene {
    daemon: Option<Daemon>,
    model: Model,
    dice: Dice,
    folder: Folder,
    log: DnsLog,
    lab: Lab,
}

impl Scene {
    fn write(&mut self, file: &'static str) {
        let (path, text) = (self.folder.lists().join(file), self.model.text(file));
        match self.dice.roll(3) {
            0 => fs::write(path, text).unwrap(),
            1 => {
                let new = self.folder.lists().join("new");
                fs::write(&new, text).unwrap();
                fs::rename(new, path).unwrap();
            }
            _ => {
                let _ = fs::remove_file(&path);
                fs::write(path, text).unwrap();
            }
        }
    }

    /// Changes a few lines of a list as an editor does.
    fn edit(&mut self) -> String {
        let file =
            ["allow.txt", "block.txt", "auto.txt", "quarantine.txt"][self.dice.roll(4) as usize];
        for _ in 0..=self.dice.roll(4) {
            let line = match (file, self.dice.roll(3)) {
                ("quarantine.txt", _) => self.dice.container().to_string(),
                ("block.txt" | "auto.txt", 0) => {
                    format!("{} from={}", self.dice.address(), self.dice.container())
                }
                _ => self.dice.entry(),
            };
            let lines = self.model.of(file);
            if !lines.remove(&line) {
                lines.insert(line);
            }
        }
        self.write(file);
        format!("{file} edited")
    }

    /// Adds or removes an entry as the command line does.
    fn command(&mut self) -> String {
        let (own, file) =
            [(Own::Allow, "allow.txt"), (Own::Block, "block.txt")][self.dice.roll(2) as usize];
        let text = self.dice.address().to_string();
        let entry: Entry = text.parse().unwrap();
        if self.model.of(file).remove(&text) {
            lists::remove(&self.folder, own, &[Removal { entry, from: None }]).unwrap();
            // All lines of the entry, those for one container too.
            self.model.of(file).retain(|line| !line.starts_with(&format!("{text} ")));
            return format!("{text} taken out of {file}");
        }
        let addition = Addition { entry, until: None, from: None, force: false, note: None };
        lists::add(&self.folder, own, &[addition]).unwrap();
        self.model.of(file).insert(text.clone());
        format!("{text} put into {file}")
    }

    fn restart(&mut self, kill: bool) -> String {
        let daemon = self.daemon.take().expect("it runs");
        let _ = if kill { daemon.kill9() } else { daemon.stop() };
        let edited = if self.dice.roll(2) == 0 { self.edit() } else { "nothing".to_owned() };
        let again = start(&self.lab, &self.log.path, &[]);
        again.ready();
        self.daemon = Some(again);
        format!("restart (killed: {kill}), {edited} meanwhile")
    }

    /// What a stranger does with `nft`; an element may be there, or not.
    fn stranger(&mut self) -> String {
        let set = SETS[self.dice.roll(5) as usize];
        let element = match set {
            "quarantine4" => self.dice.container().to_string(),
            "denied4" => format!("{} . {}", self.dice.container(), self.dice.address()),
            _ => self.dice.address().to_string(),
        };
        let script = match self.dice.roll(6) {
            0 => "flush ruleset".to_owned(),
            1 => "delete table inet synhold".to_owned(),
            2 => format!("flush set inet synhold {set}"),
            3 => format!("delete element inet synhold {set} {{ {element} }}"),
            _ => format!("add element inet synhold {set} {{ {element} }}"),
        };
        let mut nft = self.lab.gw.command("nft");
        // One that the kernel refuses is one that did nothing.
        let _ = nft.arg(&script).output().expect("nft runs");
        script
    }

    fn step(&mut self) -> String {
        match self.dice.roll(12) {
            0..=3 => self.edit(),
            4..=6 => self.command(),
            7 => self.restart(true),
            8 => self.restart(false),
            _ => self.stranger(),
        }
    }

    fn assert_settles(&self, seed: u64, done: &[String]) {
        for set in SETS {
            let wanted = self.model.wanted(set);
            let same = || {
                let there = self.lab.gw.run(|| synhold::nftables::dump(set, 1));
                there.is_ok() && members(&self.lab, set) == wanted
            };
            if retry_until(super::stand::SOON, || same().then_some(())).is_none() {
                let held = self.lab.gw.run(|| synhold::nftables::dump(set, 1_000));
                let story = self.daemon.as_ref().map(Daemon::story).unwrap_or_default();
                panic!("seed {seed}, after {done:#?}\n{set}: {held:?}\nnot {wanted:?}\n{story}");
            }
        }
    }
}

fn play(seed: u64) {
    let lab = Lab::new("sequence");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let folder = Folder::new(&lab.dir().join("state"));
    fs::create_dir_all(folder.lists()).unwrap();
    let daemon = start(&lab, &log.path, &[]);
    daemon.ready();
    let (daemon, model, dice) = (Some(daemon), Model::default(), Dice(seed));
    let mut scene = Scene { daemon, model, dice, folder, log, lab };
    let mut done = Vec::new();
    // As many strangers' acts as are put back in a minute, and one of ours at least before each look.
    for round in 0..STEPS / 3 {
        for _ in 0..3 {
            let step = scene.step();
            done.push(format!("{round}: {step}"));
        }
        scene.assert_settles(seed, &done);
    }
    assert!(scene.daemon.take().expect("it runs").stop().status.success());
}

#[test]
fn whatever_happens_the_kernel_ends_with_what_the_files_say() {
    std::thread::scope(|scope| {
        for seed in 1..=6 {
            scope.spawn(move || play(seed));
        }
    });
}

#[test]
fn the_model_knows_what_a_list_means() {
    let mut model = Model::default();
    let lines = ["198.51.100.1", "198.51.100.2/31", "198.51.100.9", "198.51.100.9 from=172.31.7.2"];
    model.of("block.txt").extend(lines.map(str::to_owned));
    let wanted = |set: &str| model.wanted(set).into_iter().collect::<Vec<_>>();
    assert_eq!(wanted("block4"), ["198.51.100.1-198.51.100.3"]);
    assert_eq!(wanted("blockhosts4"), ["198.51.100.9"]);
    assert_eq!(wanted("denied4"), ["172.31.7.2 . 198.51.100.9"]);
    assert_eq!(number("198.51.100.9".parse().unwrap()), 0xc633_6409);
}
