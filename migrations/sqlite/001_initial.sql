-- What runs, as it ought to be. `fingerprint` condenses the row as it was last applied, so that a
-- change made by hand shows even while nothing was watching. `content` is the file's last good bytes.
-- Keys are never given twice; the writer sees to that (fact `last_row`), at less cost than SQLite.
CREATE TABLE schedules (
  id INTEGER PRIMARY KEY,
  connector TEXT NOT NULL,
  tenant TEXT NOT NULL,
  interval_sec INTEGER,
  cron TEXT,
  timezone TEXT,
  paused INTEGER NOT NULL,
  pause_reason TEXT,
  spec TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  digest BLOB NOT NULL,
  stamp INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  content BLOB NOT NULL DEFAULT x'',
  UNIQUE (connector, tenant)
);

-- What changes with every run, apart, so that a herd of claims rewrites little.
CREATE TABLE timers (
  id INTEGER PRIMARY KEY,
  next_due_ms INTEGER,
  last_run_ms INTEGER,
  last_ok INTEGER,
  last_message TEXT,
  last_stats TEXT,
  failures INTEGER NOT NULL DEFAULT 0
);

-- One row a claimed slot: the unique key is what keeps a slot from running twice.
CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  schedule TEXT NOT NULL,
  nominal_ms INTEGER NOT NULL,
  trigger TEXT NOT NULL,
  state TEXT NOT NULL,
  term INTEGER NOT NULL,
  started_ms INTEGER NOT NULL,
  ended_ms INTEGER,
  ok INTEGER,
  message TEXT,
  error_class TEXT,
  stats TEXT,
  UNIQUE (schedule, nominal_ms)
);
CREATE INDEX runs_open ON runs (id) WHERE ended_ms IS NULL;

CREATE TABLE records (
  connector TEXT NOT NULL,
  tenant TEXT NOT NULL,
  resource TEXT NOT NULL,
  key TEXT NOT NULL,
  hash BLOB NOT NULL,
  payload TEXT NOT NULL,
  first_seen_ms INTEGER NOT NULL,
  last_seen_ms INTEGER NOT NULL,
  PRIMARY KEY (connector, tenant, resource, key)
) WITHOUT ROWID;

CREATE TABLE bookmarks (
  connector TEXT NOT NULL,
  tenant TEXT NOT NULL,
  resource TEXT NOT NULL,
  bookmark TEXT NOT NULL,
  PRIMARY KEY (connector, tenant, resource)
) WITHOUT ROWID;

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  connector TEXT NOT NULL,
  operation TEXT NOT NULL,
  source TEXT NOT NULL,
  actor TEXT NOT NULL,
  action_id TEXT NOT NULL,
  metadata TEXT NOT NULL,
  prev_hash BLOB NOT NULL,
  hash BLOB NOT NULL
);
CREATE INDEX audit_tenant ON audit (tenant, seq);

-- An edit that is promised but perhaps not yet in its file.
CREATE TABLE intents (
  id INTEGER PRIMARY KEY,
  connector TEXT NOT NULL,
  tenant TEXT NOT NULL,
  base BLOB,
  content BLOB,
  created_ms INTEGER NOT NULL
);

-- Files that cannot be used, each as long as it stays so.
CREATE TABLE problems (
  path TEXT PRIMARY KEY,
  digest BLOB,
  since_ms INTEGER NOT NULL,
  diagnostics TEXT NOT NULL
) WITHOUT ROWID;

-- Emergency stops; the empty scope is the whole fleet.
CREATE TABLE brakes (
  scope TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,
  since_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- Answers already given to an Idempotency-Key.
CREATE TABLE answers (
  key TEXT PRIMARY KEY,
  request BLOB NOT NULL,
  answer TEXT NOT NULL,
  created_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- Facts of the store itself: the audit's head, the fencing term.
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
