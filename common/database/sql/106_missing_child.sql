-- Which event names a missing one as its parent, by its own record; NULL where that is not known, or
-- where going back from it was tried already.
ALTER TABLE audit_missing ADD COLUMN child TEXT;
