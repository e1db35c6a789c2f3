"""Throughput counts the steps after compilation and nothing else."""

from fields_jax.training import metrics


def test_rates_are_of_the_timed_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    window = metrics.Window(batch_size=8)
    window.add({"loss": 4.0}, waited=30.0)  # the step that compiles
    now[0] = 60.0
    assert window.restart_clock() == 60
    assert window.flush() == {"loss": 4.0}
    for loss in (1.0, 2.0):
        now[0] += 2.0
        window.add({"loss": loss}, waited=0.5)
    paused = window.pause()
    now[0] += 100.0  # a picture
    window.resume(paused)
    assert window.flush() == {"loss": 1.5, "images_per_second": 4.0, "data_wait": 0.25}


def test_a_compiling_step_counts_in_means_alone(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    window = metrics.Window(batch_size=8)
    window.add({"loss": 4.0}, waited=30.0)
    window.restart_clock()
    now[0] = 2.0
    window.add({"loss": 2.0}, waited=1.0)
    assert window.flush() == {"loss": 3.0, "images_per_second": 4.0, "data_wait": 0.5}
