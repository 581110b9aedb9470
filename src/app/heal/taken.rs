//! A database whose files somebody removed or replaced while the server had them open: it is written down again from
//! what is open, and the server restarts with that.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::journal::Journal;
use super::place::{clear, free_name};
use super::{HealResult, Told, beside, io};
use crate::adapters::store::StoreError;
use crate::adapters::store::rescue::{self, Origin, files_of};
use crate::app::App;
use crate::app::apply::command_center;
use crate::app::blocking::blocking;
use crate::app::error::AppError;
use crate::core::heal::Known;
use crate::core::model::Millis;

const REASON: &str = "its files were removed or replaced while the server ran";

impl App {
    /// Looks whether the open database still lies in its place. What is answered would else be gone with the program.
    pub async fn stay_in_place(&self) -> Result<(), AppError> {
        if self.shutdown.is_cancelled() || self.store.is_in_place() {
            return Ok(());
        }
        let (database, now) = (self.settings.dsn.clone(), self.clock.now());
        tracing::error!(
            component = "store",
            "the database {}: {REASON}; writing down what is open, and restarting with it",
            database.display()
        );
        let new = beside(&database, ".restoring");
        let place = new.clone();
        blocking(move || {
            if let Some(folder) = place.parent() {
                let _ = std::fs::create_dir_all(folder);
            }
            clear(&place);
        })
        .await
        .map_err(|_| StoreError::Stopped)?;
        self.store.leave_to(new).await?;
        // Nothing is written from here on, so that this program ends whatever comes.
        let prepared = blocking(move || prepare(&database, now)).await;
        if let Ok(Err(error)) = prepared {
            tracing::error!(component = "store", %error, "could not prepare what was written down");
        }
        self.keeping.told().gives_up = true;
        self.restarting.store(true, Ordering::Release);
        self.shutdown.cancel();
        Ok(())
    }
}

/// Has the next start put what was written down in its place.
fn prepare(database: &Path, now: Millis) -> HealResult<()> {
    let new = beside(database, ".restoring");
    let journal = Journal {
        aside: free_name(database, "displaced", now),
        reason: REASON.to_owned(),
        at_ms: now,
        is_prepared: true,
        desired: None,
    };
    let known = rescue::last_known(&new);
    let is_replaced = files_of(database).iter().any(|file| std::fs::symlink_metadata(file).is_ok());
    let told = Told {
        journal: &journal,
        known: if matches!(known, Known::End(_)) { known } else { Known::Nothing },
        from: "the files that the server had open",
        at: Some(now),
        set_aside: is_replaced.then_some(journal.aside.as_path()),
        is_current: true,
    };
    let caller = command_center();
    let prepared = rescue::prepare(&new, Origin::Current, now, &mut |prepared| told.tell(prepared, &caller));
    if let Err(error) = prepared {
        // The next start clears what was not finished; this may be all there is.
        let kept = free_name(database, "rescued", now);
        std::fs::rename(&new, &kept).map_err(io("keep", &kept))?;
        return Err(error.into());
    }
    journal.write(database)
}
