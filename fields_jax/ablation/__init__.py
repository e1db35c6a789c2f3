"""An ablation: the runs that a sweep asks for, and the processes that make them."""
