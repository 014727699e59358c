//! How much of the agreements' quotas is used: counted in the transaction of the entry of each call, so that it is exact over
//! all gateways and outlives each of them.

use jiff::Timestamp;

use super::database::{Connection, sql};
use super::effect::Rejection;
use super::{Store, StoreError, unsigned};
use crate::domain::agency::CreditCode;
use crate::domain::vocabulary::vocabulary;

vocabulary! {
    /// Over which time calls are counted.
    pub enum QuotaPeriod {
        /// A clock hour.
        Hour => "HOUR",
        /// A day in Asia/Shanghai.
        Day => "DAY",
    }
}

/// A call to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    /// The agreement.
    pub agreement_id: String,
    /// Who calls.
    pub caller: CreditCode,
    /// What it counts against; each has a limit.
    pub windows: Vec<QuotaWindow>,
}

/// A time within which so many calls are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaWindow {
    /// Unit and staff number with a slash between them, where the calls of one operator are counted; else empty.
    pub operator: String,
    /// Of which length it is.
    pub period: QuotaPeriod,
    /// When it begins.
    pub begins: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// How many calls it allows.
    pub limit: u32,
}

/// Counts a call, unless a window has no room for it; then nothing is counted, also for those behind it in the batch.
pub(super) async fn count(
    connection: &mut Connection<'_>,
    call: &QuotaUse,
) -> Result<Result<(), Rejection>, StoreError> {
    for (place, window) in call.windows.iter().enumerate() {
        if !count_in(connection, call, window).await? {
            for counted in &call.windows[..place] {
                count_back(connection, call, counted).await?;
            }
            return Ok(Err(Rejection::QuotaSpent));
        }
    }
    Ok(Ok(()))
}

/// Counts a call in a window. Returns whether there was room for it.
async fn count_in(
    connection: &mut Connection<'_>,
    call: &QuotaUse,
    window: &QuotaWindow,
) -> Result<bool, StoreError> {
    let counted = sql(
        "INSERT INTO quota_use (agreement_id, caller, operator, period, begins_us, used) VALUES ($1, $2, $3, $4, $5, 1) \
         ON CONFLICT (agreement_id, caller, operator, period, begins_us) \
         DO UPDATE SET used = quota_use.used + 1 WHERE quota_use.used < $6",
    )
    .bind(&call.agreement_id)
    .bind(call.caller.as_str())
    .bind(&window.operator)
    .bind(window.period.as_str())
    .bind(window.begins.as_microsecond())
    .bind(i64::from(window.limit))
    .execute(&mut *connection)
    .await?;
    Ok(counted > 0)
}

async fn count_back(
    connection: &mut Connection<'_>,
    call: &QuotaUse,
    window: &QuotaWindow,
) -> Result<(), StoreError> {
    sql("UPDATE quota_use SET used = used - 1 WHERE agreement_id = $1 AND caller = $2 AND operator = $3 \
         AND period = $4 AND begins_us = $5")
    .bind(&call.agreement_id)
    .bind(call.caller.as_str())
    .bind(&window.operator)
    .bind(window.period.as_str())
    .bind(window.begins.as_microsecond())
    .execute(&mut *connection)
    .await?;
    Ok(())
}

impl Store {
    /// The window of a call in which no room is left, if there is one: of several, that which ends last.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn spent_window(&self, call: &QuotaUse) -> Result<Option<QuotaWindow>, StoreError> {
        let mut spent: Option<&QuotaWindow> = None;
        for window in &call.windows {
            let row =
                sql("SELECT used FROM quota_use WHERE agreement_id = $1 AND caller = $2 AND operator = $3 \
                 AND period = $4 AND begins_us = $5")
                .bind(&call.agreement_id)
                .bind(call.caller.as_str())
                .bind(&window.operator)
                .bind(window.period.as_str())
                .bind(window.begins.as_microsecond())
                .fetch_optional(&self.readers)
                .await?;
            let used = match row {
                Some(row) => unsigned(row.try_get(0)?, "quota_use", "used")?,
                None => 0,
            };
            if used >= u64::from(window.limit) && spent.is_none_or(|other| other.ends < window.ends) {
                spent = Some(window);
            }
        }
        Ok(spent.cloned())
    }

    /// Forgets what was counted in windows that began before `before`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_quota_use(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.write(sql("DELETE FROM quota_use WHERE begins_us < $1").bind(before.as_microsecond())).await
    }
}
