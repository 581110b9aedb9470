-- What a run went through: its attempts, when the next one is due, who asked for it, what it had to say.
ALTER TABLE runs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN retry_at_ms INTEGER;
ALTER TABLE runs ADD COLUMN asked_by TEXT;
ALTER TABLE runs ADD COLUMN action_id TEXT;
ALTER TABLE runs ADD COLUMN log TEXT;

-- Whether a slot starts is decided from its schedule's runs that are not done.
DROP INDEX runs_open;
CREATE INDEX runs_open ON runs (schedule) WHERE ended_ms IS NULL;

-- Slots that passed without a run.
ALTER TABLE timers ADD COLUMN missed INTEGER NOT NULL DEFAULT 0;
