-- The latest slot whose run was forgotten: the rhythm takes no slot up to it, whatever the clock says.
ALTER TABLE timers ADD COLUMN pruned_ms INTEGER;
