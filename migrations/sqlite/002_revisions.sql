-- What each schedule's file said, change by change. `digest` is null where the schedule was deleted.
-- The current content stands in `schedules`; it moves to `contents` when it is displaced, once for
-- each digest, so that pausing and resuming for ever adds two contents and no more.
CREATE TABLE revisions (
  connector TEXT NOT NULL,
  tenant TEXT NOT NULL,
  number INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  source TEXT NOT NULL,
  actor TEXT NOT NULL,
  action_id TEXT NOT NULL,
  digest BLOB,
  PRIMARY KEY (connector, tenant, number)
) WITHOUT ROWID;

CREATE TABLE contents (
  id INTEGER PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE,
  content BLOB NOT NULL
);

-- What runs already becomes revision 1, so that the first change after this can be taken back. Who
-- made it, and what was before, nobody wrote down: its action is empty.
INSERT INTO revisions (connector, tenant, number, at_ms, source, actor, action_id, digest)
SELECT connector, tenant, 1, updated_ms, 'command-center', 'command-center', '', digest FROM schedules;
