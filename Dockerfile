# docker build -t fields_jax .                              CPU
# docker build -t fields_jax --build-arg EXTRAS=data,tpu .  TPU (GKE: see docs/clusters.md), or data,cuda
# docker run -v $PWD/runs:/fields_jax/runs fields_jax --config=configs/stage2.py
FROM python:3.11-slim
ARG EXTRAS=data
WORKDIR /fields_jax
COPY . .
RUN pip install --no-cache-dir -c constraints.txt -e ".[${EXTRAS}]"
# As process 1 it receives SIGTERM itself: it saves and ends with status 42.
ENTRYPOINT ["python", "-m", "fields_jax.train"]
