"""Audio as bytes: the spool and what can be told from a recording without decoding it."""
