//! Every cell of the policy table equals the committed golden file, and the rules that it must keep hold in every cell.

use remand_authority::table::{Action, Stage, render, verdict};
use remand_model::role::{Arming, Role};

const GOLDEN: &str = include_str!("golden/policy_table.txt");

fn cells() -> impl Iterator<Item = (Role, Arming, Action, Stage)> {
    Action::ALL.iter().flat_map(|action| {
        Stage::ALL.into_iter().flat_map(move |stage| {
            Role::ALL.into_iter().flat_map(move |role| Arming::ALL.map(|arming| (role, arming, *action, stage)))
        })
    })
}

#[test]
fn every_cell_equals_the_golden_file() {
    let actual = render();
    if std::env::var_os("REMAND_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/policy_table.txt");
        std::fs::write(path, &actual).expect("the golden file can be written");
        return;
    }
    let differing = actual.lines().zip(GOLDEN.lines()).find(|(actual, golden)| actual != golden);
    assert_eq!(differing, None);
    assert_eq!(actual.len(), GOLDEN.len());
}

#[test]
fn no_effect_is_ever_allowed_to_a_viewer_or_without_arming() {
    for (role, arming, action, stage) in cells().filter(|(_, _, action, _)| action.has_effect()) {
        let harmless = role == Role::Viewer || arming == Arming::Safe;
        assert!(!harmless || verdict(role, arming, action, stage).is_err(), "{role:?} {arming:?} {action:?} {stage:?}");
    }
}

#[test]
fn a_higher_role_may_do_all_that_a_lower_one_may() {
    for (role, arming, action, stage) in cells() {
        if verdict(role, arming, action, stage).is_ok() {
            assert!(
                Role::ALL
                    .iter()
                    .filter(|higher| **higher >= role)
                    .all(|higher| { verdict(*higher, arming, action, stage).is_ok() })
            );
        }
    }
}

#[test]
fn nothing_but_the_handshake_is_allowed_before_it_and_nothing_at_all_after_the_end() {
    for (role, arming, action, stage) in cells() {
        let allowed = verdict(role, arming, action, stage).is_ok();
        assert!(stage != Stage::Closed || !allowed);
        assert!(stage != Stage::Connected || !allowed || action == Action::Handshake);
    }
}

#[test]
fn every_action_is_allowed_to_somebody_somewhere() {
    for action in Action::ALL {
        assert!(
            cells().any(|(role, arming, cell, stage)| cell == *action && verdict(role, arming, cell, stage).is_ok())
        );
    }
}
