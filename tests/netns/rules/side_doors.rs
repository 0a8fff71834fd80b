//! The rules of the side doors in the real kernel: put in, read back, changed and taken out in place.

use synhold::nftables::{
    self, DnsRedirect, LocalPolicy, Options, Ruleset, apply, check, read, remove,
};

use super::{assert_drift, in_netns, install, nft, nft_load, options};

#[test]
fn side_doors_are_read_back_and_close_in_place() {
    in_netns(|| {
        let plain = install(&options());
        let (v4, v6) = (Some([172, 17, 0, 53].into()), "fd00:17::53".parse().ok());
        let mut handle = None;
        for dns_redirect in
            [DnsRedirect::Gateway, DnsRedirect::To { v4, v6 }, DnsRedirect::To { v4, v6: None }]
        {
            for (refuse_dot, local_policy) in
                [(true, LocalPolicy::Judge), (false, LocalPolicy::Allow)]
            {
                let open = Options { dns_redirect, refuse_dot, local_policy, ..options() };
                let wanted = install(&open);
                assert_eq!(read().unwrap().as_ref(), Some(&wanted));
                let listing = nft("-a list chain inet synhold dns_redirect");
                let line = listing.lines().find(|l| l.contains("chain dns_redirect")).unwrap();
                let first = handle.get_or_insert(line.to_owned()).clone();
                assert_eq!(line, first, "it is never made anew");
                assert_eq!(nft("list table inet synhold").contains("proto-dst"), refuse_dot);
            }
        }
        // Asked for no longer it stays, empty, and nobody minds.
        assert!(!check(&plain, read().unwrap().as_ref()).is_empty());
        install(&options());
        assert_drift(&plain, &[]);
        assert_eq!(apply(&plain, read().unwrap().as_ref()).unwrap().changes, []);
        let rest = nft("list chain inet synhold dns_redirect");
        assert!(rest.contains("type nat hook prerouting") && !rest.contains("udp"), "{rest}");
    });
}

#[test]
fn the_text_of_a_redirection_is_what_is_installed() {
    in_netns(|| {
        for dns_redirect in [
            DnsRedirect::Gateway,
            DnsRedirect::To { v4: Some([10, 0, 0, 53].into()), v6: "fd00::53".parse().ok() },
        ] {
            let wanted = Ruleset::new(&Options { dns_redirect, ..options() });
            // What nft cannot say of other chains is a comment.
            nft_load(&nftables::render(&wanted));
            let found = read().unwrap().unwrap();
            assert_eq!(found.chain("dns_redirect"), wanted.chain("dns_redirect"));
            assert!(remove().unwrap());
        }
    });
}
