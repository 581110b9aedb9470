//! Single records brought up to date: those that a webhook told of. Bookmarks stay as they are, since
//! nothing is learnt of the rest.

use super::super::client::{Account, is_plain_id};
use super::{Sync, key_of};
use crate::adapters::connectors::{ImportFailure, Record};
use crate::core::model::Resource;

impl Sync<'_> {
    /// Reads what the run was told of, as far as the schedule imports it. What is gone is no failure.
    pub(super) async fn targets(&mut self, account: &mut Account) -> Result<(), ImportFailure> {
        let context = self.context;
        let imports = |resource: &Resource| context.resources.contains(resource);
        for (resource, key) in &context.targets {
            if !is_plain_id(key) {
                self.stats.failed += 1;
                continue;
            }
            if imports(resource) && (*resource == Resource::JOBS || *resource == Resource::CONTACTS) {
                self.target(account, resource, key).await?;
            }
            if *resource == Resource::JOBS && imports(&Resource::MILESTONE_HISTORY) {
                let records = self.history(account, key).await?;
                if !records.is_empty() {
                    self.write(&Resource::MILESTONE_HISTORY, records, None).await?;
                }
            }
        }
        Ok(())
    }

    async fn target(&mut self, account: &mut Account, resource: &Resource, key: &str) -> Result<(), ImportFailure> {
        let Some(payload) = self.client.one(account, &format!("{resource}/{key}")).await? else { return Ok(()) };
        // Under its own id: an answer about something else must not overwrite what was asked for.
        match key_of(&payload) {
            Some(id) if id == key => self.write(resource, vec![Record { key: id, payload }], None).await,
            _ => {
                self.stats.failed += 1;
                Ok(())
            }
        }
    }
}
