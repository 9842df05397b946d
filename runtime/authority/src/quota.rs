//! The registry of quotas: what each tenant may use, has set aside, and used in this window.
//!
//! A reservation is made before anything starts and settled with what was truly used. One that is dropped instead stays set
//! aside for ever: a mistake costs the tenant room, never the node. Windows are equal steps of the wall clock; a clock that
//! goes back does not open an earlier window again.

use std::collections::BTreeMap;

use remand_model::TenantId;
use remand_model::quota::{Dimension, Quota, Usage, WindowUsage};
use remand_model::refusal::{Code, Refusal};
use remand_model::role::Role;

use crate::Clock;

/// Room that is set aside for one execution. It cannot be copied; give it back with [`QuotaRegistry::settle`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reservation that is not settled stays set aside for ever"]
pub struct Reservation {
    id: u64,
    tenant_id: TenantId,
    amounts: Usage,
}

impl Reservation {
    /// Whose it is.
    #[must_use]
    pub const fn tenant_id(&self) -> &TenantId {
        &self.tenant_id
    }

    /// What is set aside.
    #[must_use]
    pub const fn amounts(&self) -> &Usage {
        &self.amounts
    }
}

struct Open {
    amounts: Usage,
    /// When it is over at the latest, in milliseconds of the monotonic clock.
    until_ms: u64,
}

struct Account {
    quota: Quota,
    ceiling: Usage,
    window: WindowUsage,
    open: BTreeMap<u64, Open>,
    reserved: Usage,
}

/// A tenant's quota and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The quota.
    pub quota: Quota,
    /// What was used in this window.
    pub window: WindowUsage,
    /// What is set aside at this moment.
    pub reserved: Usage,
}

/// The registry.
#[derive(Default)]
pub struct QuotaRegistry {
    accounts: BTreeMap<TenantId, Account>,
    next: u64,
}

impl QuotaRegistry {
    /// Sets a tenant's quota on behalf of a peer of this role. What is set aside or used by now stays counted.
    ///
    /// # Errors
    /// `role_too_low` below admin, `quota_invalid`.
    pub fn register_tenant_quota(&mut self, tenant_id: &TenantId, quota: Quota, role: Role) -> Result<(), Refusal> {
        if role < Role::Admin {
            return Err(Refusal::new(Code::RoleTooLow, "register_tenant_quota needs admin"));
        }
        let ceiling = quota.ceiling()?;
        match self.accounts.get_mut(tenant_id) {
            Some(account) => (account.quota, account.ceiling) = (quota, ceiling),
            None => {
                let (window, reserved) = (WindowUsage::default(), Usage::default());
                let account = Account { quota, ceiling, window, open: BTreeMap::new(), reserved };
                self.accounts.insert(tenant_id.clone(), account);
            }
        }
        Ok(())
    }

    /// A tenant's quota and where it stands.
    ///
    /// # Errors
    /// `quota_missing`.
    pub fn get_quota(&self, tenant_id: &TenantId) -> Result<Standing, Refusal> {
        let account = self.accounts.get(tenant_id).ok_or_else(|| missing(tenant_id))?;
        Ok(Standing { quota: account.quota, window: account.window, reserved: account.reserved })
    }

    /// Whether something that asks for this much could ever run; checked before it is queued.
    ///
    /// # Errors
    /// `quota_missing`, `quota_too_small` with the numbers.
    pub fn check_ceiling(&self, tenant_id: &TenantId, asked: &Usage) -> Result<(), Refusal> {
        let account = self.accounts.get(tenant_id).ok_or_else(|| missing(tenant_id))?;
        let above = |dimension: &Dimension| asked.get(*dimension) > account.ceiling.get(*dimension);
        match Dimension::ALL.into_iter().find(above) {
            Some(dimension) => {
                let (field, limit) = (dimension.field(), account.ceiling.get(dimension));
                let detail = format!("{field}: asked {}, limit {limit}", asked.get(dimension));
                Err(Refusal::new(Code::QuotaTooSmall, detail))
            }
            None => Ok(()),
        }
    }

    /// Takes in what the store's counters of a window sum up to, after a start.
    ///
    /// # Errors
    /// `quota_missing`.
    pub fn restore(&mut self, tenant_id: &TenantId, window: WindowUsage) -> Result<(), Refusal> {
        let account = self.accounts.get_mut(tenant_id).ok_or_else(|| missing(tenant_id))?;
        account.window = WindowUsage { used: window.used.windowed(), ..window };
        Ok(())
    }

    /// Forgets a tenant. Reservations that are still open are settled against nothing.
    pub fn remove(&mut self, tenant_id: &TenantId) {
        self.accounts.remove(tenant_id);
    }

    /// Sets room aside for something that runs at most `wall_ms_max`, or says why there is none.
    ///
    /// # Errors
    /// `quota_missing`; `quota_too_small` where it could never fit; `quota_exceeded` with used, reserved, limit and the time
    /// after which it fits at the latest.
    pub fn enforce_quota(
        &mut self,
        tenant_id: &TenantId,
        asked: &Usage,
        wall_ms_max: u64,
        clock: &Clock,
    ) -> Result<Reservation, Refusal> {
        let account = self.accounts.get_mut(tenant_id).ok_or_else(|| missing(tenant_id))?;
        account.roll(clock.wall_s);
        for dimension in Dimension::ALL {
            account.check(dimension, asked.get(dimension), clock)?;
        }
        let id = self.next;
        self.next = self.next.checked_add(1).ok_or_else(|| Refusal::new(Code::Internal, "reservations are used up"))?;
        account.reserved = account.reserved.plus(asked);
        account.open.insert(id, Open { amounts: *asked, until_ms: clock.mono_ms.saturating_add(wall_ms_max) });
        Ok(Reservation { id, tenant_id: tenant_id.clone(), amounts: *asked })
    }

    /// Gives a reservation back and counts what was used. Returns what to add to the store's counters of that window, in the
    /// transaction of the usage event; nothing where the tenant is gone. It is a difference and no sum, so that settlements
    /// can be stored in any order.
    pub fn settle(&mut self, reservation: Reservation, used: &Usage, clock: &Clock) -> Option<WindowUsage> {
        let account = self.accounts.get_mut(&reservation.tenant_id)?;
        account.roll(clock.wall_s);
        // A tenant that was deleted and made again has a new account, to which the reservation means nothing.
        if let Some(open) = account.open.remove(&reservation.id) {
            account.reserved = account.reserved.minus(&open.amounts);
        }
        account.window.used = account.window.used.plus(&used.windowed());
        Some(WindowUsage { window_start_s: account.window.window_start_s, used: used.windowed() })
    }
}

impl Account {
    /// Opens the window of this moment, unless the clock went back.
    fn roll(&mut self, wall_s: u64) {
        let length = self.quota.window_seconds;
        let start = wall_s - wall_s % length;
        if start > self.window.window_start_s {
            self.window = WindowUsage { window_start_s: start, used: Usage::default() };
        }
    }

    fn check(&self, dimension: Dimension, asked: u64, clock: &Clock) -> Result<(), Refusal> {
        let limit = self.ceiling.get(dimension);
        let used = if dimension.is_windowed() { self.window.used.get(dimension) } else { 0 };
        let reserved = self.reserved.get(dimension);
        let sum = used.checked_add(reserved).and_then(|sum| sum.checked_add(asked));
        if asked == 0 || sum.is_some_and(|sum| sum <= limit) {
            return Ok(());
        }
        let field = dimension.field();
        let detail = format!("{field}: used {used}, reserved {reserved}, asked {asked}, limit {limit}");
        if asked > limit {
            return Err(Refusal::new(Code::QuotaTooSmall, detail));
        }
        let refusal = Refusal::new(Code::QuotaExceeded, detail);
        let window_is_full = used.saturating_add(asked) > limit;
        Err(refusal.retry_after(if window_is_full { self.window_rest_ms(clock) } else { self.next_end_ms(clock) }))
    }

    fn window_rest_ms(&self, clock: &Clock) -> u64 {
        let end = self.window.window_start_s.saturating_add(self.quota.window_seconds);
        end.saturating_sub(clock.wall_s).max(1).saturating_mul(1000)
    }

    /// When the next open reservation is over at the latest; at least one millisecond.
    fn next_end_ms(&self, clock: &Clock) -> u64 {
        let next = self.open.values().map(|open| open.until_ms).min().unwrap_or(clock.mono_ms);
        next.saturating_sub(clock.mono_ms).max(1)
    }
}

fn missing(tenant_id: &TenantId) -> Refusal {
    Refusal::new(Code::QuotaMissing, tenant_id.as_str())
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
