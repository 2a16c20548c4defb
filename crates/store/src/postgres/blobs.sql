-- Nothing of the database's shape: from here on each shared blob has a record, without which a server that knows nothing of
-- them must not write records that need blobs.
SELECT 1;
