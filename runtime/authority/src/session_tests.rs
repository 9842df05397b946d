//! Conversations that go well, and all the ways in which they do not.

use super::*;

const NOW: u64 = 1_000;

fn tenant(name: &str) -> TenantId {
    name.parse().expect("a tenant")
}

fn tenancy(tenant: &TenantId) -> Tenancy {
    match tenant.as_str() {
        "acme" | "other" => Tenancy::Active,
        "asleep" => Tenancy::Suspended,
        _ => Tenancy::Unknown,
    }
}

fn request(sequence: u64, action: Action) -> Request {
    Request {
        protocol_version: "1.0".into(),
        tenant_id: None,
        trace_id: TraceId([9; 16]),
        action,
        role: Role::Operator,
        arming: Arming::Armed,
        sequence,
    }
}

fn send(session: &mut Session, sequence: u64, action: Action) -> Result<Admitted, Code> {
    session.admit(&request(sequence, action), NOW, tenancy, 1).map_err(|refusal| refusal.code)
}

fn attach_to(session: &mut Session, sequence: u64, name: &str) -> Result<Admitted, Code> {
    let request = Request { tenant_id: Some(tenant(name)), ..request(sequence, Action::Attach) };
    session.admit(&request, NOW, tenancy, 7).map_err(|refusal| refusal.code)
}

fn attached() -> Session {
    let mut session = Session::new(Role::Operator);
    send(&mut session, 1, Action::Handshake).map(drop).expect("handshake");
    attach_to(&mut session, 2, "acme").map(drop).expect("attach");
    session
}

#[test]
fn a_conversation_goes_handshake_attach_request_detach() {
    let mut session = attached();
    let admitted = send(&mut session, 3, Action::ExecutionSubmit).expect("admitted");
    assert_eq!(admitted.tenant_id(), Some(&tenant("acme")));
    assert_eq!(admitted.lease().map(|lease| lease.epoch), Some(7));
    send(&mut session, 4, Action::Detach).map(drop).expect("detached");
    assert_eq!(send(&mut session, 5, Action::ExecutionSubmit), Err(Code::AttachRequired));
    attach_to(&mut session, 6, "other").map(drop).expect("another tenant");
    send(&mut session, 7, Action::Bye).map(drop).expect("bye");
    assert_eq!(send(&mut session, 8, Action::Ping), Err(Code::SessionClosed));
}

#[test]
fn nothing_comes_before_the_handshake_and_nothing_of_a_tenant_before_attach() {
    let mut session = Session::new(Role::Admin);
    assert_eq!(send(&mut session, 1, Action::Ping), Err(Code::HandshakeRequired));
    send(&mut session, 2, Action::Handshake).map(drop).expect("handshake");
    assert_eq!(send(&mut session, 3, Action::Handshake), Err(Code::HandshakeRepeated));
    assert_eq!(send(&mut session, 4, Action::ExecutionSubmit), Err(Code::AttachRequired));
    assert_eq!(attach_to(&mut session, 5, "nobody"), Err(Code::TenantUnknown));
    assert_eq!(send(&mut session, 6, Action::Attach), Err(Code::AttachRequired), "without a name");
}

#[test]
fn a_replayed_reordered_or_skipped_sequence_is_refused_and_changes_nothing() {
    let mut session = attached();
    send(&mut session, 3, Action::Ping).map(drop).expect("ping");
    for stale in [3, 2, 1, 0] {
        assert_eq!(send(&mut session, stale, Action::ExecutionSubmit), Err(Code::SequenceReplayed));
    }
    for early in [5, 1000, u64::MAX] {
        assert_eq!(send(&mut session, early, Action::ExecutionSubmit), Err(Code::SequenceGap));
    }
    send(&mut session, 4, Action::ExecutionSubmit).map(drop).expect("the next one still goes");
}

#[test]
fn a_refused_request_of_the_right_number_is_counted() {
    let mut session = attached();
    assert_eq!(send(&mut session, 3, Action::TenantCreate), Err(Code::RoleTooLow));
    assert_eq!(send(&mut session, 3, Action::Ping), Err(Code::SequenceReplayed));
}

#[test]
fn a_lease_ends_at_its_moment_and_takes_the_session_back_before_attach() {
    let mut session = attached();
    let at = |session: &mut Session, sequence, now, action| {
        session.admit(&request(sequence, action), now, tenancy, 1).map(drop).map_err(|refusal| refusal.code)
    };
    assert_eq!(at(&mut session, 3, NOW + LEASE_MS - 1, Action::Ping), Ok(()));
    assert_eq!(at(&mut session, 4, NOW + LEASE_MS, Action::ExecutionSubmit), Err(Code::LeaseExpired));
    assert_eq!(session.lease(), None);
    assert_eq!(at(&mut session, 5, NOW + LEASE_MS, Action::ExecutionSubmit), Err(Code::AttachRequired));
}

#[test]
fn a_renewed_lease_holds_from_the_renewal_on() {
    let mut session = attached();
    session.admit(&request(3, Action::RenewLease), NOW + 50_000, tenancy, 1).map(drop).expect("renewed");
    assert_eq!(session.lease().map(|lease| (lease.epoch, lease.expires_ms)), Some((7, NOW + 50_000 + LEASE_MS)));
    session.admit(&request(4, Action::RenewLease), u64::MAX - 1, tenancy, 1).map(drop).expect_err("too late");
}

#[test]
fn a_request_that_names_another_tenant_is_refused() {
    let mut session = attached();
    let foreign = Request { tenant_id: Some(tenant("other")), ..request(3, Action::StateGet) };
    let refusal = session.admit(&foreign, NOW, tenancy, 1).expect_err("another tenant");
    assert_eq!(refusal.code, Code::TenantMismatch);
    assert_eq!((refusal.tenant_id, refusal.trace_id), (Some(tenant("other")), TraceId([9; 16])));
}

#[test]
fn a_role_above_the_one_given_is_refused_and_a_lower_one_binds() {
    let mut session = attached();
    let as_admin = Request { role: Role::Admin, ..request(3, Action::TenantCreate) };
    assert_eq!(session.admit(&as_admin, NOW, tenancy, 1).expect_err("admin").code, Code::RoleNotGranted);
    let as_viewer = Request { role: Role::Viewer, ..request(3, Action::ExecutionSubmit) };
    assert_eq!(session.admit(&as_viewer, NOW, tenancy, 1).expect_err("viewer").code, Code::RoleTooLow);
}

#[test]
fn an_effect_without_arming_is_refused() {
    let mut session = attached();
    let safe = Request { arming: Arming::Safe, ..request(3, Action::ExecutionSubmit) };
    assert_eq!(session.admit(&safe, NOW, tenancy, 1).expect_err("safe").code, Code::NotArmed);
}

#[test]
fn a_suspended_tenant_can_be_looked_at_and_its_work_stopped_but_none_started() {
    let mut session = Session::new(Role::Operator);
    send(&mut session, 1, Action::Handshake).map(drop).expect("handshake");
    attach_to(&mut session, 2, "asleep").map(drop).expect("attach");
    send(&mut session, 3, Action::ExecutionStatus).map(drop).expect("looks");
    send(&mut session, 4, Action::ExecutionKill).map(drop).expect("stops");
    assert_eq!(send(&mut session, 5, Action::ExecutionSubmit), Err(Code::TenantSuspended));
}

#[test]
fn other_major_versions_are_refused_and_minor_ones_understood() {
    for (version, fine) in [("1.0", true), ("1.7", true), ("2.0", false), ("1", false), ("", false), ("1.x", false)] {
        let mut session = Session::new(Role::Viewer);
        let request = Request { protocol_version: version.into(), role: Role::Viewer, ..request(1, Action::Handshake) };
        assert_eq!(session.admit(&request, NOW, tenancy, 1).is_ok(), fine, "{version:?}");
    }
}

#[test]
fn a_request_that_says_nothing_is_counted_where_its_number_was_right() {
    let mut session = attached();
    session.pass_over(4);
    session.pass_over(2);
    assert_eq!(session.sequence(), 2);
    session.pass_over(3);
    assert_eq!(send(&mut session, 3, Action::Ping), Err(Code::SequenceReplayed));
    send(&mut session, 4, Action::Ping).map(drop).expect("the next one");
}
