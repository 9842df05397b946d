//! Strategies: which tenant is served next. Adding one is one type.

use std::collections::BTreeMap;
use std::ops::Bound;

use remand_model::TenantId;

use crate::scheduler::Task;

/// What a strategy may look at: the first task of every tenant that can be served now, with the tenant's weight.
pub trait Lanes {
    /// The tenants that can be served, by name, from `after` on (exclusive), or from the first one.
    fn ready_after(&self, after: Option<&TenantId>) -> Option<(&TenantId, u64, &Task)>;

    /// The tenant's first task, where it can be served now.
    fn ready(&self, tenant_id: &TenantId) -> Option<(u64, &Task)>;
}

/// Decides which tenant is served next. The choice depends on what was asked of it before, on the lanes, and on nothing else.
pub trait Strategy: Send {
    /// The name in configuration and events.
    fn name(&self) -> &'static str;

    /// The tenant whose first task is served next; nothing where none can be.
    fn pick(&mut self, lanes: &dyn Lanes) -> Option<TenantId>;

    /// The tenant has no tasks left.
    fn idle(&mut self, tenant_id: &TenantId);
}

/// Milliseconds of processor time that a tenant of weight 1 gets in one round.
pub const QUANTUM_MS: u64 = 1000;

/// Weighted deficit round robin (Shreedhar and Varghese, 1995): over any time in which two tenants have work, what they are
/// served per weight differs by at most one round's quantum and the largest task.
#[derive(Debug, Default)]
pub struct Fair {
    deficits: BTreeMap<TenantId, u64>,
    /// The tenant whose turn it is, and whether it got its quantum for this turn.
    turn: Option<(TenantId, bool)>,
}

impl Fair {
    fn quantum(weight: u64) -> u64 {
        weight.max(1).saturating_mul(QUANTUM_MS)
    }

    /// Serves the tenant whose turn it is, if what it saved up suffices.
    fn serve(&mut self, tenant_id: &TenantId, weight: u64, cost_ms: u64, has_quantum: bool) -> bool {
        let deficit = self.deficits.entry(tenant_id.clone()).or_default();
        if !has_quantum {
            *deficit = deficit.saturating_add(Self::quantum(weight));
        }
        match deficit.checked_sub(cost_ms) {
            Some(rest) => *deficit = rest,
            None => return false,
        }
        self.turn = Some((tenant_id.clone(), true));
        true
    }

    /// Gives everybody as many rounds at once as nobody would have been served in.
    fn skip_idle_rounds(&mut self, lanes: &dyn Lanes) {
        let missing = |fair: &Self, tenant_id: &TenantId, weight: u64, task: &Task| {
            let deficit = fair.deficits.get(tenant_id).copied().unwrap_or(0);
            task.cost_ms.saturating_sub(deficit).div_ceil(Self::quantum(weight))
        };
        let rounds =
            all(lanes).map(|(tenant_id, weight, task)| missing(self, tenant_id, weight, task)).min().unwrap_or(0);
        for (tenant_id, weight, _) in all(lanes) {
            let deficit = self.deficits.entry(tenant_id.clone()).or_default();
            *deficit = deficit.saturating_add(rounds.saturating_sub(1).saturating_mul(Self::quantum(weight)));
        }
    }
}

fn all(lanes: &dyn Lanes) -> impl Iterator<Item = (&TenantId, u64, &Task)> {
    std::iter::successors(lanes.ready_after(None), |(tenant_id, ..)| lanes.ready_after(Some(tenant_id)))
}

impl Strategy for Fair {
    fn name(&self) -> &'static str {
        "fair"
    }

    fn pick(&mut self, lanes: &dyn Lanes) -> Option<TenantId> {
        lanes.ready_after(None)?;
        if let Some((tenant_id, true)) = self.turn.clone()
            && let Some((weight, task)) = lanes.ready(&tenant_id)
            && self.serve(&tenant_id, weight, task.cost_ms, true)
        {
            return Some(tenant_id);
        }
        let mut after = self.turn.take().map(|(tenant_id, _)| tenant_id);
        let start = after.clone();
        let mut wrapped = false;
        loop {
            let next = lanes
                .ready_after(after.as_ref())
                .filter(|(tenant_id, ..)| !wrapped || start.as_ref().is_none_or(|start| *tenant_id <= start));
            match next {
                Some((tenant_id, weight, task)) => {
                    if self.serve(tenant_id, weight, task.cost_ms, false) {
                        return Some(tenant_id.clone());
                    }
                    after = Some(tenant_id.clone());
                }
                None if !wrapped && after.is_some() => (after, wrapped) = (None, true),
                None => {
                    self.skip_idle_rounds(lanes);
                    (after, wrapped) = (start.clone(), false);
                }
            }
        }
    }

    fn idle(&mut self, tenant_id: &TenantId) {
        self.deficits.remove(tenant_id);
    }
}

/// Highest priority first, whoever's it is; among equals, the tenants in turn. A tenant that always has urgent work starves
/// the others: choose this only where priorities are given by the operator.
#[derive(Debug, Default)]
pub struct Strict {
    last: Option<TenantId>,
}

impl Strategy for Strict {
    fn name(&self) -> &'static str {
        "priority"
    }

    fn pick(&mut self, lanes: &dyn Lanes) -> Option<TenantId> {
        let highest = all(lanes).map(|(.., task)| task.priority).max()?;
        let equals = || all(lanes).filter(|(.., task)| task.priority == highest).map(|(tenant_id, ..)| tenant_id);
        let after = equals().find(|tenant_id| self.last.as_ref().is_none_or(|last| *tenant_id > last));
        self.last = after.or_else(|| equals().next()).cloned();
        self.last.clone()
    }

    fn idle(&mut self, _: &TenantId) {}
}

/// The bound behind which an iteration over names goes on.
pub(crate) fn behind(after: Option<&TenantId>) -> (Bound<&TenantId>, Bound<&TenantId>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}
