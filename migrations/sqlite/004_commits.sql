-- Edits made through the API that are still to be committed to git, in the order in which they were
-- made. A row comes with its change and goes when a commit has it.
CREATE TABLE commits (
  id INTEGER PRIMARY KEY,
  connector TEXT NOT NULL,
  tenant TEXT NOT NULL,
  base BLOB,
  content BLOB,
  actor TEXT NOT NULL,
  action_id TEXT NOT NULL,
  message TEXT NOT NULL,
  at_ms INTEGER NOT NULL
);
