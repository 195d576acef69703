//! Drivers who are gone: the sweeper finds those who give no sign of life, and unanswered offers show others. They
//! become `INACTIVE` in the table and in the cache, with a history entry and a notification.

use dispatch_core::ids::DriverId;
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;
use futures::StreamExt as _;

use super::Engine;
use super::notification_text::{self, Absence};
use crate::adapters::fleet::fleet_entry;
use crate::city::parse_timestamp;
use crate::ports::{ActiveCursor, Driver, PortError};

/// Pages of active drivers that one round reads: 100,000 drivers.
const PAGES_MAX: usize = 100;

/// Silent drivers that one round handles; the next one handles the others.
const SILENT_MAX: usize = 1_000;

/// Drivers who become inactive at the same time. Each takes one transaction.
const CONCURRENT_MAX: usize = 8;

/// From this number on, drivers who are all silent at the same time are taken for an outage of the positions: of the
/// gateway, of the network of the apps or of the API. No driver becomes inactive then.
const OUTAGE_FROM: usize = 50;

/// The active drivers of a city, as a round finds them.
#[derive(Default)]
struct Presence {
    silent: Vec<Driver>,
    /// Number of active drivers who gave a sign of life.
    present: usize,
}

impl Engine {
    /// Makes drivers inactive who gave no sign of life for the configured time. Each page that was read counts as a
    /// heartbeat.
    ///
    /// Signs of life come from the cache. A driver whom it does not know is put there and counted from now. While the
    /// cache does not answer or has not accepted positions for that long, no driver is silent.
    pub async fn end_silent_presence(&self, beat: impl Fn()) -> Result<(), PortError> {
        let found = self.silent_drivers(&beat).await.inspect_err(|error| self.metrics.port_error(error))?;
        if found.silent.len() >= OUTAGE_FROM && found.present == 0 {
            let drivers = found.silent.len();
            tracing::warn!(
                drivers,
                "no active driver sends positions; this is taken for an outage, and no driver becomes inactive"
            );
            return Ok(());
        }
        let (engine, beat) = (self, &beat);
        let all = futures::stream::iter(found.silent);
        all.for_each_concurrent(CONCURRENT_MAX, async |driver| {
            engine.tolerate_absence(&driver.id, engine.deactivate(&driver, Absence::Silent).await);
            beat();
        })
        .await;
        Ok(())
    }

    async fn silent_drivers(&self, beat: &impl Fn()) -> Result<Presence, PortError> {
        let silent_after_ms = self.city.settings().policy.presence.silent_after_ms;
        let now = self.ports.clock.now();
        let since = now.minus_ms(silent_after_ms);
        let (mut found, mut from) = (Presence::default(), Some(ActiveCursor::default()));
        for _ in 0..PAGES_MAX {
            let Some(cursor) = from.take() else { break };
            let page = self.ports.profiles.active_drivers(None, cursor).await?;
            self.judge_presence(page.drivers, (since, now), &mut found).await?;
            from = page.next;
            beat();
            // Only a driver who is present shows that it is no outage.
            if found.silent.len() >= SILENT_MAX && found.present > 0 {
                break;
            }
        }
        Ok(found)
    }

    async fn judge_presence(
        &self,
        drivers: Vec<Driver>,
        (since, now): (EpochMs, EpochMs),
        found: &mut Presence,
    ) -> Result<(), PortError> {
        let ids: Vec<DriverId> = drivers.iter().map(|driver| driver.id.clone()).collect();
        let signs = self.ports.fleet.positions.last_signs(&ids).await?;
        let mut unknown = Vec::new();
        for (driver, sign) in drivers.into_iter().zip(signs) {
            // A time after now was written by a clock that was wrong.
            let written = parse_timestamp(&driver.current_status.located_at).filter(|at| *at <= now);
            match sign.map(|at| written.map_or(at, |written| written.max(at))) {
                Some(last) if last < since && found.silent.len() < SILENT_MAX => found.silent.push(driver),
                Some(last) if last < since => {}
                Some(_) => found.present += 1,
                // Without a usable position the driver cannot be in the cache, nor receive an offer.
                None => unknown.extend(fleet_entry(&driver)),
            }
        }
        self.ports.fleet.positions.put(&unknown).await
    }

    /// Ends the presence of a driver who has not answered so many offers in a row, if the city limits them.
    pub(super) async fn judge_unanswered(&self, driver: &DriverId, unanswered: u32) -> Result<(), PortError> {
        let limit = u32::from(self.city.settings().policy.presence.unanswered_offers);
        if limit == 0 || unanswered < limit {
            return Ok(());
        }
        let known = self.ports.profiles.drivers(std::slice::from_ref(driver)).await?;
        match known.first() {
            Some(known) => self.deactivate(known, Absence::Unanswered).await,
            None => Ok(()),
        }
    }

    /// Makes a driver inactive who has not changed since it was read.
    async fn deactivate(&self, driver: &Driver, reason: Absence) -> Result<(), PortError> {
        let now = self.ports.clock.now();
        if !self.ports.profiles.deactivate(driver, now).await? {
            return Ok(());
        }
        self.metrics.driver_deactivated(reason.as_str());
        tracing::info!(driver = %driver.id, reason = reason.as_str(), "a driver became inactive");
        let (shown, told) = futures::future::join(
            self.ports.fleet.reservations.set_status(&driver.id, PersonStatus::Inactive, None),
            self.ports.notifier.publish(&[notification_text::inactive(&driver.id, reason, now)]),
        )
        .await;
        self.tolerate_absence(&driver.id, shown);
        self.tolerate_absence(&driver.id, told);
        Ok(())
    }

    /// Logs and counts a failure. The next round, the stream record of the driver, or the driver's app makes up for it.
    fn tolerate_absence(&self, driver: &DriverId, result: Result<(), PortError>) {
        if let Err(error) = result {
            self.metrics.port_error(&error);
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%driver, %error, reason, "the absence of a driver could not be recorded in full");
        }
    }
}
