"""Makes the shards of a set with Apache Beam, here or on a cluster; needs the extra `beam`.

Only the names of shards are sent to workers: each reads the catalogue itself, or draws its own
faces. Raw data, a head's file and the set must lie where every worker sees them, on a shared file
system or in a bucket. Shards that an interrupted pipeline has finished are kept, as without Beam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from etils import epath

from data_pipelines.building.sharded_builder import Job, ShardedBuilder, unfinished_jobs
from fields_jax.errors import UserError, first_line

# Short names of engines; any other name is handed to Beam as it is.
RUNNERS = {
    "direct": "DirectRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
}


def make_shards(
    construct: Callable[[], ShardedBuilder], source: str, runner: str, options: Sequence[str]
) -> int:
    """Makes every unfinished shard; the builder assembles them afterwards.

    Args:
      construct: makes the builder; sent to the workers by pickle.
      source: folder of the raw data; "" for sets without.
      runner: of Beam, by its name or a key of `RUNNERS`.
      options: of the pipeline, without dashes: "project=NAME".

    Returns:
      How many shards were made.

    Raises:
      UserError: the source does not hold such a set.
    """
    jobs = unfinished_jobs(construct().plan(epath.Path(source), resume=True))
    if jobs:
        chosen = PipelineOptions([f"--{option}" for option in options])
        chosen.view_as(SetupOptions).save_main_session = False
        try:
            opened = beam.Pipeline(runner=RUNNERS.get(runner, runner), options=chosen)
        except ValueError as error:  # how Beam refuses names and options
            raise UserError(f"--beam_runner={runner}: {first_line(error)}") from error
        with opened as pipeline:
            _ = (
                pipeline
                | "shards" >> beam.Create(jobs)
                | "spread" >> beam.Reshuffle()  # else one worker would get them all
                | "make" >> beam.ParDo(_MakeShard(construct, source))
            )
    return len(jobs)


class _MakeShard(beam.DoFn):
    """Makes one shard; plans once for all shards of a worker."""

    def __init__(self, construct: Callable[[], ShardedBuilder], source: str):
        self._construct, self._source = construct, source

    def setup(self) -> None:
        self._builder = self._construct()
        self._plan = self._builder.plan(epath.Path(self._source))

    def process(self, job: Job) -> Iterator[Job]:
        split, index = job
        self._builder.write_shard(self._plan[split][index])
        yield job
