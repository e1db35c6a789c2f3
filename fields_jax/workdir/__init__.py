"""What a run leaves behind: config, checkpoints, locks; written safely, read with suspicion."""
