"""Packaging of fields_jax. Ranges live here, exact pins in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

CORE = [
    "jax>=0.10,<0.13",
    "flax>=0.12.8",  # linen modules, struct dataclasses
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12",
    "tensorflow-datasets>=4.9.10",  # builders; imports no tensorflow by itself
    "numpy>=2",
    "ml-collections>=1.1",
    "chex>=0.1.90",
    "absl-py>=2.1",
    "etils[epath]>=1.12",  # gs:// paths
    "jaxtyping>=0.3",
    "pillow>=11.3",  # reads AVIF from then on
    "matplotlib>=3.9",
    "jinja2>=3.1",  # the HTML report
    "tensorboardX>=2.6",  # TensorBoard events without tensorflow
    "scipy>=1.14",  # k-d trees of the scan fit; jax needs it anyway
    "flatbuffers>=24",  # jax.export needs it and does not declare it
]
EXTRAS = {
    # tensorflow-datasets needs the last two to write and test shards and does not declare them.
    "data": [
        # There are wheels of tensorflow-cpu for Intel's and AMD's processors only.
        "tensorflow-cpu>=2.20; platform_machine == 'x86_64' or platform_machine == 'AMD64'",
        "tensorflow>=2.20; platform_machine != 'x86_64' and platform_machine != 'AMD64'",
        "importlib_resources>=6",
        "dill>=0.3.8",
    ],
    "beam": ["apache-beam>=2.77"],  # data_pipelines.prepare on a cluster
    "heic": ["pillow-heif>=1.0"],  # photographs of Apple's telephones
    "video": ["av>=18"],  # clips: FFmpeg's libraries, which decode and encode
    "cuda": ["jax[cuda12]>=0.10,<0.13"],
    "tpu": ["jax[tpu]>=0.10,<0.13"],
    "parity": ["torch>=2.4", "timm>=1.0"],  # tests against the reference's networks in torch
    "dev": [
        "beartype>=0.22",  # checks the annotations while the tests run
        "scikit-learn>=1.5",  # the oracle of the classification metrics
        "hypothesis>=6.100",
        "pytest>=8",
        "pytest-xdist>=3.6",  # two workers: tests mostly compile, on one core each
        "ruff>=0.9",
    ],
}

setup(
    name="fields_jax",
    version="0.1.0",
    description="FIELDS: emotion-faithful 3D faces from one image, in JAX.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["fields_jax*", "data_pipelines*", "configs*", "benchmarks*"]),
    # The pages' HTML, CSS and scripts; the models that ship.
    package_data={
        "": ["templates/*", "templates/viewer/*"],
        "fields_jax.assets": ["embedded/*", "finder/*"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
)
