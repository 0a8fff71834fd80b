//! That anybody changed any rules is noticed by the number of transactions.

use synhold::nftables::Watch;

use super::{host, load, nft, with_sets};

#[test]
fn every_transaction_is_noticed_once() {
    with_sets(|channel| {
        let mut watch = Watch::default();
        assert!(!watch.look(channel).unwrap(), "nothing to compare with");
        load(channel, "hosts4", [host("192.0.2.1")]);
        load(channel, "hosts4", [host("192.0.2.2")]);
        assert!(watch.look(channel).unwrap());
        assert!(!watch.look(channel).unwrap(), "and then it is quiet");
        nft("add table ip somewhere_else");
        assert!(watch.look(channel).unwrap());
        nft("flush ruleset");
        assert!(watch.look(channel).unwrap());
        assert!(!watch.look(channel).unwrap());
    });
}
