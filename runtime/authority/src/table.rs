//! The policy table: role x arming x action x stage -> verdict. One screen decides; a golden file holds every cell.

use remand_model::refusal::Code;
use remand_model::role::{Arming, Role};

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Nothing was said yet.
    Connected,
    /// The handshake is done; no tenant.
    Ready,
    /// Attached to a tenant under a lease.
    Attached,
    /// Attached to a tenant that is suspended.
    Suspended,
    /// Over.
    Closed,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 5] = [Self::Connected, Self::Ready, Self::Attached, Self::Suspended, Self::Closed];

    /// The name in the golden file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Ready => "ready",
            Self::Attached => "attached",
            Self::Suspended => "suspended",
            Self::Closed => "closed",
        }
    }
}

/// What a command touches, and so what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Begins the conversation.
    Handshake,
    /// Enters a tenant.
    Attach,
    /// The conversation itself; any stage after the handshake.
    Session,
    /// The lease of an attached session.
    Lease,
    /// The node, its tenants, or what an administrator keeps for them.
    Node,
    /// The tenant attached to.
    Tenant,
    /// The tenant attached to, also while it is suspended: ends work, starts none.
    TenantStop,
}

macro_rules! actions {
    ($($variant:ident $name:literal $reach:ident $role:ident $effect:ident;)+) => {
        /// What can be asked for. The control plane maps each command of the envelope to one of these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $(#[doc = concat!("`", $name, "`")] $variant,)+
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in commands, events and the golden file.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The least role that may ask for it.
            #[must_use]
            pub const fn role(self) -> Role {
                match self { $(Self::$variant => Role::$role,)+ }
            }

            /// Whether it changes anything, and so must be armed.
            #[must_use]
            pub const fn has_effect(self) -> bool {
                match self { $(Self::$variant => Effect::$effect.changes(),)+ }
            }

            const fn reach(self) -> Reach {
                match self { $(Self::$variant => Reach::$reach,)+ }
            }
        }
    };
}

#[derive(Clone, Copy)]
enum Effect {
    Looks,
    Changes,
}

impl Effect {
    const fn changes(self) -> bool {
        matches!(self, Self::Changes)
    }
}

actions! {
    Handshake       "session.handshake"   Handshake  Viewer   Looks;
    Attach          "session.attach"      Attach     Viewer   Looks;
    Detach          "session.detach"      Lease      Viewer   Looks;
    RenewLease      "session.renew"       Lease      Viewer   Looks;
    Ping            "session.ping"        Session    Viewer   Looks;
    Bye             "session.bye"         Session    Viewer   Looks;
    NodeList        "node.list"           Node       Viewer   Looks;
    NodeDoctor      "node.doctor"         Node       Viewer   Looks;
    NodeMetrics     "node.metrics"        Node       Viewer   Looks;
    NodeDrain       "node.drain"          Node       Admin    Changes;
    ClusterRoot     "cluster.root"        Node       Viewer   Looks;
    TenantCreate    "tenant.create"       Node       Admin    Changes;
    TenantList      "tenant.list"         Node       Admin    Looks;
    TenantShow      "tenant.show"         Node       Admin    Looks;
    TenantSuspend   "tenant.suspend"      Node       Admin    Changes;
    TenantResume    "tenant.resume"       Node       Admin    Changes;
    TenantDelete    "tenant.delete"       Node       Admin    Changes;
    QuotaRegister   "quota.register"      Node       Admin    Changes;
    QuotaGet        "quota.get"           Tenant     Viewer   Looks;
    TokenIssue      "token.issue"         Node       Admin    Changes;
    TokenRevoke     "token.revoke"        Node       Admin    Changes;
    TokenList       "token.list"          Tenant     Operator Looks;
    DomainRegister  "domain.register"     Node       Admin    Changes;
    DomainRevoke    "domain.revoke"       Node       Admin    Changes;
    DomainGet       "domain.get"          Node       Viewer   Looks;
    DomainList      "domain.list"         Node       Viewer   Looks;
    ContractRegister "contract.register"  Tenant     Operator Changes;
    ContractValidate "contract.validate"  Tenant     Viewer   Looks;
    ContractGet     "contract.get"        Tenant     Viewer   Looks;
    ContractHash    "contract.hash"       Tenant     Viewer   Looks;
    ContractList    "contract.list"       Tenant     Viewer   Looks;
    ExecutionSubmit "execution.submit"    Tenant     Operator Changes;
    ExecutionStatus "execution.status"    Tenant     Viewer   Looks;
    ExecutionWait   "execution.wait"      Tenant     Viewer   Looks;
    ExecutionLogs   "execution.logs"      Tenant     Viewer   Looks;
    ExecutionList   "execution.list"      Tenant     Viewer   Looks;
    ExecutionProof  "execution.proof"     Tenant     Viewer   Looks;
    ExecutionReplay "execution.replay"    Tenant     Operator Changes;
    ExecutionKill   "execution.kill"      TenantStop Operator Changes;
    ExecutionCancel "execution.cancel"    TenantStop Operator Changes;
    PlanCheck       "plan.check"          Tenant     Viewer   Looks;
    PlanRun         "plan.run"            Tenant     Operator Changes;
    PlanShow        "plan.show"           Tenant     Viewer   Looks;
    StateGet        "state.get"           Tenant     Viewer   Looks;
    StateList       "state.list"          Tenant     Viewer   Looks;
    StateSet        "state.set"           Tenant     Operator Changes;
    StateDelete     "state.delete"        Tenant     Operator Changes;
    BlobPut         "blob.put"            Tenant     Operator Changes;
    BlobGet         "blob.get"            Tenant     Viewer   Looks;
    EventsQuery     "events.query"        Tenant     Viewer   Looks;
    AuditVerify     "audit.verify"        Tenant     Viewer   Looks;
    AuditExport     "audit.export"        Tenant     Viewer   Looks;
    AuditCheckpoint "audit.checkpoint"    Tenant     Viewer   Looks;
}

/// Whether this role, armed or not, may ask for this action at this stage; where not, why not.
///
/// # Errors
/// The first reason in the order stage, suspension, role, arming.
pub const fn verdict(role: Role, arming: Arming, action: Action, stage: Stage) -> Result<(), Code> {
    if let Err(code) = at_stage(action, stage) {
        return Err(code);
    }
    if role.code() < action.role().code() {
        return Err(Code::RoleTooLow);
    }
    match (action.has_effect(), arming) {
        (true, Arming::Safe) => Err(Code::NotArmed),
        _ => Ok(()),
    }
}

const fn at_stage(action: Action, stage: Stage) -> Result<(), Code> {
    use {Reach as R, Stage as S};
    match (stage, action.reach()) {
        (S::Closed, _) => Err(Code::SessionClosed),
        (S::Connected, R::Handshake) => Ok(()),
        (S::Connected, _) => Err(Code::HandshakeRequired),
        (_, R::Handshake) => Err(Code::HandshakeRepeated),
        (S::Ready, R::Attach) => Ok(()),
        (S::Attached | S::Suspended, R::Attach) => Err(Code::AlreadyAttached),
        (_, R::Session | R::Node) => Ok(()),
        (S::Ready, _) => Err(Code::AttachRequired),
        (S::Suspended, R::Tenant) if action.has_effect() => Err(Code::TenantSuspended),
        (S::Attached | S::Suspended, _) => Ok(()),
    }
}

/// The whole table as text, one line for each action and stage: what the golden file holds.
#[must_use]
pub fn render() -> String {
    let cell = |role: Role, arming: Arming, action, stage| {
        let verdict = verdict(role, arming, action, stage).map_or_else(Code::name, |()| "allow");
        format!("{}+{}={verdict}", role.name(), arming.name())
    };
    let line = |action: Action, stage: Stage| {
        let cells = Role::ALL.into_iter().flat_map(|role| Arming::ALL.map(|arming| cell(role, arming, action, stage)));
        format!("{} @ {}: {}\n", action.name(), stage.name(), cells.collect::<Vec<_>>().join(" "))
    };
    Action::ALL.iter().flat_map(|action| Stage::ALL.map(|stage| line(*action, stage))).collect()
}
