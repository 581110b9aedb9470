//! The right to write at the destination: claimed, kept alive, checked, lost.

use std::io;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Replication, Trouble};
use crate::adapters::replica::{PlaceError, Spool};
use crate::adapters::store::Upkeep as _;
use crate::core::audit::operation;
use crate::core::model::Millis;
use crate::core::replica::claim::{Asker, Decision, Writer, decide};
use crate::core::replica::{WRITER, stamped};
use crate::core::timing::iso;

/// How often it is checked that nobody else has taken the destination.
const CHECK: Duration = Duration::from_secs(5);
/// How often the sign of life is renewed.
const BEAT: Duration = Duration::from_secs(15);
/// How long after a refusal it is asked again.
pub(super) const REFUSED: Duration = Duration::from_secs(10);
/// A fact of the store: which one it is, whatever its copies are called.
const STORE_ID: &str = "store_id";
/// Files by which the destination tells its time lie below it.
const CLOCK: &str = "clock";

pub(super) struct Owner {
    /// Of this data directory at this place; its lock lets only one program use it.
    instance: String,
    /// Whether that may have claimed before: not once somebody else has displaced us.
    may_return: bool,
    claim: Option<Claim>,
    store: Option<String>,
}

struct Claim {
    epoch: u64,
    /// Of `writer.json` as we wrote it.
    tag: String,
    checked: Instant,
    beaten: Instant,
}

impl Owner {
    /// Reads who this data directory is, or makes a name for it. A copy of the folder at another place is another.
    pub fn of(spool: &Spool) -> io::Result<Owner> {
        let place = format!("{}:{}", host(), spool.folder().canonicalize()?.display());
        let known = spool.instance().and_then(|text| {
            let (instance, of) = text.split_once(' ')?;
            (of == place).then(|| instance.to_owned())
        });
        let instance = match known {
            Some(instance) => instance,
            None => {
                let instance = uuid::Uuid::now_v7().to_string();
                spool.set_instance(&format!("{instance} {place}"))?;
                instance
            }
        };
        Ok(Owner { instance, may_return: true, claim: None, store: None })
    }

    pub fn instance(&self) -> &str {
        &self.instance
    }

    fn writer(&self, store: &str, epoch: u64, now: Millis, last_seq: Option<i64>, released: bool) -> Vec<u8> {
        let instance = self.instance.clone();
        stamped::encode(&Writer {
            store: store.to_owned(),
            instance,
            epoch,
            beat: iso(now),
            released,
            last_seq,
            host: host(),
        })
    }
}

fn host() -> String {
    let named = std::fs::read_to_string("/etc/hostname").ok();
    let named = named.or_else(|| std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok());
    named.map(|name| name.trim().to_owned()).unwrap_or_default()
}

impl Replication {
    /// Makes sure that this server may write; claims the destination where it is free.
    pub(super) async fn own(&self) -> Result<(), Trouble> {
        let mut owner = self.owner.lock().await;
        let owned = match owner.claim {
            Some(_) => self.check(&mut owner).await,
            None => self.claim(&mut owner).await,
        };
        match owned {
            Err(Trouble::Refused(reason)) => {
                owner.claim = None;
                drop(owner);
                self.refused(&reason).await;
                Err(Trouble::Refused(reason))
            }
            Ok(()) => {
                drop(owner);
                self.prove().await
            }
            other => other,
        }
    }

    /// Looks whether the destination is still ours, and renews the sign of life.
    async fn check(&self, owner: &mut Owner) -> Result<(), Trouble> {
        let Some(claim) = owner.claim.as_ref().filter(|claim| claim.checked.elapsed() >= CHECK) else { return Ok(()) };
        let (epoch, is_due) = (claim.epoch, claim.beaten.elapsed() >= BEAT);
        let Some(found) = self.place.get(WRITER).await? else {
            owner.claim = None;
            self.status().epoch = None;
            self.spool().drop_all();
            let mut course = self.course.lock().await;
            self.end(&mut course, "the destination was emptied").await;
            return Err(Trouble::Other("the destination was emptied; it is filled anew".to_owned()));
        };
        let writer: Writer = stamped::decode(&found.bytes).map_err(damaged)?;
        if writer.instance != owner.instance || writer.epoch != epoch {
            owner.may_return = false;
            let asker = self.asker(owner);
            let Decision::Refused(reason) = decide(Some(&writer), None, &asker) else {
                return Err(Trouble::Other("the destination was given free by another server".to_owned()));
            };
            return Err(Trouble::Refused(reason));
        }
        let mut tag = found.tag;
        if is_due {
            let store = owner.store.clone().unwrap_or_default();
            let seq = self.status().replica;
            tag =
                self.place.swap(WRITER, owner.writer(&store, epoch, self.now(), seq, false).into(), Some(&tag)).await?;
        }
        if let Some(claim) = &mut owner.claim {
            claim.tag = tag;
            claim.checked = Instant::now();
            if is_due {
                claim.beaten = Instant::now();
            }
        }
        Ok(())
    }

    fn asker<'a>(&self, owner: &'a Owner) -> Asker<'a> {
        let before = owner.may_return.then_some(owner.instance.as_str());
        Asker { store: owner.store.as_deref().unwrap_or_default(), before, may_take_over: owner.may_return }
    }

    async fn claim(&self, owner: &mut Owner) -> Result<(), Trouble> {
        if owner.store.is_none() {
            owner.store = Some(self.store_id().await?);
        }
        let found = self.place.get(WRITER).await?;
        let writer: Option<Writer> =
            found.as_ref().map(|found| stamped::decode(&found.bytes)).transpose().map_err(damaged)?;
        let mut decision = decide(writer.as_ref(), None, &self.asker(owner));
        if writer.is_some() && matches!(decision, Decision::Refused(_)) {
            let age = self.writers_age(&owner.instance).await?;
            decision = decide(writer.as_ref(), age, &self.asker(owner));
        }
        let (epoch, took_over) = match decision {
            Decision::Claim { epoch, took_over } => (epoch, took_over),
            Decision::Refused(reason) => return Err(Trouble::Refused(reason)),
        };
        let seq = writer.as_ref().and_then(|writer| writer.last_seq);
        let store = owner.store.clone().unwrap_or_default();
        let bytes = owner.writer(&store, epoch, self.now(), seq, false);
        let base = found.as_ref().map(|found| found.tag.as_str());
        let tag = match self.place.swap(WRITER, bytes.into(), base).await {
            Err(PlaceError::Moved(_)) => {
                // It may have been our own claim, whose answer was lost; the next look tells.
                return Err(Trouble::Other("somebody else wrote to the destination at the same moment".to_owned()));
            }
            swapped => swapped?,
        };
        self.hold_against(writer.as_ref(), &owner.instance).await;
        let now = Instant::now();
        owner.claim = Some(Claim { epoch, tag, checked: now, beaten: now });
        {
            let mut status = self.status();
            (status.epoch, status.refused) = (Some(epoch), None);
            status.replica = status.replica.or(seq);
        }
        self.course.lock().await.count = 0;
        if let Some(instance) = took_over {
            tracing::warn!(component = "replication", instance, "took the destination over from a writer that is gone");
        }
        Ok(())
    }

    pub(super) async fn owner_store(&self) -> String {
        self.owner.lock().await.store.clone().unwrap_or_default()
    }

    /// Which store this is; made once, and the same in every copy of it.
    async fn store_id(&self) -> Result<String, Trouble> {
        if let Some(id) = self.store.fact(STORE_ID).await? {
            return Ok(id);
        }
        let id = uuid::Uuid::now_v7().to_string();
        self.store.put_fact(STORE_ID, Some(id.clone()), Vec::new(), self.now()).await?;
        Ok(id)
    }

    /// How long ago `writer.json` was written, by the destination's clock: a file written now tells its time.
    async fn writers_age(&self, instance: &str) -> Result<Option<Millis>, Trouble> {
        let probe = format!("{CLOCK}/{instance}");
        self.place.put(&probe, instance.to_owned().into()).await?;
        let probes = self.place.list(CLOCK, None).await?;
        let now = probes.iter().find(|listed| listed.name == probe).map(|listed| listed.modified);
        self.place.delete(&probe).await?;
        let written = self.place.modified(WRITER).await?;
        Ok(now.zip(written).map(|(now, written)| now - written))
    }

    /// Takes down that this server may not write, once.
    async fn refused(&self, reason: &str) {
        {
            let mut status = self.status();
            status.epoch = None;
            if status.refused.as_deref() == Some(reason) {
                return;
            }
            status.refused = Some(reason.to_owned());
            status.behind_since.get_or_insert_with(Instant::now);
            (status.generation, status.complete) = (None, None);
        }
        {
            let mut course = self.course.lock().await;
            (course.generation, course.left) = (None, None);
        }
        self.capture.rest();
        self.spool().drop_all();
        tracing::error!(component = "replication", "nothing is replicated: {reason}");
        let detail = json!({"destination": self.terms.shown, "reason": reason});
        self.note(operation::REPLICATION_REFUSED, detail).await;
    }

    /// Gives the destination free for the next, which then need not wait.
    pub(super) async fn release(&self) -> Result<(), Trouble> {
        let mut owner = self.owner.lock().await;
        let Some(claim) = owner.claim.take() else { return Ok(()) };
        let store = owner.store.clone().unwrap_or_default();
        let seq = self.status().replica;
        let bytes = owner.writer(&store, claim.epoch, self.now(), seq, true);
        self.place.swap(WRITER, bytes.into(), Some(&claim.tag)).await?;
        Ok(())
    }
}

fn damaged(what: String) -> Trouble {
    Trouble::Refused(format!("{WRITER} at the destination {what}; it does not say whose copy lies there"))
}
