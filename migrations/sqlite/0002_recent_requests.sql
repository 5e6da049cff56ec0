-- Which of the latest requests of a hook its receiver served: one bit each, the latest lowest, 1 for
-- one that was not served, below a 1 that marks the end. 1 alone: none is known.
ALTER TABLE postrider_hook_health ADD COLUMN recent_requests INTEGER NOT NULL DEFAULT 1;
