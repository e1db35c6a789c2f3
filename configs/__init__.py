"""Configs: `get_config(arg)` of each file; see configs/common.py for every key."""
