"""Makes sets: photographs, records, shards, reports; on this machine or a cluster."""
