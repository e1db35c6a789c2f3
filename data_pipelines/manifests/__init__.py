"""Writes manifests of public sets, which `prepare faces` makes shards of."""
