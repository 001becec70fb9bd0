-- Messages of earlier versions hold addresses of receivers, which may be secrets; those of this version hold names. What was
-- not sent yet is given up: the incidents themselves stay.
PRAGMA secure_delete = ON;
DELETE FROM outbox;
PRAGMA secure_delete = OFF;
