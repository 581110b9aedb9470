-- What sources told of changes, each event once; work to be done until it is settled.
CREATE TABLE webhook_events (
  id INTEGER PRIMARY KEY,
  connector TEXT NOT NULL,
  tenant TEXT NOT NULL,
  event_id TEXT NOT NULL,
  topic TEXT NOT NULL,
  resource TEXT NOT NULL,
  key TEXT NOT NULL,
  received_ms INTEGER NOT NULL,
  -- Null while it waits.
  done_ms INTEGER,
  outcome TEXT,
  UNIQUE (connector, tenant, event_id)
);
CREATE INDEX webhook_events_waiting ON webhook_events (connector, tenant, id) WHERE done_ms IS NULL;
CREATE INDEX webhook_events_received ON webhook_events (received_ms);
