"""Throughput counts the time of steps and nothing else."""

from fields_jax.training import metrics


def test_rates_leave_out_pauses(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    window = metrics.Window(batch_size=8)
    for loss in (1.0, 2.0):
        now[0] += 2.0
        window.add({"loss": loss}, waited=0.5)
    paused = window.pause()
    now[0] += 100.0  # a picture
    window.resume(paused)
    assert window.flush() == {"loss": 1.5, "images_per_second": 4.0, "data_wait": 0.25}
    now[0] += 4.0
    window.add({"loss": 3.0}, waited=0.0)
    assert window.flush() == {"loss": 3.0, "images_per_second": 2.0, "data_wait": 0.0}
