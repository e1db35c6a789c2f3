#!/usr/bin/env bash
# Trains on a Cloud TPU slice. Set what differs, then run one word at a time:
#
#   export PROJECT=my-project ZONE=us-west4-a NAME=fields TYPE=v5litepod-16 BUCKET=gs://my-bucket
#   scripts/tpu.sh create     a spot slice at once, or
#   scripts/tpu.sh queue      the same as a queued request, granted when there is room
#   scripts/tpu.sh state      what has become of it
#   scripts/tpu.sh copy       the last commit to every worker, and its packages
#   scripts/tpu.sh train      the same command on every worker; goes on from the last checkpoint
#   scripts/tpu.sh log        what worker 0 prints
#   scripts/tpu.sh delete
#
# A preempted slice ("status 42" in the log, or a slice that is gone) needs: delete, create, copy,
# train. HEAD names the head, e.g. $BUCKET/FLAME.npz; CONFIG the config, stage 2 of the licensed data
# by default; ARGUMENTS are handed to fields_jax.train and win over what this script says, e.g.
# CONFIG=configs/stage1.py:full ARGUMENTS=--workdir=$BUCKET/stage1. RUNTIME is the software of the
# slice; other kinds than v5e have others (gcloud compute tpus versions list).
set -euo pipefail

: "${PROJECT:?}" "${ZONE:?}" "${NAME:?}" "${TYPE:?}" "${BUCKET:?}"
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
CONFIG=${CONFIG:-configs/stage2.py:full}
ARGUMENTS="${HEAD:+--head=$HEAD} ${ARGUMENTS:-}"
PLACE=(--project="$PROJECT" --zone="$ZONE")

everywhere() {
  gcloud compute tpus tpu-vm ssh "$NAME" "${PLACE[@]}" --worker=all --command="$1"
}

case "${1:-}" in
  create)
    gcloud compute tpus tpu-vm create "$NAME" "${PLACE[@]}" \
      --accelerator-type="$TYPE" --version="$RUNTIME" --spot
    ;;
  queue)
    gcloud compute tpus queued-resources create "$NAME" "${PLACE[@]}" --node-id="$NAME" \
      --accelerator-type="$TYPE" --runtime-version="$RUNTIME" --spot
    ;;
  state)
    gcloud compute tpus tpu-vm describe "$NAME" "${PLACE[@]}" --format="value(state)" ||
      gcloud compute tpus queued-resources describe "$NAME" "${PLACE[@]}" --format="value(state)"
    ;;
  copy)
    archive=$(mktemp --suffix=.tar.gz)
    git archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$NAME:fields_jax.tar.gz" "${PLACE[@]}" --worker=all
    rm "$archive"
    everywhere "mkdir -p fields_jax && tar xzf fields_jax.tar.gz -C fields_jax && cd fields_jax &&
      python3 -m pip install -q --user uv &&
      (test -x .venv/bin/python || python3 -m uv venv -q --python 3.11 .venv) &&
      python3 -m uv pip install -q --compile-bytecode --python .venv/bin/python -c constraints.txt -e '.[data,tpu]'"
    ;;
  train)
    # Left to itself: a broken connection does not end it, and nothing of it holds the connection.
    everywhere "cd fields_jax || exit 1
      (trap '' HUP; .venv/bin/python -m fields_jax.train --config=$CONFIG --distributed=auto \
        --config.data.root=$BUCKET/tfds --workdir=$BUCKET/$NAME \
        --config.compilation_cache=$BUCKET/cache $ARGUMENTS
        echo \"status \$?\") >> train.log 2>&1 < /dev/null &"
    ;;
  log)
    gcloud compute tpus tpu-vm ssh "$NAME" "${PLACE[@]}" --worker=0 \
      --command="tail -F fields_jax/train.log"
    ;;
  delete)
    gcloud compute tpus tpu-vm delete "$NAME" "${PLACE[@]}" --quiet || true
    gcloud compute tpus queued-resources delete "$NAME" "${PLACE[@]}" --quiet --force || true
    ;;
  *)
    sed -n '2,17p' "$0" | cut -c3-
    exit 2
    ;;
esac
