-- Slots that passed without a run, by why; and how late the last run that the schedule itself started was.
ALTER TABLE timers RENAME COLUMN missed TO missed_folded;
ALTER TABLE timers ADD COLUMN missed_overlap INTEGER NOT NULL DEFAULT 0;
ALTER TABLE timers ADD COLUMN missed_brake INTEGER NOT NULL DEFAULT 0;
ALTER TABLE timers ADD COLUMN missed_window INTEGER NOT NULL DEFAULT 0;
ALTER TABLE timers ADD COLUMN missed_deadline INTEGER NOT NULL DEFAULT 0;
ALTER TABLE timers ADD COLUMN last_late_ms INTEGER;
